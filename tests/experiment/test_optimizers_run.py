"""Optimizers and scaling in whole encrypted runs, against scikit-learn on the pooled data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_nodes import deployed_nodes
from example_metrics import text
from experiments import experiment, on_round, standardised
from local_grid import LocalGrid, simulated_nodes
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fl_he import client_app, server_app
from fl_he.config.composition import compose
from fl_he.config.run import Config
from fl_he.experiment.data import simulated_data
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.learning.regression.softmax import SoftmaxModel
from fl_he.report.tables.coefficients import coefficient_table
from fl_he.wire.encrypted_sum import DECRYPT
from fl_he.wire.records import ProtocolError


def run(config: Config) -> tuple[dict[str, Any], LocalGrid]:
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))
    return server_app.train(grid, config, Path(str(config.output_dir))), grid


def opened(grid: LocalGrid) -> list[str]:
    asked = [m.content["fl-he"] for m in grid.sent if m.metadata.message_type == DECRYPT]
    return [f"{record['purpose']!s} {record['round']!s}" for record in asked]


@pytest.mark.parametrize(
    ("most_rounds", "overrides"),
    [
        pytest.param(10, ["hospitals=3"], marks=pytest.mark.slow),
        pytest.param(
            *(10, ["hospitals=10", "partition=by_label", "partition.alpha=0.1"]),
            marks=pytest.mark.slow,
        ),
        (10, ["hospitals=4", "class_weight=balanced", "topology=chain"]),
    ],
    ids=str,
)
def test_newton_is_scikit_learns_fit(
    tmp_path: Path, most_rounds: int, overrides: list[str]
) -> None:
    config = experiment("optimizer=newton", "C=1", *overrides, folder=tmp_path)
    metrics, grid = run(config)
    train = standardised(config).train
    weight = "balanced" if "class_weight=balanced" in overrides else None
    fit = LogisticRegression(C=1, tol=1e-12, max_iter=10_000, class_weight=weight)
    fit.fit(train.features, train.labels)
    assert len(metrics["rounds"]) <= most_rounds
    saved = LogisticModel.load(Path(str(config.output_dir)) / "model.json")
    assert saved.class_weight == (weight or "equal")
    federated = metrics["federated"]
    assert metrics["class_shares"]["log_loss"] > federated["log_loss"]
    np.testing.assert_allclose(federated["coefficients"], fit.coef_[0], atol=1e-5)
    assert federated["intercept"] == pytest.approx(fit.intercept_[0], abs=1e-5)
    assert metrics["rounds"][-1]["converged"]
    assert metrics["rounds"][-1]["distance"] <= config.tolerance
    rounds = [f"train {number}" for number in range(1, len(metrics["rounds"]) + 1)]
    assert opened(grid) == ["prepare 1", "prepare 2", *rounds], "no more messages than rounds"


def test_gradient_descent_stops_at_the_tolerance(tmp_path: Path) -> None:
    config = experiment("C=0.01", "rounds=50", "tolerance=0.05", folder=tmp_path)
    metrics, _ = run(replace(config, optimizer=replace(config.optimizer, lr=0.5)))
    norms = [entry["gradient_norm"] for entry in metrics["rounds"]]
    assert len(norms) < 50
    assert norms[-1] <= 0.05 < min(norms[:-1])
    assert [entry["converged"] for entry in metrics["rounds"]] == [False] * (len(norms) - 1) + [
        True
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "least_agreement"),
    [
        pytest.param(["data=wine", "optimizer=newton"], 1.0, marks=pytest.mark.slow),
        (["data=wine", "optimizer=newton", "class_weight=balanced"], 1.0),
        pytest.param(
            *(["data=digits", "optimizer=lbfgs", "rounds=15", "test_size=0.6"], 0.99),
            marks=pytest.mark.slow,
        ),
    ],
    ids=str,
)
def test_softmax_predicts_what_scikit_learn_predicts(
    tmp_path: Path, overrides: list[str], least_agreement: float
) -> None:
    config = experiment("C=1", *overrides, folder=tmp_path)
    metrics, _ = run(config)
    data, raw = standardised(config), simulated_data(config)
    weight = "balanced" if "class_weight=balanced" in overrides else None
    fit = LogisticRegression(C=1, tol=1e-10, max_iter=10_000, class_weight=weight)
    fit.fit(data.train.features, data.train.labels)
    model = SoftmaxModel.load(tmp_path / "model.json")
    predicted = model.expected(raw.test.features).argmax(axis=1)
    assert np.mean(predicted == fit.predict(data.test.features)) >= least_agreement
    assert metrics["federated"]["accuracy"] == np.mean(predicted == raw.test.labels)
    assert model.classes == raw.train.classes
    if "data=wine" in overrides:
        np.testing.assert_allclose(model.coefficients, fit.coef_, atol=1e-5)
    saved = tmp_path / "hospitals" / "hospital-1" / "model.json"
    assert saved.read_text() == (tmp_path / "model.json").read_text()


class KilledError(Exception):
    """Stand-in for the end of the coordinator's process."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer",
    ["newton", *(pytest.param(o, marks=pytest.mark.slow) for o in ("nesterov", "lbfgs"))],
)
def test_a_resumed_run_is_the_unbroken_one(tmp_path: Path, optimizer: str) -> None:
    settings = (f"optimizer={optimizer}", "rounds=4", "data=wine", "C=1", "class_weight=balanced")
    config = experiment(*settings, folder=tmp_path / "run")
    unbroken, _ = run(experiment(*settings, folder=tmp_path / "unbroken"))

    def kill(entry: Mapping[str, Any]) -> None:
        if entry["round"] == 2:
            raise KilledError

    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(3))
    with pytest.raises(KilledError):
        server_app.train(grid, config, tmp_path / "run", on_round(kill))
    resumed = compose("config", [f"resume={tmp_path / 'run'}"])
    metrics, grid = run(resumed)
    assert metrics["federated"] == unbroken["federated"], "bit for bit"
    assert opened(grid) == ["train 3", "train 4"], "the scaling is known already"


@pytest.mark.slow
def test_a_run_that_was_cut_off_when_it_had_converged_takes_no_further_step(
    tmp_path: Path,
) -> None:
    settings = ("optimizer=newton", "C=1", "data=wine")
    unbroken, _ = run(experiment(*settings, folder=tmp_path / "unbroken"))
    config = experiment(*settings, folder=tmp_path / "run")

    def kill(entry: Mapping[str, Any]) -> None:
        if entry["converged"]:
            raise KilledError

    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(3))
    with pytest.raises(KilledError):
        server_app.train(grid, config, tmp_path / "run", on_round(kill))
    metrics, grid = run(compose("config", [f"resume={tmp_path / 'run'}"]))
    assert metrics["federated"] == unbroken["federated"]
    assert opened(grid) == []


#: Units from femtograms to numbers of cells, a constant, and one that is constant but for rounding.
UNITS = {"tiny": 1e-10, "small": 1e-3, "one": 1.0, "large": 1e6, "huge": 1e11}


def write_table(path: Path) -> None:
    rng = np.random.default_rng(5)
    rows = [",".join([*UNITS, "constant", "rounded", "label"])]
    for i in range(90):
        values = [unit * (3.0 + rng.standard_normal()) for unit in UNITS.values()]
        rounded = 0.1 if i % 2 else 0.30000000000000004 - 0.2
        rows.append(",".join([*map(repr, values), "7.5", repr(rounded), str(i % 3 // 2)]))
    path.write_text("\n".join(rows))


@pytest.mark.parametrize("bits", [(24, 24), pytest.param((20, 12), marks=pytest.mark.slow)])
def test_federated_scaling_is_standard_scalers(tmp_path: Path, bits: tuple[int, int]) -> None:
    write_table(tmp_path / "table.csv")
    config = experiment(
        *("data=csv", f"data.path={tmp_path}/table.csv", "data.target=label", "data.positive=1"),
        *("rounds=1", "hospitals=5", "partition=uneven"),
        *(f"crypto.fraction_bits={bits[0]}", f"crypto.integer_bits={bits[1]}"),
        folder=tmp_path / "run",
    )
    run(config)
    model = LogisticModel.load(tmp_path / "run" / "model.json")
    scaler = StandardScaler().fit(simulated_data(config).train.features)
    np.testing.assert_allclose(model.mean, scaler.mean_, rtol=1e-9)
    np.testing.assert_allclose(model.scale, scaler.scale_, rtol=1e-9)
    assert list(model.scale[-2:]) == [1.0, 1.0]


def test_a_feature_whose_sum_is_too_large_is_named(tmp_path: Path) -> None:
    rows = "".join(f"{i}e30,{i % 2}\n" for i in range(40))
    (tmp_path / "table.csv").write_text(f"x,label\n{rows}")
    config = experiment(
        *("data=csv", f"data.path={tmp_path}/table.csv", "data.target=label", "data.positive=1"),
        folder=tmp_path / "run",
    )
    with pytest.raises(ProtocolError, match=r"2e\+28; they are larger in column 'x' \(.* save"):
        run(config)


@pytest.mark.slow
@pytest.mark.parametrize("scaling", ["local", "none"])
def test_other_scalings_are_as_they_say(tmp_path: Path, scaling: str) -> None:
    config = experiment(
        f"scaling={scaling}", "data=wine", "rounds=2", "optimizer.lr=1e-3", folder=tmp_path
    )
    metrics, grid = run(config)
    assert opened(grid) == ["train 1", "train 2"]
    parts = [
        StandardScaler().fit_transform(part.features) if scaling == "local" else part.features
        for part in simulated_data(config).hospitals
    ]
    X = np.concatenate(parts)
    y = np.concatenate([part.labels for part in simulated_data(config).hospitals])
    W, b = np.zeros((3, X.shape[1])), np.zeros(3)
    for _ in range(2):
        margins = np.exp(X @ W.T + b)
        error = margins / margins.sum(axis=1, keepdims=True) - np.eye(3)[y.astype(int)]
        W, b = W - 1e-3 * error.T @ X / len(y), b - 1e-3 * error.mean(axis=0)
    np.testing.assert_allclose(metrics["federated"]["coefficients"], W, atol=1e-6)
    own = SoftmaxModel.load(tmp_path / "hospitals" / "hospital-2" / "model.json")
    if scaling == "none":
        np.testing.assert_array_equal(SoftmaxModel.load(tmp_path / "model.json").scale, 1.0)
    assert (tmp_path / "model.json").exists() == (scaling == "none"), "its units are the hospitals'"
    second = simulated_data(config).hospitals[1].features
    expected = second.std(axis=0) if scaling == "local" else np.ones(13)
    np.testing.assert_allclose(own.scale, expected, rtol=1e-12)


def logistic_table(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Write a table whose logistic regression has a finite optimum; return its content."""
    rng = np.random.default_rng(11)
    X = rng.standard_normal((600, 3)) * [1.0, 20.0, 0.01] + [5.0, -40.0, 0.2]
    odds = X @ [0.8, -0.05, 60.0] - 18.0
    y = (rng.random(600) < 1 / (1 + np.exp(-odds))).astype(float)
    rows = [
        f"{a!r},{b!r},{c!r},{int(label)}" for (a, b, c), label in zip(X.tolist(), y, strict=True)
    ]
    path.write_text("\n".join(["dose,days,level,sick", *rows]))
    return X, y


@pytest.mark.slow
def test_standard_errors_are_statsmodels(tmp_path: Path) -> None:
    import statsmodels.api as statsmodels  # noqa: PLC0415 - lazy: a second to import

    logistic_table(tmp_path / "table.csv")
    settings = (
        *("data=csv", f"data.path={tmp_path}/table.csv", "data.target=sick", "data.positive=1"),
        *("optimizer=newton", "C=null"),
    )
    config = experiment(*settings, folder=tmp_path / "run")
    metrics, _ = run(config)
    train = simulated_data(config).train
    expected = statsmodels.Logit(train.labels, statsmodels.add_constant(train.features)).fit(
        disp=False, tol=1e-12, maxiter=100
    )
    order = [1, 2, 3, 0]  # the intercept is statsmodels' first, and our last
    rows = metrics["inference"]["coefficients"]
    assert [row["name"] for row in rows] == ["dose", "days", "level", "(intercept)"]
    intervals = expected.conf_int()[order]
    for key, values in (
        ("estimate", expected.params[order]),
        ("standard_error", expected.bse[order]),
        ("z", expected.tvalues[order]),
        ("lower", intervals[:, 0]),
        ("upper", intervals[:, 1]),
        ("odds_ratio", np.exp(expected.params[order])),
        ("odds_ratio_lower", np.exp(intervals[:, 0])),
        ("odds_ratio_upper", np.exp(intervals[:, 1])),
    ):
        np.testing.assert_allclose([row[key] for row in rows], values, rtol=1e-6)
    per_deviation = [row["odds_ratio_sd"] for row in rows[:-1]]
    deviations = train.features.std(axis=0)
    np.testing.assert_allclose(per_deviation, np.exp(deviations * expected.params[1:]), rtol=1e-6)
    p_values = [row["p_value"] for row in rows]
    np.testing.assert_allclose(p_values, expected.pvalues[order], rtol=1e-5, atol=1e-12)
    table = coefficient_table(metrics)
    assert table is not None
    assert text(table)[0].strip() == "Log odds of sick = 1"

    def kill(entry: Mapping[str, Any]) -> None:
        if entry["converged"]:
            raise KilledError

    config = experiment(*settings, folder=tmp_path / "cut")
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(3))
    with pytest.raises(KilledError):
        server_app.train(grid, config, tmp_path / "cut", on_round(kill))
    resumed, _ = run(compose("config", [f"resume={tmp_path / 'cut'}"]))
    assert resumed["inference"] == metrics["inference"]


def test_standard_errors_that_nobody_knows_are_null(tmp_path: Path) -> None:
    metrics, _ = run(experiment("rounds=1", folder=tmp_path))
    assert {row["standard_error"] for row in metrics["inference"]["coefficients"]} == {None}
    sentence = coefficient_table(metrics)
    assert sentence is not None
    (said,) = text(sentence, 400)
    assert said.endswith(
        "they need the Hessian of all patients; experiment=inference optimizer=newton fits "
        "all rows without a penalty, and has them wherever the estimates are finite."
    )


@pytest.mark.slow
def test_deployed_hospitals_train_more_than_two_classes(tmp_path: Path) -> None:
    nodes = deployed_nodes(tmp_path)
    rng = np.random.default_rng(3)
    X, labels = rng.standard_normal((60, 2)), rng.integers(0, 3, 60)
    names = ("b", "a", "c")
    for number, node in enumerate(nodes[:3]):
        rows = [f"{x!r},{y!r},{names[k]}" for (x, y), k in zip(X.tolist(), labels, strict=True)]
        (tmp_path / f"{number}.csv").write_text("\n".join(["x,y,kind", *rows[number::3]]))
        del node["positive"]
        node |= {"data": str(tmp_path / f"{number}.csv"), "target": "kind", "classes": "b, a,c"}
    config = experiment("optimizer=newton", "C=1", "rounds=9", folder=tmp_path / "run")
    app = client_app.build(lambda _: config)
    metrics = server_app.train(LocalGrid(app, nodes), config, tmp_path / "run")
    scaled = StandardScaler().fit_transform(X)
    fit = LogisticRegression(C=1, tol=1e-12, max_iter=10_000).fit(scaled, labels)
    np.testing.assert_allclose(metrics["federated"]["coefficients"], fit.coef_, atol=1e-6)
    model = SoftmaxModel.load(tmp_path / "model-1.json")
    assert model.classes == names
    np.testing.assert_array_equal(model.coefficients, metrics["federated"]["coefficients"])
    nodes[1]["classes"] = "a,b,c"
    with pytest.raises(
        ProtocolError, match="clinic-2 differs from clinic-1: classes must be 'b', "
    ):
        server_app.train(LocalGrid(app, nodes, run_id=8), config, tmp_path / "other")
