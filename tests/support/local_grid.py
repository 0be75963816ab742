"""The product's engine in this process, watched and tampered with."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flwr.app import Context, Message, RecordDict
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp

from fl_he.experiment import local_grid


class LocalGrid(local_grid.LocalGrid):
    """A grid that remembers its messages, and whose nodes may leave, come back and misbehave.

    ``sent`` and ``received`` hold all messages and replies.
    """

    def __init__(self, app: ClientApp, node_configs: list[UserConfig], *, run_id: int = 7) -> None:
        super().__init__(app, node_configs, run_id=run_id)
        self.sent: list[Message] = []
        self.received: list[Message] = []
        #: Changes a reply on its way, to play a node that misbehaves. None: the reply is lost.
        self.tamper: Callable[[Message], Message | None] = lambda reply: reply

    def leave(self, node_id: int) -> Context:
        """Disconnect a node and return the data for its reconnection."""
        return self.contexts.pop(node_id)

    def join(self, node_id: int, node_config: UserConfig) -> None:
        """Connect a node that remembers nothing."""
        self.contexts[node_id] = Context(self.run_id, node_id, node_config, RecordDict(), {})

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        listed = list(messages)
        self.sent += listed
        return super().push_messages(listed)

    def answer(self, message: Message) -> list[Message]:
        replies = [self.tamper(reply) for reply in super().answer(message)]
        kept = [reply for reply in replies if reply is not None]
        self.received += kept
        return kept


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
    return local_grid.simulated_nodes(hospitals + 1)
