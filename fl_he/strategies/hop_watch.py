"""A grid that tells of each message and its answer; whatever the strategy, none is missed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from time import perf_counter
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from fl_he.strategies.grid import DelegatingGrid
from fl_he.wire.events import HopBegan, HopEnded, Listener


class HopWatch(DelegatingGrid):
    """Passes everything on, and takes the time of each hop.

    Parameters
    ----------
    grid : Grid
    name : callable
        Returns the name of a node id.
    tell : callable
        Is told when a message goes out to a node, and when its answer comes.
    """

    def __init__(self, grid: Grid, name: Callable[[int], str], tell: Listener) -> None:
        super().__init__(grid)
        self._name, self._tell = name, tell
        self._under_way: dict[str, tuple[HopBegan, float]] = {}
        self._ended: list[HopEnded] = []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See Grid."""
        sent = list(messages)
        ids = list(super().push_messages(sent))
        for message, message_id in zip(sent, ids, strict=False):  # some grids leave ids out
            if message_id:
                metadata = message.metadata
                hop = HopBegan(self._name(metadata.dst_node_id), metadata.message_type)
                self._under_way[message_id] = hop, perf_counter()
                self._tell(hop)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See Grid."""
        replies = list(super().pull_messages(message_ids))
        for reply in replies:
            sent = self._under_way.pop(reply.metadata.reply_to_message_id, None)
            if sent is not None:
                hop, start = sent
                ended = HopEnded(hop.node, hop.action, perf_counter() - start, reply.has_error())
                self._ended.append(ended)
                self._tell(ended)
        return replies

    def take(self) -> list[dict[str, Any]]:
        """Return the hops that have ended since the last call, as metrics.json holds them."""
        ended, self._ended = self._ended, []
        return list(map(asdict, ended))
