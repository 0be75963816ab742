"""Section `hospitals`: how a round grows with the number of hospitals."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from flwr.serverapp import Grid

from fl_he import client_app
from fl_he.bench.federation import KEY_BITS, CountingSum, descent, timed_rounds
from fl_he.bench.timing import Follow, spread
from fl_he.config.composition import compose
from fl_he.config.groups import AUTO, Engine
from fl_he.config.run import Config
from fl_he.experiment.data import SimulatedData
from fl_he.experiment.local_grid import run_here
from fl_he.experiment.ray_engine import run_in_ray
from fl_he.experiment.tables import whole_table
from fl_he.strategies.update_sum import segments_of

FOLD, CHAIN = "fold", "chain"


@dataclass(frozen=True, slots=True)
class HospitalsPlan:
    """Extent of the section.

    Attributes
    ----------
    hospitals : tuple of int
        One simulation for each number: on Ray up to `MOST_ON_RAY`, in this process above.
    rounds : int
        Rounds that count; one more before them is discarded.
    """

    hospitals: tuple[int, ...]
    rounds: int


#: More wait long for Flower's look at every node: a fold of 1,000 took 83 s a round on Ray.
MOST_ON_RAY = 300
FULL = HospitalsPlan(hospitals=(3, 10, 30, 100, 300, 1000), rounds=5)
QUICK = HospitalsPlan(hospitals=(10,), rounds=2)

_TOPOLOGIES: tuple[tuple[str, int | str], ...] = ((FOLD, 1), (CHAIN, 1), (CHAIN, AUTO))


def measure(plan: HospitalsPlan, follow: Follow) -> dict[str, Any]:
    """Measure fold, chain and segmented chain for each number of hospitals.

    Returns
    -------
    dict
        ``rows``: hospitals, engine, topology, segments, seconds of a round (median, quartiles),
        ``hops``: messages that wait for each other, the one to company X included,
        ``bytes``: of all messages of a round, and how many times faster than the chain of as many
        hospitals.
    """
    rows = [row for hospitals in plan.hospitals for row in _session(hospitals, plan.rounds, follow)]
    return {"key_bits": KEY_BITS, "rows": rows}


def _session(hospitals: int, rounds: int, follow: Follow) -> list[dict[str, Any]]:
    config = compose("config", [f"crypto.key_bits={KEY_BITS}", f"hospitals={hospitals}"])
    data = dealt(config)
    engine = Engine.ray if hospitals <= MOST_ON_RAY else Engine.local
    follow(f"{hospitals} hospitals: starting engine {engine}")
    run = run_in_ray if engine is Engine.ray else run_here
    rows = run(
        lambda grid: measure_topologies(grid, config, rounds, follow),
        client_app.build(lambda _: config, lambda _: data),
        hospitals + 1,
    )
    return [{**row, "engine": engine.value} for row in rows]


def dealt(config: Config) -> SimulatedData:
    """Deal the rows of the table to the hospitals, again and again until each has one."""
    table = whole_table(config.data)
    rows = np.arange(max(table.examples, config.hospitals)) % table.examples
    parts = np.array_split(rows, config.hospitals)
    names = tuple(f"hospital-{number}" for number in range(1, config.hospitals + 1))
    return SimulatedData(tuple(map(table.take, parts)), table, None, names)


def hops(hospitals: int, topology: str, segments: int | str) -> int:
    """Return how many messages of a round wait for each other."""
    chains = hospitals if topology == FOLD else segments_of(segments, hospitals)
    return ceil(hospitals / chains) + 1


def measure_topologies(
    grid: Grid, config: Config, rounds: int, follow: Follow
) -> list[dict[str, Any]]:
    """Measure on a grid with the hospitals of ``config``; see `measure`."""
    numbers = itertools.count(1)
    rows: list[dict[str, Any]] = []
    for topology, segments in _TOPOLOGIES:
        strategy = CountingSum(descent(config), numbers, topology=topology, segments=segments)
        name = f"{config.hospitals} hospitals: {topology}, segments {segments}"
        seconds: list[float] = []
        for done in range(rounds + 1):
            follow(name, done, rounds + 1)
            seconds += timed_rounds(strategy, grid, config, 1)
        rows.append(
            {
                "hospitals": config.hospitals,
                "topology": topology,
                "segments": segments,
                **spread(seconds[1:]),
                "rounds": rounds,
                "hops": hops(config.hospitals, topology, segments),
                "bytes": strategy.sums[-1].cost.bytes_sent,
            }
        )
    chain = next(r for r in rows if (r["topology"], r["segments"]) == (CHAIN, 1))
    for row in rows:
        row["times_faster_than_chain"] = chain["median_seconds"] / row["median_seconds"]
    return rows
