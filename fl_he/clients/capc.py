"""CaPC on a node: which step goes to which part, under the terms of the node's own.

Choquette-Choo et al., "CaPC Learning: Confidential and Private Collaborative Learning", ICLR 2021.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import process_time

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fl_he.capc_messages import CapcReply, CapcRequest, CapcStep
from fl_he.clients import capc_answering, capc_guardian, capc_querying
from fl_he.clients.capc_keys import KeyPair, simulated_keys
from fl_he.clients.capc_party import Party
from fl_he.clients.node import is_simulated, read_node
from fl_he.clients.refusal import refusal_mod
from fl_he.clients.wrapped_app import WrappedApp
from fl_he.messages import ProtocolError, Role

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
_STEPS = frozenset(step.value for step in CapcStep)


def with_capc(app: ClientApp, party: Callable[[Context], Party]) -> ClientApp:
    """Return an app that takes part in CaPC as well.

    Parameters
    ----------
    app : ClientApp
    party : callable
        Returns what a node brings along; the guardian's node needs the terms only.
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
        return refusal_mod(message, context, self._take)

    def _take(self, message: Message, context: Context) -> Message:
        start = process_time()
        if not is_simulated(context):
            raise ProtocolError("CaPC must run in a simulation so far, got a deployed node")
        step = CapcStep(message.metadata.message_type)
        reply = _answer(step, message, context, self._party(context))
        return Message(
            replace(reply, seconds=process_time() - start).to_content(), reply_to=message
        )


def _answer(step: CapcStep, message: Message, context: Context, party: Party) -> CapcReply:
    node = read_node(context)
    guardian = node.role is Role.KEY_HOLDER
    if step is CapcStep.DESCRIBE:
        return CapcReply(name=node.name, role=node.role.value)
    if step is CapcStep.KEYS:
        return CapcReply(keys=simulated_keys(context, party.terms.key_bits).public.to_texts())
    request = CapcRequest.from_content(message.content)
    if step in _ANSWERING and not guardian:
        return _ANSWERING[step](request, context, party)
    steps = _GUARDIAN if guardian else _QUERYING
    if step not in steps:
        raise ProtocolError(f"{step} must be asked of another node, got {node.name}")
    return steps[step](request, context, party, simulated_keys(context, party.terms.key_bits))
