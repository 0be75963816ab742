"""Exchange of the seeds of pairwise masks between the hospitals of a run, by the coordinator."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from logging import INFO

from flwr.app import Message
from flwr.common.logger import log
from flwr.serverapp import Grid

from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.envelopes.public_identity import PublicIdentity
from fl_he.strategies.exchange import exchange
from fl_he.strategies.skipping import error_reason
from fl_he.wire.encrypted_sum import Description, Role, printable
from fl_he.wire.pairing import PAIR, SEEDS, Halves, SeedsRequest
from fl_he.wire.records import ProtocolError, refused_as


def exchange_seeds(
    grid: Grid,
    described: Mapping[int, Description],
    masked_set: Collection[str],
    timeout: float,
) -> None:
    """Carry each hospital's halves of seeds to the others of the set; nothing if there is none.

    Parameters
    ----------
    grid : Grid
    described : mapping of int to Description
        All nodes of the run.
    masked_set : collection of str
        Names of the hospitals that mask for each other: all, or none.
    timeout : float
        Seconds that a hospital has to answer.

    Raises
    ------
    ProtocolError
        If a hospital refuses or does not answer.
    """
    if not masked_set:
        return
    holder = next(one for one in described.values() if one.role is Role.KEY_HOLDER)
    names, manifest = _names(described)
    session = holder.session
    asked = SeedsRequest(session, tuple(sorted(names.values())), holder.run_key, manifest)
    log(INFO, "%d hospitals exchange the seeds of their masks", len(names))
    messages = [Message(asked.to_content(), n, SEEDS) for n in names]
    brought: dict[str, dict[str, bytes]] = {name: {} for name in names.values()}
    for node_id, reply in _replies(grid, messages, timeout, names):
        with refused_as(f"{names[node_id]}:"):
            halves = Halves.from_content(reply.content).halves
        if halves.keys() != brought.keys() - {names[node_id]}:
            raise ProtocolError(f"{names[node_id]} must send halves for the others of the set")
        for receiver, half in halves.items():
            brought[receiver][names[node_id]] = half
    messages = [
        Message(Halves(session, brought[name], manifest).to_content(), n, PAIR)
        for n, name in names.items()
    ]
    for _ in _replies(grid, messages, timeout, names):
        pass


def _names(described: Mapping[int, Description]) -> tuple[dict[int, str], str]:
    """Return the hospitals' names, and the manifest that simulated nodes share, or nothing."""
    hospitals = {n: one.name for n, one in described.items() if one.role is Role.HOSPITAL}
    if not all(one.simulated for one in described.values()):
        return {n: printable(name) for n, name in hospitals.items()}, ""
    identities = (PublicIdentity.from_json(one.identity) for one in described.values())
    return hospitals, Manifest(tuple(identities)).to_json()


def _replies(
    grid: Grid, messages: list[Message], timeout: float, names: Mapping[int, str]
) -> list[tuple[int, Message]]:
    found = []
    for reply in exchange(grid, messages, timeout):
        node_id = reply.metadata.src_node_id
        if reply.has_error():
            raise ProtocolError(f"{names[node_id]} has no seeds of masks: {error_reason(reply)}")
        found.append((node_id, reply))
    return found
