"""One step of CaPC at one node: check its place in the protocol, then call its function."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

from fl_he.capc.messages import CapcReply, CapcRequest
from fl_he.capc.node import answering, guardian, querying
from fl_he.capc.node.envelopes import Envelopes
from fl_he.capc.node.keys import KeyPair
from fl_he.capc.node.party import Memory, Parts, Party, Turn
from fl_he.capc.protocol import FIRST, STEPS, CapcRole, CapcStep, Places
from fl_he.wire.encrypted_sum import Role
from fl_he.wire.records import ProtocolError

_FUNCTIONS: dict[CapcStep, Callable[[Turn], Parts]] = {
    CapcStep.ASK: querying.ask,
    CapcStep.EVALUATE: answering.evaluate,
    CapcStep.UNIT_BITS: querying.unit_bits,
    CapcStep.COMPARE_UNITS: answering.compare_units,
    CapcStep.PRODUCTS: querying.unit_products,
    CapcStep.RECTIFY: answering.rectify,
    CapcStep.LOGIT_BITS: querying.logit_bits,
    CapcStep.COMPARE: answering.compare,
    CapcStep.VOTE: querying.vote,
    CapcStep.NOISE: guardian.noise,
    CapcStep.COLLECT: answering.collect,
    CapcStep.COUNT: querying.count,
    CapcStep.COUNT_BITS: guardian.count_bits,
    CapcStep.COMPARE_COUNTS: querying.compare_counts,
    CapcStep.DECIDE: guardian.decide,
    CapcStep.ANY: querying.any_reached,
    CapcStep.RELEASE: guardian.release_winners,
}


@dataclass(frozen=True, slots=True, repr=False)
class CapcNode:
    """A node in CaPC, simulated or deployed.

    Attributes
    ----------
    name : str
    role : Role
        In all protocols: the guardian is company X.
    memory : callable
        Takes a batch's session and returns what the node remembers of the batch.
    party : Party
    keys : callable
        Returns the node's own keys.
    envelopes : callable or None
        Takes a request and returns its envelopes; None: parts travel without.
    """

    name: str
    role: Role
    memory: Callable[[str], Memory]
    party: Party
    keys: Callable[[], KeyPair]
    envelopes: Callable[[CapcRequest], Envelopes] | None = None


def take(step: CapcStep, request: CapcRequest, node: CapcNode) -> CapcReply:
    """Take a step of a batch.

    Parameters
    ----------
    step : CapcStep
    request : CapcRequest
    node : CapcNode

    Raises
    ------
    ProtocolError, CryptoError
        If the step is not this node's, out of order, or anything in the request is wrong.
    """
    row = STEPS[step]
    if step is CapcStep.ASK:
        # Nobody else chooses it: what was sealed for an old batch is of no use in a new one.
        request = replace(request, session=secrets.token_hex(16))
    memory = node.memory(request.session)
    if step is FIRST[row.role]:
        memory.begin()
    holder = node.name if node.role is Role.KEY_HOLDER else ""
    places = Places(request.querying, request.answering, holder)
    if row.role is not (CapcRole.GUARDIAN if holder else places.role(node.name)):
        raise ProtocolError(f"{step} must be asked of another node, got {node.name}")
    envelopes = None if node.envelopes is None else node.envelopes(request)
    if envelopes is not None:
        request = envelopes.open(step, request)
    places.handed(row, request.parts, node.name, incoming=True)
    memory.advance(row)
    reply = _reply(step, Turn(request, node.party, memory, cache(node.keys)))
    return reply if envelopes is None else envelopes.seal(step, reply)


def _reply(step: CapcStep, turn: Turn) -> CapcReply:
    """Call the step's function: once, or once for each answering party whose part is there."""
    if step is CapcStep.LEARN:
        return CapcReply(report=querying.learn(turn))
    row, function, request = STEPS[step], _FUNCTIONS[step], turn.request
    if not row.by_party:
        return CapcReply({part.name: data for part, data in function(turn).items()})
    if not row.takes:
        (data,) = function(turn).values()
        return CapcReply(dict.fromkeys(request.answering, data), session=request.session)
    parts = {}
    for name in request.parts:
        (parts[name],) = function(replace(turn, answering=name)).values()
    return CapcReply(parts)
