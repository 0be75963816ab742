"""The app of a node: reads the node once a message, and lets nothing leave that must not.

In front of a ClientApp stand the parts of fl-he's protocols, one behind another, as Flower's mods
do. A part answers the messages of its own protocol and hands all others on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from logging import WARNING
from time import monotonic
from typing import Any

from flwr.app import Context, Message, RecordDict
from flwr.app.user_config import UserConfigValue
from flwr.clientapp import ClientApp
from flwr.common.logger import log
from flwr.supercore.task_identity import TaskIdentity

from fl_he.clients.node.deployed import DeployedNode
from fl_he.clients.node.node import Node, SimulatedNode
from fl_he.clients.node.outgoing import Answer, answered, require_safe
from fl_he.clients.node.pace import wait_for_grid
from fl_he.clients.node.study_plans import require_planned
from fl_he.wire.encrypted_sum import DESCRIBE, Role
from fl_he.wire.records import RECORD, ProtocolError, kept_config, sent_config
from fl_he.wire.sealed_messages import News, OpenNews

#: Answers a message itself, or hands the message on to the parts behind it and to the app.
Part = Callable[[Message, Node, Answer], Message]

_STATE = "fl-he.app"
_PARTITIONS = "num-partitions"

#: Company X's have 32.
_LONGEST_SESSION = 64

#: The node whose message is being answered: set and reset with each message, since Flower runs
#: the messages of several nodes in one process.
_answering: ContextVar[Node | None] = ContextVar("answering", default=None)


def read_node(context: Context, simulated: Callable[[Context], Node] = SimulatedNode) -> Node:
    """Return the node whose message is being answered, or else read it from its context.

    A node is simulated if Flower's simulation started it: that configures only partitions,
    and starts no process for a node. Deployed nodes may have partitions in their configuration
    too, as Flower's guides show it.

    Parameters
    ----------
    context : Context
    simulated : callable
        Reads a simulated node.
    """
    node = _answering.get()
    # The app has a copy of the context.
    if node is not None and _ids(node.context) == _ids(context):
        return node
    silent = "role" not in context.node_config and "partition-id" in context.node_config
    return DeployedNode(context) if not silent or _has_process(context) else simulated(context)


def _ids(context: Context) -> tuple[int, int]:
    return context.run_id, context.node_id


def hospital_partition(context: Context) -> tuple[int, int]:
    """Return a hospital's number, from 0, and the number of hospitals, to divide data by.

    In a simulation ``num-partitions`` counts company X, which has no data, and this number does
    not. A deployed hospital has the two numbers of its own node configuration.

    Parameters
    ----------
    context : Context
        Flower's, as the app's functions get it.

    Raises
    ------
    ProtocolError
        On company X's node, and on a deployed node without ``partition-id`` and ``num-partitions``.

    Examples
    --------
    >>> node_config = {"partition-id": 1, "num-partitions": 4}
    >>> hospital_partition(Context(1, 7, node_config, RecordDict(), {}))
    (1, 3)
    """
    return read_node(context).partition


class _NodeConfig(dict[str, UserConfigValue]):
    """A node configuration that remembers whether somebody asked for ``num-partitions``."""

    asked = False

    def __getitem__(self, key: str) -> UserConfigValue:
        self.asked = self.asked or key == _PARTITIONS
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self.asked = self.asked or key == _PARTITIONS
        return super().get(key, default)


@contextmanager
def _copied_settings(node: Node) -> Iterator[None]:
    """Give the app a copy of the node configuration; warn once if it reads ``num-partitions``.

    The warning is for simulations, on the first hospital. Nobody sees how an app divides its data,
    so the warning also reaches apps that subtract 1.
    """
    context, first = node.context, node.simulated and node.role is Role.HOSPITAL
    first = first and node.partition[0] == 0
    before, watched = context.node_config, _NodeConfig(context.node_config)
    context.node_config = watched
    try:
        yield
    finally:
        context.node_config = before
    told = kept_config(context.state, _STATE)
    if first and watched.asked and _PARTITIONS not in told:
        told[_PARTITIONS], hospitals = True, node.partition[1]
        log(
            WARNING,
            "the app reads num-partitions, which is %d because it counts company X, and only %d "
            "hospitals contribute: unless the app subtracts 1, a share of the data is unused. "
            "Use fl_he.hospital_partition(context): it gives a hospital's number and %d",
            *(hospitals + 1, hospitals, hospitals),
        )


def _has_process(context: Context) -> bool:
    """Tell whether a SuperNode started this process."""
    try:
        return TaskIdentity.node_id == context.node_id
    except RuntimeError:  # it is not set in the actors of a simulation
        return False


def _handed_on(name: str) -> Any:
    """Return a method that calls the method of this name of the app behind."""
    return lambda self, *args, **kwargs: getattr(self._app, name)(*args, **kwargs)


class NodeApp(ClientApp):
    """A ClientApp behind the parts of fl-he's protocols.

    Functions registered here, or with the app behind it later, are the app's. Its mods and
    functions see no message that a part answers.

    Parameters
    ----------
    app : ClientApp
    parts : sequence of callable
        In the order in which they see a message.
    simulated : callable
        Reads a simulated node.

    Raises
    ------
    ProtocolError
        If the app is a legacy one, whose ``client_fn`` Flower asks instead of registered functions.
    """

    def __init__(
        self,
        app: ClientApp,
        parts: Sequence[Part] = (),
        simulated: Callable[[Context], Node] = SimulatedNode,
    ) -> None:
        super().__init__()
        # Flower has no public way to tell.
        if getattr(app, "_call", None) is not None:
            raise ProtocolError(
                "the ClientApp has a client_fn: register functions with @app.train() and "
                "@app.evaluate(), as in Flower's guide 'Upgrade to Message API'"
            )
        self._app = app
        self._parts = tuple(parts)
        self._simulated = simulated

    @classmethod
    def of(cls, app: ClientApp, part: Part) -> NodeApp:
        """Return an app with one more part, in front of those that it has."""
        if isinstance(app, NodeApp):
            return cls(app._app, (part, *app._parts), app._simulated)
        return cls(app, (part,))

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer a message; an exception becomes an error reply that is safe to send."""
        node = read_node(context, self._simulated)
        token, start = _answering.set(node), monotonic()
        try:
            reply = answered(message, node, self._first)
        finally:
            _answering.reset(token)
        seconds = node.reply_seconds
        if seconds is None:
            return reply
        wait_for_grid(start, seconds)
        # A message says when it was made.
        if reply.has_error():
            return Message(reply.error, reply_to=message)
        return Message(reply.content, reply_to=message)

    def _first(self, message: Message, node: Node) -> Message:
        node.session = _session(message.content)
        if node.run_keys is not None:
            node.run_keys.delete_old()
        require_planned(message, node)
        answer: Answer = self._behind
        for part in reversed(self._parts):
            answer = _before(part, answer)
        return answer(message, node)

    def _behind(self, message: Message, node: Node) -> Message:
        _ = node.role  # a node that does not say who it is answers nothing
        with _copied_settings(node):
            reply = self._app(message, node.context)
        require_safe(message, reply)
        return reply

    train = _handed_on("train")
    evaluate = _handed_on("evaluate")
    query = _handed_on("query")
    lifespan = _handed_on("lifespan")


def _session(content: RecordDict) -> str:
    """Return company X's session as a message names it, open or sealed; empty if it does not."""
    named = {
        session
        for key in (RECORD, News.HOME, OpenNews.HOME)
        if isinstance(session := sent_config(content, key).get("session", ""), str) and session
    }
    if any(len(session) > _LONGEST_SESSION for session in named):
        raise ProtocolError(f"a session must have at most {_LONGEST_SESSION} characters")
    if len(named) > 1:
        raise ProtocolError("the message names two sessions")
    return named.pop() if named else ""


def _before(part: Part, answer: Answer) -> Answer:
    return lambda message, node: part(message, node, answer)


def check_first(message: Message, node: Node, answer: Answer) -> Message:
    """Check a node's configuration before it describes itself: a part of fl-he's own app."""
    if message.metadata.message_type == DESCRIBE:
        node.check()
    return answer(message, node)
