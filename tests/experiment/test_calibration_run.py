"""Calibration of numeric models on held-out rows, against the predictions of the saved model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_nodes import enrolled_nodes
from experiments import experiment
from local_grid import LocalGrid
from outcomes import OUTCOMES, outcome_tables, write_outcomes
from quick import slow_but

from fl_he import client_app, server_app, simulation
from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config
from fl_he.experiment.data import simulated_data
from fl_he.experiment.plan import drafted
from fl_he.learning.regression.registry import load_model
from fl_he.learning.tables.arrays import Array
from fl_he.run_files.metrics import read_metrics
from fl_he.terminal.show import show_run

SETTINGS = ("optimizer=newton", "C=null", "rounds=20", "evaluate=true")


def configured(folder: Path, family: str, *more: str) -> Config:
    files = write_outcomes(folder, outcome_tables(1), family)
    return experiment(
        *("data=csv", files, f"data.schema={folder}/schema.yaml", *SETTINGS, *more),
        folder=folder / "run",
    )


def check_bins(evaluation: dict[str, Any], expected: Array, labels: Array) -> None:
    """Compare bins with those of the rows in the order of their expected outcomes."""
    order, start = np.argsort(expected, kind="stable"), 0
    assert (evaluation["min_cell"], evaluation["withheld"]) == (5, {})
    bins = evaluation["calibration"]
    largest = max(max(one["predicted"], one["observed"]) for one in bins)
    assert len(bins) > 3
    for one in bins:
        rows = order[start : start + one["examples"]]
        assert len(rows) >= 40
        half_a_grain = 8 * largest / len(rows)
        assert one["predicted"] == pytest.approx(expected[rows].mean(), abs=half_a_grain)
        assert one["observed"] == pytest.approx(labels[rows].mean(), abs=half_a_grain)
        assert (one["lower"], one["upper"]) == (None, None)
        start += one["examples"]
    assert start == evaluation["examples"] == len(labels)


@pytest.mark.parametrize("family", slow_but(OUTCOMES, "poisson"))
def test_bins_are_those_of_the_pooled_predictions(
    tmp_path: Path, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configured(tmp_path, family, "test_size=0.4", "simulation.engine=local")
    metrics = simulation.run(config, tmp_path / "run")
    test = simulated_data(config).test
    expected = load_model(tmp_path / "run" / "model.json").expected(test.features)
    check_bins(metrics["evaluation"], expected, test.labels)
    assert metrics["evaluation"]["hospitals"] == 3
    assert read_metrics(tmp_path / "run")["evaluation"] == metrics["evaluation"]
    show_run(metrics, tmp_path / "run")
    printed = " ".join(capsys.readouterr().out.split())
    assert f"over {test.examples} held-out examples of 3 hospitals" in printed
    assert "Brier" not in printed
    page = (tmp_path / "run" / "report.html").read_text()
    assert "mean observed" in page
    assert "Company X gives the coordinator the means in bins of a tenth" in page


def test_deployed_hospitals_count_their_own_under_a_plan(tmp_path: Path) -> None:
    tables, tests = outcome_tables(2), outcome_tables(3, (120, 90, 60))
    write_outcomes(tmp_path, tables, "poisson")
    data = ("data=csv", f"data.path={tmp_path}/site1.csv", f"data.schema={tmp_path}/schema.yaml")
    config = experiment(*data, *SETTINGS, folder=tmp_path / "none")
    plan = drafted(config, most_sessions=2, max_step=20.0, max_coefficient=None)
    nodes = enrolled_nodes(tmp_path, plan)
    for number, (node, held_out) in enumerate(zip(nodes[:3], tests, strict=True), 1):
        held_out.to_csv(tmp_path / f"test-{number}.csv", index=False)
        for key in ("target", "positive"):
            del node[key]
        node |= {"data": f"{tmp_path}/site{number}.csv", "schema": f"{tmp_path}/schema.yaml"}
        node["test-data"] = f"{tmp_path}/test-{number}.csv"
    planned = experiment(*SETTINGS, f"plan={tmp_path}/plan-0.json", folder=tmp_path / "run")
    grid = LocalGrid(client_app.build(lambda _: Config()), nodes)
    metrics = server_app.train(grid, planned, tmp_path / "run")
    model = load_model(tmp_path / "model-1.json")
    expected = [model.expected(one[["age", "male"]].to_numpy(dtype=float)) for one in tests]
    labels = [one["visits"].to_numpy(dtype=float) for one in tests]
    check_bins(metrics["evaluation"], np.concatenate(expected), np.concatenate(labels))
    own = json.loads((tmp_path / "model-1.figures.json").read_text())
    assert own["examples"] == 120
    means = [one["examples"] * one["observed"] for one in own["calibration"]]
    assert sum(means) == pytest.approx(labels[0].sum()), "its own figures are not rounded"
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Nobody holds test data" not in page


def test_a_plan_without_bins_allows_no_evaluation(tmp_path: Path) -> None:
    config = configured(tmp_path, "gamma", "evaluate=false")
    plan = drafted(config, most_sessions=2, max_step=20.0, max_coefficient=None)
    nodes = enrolled_nodes(tmp_path, plan)
    planned = experiment(*SETTINGS, f"plan={tmp_path}/plan-0.json", folder=tmp_path / "run")
    grid = LocalGrid(client_app.build(lambda _: Config()), nodes)
    with pytest.raises(ConfigError, match="evaluate must be false, got true"):
        server_app.train(grid, planned, tmp_path / "run")
