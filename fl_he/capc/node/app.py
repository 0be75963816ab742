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
from fl_he.capc.node.deployed import DeployedNode
from fl_he.capc.node.keys import KeyPair, simulated_keys
from fl_he.capc.node.party import Memory, Party
from fl_he.clients.node.checks import name_of
from fl_he.clients.node.refusal import refusal, refusal_mod
from fl_he.clients.node.role import is_simulated, read_node
from fl_he.clients.node.wrapped_app import WrappedApp
from fl_he.wire.encrypted_sum import ProtocolError, Role

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
        Returns what a simulated node brings along; the guardian's needs the terms only. A deployed
        node has its own files.
    """
    return _CapcApp(app, party)


class _CapcApp(WrappedApp):
    """A ClientApp that takes CaPC's steps by itself and leaves all other messages to the app."""

    def __init__(self, app: ClientApp, party: Callable[[Context], Party]) -> None:
        super().__init__(app)
        self._party = party

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer a message."""
        if message.metadata.message_type not in _STEPS:
            return self._app(message, context)
        reply = refusal_mod(message, context, self._take)
        described = message.metadata.message_type == CapcStep.DESCRIBE
        if reply.has_error() and described and not is_simulated(context):
            return refusal(message, f"{name_of(context)}: {reply.error.reason}")
        return reply

    def _take(self, message: Message, context: Context) -> Message:
        start = process_time()
        step = CapcStep(message.metadata.message_type)
        if is_simulated(context):
            reply = self._simulated(step, message, context)
        else:
            reply = _deployed(step, message, DeployedNode.of(context))
        return Message(
            replace(reply, seconds=process_time() - start).to_content(), reply_to=message
        )

    def _simulated(self, step: CapcStep, message: Message, context: Context) -> CapcReply:
        node, party = read_node(context), self._party(context)

        def keys() -> KeyPair:
            return simulated_keys(context, party.terms.key_bits)

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


def _deployed(step: CapcStep, message: Message, node: DeployedNode) -> CapcReply:
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
