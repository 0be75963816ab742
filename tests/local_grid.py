"""A grid in one process, so that the whole protocol runs without Ray or a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import uuid4

from flwr.app import Context, Message, RecordDict
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run


class LocalGrid(Grid):
    """A grid whose nodes run a ClientApp in this process, one message after another.

    Messages and replies go through Flower's own serialisation where it matters to a test; here
    they are handed over as they are. ``sent`` and ``received`` hold all of them.
    """

    def __init__(self, app: ClientApp, node_configs: list[UserConfig]) -> None:
        self.app = app
        self.contexts = {
            1000 + number: Context(
                run_id=7,
                node_id=1000 + number,
                node_config=node_config,
                state=RecordDict(),
                run_config={},
            )
            for number, node_config in enumerate(node_configs)
        }
        self.sent: list[Message] = []
        self.received: list[Message] = []
        #: Changes a reply on its way, to play a node that misbehaves.
        self.tamper: Callable[[Message], Message] = lambda reply: reply
        self._replies: dict[str, Message] = {}

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        return Run.create_empty(7)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        return list(self.contexts)

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [NodeInfo(node_id=node_id) for node_id in self.contexts]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid4())
            self.sent.append(message)
            node = self.contexts[message.metadata.dst_node_id]
            # A copy, as the network would make: a node must not reach into the sender's objects.
            received = Message(metadata=message.metadata, content=RecordDict(dict(message.content)))  # type: ignore[call-overload]
            self._replies[message.metadata.message_id] = self.tamper(self.app(received, node))
            ids.append(message.metadata.message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies = [self._replies.pop(i) for i in message_ids if i in self._replies]
        self.received += replies
        return replies

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        return self.pull_messages(self.push_messages(messages))


def simulated_nodes(hospitals: int) -> list[UserConfig]:
    """Return node configurations as Flower's simulation makes them, company X last."""
    nodes = hospitals + 1
    return [{"partition-id": number, "num-partitions": nodes} for number in range(nodes)]
