"""Grids that stand in front of Flower's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict
from time import perf_counter
from typing import Any

from flwr.app import Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fl_he.wire.events import HopBegan, HopEnded, Listener


class DelegatingGrid(Grid):
    """A grid that passes everything on; subclasses change what they are for."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def set_run(self, run: Run) -> None:
        """See Grid."""
        self._grid.set_run(run)

    @property
    def run(self) -> Run:
        """See Grid."""
        return self._grid.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See Grid."""
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        """See Grid."""
        return self._grid.get_node_ids()

    def get_nodes(self) -> Iterable[NodeInfo]:
        """See Grid."""
        return self._grid.get_nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See Grid."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See Grid."""
        return self._grid.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """See Grid."""
        return self._grid.send_and_receive(messages, timeout=timeout)


class HospitalGrid(DelegatingGrid):
    """Shows a strategy the hospitals only, so that it never samples the key holder.

    They stay the same while it is in use: Flower's strategies wait, without end, for as many nodes
    as they want, so none of those that were counted before may vanish meanwhile.
    """

    def __init__(self, grid: Grid, hospitals: Collection[int]) -> None:
        super().__init__(grid)
        self._hospitals = list(hospitals)

    def get_node_ids(self) -> Iterable[int]:
        """Return the ids of the hospitals."""
        return list(self._hospitals)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """Return the hospitals that are connected."""
        return [node for node in self._grid.get_nodes() if node.node_id in self._hospitals]


class HopWatch(DelegatingGrid):
    """Tells of each message and its answer, and takes the time between; none is missed.

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
