"""The part of a node's app that takes CaPC's steps."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from time import process_time

from flwr.app import Context, Message

from fl_he.capc.messages import NO_SESSION, CapcReply, CapcRequest
from fl_he.capc.node import answering, guardian, querying
from fl_he.capc.node.deployed import AgreedNode
from fl_he.capc.node.keys import own_keys
from fl_he.capc.node.party import Memory, Parts, Party, Turn
from fl_he.capc.node.vote_pairs import VotePairs
from fl_he.capc.protocol import FIRST, STEPS, CapcRole, CapcStep, Places
from fl_he.clients.node.node import Node
from fl_he.clients.node.outgoing import Answer
from fl_he.clients.pairing import own_identity
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


class Capc:
    """The part of a node's app that takes CaPC's steps.

    Parameters
    ----------
    party : callable
        Returns a simulated node's party; the guardian's needs the terms only. A deployed
        node has its own files.
    """

    def __init__(self, party: Callable[[Context], Party]) -> None:
        self._party = party

    def __call__(self, message: Message, node: Node, answer: Answer) -> Message:
        """Answer a message; see `fl_he.clients.node.app.Part`."""
        if message.metadata.message_type not in frozenset(CapcStep):
            return answer(message, node)
        start = process_time()
        step, context = CapcStep(message.metadata.message_type), node.context
        agreed = None if node.simulated else AgreedNode.of(node)
        party = agreed or self._party(context)
        terms = party.terms
        simulated_keys = partial(own_keys, node, terms.key_bits, kind=terms.key_kind)
        keys = simulated_keys if agreed is None else agreed.keys
        pairs = partial(_vote_pairs, node, agreed)
        if step is CapcStep.DESCRIBE:
            reply = _simulated(node) if agreed is None else agreed.describe()
        elif step is CapcStep.KEYS:
            reply = CapcReply(keys=keys().public.to_texts())
        elif step in (CapcStep.SEEDS, CapcStep.PAIR):
            reply = _exchanged(step, CapcRequest.from_content(message.content), node, pairs)
        else:
            request = CapcRequest.from_content(message.content)
            if step is CapcStep.ASK:
                # Nobody else chooses it: what was sealed for an old batch is of no use in a new one
                request = replace(request, session=secrets.token_hex(16))
            party = party.about(request.label)
            turn = Turn(request, party, Memory(context, request.session), cache(keys), pairs)
            reply = _take(step, turn, node, agreed)
        if node.simulated:  # a deployed node tells nobody how long its numbers took
            reply = replace(reply, seconds=process_time() - start)
        return Message(reply.to_content(), reply_to=message)


def _simulated(node: Node) -> CapcReply:
    """Describe a simulated node."""
    identity = own_identity(node).public.to_json() if node.resistant else ""
    return CapcReply(
        name=node.name, role=node.role.value, resistant=node.resistant, identity=identity
    )


def _vote_pairs(node: Node, agreed: AgreedNode | None) -> VotePairs | None:
    """Return an answering party's seeds of pairwise masks; None if it has none."""
    if agreed is None:
        return VotePairs.of(node, "", node.masked_sets(), node.pairs(NO_SESSION))
    return VotePairs.of(node, agreed.agreement.fingerprint, *agreed.pair_stores())


def _exchanged(
    step: CapcStep, request: CapcRequest, node: Node, read: Callable[[], VotePairs | None]
) -> CapcReply:
    """Take a step of the exchange of seeds."""
    pairs = None if node.role is Role.KEY_HOLDER else read()
    if pairs is None:
        raise ProtocolError(
            f"'{step}' must go to hospitals with collusion='resistant' in their configuration"
        )
    return pairs.seal(request) if step is CapcStep.SEEDS else pairs.keep(request)


def _take(step: CapcStep, turn: Turn, node: Node, agreed: AgreedNode | None) -> CapcReply:
    """Take a step of a batch, after checking that the step is this node's and in its place."""
    row, request = STEPS[step], turn.request
    name = node.name if agreed is None else agreed.enrolment.name
    holder = name if node.role is Role.KEY_HOLDER else ""
    places = Places(request.querying, request.answering, holder)
    if row.role is not (CapcRole.GUARDIAN if holder else places.role(name)):
        raise ProtocolError(f"{step} must be asked of another node, got {name}")
    if step is FIRST[row.role]:
        turn.memory.begin()
    if agreed is not None:
        envelopes = agreed.envelopes(request)
        turn = replace(turn, request=envelopes.open(step, request))
    places.handed(row, turn.request.parts, name, incoming=True)
    turn.memory.advance(row)
    reply = _reply(step, turn)
    return reply if agreed is None else envelopes.seal(step, reply)


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
