"""Which nodes take part: one key holder, and hospitals that agree on their features."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from time import monotonic, sleep

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.learning.tables.data import first_schema_difference
from fl_he.strategies.exchange import error_reason, exchange, nobody_answered
from fl_he.wire.encrypted_sum import DESCRIBE, Description, Role, printable
from fl_he.wire.records import ProtocolError

_POLL_SECONDS = 0.2

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Roster:
    """The nodes of a run.

    Attributes
    ----------
    key_holder : int
        Node id of company X.
    public_key : PublicKey
        Its key.
    session : str
        Its name for this run.
    hospitals : dict of int to str
        Node ids and names of those that are connected.
    packing : Packing
        The only one in which the key holder opens sums.
    features : tuple of str
        What the hospitals' coefficients stand for; empty where the app does not say.
    classes : tuple of str
        What their labels stand for if there are more than two; else empty.
    simulated : bool
        Whether all nodes live in a simulation.
    strangers : frozenset of int
        Nodes that came later and fit in no part of this run.
    """

    key_holder: int
    public_key: PublicKey
    session: str
    hospitals: dict[int, str]
    packing: Packing
    features: tuple[str, ...]
    simulated: bool
    strangers: frozenset[int] = frozenset()
    classes: tuple[str, ...] = ()

    def require_packing(self, packing: Packing) -> None:
        """Raise ProtocolError unless the key holder opens sums in this packing."""
        if packing != self.packing:
            raise ProtocolError(
                f"the packing must be the key holder's, {self.packing}, got {packing}: "
                "give the strategy that one (in a run's configuration: crypto.fraction_bits, "
                "crypto.integer_bits, crypto.max_contributors)"
            )

    def name(self, node_id: int) -> str:
        """Return the node's name for messages to people."""
        return self.hospitals.get(node_id, "the key holder")


def call_roll(grid: Grid, hospitals: int, node_timeout: float, hop_timeout: float) -> Roster:
    """Ask every node what it is until one key holder and enough hospitals are there.

    Parameters
    ----------
    grid : Grid
    hospitals : int
        How many hospitals are needed.
    node_timeout : float
        Seconds to wait for nodes to connect.
    hop_timeout : float
        Seconds to wait for their answers.

    Raises
    ------
    ProtocolError
        If a node refuses to describe itself, if hospitals' features differ, or if after
        ``node_timeout`` there are too few hospitals or not exactly one key holder.
    """
    described: dict[int, Description] = {}
    silent: dict[int, str] = {}
    deadline = monotonic() + node_timeout
    while True:
        new = [node_id for node_id in grid.get_node_ids() if node_id not in described]
        silent.clear()
        for node_id, reply in _ask_all(grid, new, hop_timeout):
            if nobody_answered(reply):
                silent[node_id] = error_reason(reply)
            elif reply.has_error():
                raise ProtocolError(
                    "a node refused to take part (one that knows no 'describe' runs an app "
                    f"without with_key_holder): {error_reason(reply)}"
                )
            else:
                described[node_id] = Description.from_content(reply.content)
        holders = [n for n, d in described.items() if d.role is Role.KEY_HOLDER]
        present = {n: d for n, d in described.items() if d.role is Role.HOSPITAL}
        if len(holders) > 1:
            raise ProtocolError(f"a federation must have one key holder, got {len(holders)}")
        if holders and len(present) >= hospitals:
            break
        if monotonic() > deadline:
            reasons = "".join(f"; node {n}: {reason}" for n, reason in silent.items())
            raise ProtocolError(
                f"a federation must have {hospitals} hospitals and one key holder, got "
                f"{len(present)} and {len(holders)} after {node_timeout:g} s{reasons}"
            )
        sleep(_POLL_SECONDS)
    _require_one_kind(described)
    holder = described[holders[0]]
    present = dict(sorted(present.items(), key=lambda item: item[1].name))
    return Roster(
        key_holder=holders[0],
        public_key=PublicKey.from_json(holder.public_key),
        session=holder.session,
        hospitals={n: printable(d.name) for n, d in present.items()},
        packing=Packing.from_json(holder.packing),
        features=_common_features(list(present.values())),
        simulated=all(d.simulated for d in described.values()),
        classes=next(iter(present.values())).classes,
    )


def call_again(roster: Roster, grid: Grid, hop_timeout: float) -> Roster:
    """Return the roster without the hospitals that left, and with those that joined or came back.

    A node that was away is asked to describe itself again: it may be another one by now. Whoever
    does not fit is not taken in, and whoever does not answer is asked again the next time; the run
    goes on without them. Company X's node may change, its key may not.

    Parameters
    ----------
    roster : Roster
    grid : Grid
    hop_timeout : float
        Seconds to wait for the answers of new nodes.
    """
    connected = set(grid.get_node_ids())
    hospitals = {n: name for n, name in roster.hospitals.items() if n in connected}
    for node_id in roster.hospitals.keys() - hospitals.keys():
        _logger.warning("%s is not connected any more", roster.name(node_id))
    roster = replace(roster, hospitals=hospitals)
    new = connected - hospitals.keys() - roster.strangers - {roster.key_holder}
    for node_id, reply in _ask_all(grid, sorted(new), hop_timeout):
        if reply.has_error():
            _logger.warning("node %d takes no part yet: %s", node_id, error_reason(reply))
            continue
        try:
            roster = _with_newcomer(roster, node_id, reply, connected)
        except (ProtocolError, CryptoError) as error:
            _logger.warning("node %d takes no part in this run: %s", node_id, error)
            roster = replace(roster, strangers=roster.strangers | {node_id})
    return roster


def gather(
    roster: Roster, grid: Grid, hospitals: int, node_timeout: float, hop_timeout: float
) -> Roster:
    """Call the roll again until enough hospitals are connected.

    Parameters
    ----------
    roster : Roster
    grid : Grid
    hospitals : int
        How many are needed.
    node_timeout : float
        Seconds to wait for hospitals to come back, or others to join.
    hop_timeout : float
        Seconds to wait for the answers of new nodes.

    Raises
    ------
    ProtocolError
        If there are too few after ``node_timeout``.
    """
    known, deadline = roster.hospitals, monotonic() + node_timeout
    while len((roster := call_again(roster, grid, hop_timeout)).hospitals) < hospitals:
        if monotonic() > deadline:
            away = sorted(name for n, name in known.items() if n not in roster.hospitals)
            raise ProtocolError(
                f"a round must begin with at least {hospitals} hospitals, got "
                f"{len(roster.hospitals)} after {node_timeout:g} s; not connected: "
                f"{', '.join(away) or 'those that have never been there'}"
            )
        sleep(_POLL_SECONDS)
    return roster


def _with_newcomer(roster: Roster, node_id: int, reply: Message, connected: set[int]) -> Roster:
    description = Description.from_content(reply.content)
    name = printable(description.name)
    if description.simulated is not roster.simulated:
        raise ProtocolError(f"a federation must be all simulated or all deployed, {name} differs")
    if description.role is Role.KEY_HOLDER:
        key = PublicKey.from_json(description.public_key)
        if key.fingerprint != roster.public_key.fingerprint:
            raise ProtocolError(
                "the key holder must have the key with which the run began, "
                f"{roster.public_key.fingerprint}, got {key.fingerprint}"
            )
        if roster.key_holder in connected:
            return roster  # the node that died is believed to be there for a minute
        _logger.warning("the key holder is back as node %d", node_id)
        return replace(roster, key_holder=node_id)
    difference = first_schema_difference(roster.features, description.features)
    difference = difference or _class_difference(roster.classes, description.classes)
    if difference is not None:
        raise ProtocolError(
            f"hospitals must have the same features: {name} differs: {printable(difference)}"
        )
    _logger.warning("%s takes part from now on", name)
    return replace(roster, hospitals={**roster.hospitals, node_id: name})


def _ask_all(grid: Grid, nodes: list[int], timeout: float) -> Iterator[tuple[int, Message]]:
    requests = [Message(RecordDict(), node_id, DESCRIBE) for node_id in nodes]
    for reply in exchange(grid, requests, timeout):
        yield reply.metadata.src_node_id, reply


def _require_one_kind(described: dict[int, Description]) -> None:
    """Refuse simulated nodes among deployed ones: what they train on is not what it seems."""
    simulated = sorted(printable(d.name) for d in described.values() if d.simulated)
    if 0 < len(simulated) < len(described):
        raise ProtocolError(
            f"a federation must be all simulated or all deployed, got {simulated} simulated of "
            f"{len(described)} nodes"
        )


def _common_features(hospitals: list[Description]) -> tuple[str, ...]:
    first = hospitals[0]
    for other in hospitals[1:]:
        difference = first_schema_difference(first.features, other.features)
        difference = difference or _class_difference(first.classes, other.classes)
        if difference is not None:
            raise ProtocolError(
                f"hospitals must have the same features: {printable(other.name)} differs from "
                f"{printable(first.name)}: {printable(difference)}"
            )
    return first.features


def _class_difference(expected: tuple[str, ...], got: tuple[str, ...]) -> str | None:
    if expected == got:
        return None
    shown = [", ".join(map(repr, classes)) or "two" for classes in (expected, got)]
    return f"classes must be {shown[0]}, got {shown[1]}"
