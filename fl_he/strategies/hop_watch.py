"""A grid that tells of each message and its answer; whatever the strategy, none is missed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from fl_he.strategies.grid import DelegatingGrid
from fl_he.wire.hop import Hop, OnHop


class HopWatch(DelegatingGrid):
    """Passes everything on, and takes the time of each hop.

    Parameters
    ----------
    grid : Grid
    name : callable
        Returns the name of a node id.
    on_hop : callable
        See `OnHop`.
    """

    def __init__(self, grid: Grid, name: Callable[[int], str], on_hop: OnHop) -> None:
        super().__init__(grid)
        self._name, self._on_hop = name, on_hop
        self._under_way: dict[str, tuple[Hop, float]] = {}
        self._ended: list[Hop] = []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See Grid."""
        sent = list(messages)
        ids = list(super().push_messages(sent))
        for message, message_id in zip(sent, ids, strict=False):  # some grids leave ids out
            if message_id:
                metadata = message.metadata
                hop = Hop(self._name(metadata.dst_node_id), metadata.message_type)
                self._under_way[message_id] = hop, perf_counter()
                self._on_hop(hop)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See Grid."""
        replies = list(super().pull_messages(message_ids))
        for reply in replies:
            sent = self._under_way.pop(reply.metadata.reply_to_message_id, None)
            if sent is not None:
                hop, start = sent
                ended = Hop(hop.node, hop.action, perf_counter() - start, reply.has_error())
                self._ended.append(ended)
                self._on_hop(ended)
        return replies

    def take(self) -> list[dict[str, Any]]:
        """Return the hops that have ended since the last call, as metrics.json holds them."""
        ended, self._ended = self._ended, []
        return [
            {"node": hop.node, "action": hop.action, "seconds": hop.seconds, "failed": hop.failed}
            for hop in ended
        ]
