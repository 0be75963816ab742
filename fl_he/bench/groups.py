"""Several apps on the same nodes, told apart by the group of a message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fl_he.strategies.grid import DelegatingGrid


class SideBySide(ClientApp):
    """Several apps on the same nodes; a message's group says which one answers it.

    Parameters
    ----------
    default : ClientApp
        Answers messages without a group.
    groups : mapping of str to ClientApp
        Answer those of `GroupGrid`.
    """

    def __init__(self, default: ClientApp, groups: Mapping[str, ClientApp]) -> None:
        super().__init__()
        self._default = default
        self._groups = groups

    def __call__(self, message: Message, context: Context) -> Message:
        """See ClientApp."""
        return self._groups.get(message.metadata.group_id, self._default)(message, context)


class GroupGrid(DelegatingGrid):
    """Puts every message into one group.

    Parameters
    ----------
    grid : Grid
    group : str
    """

    def __init__(self, grid: Grid, group: str) -> None:
        super().__init__(grid)
        self._group = group

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See Grid."""
        return super().push_messages(self._labelled(messages))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """See Grid."""
        return super().send_and_receive(self._labelled(messages), timeout=timeout)

    def _labelled(self, messages: Iterable[Message]) -> Iterator[Message]:
        for message in messages:
            message.metadata.group_id = self._group
            yield message
