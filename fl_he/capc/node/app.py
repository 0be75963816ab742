"""The ClientApp of CaPC: a node takes the protocol's steps and leaves other messages to the app."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from time import process_time

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from fl_he.capc.messages import CapcReply, CapcRequest
from fl_he.capc.node.deployed import AgreedNode
from fl_he.capc.node.keys import own_keys
from fl_he.capc.node.party import Memory, Party
from fl_he.capc.node.steps import CapcNode, take
from fl_he.capc.protocol import CapcStep
from fl_he.clients.node.app import NodeApp
from fl_he.clients.node.node import Node
from fl_he.clients.node.outgoing import Answer

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
        party = self._party(node.context)
        if step is CapcStep.DESCRIBE:
            return CapcReply(name=node.name, role=node.role.value)
        keys = partial(own_keys, node, party.terms.key_bits)
        if step is CapcStep.KEYS:
            return CapcReply(keys=keys().public.to_texts())
        own = CapcNode(node.name, node.role, partial(Memory, node.context), party, keys)
        return take(step, CapcRequest.from_content(message.content), own)


def _deployed(step: CapcStep, message: Message, node: AgreedNode) -> CapcReply:
    if step is CapcStep.DESCRIBE:
        return node.describe()
    if step is CapcStep.KEYS:
        return CapcReply(keys=node.keys().public.to_texts())
    memory, name = partial(Memory, node.context), node.enrolment.name
    own = CapcNode(name, node.role, memory, node.party(), node.keys, node.envelopes)
    return take(step, CapcRequest.from_content(message.content), own)
