"""The ServerApp over deployed nodes: nobody there has a test set, and nobody is compared with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from deployed_nodes import ROWS, deployed_nodes, enrolled_nodes
from experiments import experiment
from flwr.app.user_config import UserConfig
from local_grid import LocalGrid, simulated_nodes
from quick import slow
from rich.console import Console

from fl_he import client_app, server_app
from fl_he.config.run import Config
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.report.tables.comparison import comparison_table
from fl_he.run_files import metrics as metrics_file
from fl_he.wire.records import ProtocolError


def grid_of(nodes: list[UserConfig], config: Config) -> LocalGrid:
    return LocalGrid(client_app.build(lambda _: config), nodes)


@pytest.mark.parametrize(
    ("topology", "scaling"),
    [("fold", "federated"), ("chain", "none"), *slow(("fold", "none"), ("chain", "federated"))],
)
def test_the_model_is_that_of_gradient_descent_on_all_tables(
    tmp_path: Path, topology: str, scaling: str
) -> None:
    run = tmp_path / "run"
    # A missing table: the run's configuration of data is not used.
    config = experiment(
        *("rounds=3", "optimizer.lr=0.5", f"topology={topology}", "data=grad_school"),
        *("data.path=nowhere.csv", f"scaling={scaling}"),
        folder=run,
    )
    metrics = server_app.train(grid_of(enrolled_nodes(tmp_path), config), config, run)

    lines = [line.split(",") for rows in ROWS.values() for line in rows.split()]
    X = np.array([[float(age), float(size)] for age, size, _ in lines])
    y = np.array([float(state == "sick") for _, _, state in lines])
    mean, scale = (X.mean(axis=0), X.std(axis=0)) if scaling == "federated" else ([0, 0], [1, 1])
    X = (X - mean) / scale
    w, b = np.zeros(2), 0.0
    for _ in range(3):
        error = 1.0 / (1.0 + np.exp(-(X @ w + b))) - y
        w, b = w - 0.5 * X.T @ error / len(y), b - 0.5 * float(error.mean())
    for path in [run / "model.json", *(tmp_path / f"model-{number}.json" for number in ROWS)]:
        model = LogisticModel.load(path)
        assert model.feature_names == ("age", "size")
        np.testing.assert_allclose(model.coefficients, w, atol=1e-6)
        assert model.intercept == pytest.approx(b, abs=1e-6)
        np.testing.assert_allclose(model.mean, mean, rtol=1e-15)
        np.testing.assert_allclose(model.scale, scale, rtol=1e-15)
    assert metrics["federated"]["examples"] == len(y)
    assert metrics["federated"]["coefficients"] == pytest.approx(list(w), abs=1e-6)
    assert metrics["rounds"][2]["contributors"] == 3


def test_figures_that_nobody_knows_are_null(tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = experiment("rounds=1", folder=run)
    server_app.train(grid_of(deployed_nodes(tmp_path), config), config, run)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["local"] is metrics["pooled"] is None
    assert [metrics["rounds"][0][key] for key in ("test_loss", "test_accuracy")] == [None, None]
    figures = ("accuracy", "balanced_accuracy", "roc_auc", "log_loss")
    assert [metrics["federated"][key] for key in figures] == [None] * 4
    assert metrics["config"]["data"]["name"] == "each hospital's own table"
    assert metrics["rounds"][0]["loss"] == pytest.approx(np.log(2), abs=1e-6)

    shown = Console(width=100, record=True, quiet=False)
    shown.print(comparison_table(metrics_file.read_metrics(run)))
    assert "Trained, not tested: each hospital's own table" in shown.export_text()
    assert (run / "comparison.png").exists()


def test_nodes_that_are_not_there_are_waited_for_in_vain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 100))
    monkeypatch.setattr("fl_he.strategies.roll_call.monotonic", lambda: next(clock))
    config = experiment("hospitals=4", folder=tmp_path / "run")
    with pytest.raises(ProtocolError, match="4 hospitals and one company X, got 3 and 1 after"):
        server_app.train(grid_of(deployed_nodes(tmp_path), config), config, tmp_path / "run")


@pytest.mark.parametrize("simulated", [1, 3], ids=["one hospital", "all hospitals"])
def test_a_mixed_federation_is_refused(tmp_path: Path, simulated: int) -> None:
    config = experiment(folder=tmp_path / "run")
    nodes = [*simulated_nodes(3)[:simulated], *deployed_nodes(tmp_path)[simulated:]]
    with pytest.raises(ProtocolError, match=r"all simulated or all deployed, got \['hospital-1'"):
        server_app.train(grid_of(nodes, config), config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_packing_is_refused_with_what_to_set(tmp_path: Path) -> None:
    config = experiment("crypto.fraction_bits=20", folder=tmp_path / "run")
    with pytest.raises(ProtocolError, match=r"fraction_bits=24.*crypto\.fraction_bits, crypto\."):
        server_app.train(grid_of(deployed_nodes(tmp_path), config), config, tmp_path / "run")
