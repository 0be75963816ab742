"""Runs that take minutes: very many hospitals, and a real data set at the length of real keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from experiments import check_equals_pooled_descent, experiment, standardised
from sklearn.linear_model import LogisticRegression

from fl_he import simulation
from fl_he.experiment.data import simulated_data

pytestmark = pytest.mark.release

LOCAL = "simulation.engine=local"


@pytest.mark.parametrize("topology", ["fold", "chain"])
def test_a_thousand_hospitals(tmp_path: Path, topology: str) -> None:
    rng = np.random.default_rng(4)
    X = rng.standard_normal((6000, 2)).round(3)
    y = X @ [1.0, -0.5] + rng.standard_normal(6000) > 0.0
    rows = [f"{a},{b},{label:d}" for (a, b), label in zip(X.tolist(), y, strict=True)]
    (tmp_path / "table.csv").write_text("\n".join(["age,size,sick", *rows]))
    config = experiment(
        *("data=csv", f"data.path={tmp_path}/table.csv", "data.target=sick", "data.positive=1"),
        *("hospitals=1000", "crypto.max_contributors=1000", "rounds=2", f"topology={topology}"),
        LOCAL,
        folder=tmp_path / "run",
    )
    metrics = simulation.run(config, tmp_path / "run")
    check_equals_pooled_descent(config, metrics)
    assert [entry["contributors"] for entry in metrics["rounds"]] == [1000, 1000]


def test_the_digits_at_2048_bits(tmp_path: Path) -> None:
    config = experiment("experiment=digits", LOCAL, folder=tmp_path, key_bits=2048)
    metrics = simulation.run(config, tmp_path)
    data = standardised(config)
    fit = LogisticRegression(C=config.C or np.inf, tol=1e-10, max_iter=10_000)
    fit.fit(data.train.features, data.train.labels)
    pooled = fit.score(data.test.features, simulated_data(config).test.labels)
    assert metrics["crypto"]["key_bits"] == 2048
    assert metrics["federated"]["accuracy"] == pytest.approx(pooled, abs=0.01)
