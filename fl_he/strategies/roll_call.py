"""The roll call of a new run: one company X, and hospitals that agree on their features."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic, sleep

from flwr.app import Message
from flwr.serverapp import Grid

from fl_he.config.groups import CONTINUE, WAIT
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.schemes import SCHEMES
from fl_he.strategies.descriptions import descriptions, difference
from fl_he.strategies.dropouts import Patience, Progress, Waiting, more_nodes
from fl_he.strategies.pairing import exchange_seeds
from fl_he.strategies.roster import POLL_SECONDS, Roster
from fl_he.strategies.skipping import error_reason, nobody_answered, runs_another_app
from fl_he.wire.encrypted_sum import Description, Role, printable
from fl_he.wire.records import ProtocolError


def call_roll(grid: Grid, waiting: Waiting, hospitals: int, session: str = "") -> Roster:
    """Ask every node what it is until one company X and enough hospitals are there.

    Parameters
    ----------
    grid : Grid
    waiting : Waiting
    hospitals : int
        How many hospitals are needed; never fewer than ``min_contributors``, nor, where
        `on_dropout` is ``wait``, than are in company X's manifest.
    session : str
        Company X's, of a run that is resumed.

    Raises
    ------
    DropoutError
        If one of the manifest is missing after ``dropout_timeout``.
    ProtocolError
        If a node refuses to describe itself, if hospitals' features differ, or if after
        ``node_timeout`` there are too few hospitals or not exactly one company X.
    """
    described: dict[int, Description] = {}
    silent: dict[int, str] = {}
    hospitals = max(hospitals, waiting.min_contributors)
    deadline = monotonic() + waiting.node_timeout
    progress = Progress()
    patience = Patience(waiting.dropout_timeout, WAIT)
    while True:
        new = [node_id for node_id in grid.get_node_ids() if node_id not in described]
        silent.clear()
        for node_id, reply in descriptions(grid, new, waiting.hop_timeout, session):
            if nobody_answered(reply):
                silent[node_id] = error_reason(reply)
            else:
                described[node_id] = _description(reply)
        holders = [n for n, d in described.items() if d.role is Role.KEY_HOLDER]
        present = {n: d for n, d in described.items() if d.role is Role.HOSPITAL}
        if len(holders) > 1:
            raise ProtocolError(f"a federation must have one company X, got {len(holders)}")
        manifest = described[holders[0]].value_keys if holders else {}
        expected = manifest.keys() if waiting.with_manifest(manifest) == WAIT else set[str]()
        if missing := expected - {printable(one.name) for one in present.values()}:
            there = len(expected) - len(missing)
            patience.wait_for(missing, f"{there} of {len(expected)} connected")
        elif holders and len(present) >= hospitals:
            break
        else:
            # Simulated nodes are registered before the first of them answers: no more will come.
            complete = holders and not silent and all(one.simulated for one in described.values())
            if complete or monotonic() > deadline:
                after = "" if complete else f" after {waiting.node_timeout:g} s"
                raise _too_few(described, silent, hospitals, after)
            progress.tell(_there(described, hospitals))
        sleep(POLL_SECONDS)
    _require_one_kind(described)
    holder = described[holders[0]]
    present = dict(sorted(present.items(), key=lambda item: item[1].name))
    first, *others = present.values()
    for other in others:
        wanted = (first.features, first.classes, first.imputed, (first.family, first.exposure))
        if found := difference(*wanted, other):
            raise ProtocolError(
                f"hospitals must have the same features: {printable(other.name)} differs from "
                f"{printable(first.name)}: {found}"
            )
    masked_set = _masked_set(present, waiting)
    roster = Roster(
        grid=grid,
        waiting=waiting,
        key_holder=holders[0],
        public_key=PublicKey.from_json(holder.public_key),
        session=holder.session,
        hospitals={n: printable(d.name) for n, d in present.items()},
        packing=Packing.from_json(holder.packing),
        features=first.features,
        classes=first.classes,
        imputed=first.imputed,
        family=first.family,
        exposure=first.exposure,
        simulated=holder.simulated,
        value_keys=holder.value_keys,
        run_key=holder.run_key,
        masked_set=masked_set,
        stale=holders[0] not in new,
        schemes=[one for one in SCHEMES if all(one in d.schemes for d in described.values())],
    )
    exchange_seeds(roster, described)
    return roster


def _description(reply: Message) -> Description:
    if not reply.has_error():
        return Description.from_content(reply.content)
    words = "a node refused to take part:"
    if runs_another_app(reply):
        words = (
            "the nodes run an app without with_key_holder: write "
            "app = with_key_holder(ClientApp(mods=[encryption_mod])). A node answered:"
        )
    raise ProtocolError(f"{words} {error_reason(reply)}")


def _there(described: Mapping[int, Description], hospitals: int) -> str:
    names = [printable(d.name) for d in described.values() if d.role is Role.HOSPITAL]
    company = "connected" if len(names) < len(described) else "not connected"
    listed = f" ({', '.join(sorted(names))})" if names else ""
    return f"{len(names)} of {hospitals} hospitals{listed} connected, company X {company}"


def _too_few(
    described: Mapping[int, Description], silent: Mapping[int, str], hospitals: int, after: str
) -> ProtocolError:
    reasons = "".join(f"; node {n}: {reason}" for n, reason in silent.items())
    holders = sum(one.role is Role.KEY_HOLDER for one in described.values())
    present = len(described) - holders
    if holders and all(one.simulated for one in described.values()):
        reasons += more_nodes(hospitals, present)
    else:
        reasons += f"; {_there(described, hospitals)}: start the others, or raise node_timeout"
    return ProtocolError(
        f"a federation must have {hospitals} hospitals and one company X, got "
        f"{present} and {holders}{after}{reasons}"
    )


def _masked_set(present: dict[int, Description], waiting: Waiting) -> frozenset[str]:
    """Return the hospitals that mask for each other: all or none."""
    masking = {n: d for n, d in present.items() if d.resistant}
    if not masking:
        return frozenset()
    if others := sorted(printable(d.name) for n, d in present.items() if n not in masking):
        raise ProtocolError(
            "all hospitals must mask their updates (collusion='resistant' in the node "
            f"configuration), or none: {', '.join(others)} does not"
        )
    if waiting.on_dropout == CONTINUE:
        raise ProtocolError(
            "on_dropout must be 'wait' or 'stop' where hospitals mask their updates "
            "(collusion='resistant'): without one of them no total can be opened"
        )
    return frozenset(printable(one.name) for one in masking.values())


def _require_one_kind(described: dict[int, Description]) -> None:
    """Refuse simulated nodes among deployed ones: what they train on is not what it seems."""
    simulated = sorted(printable(d.name) for d in described.values() if d.simulated)
    if 0 < len(simulated) < len(described):
        raise ProtocolError(
            f"a federation must be all simulated or all deployed, got {simulated} simulated of "
            f"{len(described)} nodes"
        )
