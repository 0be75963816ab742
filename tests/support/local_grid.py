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
    they are handed over as they are. ``sent`` and ``received`` hold all of them. Nodes may leave
    and come back; a message to one that is away is not taken, as Flower's grids do.
    """

    def __init__(self, app: ClientApp, node_configs: list[UserConfig], *, run_id: int = 7) -> None:
        self.app = app
        self.run_id = run_id
        self.contexts = {
            1000 + number: Context(
                run_id=run_id,
                node_id=1000 + number,
                node_config=node_config,
                state=RecordDict(),
                run_config={},
            )
            for number, node_config in enumerate(node_configs)
        }
        self.sent: list[Message] = []
        self.received: list[Message] = []
        #: Changes a reply on its way, to play a node that misbehaves. None: the reply is lost.
        self.tamper: Callable[[Message], Message | None] = lambda reply: reply
        self._replies: dict[str, Message] = {}

    def leave(self, node_id: int) -> Context:
        """Disconnect a node and return what it would come back with."""
        return self.contexts.pop(node_id)

    def join(self, node_id: int, node_config: UserConfig) -> None:
        """Connect a node that remembers nothing."""
        self.contexts[node_id] = Context(self.run_id, node_id, node_config, RecordDict(), {})

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        return Run.create_empty(self.run_id)

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
            if (node := self.contexts.get(message.metadata.dst_node_id)) is None:
                continue
            # A copy, as the network would make: a node must not reach into the sender's objects.
            received = Message(metadata=message.metadata, content=RecordDict(dict(message.content)))  # type: ignore[call-overload]
            reply = self.tamper(self.app(received, node))
            if reply is not None:
                self._replies[message.metadata.message_id] = reply
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


class SlowGrid(LocalGrid):
    """A grid on which replies take their time, by a clock that a test moves.

    Parameters
    ----------
    clock : list of float
        The time, in its one element.
    seconds : callable
        Returns how long the reply to a message takes; None: it never comes.
    """

    def __init__(
        self,
        app: ClientApp,
        node_configs: list[UserConfig],
        clock: list[float],
        seconds: Callable[[Message], float | None],
    ) -> None:
        super().__init__(app, node_configs)
        self.clock, self.seconds = clock, seconds
        self.due: dict[str, float] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        listed = list(messages)
        ids = list(super().push_messages(listed))
        for message in listed:
            if message.metadata.message_id in ids and (wait := self.seconds(message)) is not None:
                self.due[message.metadata.message_id] = self.clock[0] + wait
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        ready = [i for i in message_ids if self.due.get(i, float("inf")) <= self.clock[0]]
        return super().pull_messages(ready)


def simulated_nodes(hospitals: int) -> list[UserConfig]:
    """Return node configurations as Flower's simulation makes them, company X last."""
    nodes = hospitals + 1
    return [{"partition-id": number, "num-partitions": nodes} for number in range(nodes)]
