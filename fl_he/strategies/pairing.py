"""Exchange of the seeds of pairwise masks between the hospitals of a run, by the coordinator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from logging import INFO

from flwr.app import Message
from flwr.common.logger import log

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
    brought: dict[str, dict[str, bytes]] = {name: {} for name in names.values()}
    for sender, reply in _replies(roster, messages, names):
        with refused_as(f"{sender}:"):
            halves = Halves.from_content(reply.content).halves
        if halves.keys() != brought.keys() - {sender}:
            raise ProtocolError(f"{sender} must send halves for the others of the set")
        for receiver, half in halves.items():
            brought[receiver][sender] = half
    messages = [
        Message(Halves(roster.session, brought[name], manifest).to_content(), n, PAIR)
        for n, name in names.items()
    ]
    for _ in _replies(roster, messages, names):
        pass


def _names(described: Mapping[int, Description]) -> tuple[dict[int, str], str]:
    """Return the hospitals' names, and the manifest that simulated nodes share, or nothing."""
    hospitals = {n: one.name for n, one in described.items() if one.role is Role.HOSPITAL}
    if not all(one.simulated for one in described.values()):
        return {n: printable(name) for n, name in hospitals.items()}, ""
    identities = (PublicIdentity.from_json(one.identity) for one in described.values())
    return hospitals, Manifest(tuple(identities)).to_json()


def _replies(
    roster: Roster, messages: list[Message], names: Mapping[int, str]
) -> Iterator[tuple[str, Message]]:
    for reply in roster.ask(messages, len(names)):
        name = names[reply.metadata.src_node_id]
        if reply.has_error():
            raise ProtocolError(f"{name} has no seeds of masks: {error_reason(reply)}")
        yield name, reply
