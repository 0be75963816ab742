"""Exchange of the seeds of pairwise masks between the hospitals of a run, by the coordinator."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from logging import INFO

from flwr.app import Message
from flwr.common.logger import log

from fl_he.config.groups import Collusion
from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.envelopes.public_identity import PublicIdentity
from fl_he.strategies.roster import Roster
from fl_he.strategies.skipping import error_reason
from fl_he.wire.encrypted_sum import Description, Role, printable
from fl_he.wire.pairing import PAIR, SEEDS, Halves, SeedsRequest
from fl_he.wire.records import ProtocolError, refused_as


def exchange_seeds(roster: Roster, described: Mapping[int, Description]) -> None:
    """Carry each hospital's halves of seeds to the others, if they mask for each other.

    Parameters
    ----------
    roster : Roster
        A hospital that does not answer is waited for as in a sum.
    described : mapping of int to Description
        All nodes of the run.

    Raises
    ------
    DropoutError
        If a hospital does not answer in time.
    ProtocolError
        If a hospital refuses.
    """
    if not roster.masked_set:
        return
    names, manifest = _names(described)
    asked = SeedsRequest(roster.session, tuple(sorted(names.values())), roster.run_key, manifest)
    log(INFO, "%d hospitals exchange the seeds of their masks", len(names))
    messages = [Message(asked.to_content(), n, SEEDS) for n in names]
    sent: dict[str, Mapping[str, bytes]] = {}
    for sender, reply in _replies(roster, messages, names):
        with refused_as(f"{sender}:"):
            sent[sender] = Halves.from_content(reply.content).halves
    brought = carried(sent)
    messages = [
        Message(Halves(roster.session, brought[name], manifest).to_content(), n, PAIR)
        for n, name in names.items()
    ]
    for _ in _replies(roster, messages, names):
        pass


def carried(sent: Mapping[str, Mapping[str, bytes]]) -> dict[str, dict[str, bytes]]:
    """Return sealed halves by receiver and sender, from those by sender and receiver.

    Raises
    ------
    ProtocolError
        If a hospital has sent halves for others than those of the set.
    """
    for sender, halves in sent.items():
        if halves.keys() != sent.keys() - {sender}:
            raise ProtocolError(f"{sender} must send halves for the others of the set")
    return {
        receiver: {
            sender: halves[receiver] for sender, halves in sent.items() if sender != receiver
        }
        for receiver in sent
    }


def require_masks(collusion: Collusion, masked_set: Collection[str]) -> None:
    """Refuse hospitals without the masks that a configuration asks for.

    Raises
    ------
    ProtocolError
        If `crypto.collusion` asks for masks, and hospitals have none.
    """
    if collusion is Collusion.resistant and not masked_set:
        raise ProtocolError(
            "crypto.collusion=resistant must be for hospitals that mask their updates: set "
            "collusion='resistant' in their node configurations"
        )


def shared_manifest(identities: Iterable[str]) -> str:
    """Return JSON of the manifest of simulated nodes, from JSON of their public identities."""
    return Manifest(tuple(map(PublicIdentity.from_json, identities))).to_json()


def _names(described: Mapping[int, Description]) -> tuple[dict[int, str], str]:
    """Return the hospitals' names, and the manifest that simulated nodes share, or nothing."""
    hospitals = {n: one.name for n, one in described.items() if one.role is Role.HOSPITAL}
    if not all(one.simulated for one in described.values()):
        return {n: printable(name) for n, name in hospitals.items()}, ""
    return hospitals, shared_manifest(one.identity for one in described.values())


def _replies(
    roster: Roster, messages: list[Message], names: Mapping[int, str]
) -> Iterator[tuple[str, Message]]:
    for reply in roster.ask(messages, len(names)):
        name = names[reply.metadata.src_node_id]
        if reply.has_error():
            raise ProtocolError(f"{name} has no seeds of masks: {error_reason(reply)}")
        yield name, reply
