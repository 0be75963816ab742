"""CaPC on a node: which step goes to which part, under the terms of the node's own.

A deployed node takes and gives parts in envelopes only.

Choquette-Choo et al., "CaPC Learning: Confidential and Private Collaborative Learning", ICLR 2021.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import process_time

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fl_he.capc.messages import CapcReply, CapcRequest, CapcStep
from fl_he.capc.node import answering as capc_answering
from fl_he.capc.node import guardian as capc_guardian
from fl_he.capc.node import querying as capc_querying
from fl_he.capc.node.deployed import AgreedNode
from fl_he.capc.node.keys import KeyPair, own_keys
from fl_he.capc.node.party import Memory, Party
from fl_he.clients.node.app import NodeApp
from fl_he.clients.node.node import Node
from fl_he.clients.node.outgoing import Answer
from fl_he.wire.encrypted_sum import Role
from fl_he.wire.records import ProtocolError

_Owner = Callable[[CapcRequest, Context, Party, KeyPair], CapcReply]
_Answering = Callable[[CapcRequest, Context, Party], CapcReply]

_QUERYING: dict[CapcStep, _Owner] = {
    CapcStep.ASK: capc_querying.ask,
    CapcStep.UNIT_BITS: capc_querying.unit_bits,
    CapcStep.PRODUCTS: capc_querying.unit_products,
    CapcStep.LOGIT_BITS: capc_querying.logit_bits,
    CapcStep.VOTE: capc_querying.vote,
    CapcStep.COUNT: capc_querying.count,
    CapcStep.COMPARE_COUNTS: capc_querying.compare_counts,
    CapcStep.ANY: capc_querying.any_reached,
    CapcStep.LEARN: capc_querying.learn,
}
_GUARDIAN: dict[CapcStep, _Owner] = {
    CapcStep.NOISE: capc_guardian.noise,
    CapcStep.COUNT_BITS: capc_guardian.count_bits,
    CapcStep.DECIDE: capc_guardian.decide,
    CapcStep.RELEASE: capc_guardian.release_winners,
}
_ANSWERING: dict[CapcStep, _Answering] = {
    CapcStep.EVALUATE: capc_answering.evaluate,
    CapcStep.COMPARE_UNITS: capc_answering.compare_units,
    CapcStep.RECTIFY: capc_answering.rectify,
    CapcStep.COMPARE: capc_answering.compare,
    CapcStep.COLLECT: capc_answering.collect,
}
_FIRST = (CapcStep.ASK, CapcStep.EVALUATE, CapcStep.NOISE)
_STEPS = frozenset(step.value for step in CapcStep)


def with_capc(app: ClientApp, party: Callable[[Context], Party]) -> ClientApp:
    """Return an app that takes part in CaPC as well.

    Parameters
    ----------
    app : ClientApp
    party : callable
        See `Capc`.
    """
    return NodeApp.of(app, Capc(party))


class Capc:
    """The part of a node's app that takes CaPC's steps.

    Parameters
    ----------
    party : callable
        Returns what a simulated node brings along; the guardian's needs the terms only. A deployed
        node has its own files.
    """

    def __init__(self, party: Callable[[Context], Party]) -> None:
        self._party = party

    def __call__(self, message: Message, node: Node, answer: Answer) -> Message:
        """Answer a message; see `fl_he.clients.node.app.Part`."""
        if message.metadata.message_type not in _STEPS:
            return answer(message, node)
        start = process_time()
        step = CapcStep(message.metadata.message_type)
        if node.simulated:
            reply = self._simulated(step, message, node)
        else:
            reply = _deployed(step, message, AgreedNode.of(node))
        return Message(
            replace(reply, seconds=process_time() - start).to_content(), reply_to=message
        )

    def _simulated(self, step: CapcStep, message: Message, node: Node) -> CapcReply:
        context = node.context
        party = self._party(context)

        def keys() -> KeyPair:
            return own_keys(node, party.terms.key_bits)

        if step is CapcStep.DESCRIBE:
            return CapcReply(name=node.name, role=node.role.value)
        if step is CapcStep.KEYS:
            return CapcReply(keys=keys().public.to_texts())
        owner = _Node(node.name, node.role, context, party, keys)
        return _answer(step, _read(step, message, context), owner)


@dataclass(frozen=True, slots=True)
class _Node:
    name: str
    role: Role
    context: Context
    party: Party
    keys: Callable[[], KeyPair]


def _deployed(step: CapcStep, message: Message, node: AgreedNode) -> CapcReply:
    if step is CapcStep.DESCRIBE:
        return node.describe()
    if step is CapcStep.KEYS:
        return CapcReply(keys=node.keys().public.to_texts())
    request = _read(step, message, node.context)
    owner = _Node(node.enrolment.name, node.role, node.context, node.party(), node.keys)
    return node.sealed(step, request, _answer(step, node.opened(step, request), owner))


def _read(step: CapcStep, message: Message, context: Context) -> CapcRequest:
    """Return the request; the first step of a batch ends what is left of others."""
    request = CapcRequest.from_content(message.content)
    if step is CapcStep.ASK:
        # Nobody else chooses it: what was sealed for an old batch is of no use in a new one.
        request = replace(request, session=secrets.token_hex(16))
    if step in _FIRST:
        Memory(context, request.session).begin()
    return request


def _answer(step: CapcStep, request: CapcRequest, node: _Node) -> CapcReply:
    guardian = node.role is Role.KEY_HOLDER
    if step in _ANSWERING and not guardian:
        return _ANSWERING[step](request, node.context, node.party)
    steps = _GUARDIAN if guardian else _QUERYING
    if step not in steps:
        raise ProtocolError(f"{step} must be asked of another node, got {node.name}")
    reply = steps[step](request, node.context, node.party, node.keys())
    return replace(reply, session=request.session) if step is CapcStep.ASK else reply
