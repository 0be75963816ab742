"""Private training of outcomes that are numbers, in one process, against numpy and statsmodels."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from dp_accounting import get_epsilon_gaussian
from experiments import experiment
from local_grid import LocalGrid, simulated_nodes
from numpy.typing import NDArray
from outcomes import FEATURES, outcome_tables, pooled_glm, schema_text
from quick import slow
from rich.console import Console
from scipy import stats

from fl_he import client_app, server_app, simulation
from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config
from fl_he.experiment.terms import chosen_optimizer
from fl_he.learning.regression.registry import FAMILIES, NUMERIC, load_model
from fl_he.report.tables.privacy import privacy_table
from fl_he.run_files.metrics import read_metrics
from fl_he.run_files.metrics_contract import BOUNDED
from fl_he.wire.encrypted_sum import DECRYPT, FINISH, MOMENTS, DecryptReply
from fl_he.wire.records import ProtocolError

#: Of the counts and of the logarithms of stays of `outcome_tables`.
BOUNDS = {"poisson": (0.0, 15.0), "gaussian": (-2.0, 5.0)}
LOW, HIGH = np.array([26.0, 0.0]), np.array([98.0, 1.0])
TABLES = outcome_tables(21)


def config_of(folder: Path, family: str, *more: str) -> Config:
    """Return the configuration of three hospitals with one row of each schema's table."""
    folder.mkdir(exist_ok=True)
    pd.concat(TABLES).to_csv(folder / "all.csv", index=False)
    (folder / "schema.yaml").write_text(schema_text(family))
    (folder / "ranges.csv").write_text("feature,low,high\nage,26,98\nmale,0,1\n")
    low, high = BOUNDS[family]
    usual = {
        **{"data": "csv", "data.path": f"{folder}/all.csv", "data.schema": f"{folder}/schema.yaml"},
        **{"privacy": "gaussian", "ranges": f"{folder}/ranges.csv", "optimizer": "auto"},
        **{"outcome_bounds": f"[{low},{high}]", "test_size": "0", "C": "null"},
    }
    given = dict(one.split("=", 1) for one in more)
    settings = [f"{key}={value}" for key, value in {**usual, **given}.items()]
    return experiment(*settings, folder=folder / "run")


class Run:
    """One simulated run, with all questions to its hospitals and company X, and the answers."""

    def __init__(self, config: Config, own: Config | None = None) -> None:
        self.config = config
        app = client_app.build(lambda _: config if own is None else own)
        self.grid = LocalGrid(app, simulated_nodes(config.hospitals))

    def train(self) -> dict[str, Any]:
        return server_app.train(self.grid, self.config, Path(str(self.config.output_dir)))

    @property
    def totals(self) -> list[NDArray[np.float64]]:
        return [
            DecryptReply.from_content(reply.content).total
            for reply in self.grid.received
            if reply.metadata.message_type == DECRYPT
        ]


def pooled(family: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return features, mapped by their ranges, with a one, and outcomes within their bounds."""
    rows = pd.concat(TABLES)
    X = (rows[[*FEATURES]].to_numpy(dtype=float) - (LOW + HIGH) / 2) / ((HIGH - LOW) / 2)
    y = rows["visits"] if family == "poisson" else np.log(rows["stay"])
    return np.c_[X, np.ones(len(X))], np.clip(y.to_numpy(dtype=float), *BOUNDS[family])


@pytest.mark.parametrize("family", BOUNDS)
def test_nothing_leaves_but_noisy_sums_and_the_number_of_patients(
    tmp_path: Path, family: str
) -> None:
    """Ask hospitals only for gradients, and repeat the steps with numpy."""
    settings = ("rounds=10", "privacy.clip=0.3", "optimizer.lr=0.5", "C=3", "scaling=ranges")
    run = Run(config_of(tmp_path, family, *settings))
    metrics = run.train()
    asked = {message.metadata.message_type for message in run.grid.sent}
    summed = {one for one in asked if one.partition(".")[0] in ("train", "evaluate")}
    assert summed == {"train"}
    assert asked - summed <= {"query.describe", "query.join", DECRYPT, FINISH, "query.end"}
    X, y = pooled(family)
    low, high = BOUNDS[family]
    privacy, half = metrics["privacy"], (high - low) / 2
    theta = np.array([0.0, 0.0, (low + high) / 2])
    if family == "poisson":
        theta[-1] = math.log(math.sqrt(high + 1) - 1)
    noise, clipped = [], 0
    for total in run.totals:
        assert total[:2].tolist() == [3.0, len(X)]
        assert len(total) == 2 + 3
        if family == "poisson":
            each = X * ((np.minimum(np.exp(X @ theta), high) - y) / high)[:, None]
        else:
            each = X * ((X @ theta - y) / half)[:, None]
        norms = np.linalg.norm(each, axis=1)
        clipped += int((norms > 0.3).sum())
        exact = (each * np.minimum(1, 0.3 / norms)[:, None]).sum(axis=0)
        noise.append((total[2:] - exact) / privacy["noise_in_last_total"])
        # C=3 as scikit-learn has it: of the sum of losses in the outcome's own unit
        penalty = np.append(theta[:2], 0.0) / (3 * len(X))
        if family == "poisson":
            theta = theta - 0.5 * (total[2:] / len(X) + penalty / high)
        else:
            theta = theta - 0.5 * (half * total[2:] / len(X) + penalty)
    assert clipped > 10
    found = [*metrics["federated"]["coefficients"], metrics["federated"]["intercept"]]
    np.testing.assert_allclose(found, theta, atol=1e-9)
    assert stats.kstest(np.concatenate(noise), stats.norm.cdf).pvalue > 1e-6
    assert 0.5 < np.std(np.concatenate(noise)) < 2
    # The accounting again, from the figures of the report alone.
    sigma = privacy["noise_per_round"] / (2 * 0.3 * math.sqrt(10))
    assert privacy["epsilon"] == pytest.approx(get_epsilon_gaussian(sigma, 1e-5), rel=1e-6)
    assert privacy["epsilon"] == pytest.approx(1.0, rel=1e-4)
    _check_files(tmp_path, metrics, theta)


def _check_files(folder: Path, metrics: dict[str, Any], theta: NDArray[np.float64]) -> None:
    """Check that no file has a figure of the data, and that all models are the same."""
    assert read_metrics(folder / "run") == metrics
    assert {entry["loss"] for entry in metrics["rounds"]} == {None}
    assert {entry["accuracy"] for entry in metrics["rounds"]} == {None}
    inference = metrics["inference"]
    assert inference["withheld"].startswith("no standard error accounts for the noise")
    assert inference["fit"] is None
    assert inference["events"] is None
    assert {row["standard_error"] for row in inference["coefficients"]} == {None}
    assert metrics["imputed"] is None
    assert metrics["evaluation"] is None
    assert "choice of clip, learning rate, rounds, ranges and bounds of the outcome" in " ".join(
        metrics["privacy"]["not_covered"]
    )
    saved = json.loads((folder / "run/hospitals/hospital-2/model.json").read_text())
    assert saved["method"] == "differential privacy"
    np.testing.assert_allclose([*saved["coefficients"], saved["intercept"]], theta, atol=1e-9)
    kept = (folder / "run" / "checkpoint.json").read_text()
    assert json.loads(kept)["training"]["outcome"] == []
    console = Console(width=200, record=True, file=(folder / "out").open("w"))
    console.print(privacy_table(metrics))
    low, high = metrics["config"]["outcome_bounds"]
    assert f"an outcome beyond {low:g} to {high:g} counts as the bound" in console.export_text()


def transcript(run: Run) -> list[tuple[str, dict[str, int]]]:
    """Return all that anybody sees of the hospitals' replies without a key: types and sizes."""
    return [
        (
            reply.metadata.message_type,
            {
                key: sum(len(array.data) for array in record.values())
                for key, record in reply.content.array_records.items()
            },
        )
        for reply in run.grid.received
        if reply.metadata.message_type != DECRYPT
    ]


@pytest.mark.parametrize(("family", "scaling"), [("poisson", "federated"), ("gaussian", "ranges")])
def test_a_patient_far_beyond_all_bounds_leaves_no_trace_but_in_the_noise(
    tmp_path: Path, family: str, scaling: str
) -> None:
    """Tables that differ in one row have the same messages, and sums within the sensitivity."""
    runs, column = [], {"poisson": "visits", "gaussian": "stay"}[family]
    for folder, outcome, age in (("one", 1.0, 60.0), ("other", 1e12, 1e9)):
        config = config_of(
            tmp_path / folder, family, f"scaling={scaling}", "privacy.epsilon=1e6", "rounds=2",
            "privacy.clip=0.2", "optimizer.lr=0.5",
        )  # fmt: skip
        rows = pd.read_csv(tmp_path / folder / "all.csv")
        rows.loc[7, [column, "age"]] = outcome, age
        rows["visits"] = rows["visits"].astype(int)
        rows.to_csv(tmp_path / folder / "all.csv", index=False)
        runs.append(Run(config))
        runs[-1].train()
    for run in runs:
        assert not any(reply.has_error() for reply in run.grid.received)
    assert transcript(runs[0]) == transcript(runs[1])
    one, other = (run.totals[0] for run in runs)
    assert one[:2].tolist() == other[:2].tolist()
    moved = float(np.linalg.norm((one - other)[2:]))
    most = 2 * math.sqrt(2) if scaling == "federated" else 2 * 0.2
    assert 0.1 * most < moved < most + 0.05  # the noise of epsilon 1e6 is small


@pytest.mark.parametrize(
    ("family", "scaling", "rate", "rounds"),
    [
        ("poisson", "federated", 4.0, 40),
        *slow(("gaussian", "federated", 0.66, 40), ("poisson", "ranges", 4.0, 120)),
        *slow(("gaussian", "ranges", 0.66, 80)),
    ],
)
def test_with_a_large_budget_the_model_is_the_maximum_of_the_likelihood(
    tmp_path: Path, family: str, scaling: str, rate: float, rounds: int
) -> None:
    """With epsilon 1e6 and an ample clip: within 5% of a standard error of statsmodels."""
    many = ("privacy.epsilon=1e6", "privacy.clip=3", "optimizer=nesterov", f"optimizer.lr={rate}")
    run = Run(config_of(tmp_path, family, *many, f"rounds={rounds}", f"scaling={scaling}"))
    metrics = run.train()
    moments = [one for one in run.grid.sent if one.metadata.message_type == MOMENTS]
    assert len(moments) == 3 * (scaling == "federated")
    # sums of features within their ranges, and of their squares; none of the outcome
    of_features = [2 + 2 * 2] * (scaling == "federated")
    assert [len(total) for total in run.totals] == [*of_features, *([2 + 3] * rounds)]
    assert metrics["rounds"][-1]["gradient_norm"] < 1e-3
    model = load_model(tmp_path / "run" / "model.json")
    *coefficients, intercept = model.theta
    of_unit = coefficients / model.scale
    ours = [*of_unit, intercept - float((of_unit * model.mean).sum())]
    fitted = pooled_glm(TABLES, family)
    for found, name in zip(ours, (*FEATURES, "const"), strict=True):
        assert abs(found - fitted.params[name]) < 0.05 * fitted.bse[name]


@pytest.mark.parametrize("family", sorted({*NUMERIC} - {*BOUNDED}))
def test_other_families_are_refused_by_name(tmp_path: Path, family: str) -> None:
    config = config_of(tmp_path, "poisson", "outcome_bounds=[]")
    with pytest.raises(ConfigError, match=f"privacy must be none with family {family}: of models"):
        chosen_optimizer(config, 2, 0, FAMILIES[family])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("outcome_bounds=[]",), "outcome_bounds must be declared for family poisson"),
        (("outcome_bounds=[3]",), "outcome_bounds must be two numbers, got 1"),
        (("outcome_bounds=[-1,3]",), "outcome_bounds must be at least 0 with family poisson"),
        (("optimizer=newton",), "optimizer.name must be auto or gd or nesterov with privacy="),
        (("class_weight=balanced",), "class_weight must be equal with privacy=gaussian"),
        (("inference.sites=true",), "privacy must be none with inference.sites"),
        (("site_intercepts=true",), "privacy must be none with site_intercepts=true"),
        (("evaluate=true",), "evaluate"),
    ],
)
def test_what_no_budget_covers_is_refused(
    tmp_path: Path, settings: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        simulation.run(config_of(tmp_path, "poisson", *settings), tmp_path / "run")


def test_hospitals_without_privacy_send_no_gradients_within_bounds(tmp_path: Path) -> None:
    """Their own terms are none, and neither are those of a coordinator that hides its own."""
    small = ("rounds=2", "privacy.clip=1", "optimizer.lr=0.5")
    asked = config_of(tmp_path / "asked", "poisson", *small)
    own = config_of(
        tmp_path / "own", "poisson", "privacy=none", "ranges=null", "outcome_bounds=[]", "rounds=2"
    )
    run = Run(asked, own)
    with pytest.raises(ProtocolError, match="must be this node's own, no privacy, got epsilon 1"):
        run.train()
    assert run.totals == []


def test_chosen_settings_depend_on_public_numbers(tmp_path: Path) -> None:
    config = config_of(tmp_path, "gaussian", "test_size=0.25")
    metrics = Run(config).train()
    reason = metrics["optimizer"]["reason"]
    assert "chosen for 427 patients, 2 features and epsilon 1" in reason
    assert metrics["privacy"]["epsilon"] == pytest.approx(1.0, rel=1e-4)
    assert metrics["federated"]["rmse"] > 0
    assert metrics["privacy"]["without_noise"]["rmse"] > 0
