"""Inference of whole encrypted runs, against statsmodels on the pooled rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from experiments import experiment
from local_grid import LocalGrid, simulated_nodes
from numpy.typing import NDArray
from patients import patients, write_csv
from quick import slow

from fl_he import client_app, server_app, simulation
from fl_he.config.constraints import ConfigError
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.report.tables.coefficients import coefficient_table
from fl_he.wire.events import Event

Numbers = NDArray[np.float64]
_ESTIMATE = ("estimate", "standard_error")


def run(folder: Path, *settings: str) -> dict[str, Any]:
    """Return metrics.json of an encrypted run of Newton's method on all rows of table.csv."""
    config = experiment(
        *("data=csv", f"data.path={folder}/table.csv", "test_size=0", "optimizer=newton"),
        *("C=null", "rounds=80", *settings),
        folder=folder / "run",
    )
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))
    return server_app.train(grid, config, folder / "run")


def inferred(folder: Path, X: Numbers, y: NDArray[Any], *settings: str) -> dict[str, Any]:
    features = {f"x{number}": column for number, column in enumerate(X.T, start=1)}
    write_csv(folder / "table.csv", {**features, "sick": y})
    if len(np.unique(y)) == 2:
        settings = ("data.positive=1", *settings)
    return run(folder, "data.target=sick", *settings)


def figures(metrics: dict[str, Any], *keys: str) -> Numbers:
    rows = metrics["inference"]["coefficients"]
    return np.array([[row[key] for key in keys] for row in rows], dtype=float)


def sick(margins: Numbers, seed: int) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    return (rng.random(len(margins)) < 1 / (1 + np.exp(-margins))).astype(np.int64)


def check_against_statsmodels(metrics: dict[str, Any], X: Numbers, y: NDArray[Any]) -> None:
    """Hold all figures against statsmodels' on columns of unit deviation, carried back."""
    deviations = np.append(X.std(axis=0), 1.0)
    design = np.column_stack([X / deviations[:-1], np.ones(len(X))])
    fit = sm.Logit(y, design).fit(method="newton", disp=False, tol=1e-14, maxiter=200)
    assert metrics["inference"]["withheld"] is None
    assert metrics["inference"]["events"] == y.sum()
    assert metrics["rounds"][-1]["converged"]
    estimates, errors = fit.params / deviations, fit.bse / deviations
    found, standard_errors = figures(metrics, *_ESTIMATE).T
    np.testing.assert_allclose((found - estimates) / errors, 0.0, atol=1e-6)
    np.testing.assert_allclose(standard_errors, errors, rtol=1e-6)
    np.testing.assert_allclose(figures(metrics, "p_value").T[0], fit.pvalues, atol=1e-6)
    ends = figures(metrics, "lower", "upper") - fit.conf_int() / deviations[:, None]
    np.testing.assert_allclose(ends / errors[:, None], 0.0, atol=1e-6)
    whole = metrics["inference"]["fit"]
    assert whole["log_likelihood"] == pytest.approx(fit.llf, abs=1e-6)
    assert whole["null_log_likelihood"] == pytest.approx(fit.llnull, abs=1e-6)
    assert whole["aic"] == pytest.approx(fit.aic, abs=1e-5)
    assert whole["mcfadden_r2"] == pytest.approx(fit.prsquared, abs=1e-6)
    test = whole["likelihood_ratio"]
    assert test["chi2"] == pytest.approx(fit.llr, abs=1e-5)
    assert test["df"] == fit.df_model
    assert test["p_value"] == pytest.approx(fit.llr_pvalue, abs=1e-6)


@pytest.mark.parametrize("label", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_outlier_of_a_million_keeps_the_standard_errors(tmp_path: Path, label: int) -> None:
    X = np.random.default_rng(1).standard_normal((500, 2))
    y = sick(0.5 * X[:, 0] - 0.3, 2)
    X[7, 0], y[7] = 1e6, label
    check_against_statsmodels(inferred(tmp_path, X, y), X, y)


@pytest.mark.parametrize("tolerance", ["1e-7", "1", "1e12"])
def test_columns_that_are_collinear_but_for_noise_keep_their_standard_errors(
    tmp_path: Path, tolerance: str
) -> None:
    """Standard errors are waited for, however large the tolerance of the estimates is."""
    rng = np.random.default_rng(3)
    first = rng.standard_normal(600)
    X = np.column_stack([first, first + 1e-3 * rng.standard_normal(600), rng.normal(50, 9, 600)])
    y = sick(0.8 * first + 0.02 * (X[:, 2] - 50), 4)
    check_against_statsmodels(inferred(tmp_path, X, y, f"tolerance={tolerance}"), X, y)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        *slow((("scaling=none",),)),
        ("hospitals=7", "partition=by_label", "topology=chain"),
    ],
    ids=str,
)
def test_any_units_and_any_division_give_the_pooled_figures(
    tmp_path: Path, settings: tuple[str, ...]
) -> None:
    rng = np.random.default_rng(9)
    X = rng.standard_normal((400, 3)) * [1e-3, 1.0, 1e3] + [0.0, 5.0, 2e3]
    y = sick(X @ [400.0, 0.5, -1e-3] - 0.5, 10)
    metrics = inferred(tmp_path, X, y, *settings)
    check_against_statsmodels(metrics, X, y)
    per_deviation = figures(metrics, "odds_ratio_sd")[:-1, 0]
    if "scaling=none" in settings:
        assert np.isnan(per_deviation).all(), "nobody knows the deviations"
    else:
        expected = np.exp(figures(metrics, "estimate")[:-1, 0] * X.std(axis=0))
        np.testing.assert_allclose(per_deviation, expected)


@pytest.mark.parametrize(
    ("deviation", "settings"),
    [
        *slow((1e-3, ("scaling=federated",))),
        (1e-3, ("scaling=none",)),
        *slow((1.0, ("scaling=none",)), (60.0, ("scaling=none",))),
        (60.0, ("scaling=ranges",)),
        *slow((60.0, ("scaling=ranges", "penalty=firth"))),
    ],
    ids=str,
)
def test_a_column_far_from_0_has_the_figures_of_the_same_column_near_0(
    tmp_path: Path,
    deviation: float,
    settings: tuple[str, ...],
    recwarn: pytest.WarningsRecorder,
) -> None:
    """Dates and identifiers are about 1e9, of which float64 squares leave no variance."""
    rng, far = np.random.default_rng(12), np.array([1.7e9, 0.0])
    # Numbers that keep all their digits far from 0.
    numbers = np.rint(rng.standard_normal(90) * deviation * 2.0**22) * 2.0**-22
    near = np.column_stack([numbers, rng.random(90)])
    y = sick(near / near.std(axis=0) @ [0.9, 0.4], 13)
    if "scaling=ranges" in settings:
        declared = tmp_path / "ranges.csv"
        declared.write_text("feature,low,high\nx1,0,2e9\nx2,0,1\n")
        settings = (*settings, f"ranges={declared}")
    metrics = inferred(tmp_path, near + far, y, *settings)
    rows = figures(metrics, *_ESTIMATE)
    if "penalty=firth" in settings:
        other = inferred(tmp_path, near, y, "penalty=firth")
        np.testing.assert_allclose(rows[:-1], figures(other, *_ESTIMATE)[:-1], rtol=1e-6)
        return
    design = np.column_stack([near / near.std(axis=0), np.ones(90)])
    fit = sm.Logit(y, design).fit(method="newton", disp=False, tol=1e-14)
    back = np.diag([*(1.0 / near.std(axis=0)), 1.0])
    back[-1, :-1] = -far / near.std(axis=0)
    carried = fit.t_test(back)
    np.testing.assert_allclose(rows.T, [np.ravel(carried.effect), np.ravel(carried.sd)], rtol=1e-7)
    assert metrics["inference"]["fit"]["log_likelihood"] == pytest.approx(fit.llf, rel=1e-9)
    assert metrics["diagnostics"]["constant"] == []
    assert metrics["pooled"]["C"] is None
    coefficients = (metrics[name]["coefficients"] for name in ("pooled", "federated"))
    assert next(coefficients) == pytest.approx(next(coefficients), rel=1e-6)
    assert not [one for one in recwarn.list if "sklearn" in one.filename]
    model = LogisticModel.load(tmp_path / "run" / "model.json")
    ours = model.expected(near + far)
    np.testing.assert_allclose(ours, fit.predict(design), atol=1e-6)
    own = LogisticModel.load(tmp_path / "run" / "hospitals" / "hospital-2" / "model.json")
    np.testing.assert_array_equal(own.expected(near + far), ours)
    scales = {"scaling=none": [1.0, 1.0], "scaling=ranges": [1e9, 0.5]}
    np.testing.assert_array_equal(model.scale, scales.get(settings[0], model.scale))


def test_the_figures_of_a_hospitals_numeric_table(tmp_path: Path) -> None:
    """Those of statsmodels 0.14 on the pooled rows."""
    write_csv(tmp_path / "table.csv", patients(900, 0.15, 1))
    settings = ("data.target=died", "data.positive=yes", "inference.groups=[[bmi,crp],[male]]")
    metrics = run(tmp_path, *settings)
    expected = [
        [0.031397, 0.007433, 1.031895],
        [0.461500, 0.175149, 1.586452],
        [0.076555, 0.023061, 1.079562],
        [0.024789, 0.007148, 1.025099],
        [-6.000420, 0.832170, np.exp(-6.000420)],
    ]
    np.testing.assert_allclose(figures(metrics, *_ESTIMATE, "odds_ratio"), expected, atol=6e-7)
    inference = metrics["inference"]
    assert inference["fit"]["log_likelihood"] == pytest.approx(-422.327005, abs=6e-7)
    assert inference["fit"]["aic"] == pytest.approx(854.654009, abs=6e-7)
    assert inference["outcome"] == "died = yes"
    columns = patients(900, 0.15, 1)
    X = np.column_stack([columns[name] for name in ("age", "male", "bmi", "crp")])
    design = sm.add_constant(X)
    fit = sm.GLM(columns["died"] == "yes", design, family=sm.families.Binomial()).fit(tol=1e-14)
    assert inference["fit"]["null_deviance"] == pytest.approx(fit.null_deviance)
    assert inference["fit"]["deviance"] == pytest.approx(fit.deviance)
    for found, places in zip(inference["groups"], ([3, 4], [2]), strict=True):
        wald = fit.wald_test(np.eye(5)[places], use_f=False, scalar=True)
        assert found["chi2"] == pytest.approx(wald.statistic)
        assert found["df"] == len(places)
        assert found["p_value"] == pytest.approx(wald.pvalue)
    assert coefficient_table(metrics) is not None
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Log odds of died = yes" in page
    assert "1.032 (1.017 to 1.047)" in page.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("reference", "name"), [pytest.param(0, None, marks=pytest.mark.slow), (1, "q")]
)
def test_more_than_two_classes_are_compared_with_a_reference(
    tmp_path: Path, reference: int, name: str | None
) -> None:
    rng = np.random.default_rng(6)
    X = rng.normal(40.0, 12.0, (500, 2))
    margins = np.column_stack([np.zeros(500), 0.04 * X[:, 0] - 1.5, 0.05 * (X[:, 1] - 40)])
    shares = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    kinds = (rng.random((500, 1)) > shares.cumsum(axis=1)).sum(axis=1)
    settings = ["data.classes=[p,q,r]", "inference.groups=[[x2]]"]
    settings += [] if name is None else [f"data.reference={name}"]
    metrics = inferred(tmp_path, X, np.array(["p", "q", "r"])[kinds], *settings)
    others = [k for k in range(3) if k != reference]
    order = np.argsort([reference, *others])  # statsmodels' reference is its class 0
    fit = sm.MNLogit(order[kinds], np.column_stack([X, np.ones(500)])).fit(
        method="newton", disp=False, tol=1e-14
    )
    rows = metrics["inference"]["coefficients"]
    assert [row["class"] for row in rows] == [["p", "q", "r"][k] for k in others for _ in range(3)]
    found, errors = figures(metrics, *_ESTIMATE).T
    np.testing.assert_allclose((found - fit.params.T.ravel()) / errors, 0.0, atol=1e-6)
    np.testing.assert_allclose(errors, fit.bse.T.ravel(), rtol=1e-6)
    whole = metrics["inference"]["fit"]
    assert whole["log_likelihood"] == pytest.approx(fit.llf, abs=1e-6)
    assert whole["null_log_likelihood"] == pytest.approx(fit.llnull, abs=1e-6)
    assert whole["likelihood_ratio"]["df"] == fit.df_model
    assert whole["aic"] == pytest.approx(fit.aic, abs=1e-5)
    wald = fit.wald_test(np.eye(6)[[1, 4]], use_f=False, scalar=True)
    assert metrics["inference"]["groups"][0]["chi2"] == pytest.approx(wald.statistic)
    assert metrics["inference"]["groups"][0]["df"] == 2
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"Log odds of sick = r against {name or 'p'}" in page


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("scaling=local",), "have units of their own"),
        (("rounds=2",), "training ended before it converged"),
        (
            ("C=0.5", "class_weight=balanced", "optimizer=lbfgs"),
            "they need the Hessian of all patients; experiment=inference class_weight=equal "
            "C=null optimizer=newton fits all rows without a penalty, and has them wherever the "
            "estimates are finite",
        ),
        (("C=1",), "often; experiment=inference C=null fits all rows without a penalty"),
        *slow(
            (("C=0.5",), "the penalty (C=0.5) pulls the estimates towards 0"),
            (("class_weight=balanced",), "with class weights the inverse Hessian is not"),
            (("optimizer=lbfgs",), "they need the Hessian of all patients"),
        ),
    ],
    ids=str,
)
def test_figures_that_would_mislead_are_withheld_with_the_reason(
    tmp_path: Path, settings: tuple[str, ...], words: str
) -> None:
    X = np.random.default_rng(1).standard_normal((200, 2))
    groups = ("inference.groups=[[x1]]",) if "rounds=2" in settings else ()  # refused elsewhere
    metrics = inferred(tmp_path, X, sick(X[:, 0], 2), *groups, *settings)
    inference = metrics["inference"]
    assert words in inference["withheld"]
    assert inference["fit"] is None
    assert inference["groups"] == []
    for row in inference["coefficients"]:
        assert row["estimate"] is not None
        assert {row[key] for key in ("standard_error", "p_value", "lower", "upper")} == {None}
        assert row["odds_ratio_lower"] is None
    assert "std. error" not in (tmp_path / "run" / "report.html").read_text()
    # Without common units the only models that can predict are the hospitals'.
    assert (tmp_path / "run" / "model.json").exists() is ("scaling=local" not in settings)
    assert (tmp_path / "run" / "hospitals" / "hospital-1" / "model.json").exists()


def test_an_odds_ratio_beyond_all_numbers_ends_no_run(tmp_path: Path) -> None:
    X = np.random.default_rng(1).standard_normal((300, 2)) * [1e-5, 1.0]
    y = sick(1e5 * X[:, 0], 2)
    metrics = inferred(tmp_path, X, y)
    check_against_statsmodels(metrics, X, y)
    first = json.loads((tmp_path / "run" / "metrics.json").read_text())["inference"]["coefficients"]
    assert first[0]["odds_ratio"] is None
    assert first[0]["odds_ratio_sd"] == pytest.approx(np.exp(first[0]["estimate"] * X[:, 0].std()))
    assert "too large" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        (("data.reference=1",), ConfigError, "must be left out for two classes, got '1'"),
        (("inference.groups=[[x1,x9]]",), ConfigError, "must name features of the model, got 'x9'"),
        (
            ("inference.groups=[[x1,x9]]", "inference.profile=[x8]"),
            ConfigError,
            "groups must name features of the model, got 'x9'; inference.profile must name "
            "features of the model, got 'x8'; the features are 'x1', 'x2'",
        ),
        (("inference.groups=[[x1,x1]]",), ConfigError, "must be lists of different features"),
        (("inference.groups=[[]]",), ConfigError, "must be lists of different features"),
    ],
    ids=str,
)
def test_choices_that_fit_no_model_are_refused_before_the_first_round(
    tmp_path: Path, settings: tuple[str, ...], error: type[Exception], words: str
) -> None:
    X = np.random.default_rng(1).standard_normal((60, 2))
    with pytest.raises(error, match=words):
        inferred(tmp_path, X, sick(X[:, 0], 2), *settings)


@pytest.mark.parametrize(
    ("names", "classes", "words"),
    [
        ("pq", "data.positive=p", "must be left out for two classes, got 'z'"),
        ("pqr", "data.classes=[p,q,r]", "reference must be one of p, q, r, got 'z'"),
    ],
    ids=["two", "three"],
)
def test_a_reference_is_refused_before_the_hospitals_start(
    tmp_path: Path, names: str, classes: str, words: str
) -> None:
    labels, events = list(names) * 20, list[Event]()
    rows = "".join(f"{number}.5,{label}\n" for number, label in enumerate(labels))
    (tmp_path / "table.csv").write_text(f"x1,kind\n{rows}")
    data = ["data=csv", f"data.path={tmp_path / 'table.csv'}", "data.target=kind"]
    config = experiment(*data, classes, "data.reference=z", folder=tmp_path / "run")
    with pytest.raises(ConfigError, match=words):
        simulation.run(config, tmp_path / "run", events.append)
    assert events == []


def test_a_reference_that_is_no_class_is_refused(tmp_path: Path) -> None:
    X = np.random.default_rng(1).standard_normal((60, 2))
    with pytest.raises(ConfigError, match="reference must be one of p, q, r, got 'z'"):
        inferred(
            *(tmp_path, X, np.array(["p", "q", "r"] * 20)),
            *("data.classes=[p,q,r]", "data.reference=z"),
        )
