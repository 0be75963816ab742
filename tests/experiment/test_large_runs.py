"""Runs that take minutes: very many hospitals, and a real data set at the length of real keys."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from time import process_time

import numpy as np
import pytest
from experiments import check_equals_pooled_descent, experiment, on_round, standardised
from sklearn.linear_model import LogisticRegression

from fl_he import simulation
from fl_he.bench.fresh import PeakMemory
from fl_he.config.run import Config
from fl_he.experiment.data import simulated_data

pytestmark = pytest.mark.release

LOCAL = "simulation.engine=local"


def patients(folder: Path, hospitals: int, *overrides: str) -> Config:
    """Return the configuration of hospitals with six patients each."""
    rng = np.random.default_rng(4)
    X = rng.standard_normal((6 * hospitals, 2)).round(3)
    y = X @ [1.0, -0.5] + rng.standard_normal(len(X)) > 0.0
    rows = [f"{a},{b},{label:d}" for (a, b), label in zip(X.tolist(), y, strict=True)]
    table = folder / f"{hospitals}.csv"
    table.write_text("\n".join(["age,size,sick", *rows]))
    return experiment(
        *("data=csv", f"data.path={table}", "data.target=sick", "data.positive=1", LOCAL),
        *(f"hospitals={hospitals}", f"crypto.max_contributors={hospitals}", *overrides),
        folder=folder / f"of-{hospitals}",
    )


@pytest.mark.parametrize("topology", ["fold", "chain"])
def test_a_thousand_hospitals(tmp_path: Path, topology: str) -> None:
    config = patients(tmp_path, 1000, "rounds=2", f"topology={topology}")
    metrics = simulation.run(config, tmp_path / "run")
    check_equals_pooled_descent(config, metrics)
    assert [entry["contributors"] for entry in metrics["rounds"]] == [1000, 1000]


def round_seconds(config: Config, folder: Path) -> float:
    """Return the CPU seconds of the quickest round but the first, which has sums before it."""
    ends = list[float]()
    simulation.run(config, folder, on_round(lambda _: ends.append(process_time())))
    return min(end - start for start, end in pairwise(ends))


def test_a_round_costs_as_much_for_each_of_many_hospitals_as_for_few(tmp_path: Path) -> None:
    with PeakMemory(os.getpid()) as memory:
        few, many = (
            round_seconds(patients(tmp_path, hospitals, "rounds=5"), tmp_path / str(hospitals))
            for hospitals in (100, 1000)
        )
    print(f"{few} and {many} CPU seconds a round, {memory.bytes / 2**20:.0f} MiB at the peak")
    assert many < 11 * few
    assert memory.bytes < 2 * 2**30


def test_the_digits_at_2048_bits(tmp_path: Path) -> None:
    config = experiment("experiment=digits", LOCAL, folder=tmp_path, key_bits=2048)
    metrics = simulation.run(config, tmp_path)
    data = standardised(config)
    fit = LogisticRegression(C=config.C or np.inf, tol=1e-10, max_iter=10_000)
    fit.fit(data.train.features, data.train.labels)
    pooled = fit.score(data.test.features, simulated_data(config).test.labels)
    assert metrics["crypto"]["key_bits"] == 2048
    assert metrics["federated"]["accuracy"] == pytest.approx(pooled, abs=0.01)
