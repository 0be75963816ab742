"""Grids that stand in front of Flower's."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict
from time import perf_counter
from typing import Any

from flwr.app import Message
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid

from fl_he.wire.events import HopBegan, HopEnded, Listener
from fl_he.wire.planned_messages import Choice, check, is_planned
from fl_he.wire.study_plan import StudyPlan


def _passed_on(name: str) -> Any:
    """Return a method that calls the method of this name of the grid behind."""
    return lambda self, *args, **kwargs: getattr(self._grid, name)(*args, **kwargs)


class DelegatingGrid(Grid):
    """A grid that passes everything on to ``_grid``; subclasses change what they are for."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    run = property(lambda self: self._grid.run)
    set_run = _passed_on("set_run")
    create_message = _passed_on("create_message")
    get_node_ids = _passed_on("get_node_ids")
    get_nodes = _passed_on("get_nodes")
    push_messages = _passed_on("push_messages")
    pull_messages = _passed_on("pull_messages")
    send_and_receive = _passed_on("send_and_receive")


class HospitalGrid(DelegatingGrid):
    """Shows a strategy the hospitals only, so that it never samples company X.

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


class PlannedGrid(DelegatingGrid):
    """Names the study plan in each message that it allows, and lets no other leave.

    Parameters
    ----------
    grid : Grid
    plan : StudyPlan
    choice : Choice
        What the run has picked from the plan's lists.
    """

    def __init__(self, grid: Grid, plan: StudyPlan, choice: Choice) -> None:
        super().__init__(grid)
        self._plan, self._choice = plan, choice

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See Grid; raises ProtocolError as nodes would."""
        sent = list(messages)
        for message in sent:
            if is_planned(action := message.metadata.message_type):
                message.content = self._choice.add_to(message.content)
                check(self._plan, action, message.content)
        return self._grid.push_messages(sent)


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
        ids = list(self._grid.push_messages(sent))
        for message, message_id in zip(sent, ids, strict=False):  # some grids leave ids out
            if message_id:
                metadata = message.metadata
                hop = HopBegan(self._name(metadata.dst_node_id), metadata.message_type)
                self._under_way[message_id] = hop, perf_counter()
                self._tell(hop)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See Grid."""
        replies = list(self._grid.pull_messages(message_ids))
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
