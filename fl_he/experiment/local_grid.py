"""The nodes of a simulation in this process, one message after another, without Ray.

Every node runs the app that it runs on Flower's own engines, and keeps its own context. Nothing
separates the nodes from each other, and no two of them work at the same time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import TypeVar
from uuid import uuid4

from flwr.app import Context, Error, Message, RecordDict
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

Result = TypeVar("Result")

_logger = logging.getLogger(__name__)


class LocalGrid(Grid):
    """A grid whose nodes run a ClientApp in the caller's thread.

    A node gets its message when somebody looks for the reply. Each look returns one reply, that to
    the oldest message, so that what follows a run sees every hop begin and end.

    Parameters
    ----------
    app : ClientApp
        The app of every node.
    node_configs : sequence of mapping
        One for each node.
    run_id : int
        Of the run, as the nodes see it.

    Notes
    -----
    ``contexts`` holds what each node knows, by the node's id.
    """

    def __init__(
        self, app: ClientApp, node_configs: Sequence[UserConfig], *, run_id: int = 1
    ) -> None:
        self.app = app
        self.run_id = run_id
        self.contexts = {
            node_id: Context(run_id, node_id, node_config, RecordDict(), {})
            for node_id, node_config in enumerate(node_configs, start=1000)
        }
        self._waiting: dict[str, Message] = {}

    def set_run(self, run: Run) -> None:
        """Refuse another run than that of the nodes."""
        raise NotImplementedError

    @property
    def run(self) -> Run:
        """See Grid."""
        return Run.create_empty(self.run_id)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See Grid."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """See Grid."""
        return list(self.contexts)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """See Grid."""
        return [NodeInfo(node_id=node_id) for node_id in self.contexts]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See Grid; a message to a node that is not there is not taken."""
        ids = []
        for message in messages:
            if message.metadata.dst_node_id in self.contexts:
                message_id = str(uuid4())
                message.metadata.__dict__["_message_id"] = message_id
                self._waiting[message_id] = message
                ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Have the oldest of the messages answered, and return the reply alone."""
        wanted = set(message_ids)
        for message_id in self._waiting:
            if message_id in wanted:
                return self.answer(self._waiting.pop(message_id))
        return []

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """See Grid; there is no timeout, since nobody can end a node's work."""
        ids = list(self.push_messages(messages))
        return [reply for _ in ids for reply in self.pull_messages(ids)]

    def answer(self, message: Message) -> list[Message]:
        """Return a node's reply; an error if its app raises, as Flower's own engines do.

        Messages are copied as by a network: nobody reaches into another's records.
        """
        context = self.contexts[message.metadata.dst_node_id]
        try:
            return [deepcopy(self.app(deepcopy(message), context))]
        except Exception as error:
            _logger.exception("the app of node %d failed", context.node_id)
            reason = f"{type(error).__name__}: {error}"
            failure = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason)
            return [Message(failure, reply_to=message)]


def run_here(main: Callable[[Grid], Result], app: ClientApp, nodes: int) -> Result:
    """Hand a grid of this many nodes in this process, company X included, to the server's part."""
    # Flower makes no message in a process that is no task.
    TaskIdentity.run_id = TaskIdentity.task_id = 1
    TaskIdentity.node_id = SUPERLINK_NODE_ID
    return main(LocalGrid(app, simulated_nodes(nodes)))


def simulated_nodes(nodes: int) -> list[UserConfig]:
    """Return the node configurations of a simulation as Flower makes them, company X's last."""
    return [{"partition-id": number, "num-partitions": nodes} for number in range(nodes)]
