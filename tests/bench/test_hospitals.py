from __future__ import annotations

from collections.abc import Callable

import pytest
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from local_grid import LocalGrid, simulated_nodes

from fl_he import client_app
from fl_he.bench import hospitals
from fl_he.bench.hospitals import (
    FULL,
    QUICK,
    HospitalsPlan,
    dealt,
    hops,
    measure_topologies,
)
from fl_he.config.composition import compose


def test_each_topology_is_measured() -> None:
    config = compose("config", "crypto.key_bits=1024 hospitals=5")
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(5))
    rows = measure_topologies(grid, config, 2, lambda *_: None)
    assert [(row["topology"], row["segments"], row["hops"]) for row in rows] == [
        ("fold", 1, 2),
        ("chain", 1, 6),
        ("chain", "auto", 4),
    ]
    fold, chain, segmented = rows
    for row in rows:
        assert row["rounds"] == 2
        assert row["times_faster_than_chain"] == pytest.approx(
            chain["median_seconds"] / row["median_seconds"]
        )
    # A chain hands the sum on: one more ciphertext for each hop between hospitals.
    assert fold["bytes"] < segmented["bytes"] < chain["bytes"]
    kinds = [message.metadata.message_type for message in grid.sent]
    assert kinds.count("train") == 3 * (1 + 2) * 5
    assert kinds.count("query.decrypt") == 3 * (1 + 2)
    assert not any(message.has_error() for message in grid.received)


def test_more_hospitals_than_ray_serves_work_in_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def on_ray(main: Callable[[Grid], object], app: ClientApp, nodes: int) -> object:
        return main(LocalGrid(app, simulated_nodes(nodes - 1)))

    monkeypatch.setattr(hospitals, "MOST_ON_RAY", 3)
    monkeypatch.setattr(hospitals, "run_in_ray", on_ray)
    rows = hospitals.measure(HospitalsPlan((3, 4), 1), lambda *_: None)["rows"]
    found = [(row["hospitals"], row["engine"]) for row in rows]
    assert found == [(3, "ray")] * 3 + [(4, "local")] * 3
    assert hospitals.FULL.hospitals[-2] == 300


def test_more_hospitals_than_rows_have_data() -> None:
    config = compose("config", "hospitals=1000")
    data = dealt(config)
    assert {part.examples for part in data.hospitals} == {1}
    assert len(data.hospitals) == 1000 > data.train.examples == 569
    first, again = data.hospitals[0], data.hospitals[569]
    assert first.features.tolist() == again.features.tolist()


@pytest.mark.parametrize("hospitals", [3, 4, 10, 30, 99, 100])
@pytest.mark.parametrize("segments", [1, 2, 3])
def test_hops_of_a_chain_are_its_longest_segment(hospitals: int, segments: int) -> None:
    shares = [len(range(hospitals)[start::segments]) for start in range(segments)]
    assert hops(hospitals, "chain", segments) == max(shares) + 1


def test_hops_of_the_rest() -> None:
    assert hops(100, "fold", 1) == 2
    assert hops(100, "chain", "auto") == 11
    assert hops(30, "chain", "auto") == 7


def test_quick_selects_less() -> None:
    assert set(QUICK.hospitals) < set(FULL.hospitals)
    assert FULL.hospitals == (3, 10, 30, 100, 300, 1000)
    assert QUICK.rounds < FULL.rounds
