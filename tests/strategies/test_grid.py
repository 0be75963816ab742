from __future__ import annotations

from collections.abc import Iterable

from flwr.app import Message
from flwr.clientapp import ClientApp
from local_grid import LocalGrid, simulated_nodes

from fl_he.strategies.grid import DelegatingGrid, HospitalGrid


def test_a_strategy_sees_hospitals_only() -> None:
    nodes = LocalGrid(ClientApp(), simulated_nodes(3))
    hospitals = {1000: "a", 1002: "b"}
    grid = HospitalGrid(nodes, hospitals)
    assert list(grid.get_node_ids()) == [1000, 1002]
    del nodes.contexts[1002], hospitals[1002]
    assert list(grid.get_node_ids()) == [1000, 1002], "it must not wait for one that just left"
    assert [node.node_id for node in grid.get_nodes()] == [1000]


def test_the_timeout_is_passed_on() -> None:
    class Timed(LocalGrid):
        def send_and_receive(
            self, messages: Iterable[Message], *, timeout: float | None = None
        ) -> Iterable[Message]:
            seen.append(timeout)
            return []

    seen: list[float | None] = []
    grid = DelegatingGrid(Timed(ClientApp(), simulated_nodes(1)))
    assert list(grid.send_and_receive([], timeout=3.0)) == []
    assert seen == [3.0]
