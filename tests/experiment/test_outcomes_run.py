"""Models of outcomes that are numbers, federated, against statsmodels on the pooled rows."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from command_line import fl_he
from experiments import experiment
from outcomes import FEATURES, OUTCOMES, outcome_tables, pooled_glm, write_outcomes
from overdispersed_counts import count_tables
from quick import release, slow
from scipy.optimize import minimize_scalar
from scipy.stats import chi2
from sklearn.metrics import d2_tweedie_score, mean_squared_error

from fl_he import simulation
from fl_he.capc.data import capc_data
from fl_he.config.constraints import ConfigError
from fl_he.experiment.data import simulated_data
from fl_he.learning.errors import DataError
from fl_he.learning.regression.registry import load_model
from fl_he.learning.regression.sklearn_export import to_pipeline
from fl_he.run_files.convergence import warnings

SEEDS = [1, *slow((2,)), *release(*((seed,) for seed in range(3, 7)))]
by_family = pytest.mark.parametrize("family", OUTCOMES)


INFERENCE = ("experiment=inference",)


def run(folder: Path, tables: list[pd.DataFrame], family: str, *more: str) -> dict[str, Any]:
    """Train on three hospitals by a schema; return the content of metrics.json."""
    files = write_outcomes(folder, tables, family)
    config = experiment(
        *("data=csv", files, f"data.schema={folder}/schema.yaml", *more),
        *(["optimizer=auto"] if not any("optimizer=" in one for one in more) else []),
        *("rounds=50", "simulation.engine=local"),
        folder=folder / "run",
    )
    return simulation.run(config, folder / "run")


@by_family
@pytest.mark.parametrize("seed", SEEDS)
def test_estimates_and_tests_are_those_of_the_pooled_rows(
    tmp_path: Path, family: str, seed: int
) -> None:
    tables = outcome_tables(seed)
    metrics, fitted = run(tmp_path, tables, family, *INFERENCE), pooled_glm(tables, family)
    rows = {row["name"]: row for row in metrics["inference"]["coefficients"]}
    for name, theirs in zip((*FEATURES, "(intercept)"), (*FEATURES, "const"), strict=True):
        row, error = rows[name], fitted.bse[theirs]
        assert row["estimate"] == pytest.approx(fitted.params[theirs], abs=1e-6 * error)
        assert row["standard_error"] == pytest.approx(error, rel=1e-6)
        assert row["p_value"] == pytest.approx(fitted.pvalues[theirs], abs=1e-6)
        ends = fitted.conf_int().loc[theirs]
        assert [row["lower"], row["upper"]] == pytest.approx([*ends], abs=1e-6 * error)
    fit = metrics["inference"]["fit"]
    assert fit["deviance"] == pytest.approx(fitted.deviance, rel=1e-9)
    assert fit["null_deviance"] == pytest.approx(fitted.null_deviance, rel=1e-9)
    assert fit["pearson"] == pytest.approx(fitted.pearson_chi2, rel=1e-6)
    assert fit["dispersion"] == pytest.approx(fitted.pearson_chi2 / fitted.df_resid, rel=1e-6)
    assert fit["log_likelihood"] == pytest.approx(largest(fitted), rel=1e-9)
    assert fit["parameters"] == len(rows) + (family != "poisson")
    assert fit["aic"] == pytest.approx(2 * fit["parameters"] - 2 * fit["log_likelihood"])
    assert len(metrics["rounds"]) <= 9
    assert metrics["diagnostics"]["converged"]
    assert metrics["pooled"]["largest_difference"] < 1e-6


def test_counts_that_vary_more_than_poissons_are_warned_of(tmp_path: Path) -> None:
    tables = count_tables(5)
    metrics, fitted = run(tmp_path, tables, "poisson", *INFERENCE), pooled_glm(tables, "poisson")
    fit, dispersion = metrics["inference"]["fit"], fitted.pearson_chi2 / fitted.df_resid
    assert fit["dispersion"] == pytest.approx(dispersion, rel=1e-6)
    widened = 1 + 0.5 / np.mean(fitted.model.endog)
    p_value = chi2.sf(fitted.pearson_chi2 / widened, fitted.df_resid / widened)
    assert fit["dispersion_p_value"] == pytest.approx(p_value, rel=1e-5)
    (said,) = warnings(metrics)
    assert f"(dispersion {dispersion:.2f}, not 1; p <0.001)" in said
    assert f"too small by a factor of about {dispersion**0.5:.2f}" in said
    assert said.endswith("use the family negative_binomial in place of poisson")
    page = unescape((tmp_path / "run" / "report.html").read_text())
    assert said in page
    assert "1 by assumption (one-sided test: p <0.001)" in page


def test_poissons_counts_are_not_warned_of(tmp_path: Path) -> None:
    metrics = run(tmp_path, outcome_tables(1), "poisson", *INFERENCE)
    assert metrics["inference"]["fit"]["dispersion_p_value"] > 0.001
    assert warnings(metrics) == []


def test_counts_that_are_all_equal_have_no_share_of_the_deviance(tmp_path: Path) -> None:
    tables = [table.assign(visits=3) for table in outcome_tables(9)]
    fit = run(tmp_path, tables, "poisson", *INFERENCE)["inference"]["fit"]
    assert fit["d2"] is None
    assert fit["null_deviance"] == pytest.approx(0.0, abs=1e-6)


def largest(fitted: Any) -> float:
    """Return statsmodels' log likelihood at its largest over the dispersion."""
    family = fitted.model.family
    labels, means = np.asarray(fitted.model.endog), np.asarray(fitted.fittedvalues)
    if isinstance(family, sm.families.Poisson):
        return float(family.loglike_obs(labels, means).sum())

    def loss(logarithm: float) -> float:
        return -float(family.loglike_obs(labels, means, scale=np.exp(logarithm)).sum())

    bounds = (-10.0, 10.0)
    return -float(minimize_scalar(loss, bounds=bounds, options={"xatol": 1e-10}).fun)


def test_columns_are_tested_together_by_the_f_distribution(tmp_path: Path) -> None:
    tables = outcome_tables(3)
    metrics = run(tmp_path, tables, "gaussian", *INFERENCE, "inference.groups=[[age,male]]")
    fitted = pooled_glm(tables, "gaussian").f_test("(age = 0), (male = 0)")
    (test,) = metrics["inference"]["groups"]
    assert test["df"] == 2
    assert test["chi2"] / 2 == pytest.approx(float(fitted.fvalue), rel=1e-6)
    assert test["p_value"] == pytest.approx(float(fitted.pvalue), abs=1e-9)


@by_family
def test_figures_of_the_test_set_are_scikit_learns(tmp_path: Path, family: str) -> None:
    tables = outcome_tables(4)
    metrics = run(tmp_path, tables, family, "test_size=0.25", "C=null")
    files = write_outcomes(tmp_path, tables, family)
    config = experiment(
        *("data=csv", files, f"data.schema={tmp_path}/schema.yaml", "test_size=0.25"),
        folder=tmp_path / "run",
    )
    test = simulated_data(config).test
    model = load_model(tmp_path / "run" / "model.json")
    expected = model.expected(test.features)
    power = {"gaussian": 0, "poisson": 1, "gamma": 2}[family]
    assert metrics["federated"]["rmse"] == pytest.approx(
        mean_squared_error(test.labels, expected) ** 0.5
    )
    assert metrics["federated"]["d2"] == pytest.approx(
        d2_tweedie_score(test.labels, expected, power=power)
    )
    assert metrics["federated"]["accuracy"] is None
    exported = to_pipeline(model).predict(test.features)
    np.testing.assert_allclose(exported, expected, rtol=1e-12)
    columns = pd.DataFrame(test.features, columns=test.feature_names)
    columns.to_csv(tmp_path / "new.csv", index=False)
    code, printed, errors = fl_he(tmp_path, "predict", "run", "new.csv")
    assert code == 0, errors
    heading, *rows = printed.splitlines()
    assert heading == "expected"
    np.testing.assert_array_equal(np.array(rows, dtype=float), expected)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "scikit-learn&#39;s models (hospitals alone) have one of C=1, as a small" in page
    assert "accuracy" not in page.split("Who sees what")[0].split("<h2")[1]


def test_a_level_without_events_is_named(tmp_path: Path) -> None:
    tables = outcome_tables(5)
    for table in tables:
        table["male"] = (np.arange(len(table)) % 5 == 0).astype(int)
        table.loc[table["male"] == 1, "visits"] = 0
    metrics = run(tmp_path, tables, "poisson", *INFERENCE)
    assert metrics["diagnostics"]["separation"] == {
        **{"kind": "quasi-complete", "columns": ["male"], "largest": ["male"]}
    }
    rows = {row["name"]: row for row in metrics["inference"]["coefficients"]}
    assert rows["male"]["estimate"] is None
    assert rows["male"]["left_out"] == (
        "no finite estimate: counts of 0 and counts above 0 in the training data are separated by "
        "male"
    )
    kept = [table[table["male"] == 0] for table in tables]
    pooled = pd.concat(kept)
    design = sm.add_constant(pooled[["age"]].astype(float))
    fitted = sm.GLM(pooled["visits"], design, family=sm.families.Poisson()).fit(tol=1e-14)
    assert rows["age"]["estimate"] == pytest.approx(fitted.params["age"], abs=1e-6)
    assert rows["age"]["standard_error"] == pytest.approx(fitted.bse["age"], rel=1e-5)


def test_a_hospital_without_events_takes_part(tmp_path: Path) -> None:
    tables = outcome_tables(6)
    tables[2]["visits"] = 0
    metrics, fitted = run(tmp_path, tables, "poisson", *INFERENCE), pooled_glm(tables, "poisson")
    row = metrics["inference"]["coefficients"][0]
    assert row["estimate"] == pytest.approx(fitted.params["age"], abs=1e-6 * fitted.bse["age"])
    assert len(metrics["rounds"]) <= 9


def test_no_events_at_all_are_refused(tmp_path: Path) -> None:
    tables = [table.assign(visits=0) for table in outcome_tables(7)]
    with pytest.raises(ConfigError, match="outcome 'visits': counts must be above 0 in some rows"):
        run(tmp_path, tables, "poisson", *INFERENCE)


def test_an_outcome_without_residuals_has_no_standard_errors(tmp_path: Path) -> None:
    tables = [table.assign(stay=np.exp(0.01 * table["age"])) for table in outcome_tables(8)]
    metrics = run(tmp_path, tables, "gaussian", *INFERENCE)
    assert metrics["inference"]["withheld"] == "the model predicts every outcome but for rounding"
    assert metrics["diagnostics"]["converged"]
    assert metrics["inference"]["coefficients"][0]["estimate"] == pytest.approx(0.01)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_the_unit_of_an_outcome_does_not_count(tmp_path: Path, scale: float) -> None:
    tables = [table.assign(stay=table["stay"] * scale) for table in outcome_tables(9)]
    files = write_outcomes(tmp_path, tables, "gamma")
    schema = (tmp_path / "schema.yaml").read_text().replace("gamma", "gaussian")
    (tmp_path / "schema.yaml").write_text(schema)
    config = experiment(
        *("experiment=inference", "data=csv", files, f"data.schema={tmp_path}/schema.yaml"),
        "simulation.engine=local",
        folder=tmp_path / "run",
    )
    metrics = simulation.run(config, tmp_path / "run")
    pooled = pd.concat(tables)
    design = sm.add_constant(pooled[[*FEATURES]].astype(float))
    fitted = sm.OLS(pooled["stay"], design).fit()
    for row, name in zip(metrics["inference"]["coefficients"], (*FEATURES, "const"), strict=True):
        error = fitted.bse[name]
        assert row["estimate"] == pytest.approx(fitted.params[name], abs=1e-6 * error)
        assert row["standard_error"] == pytest.approx(error, rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("penalty=firth", "C=null"), "penalty must be l2 with family poisson"),
        (("inference.profile=[age]", "C=null"), "inference.profile must be left out with family"),
        (("optimizer=lbfgs",), "optimizer must be auto or newton with family poisson"),
        (("class_weight=balanced",), "class_weight must be equal with family poisson"),
    ],
)
def test_settings_of_classes_are_refused(
    tmp_path: Path, settings: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        run(tmp_path, outcome_tables(1), "poisson", *settings)


@pytest.mark.parametrize(
    ("family", "column", "value", "words"),
    [
        ("poisson", "visits", 1.5, "must hold whole numbers of 0 or more for family poisson"),
        ("poisson", "visits", -1, "must hold whole numbers of 0 or more for family poisson"),
        ("poisson", "visits", 1e16, "must hold numbers of at most 1e[+]14 in size"),
        ("gamma", "stay", 1e308, "must hold numbers of at most 1e[+]14 in size"),
        ("gamma", "stay", 0, "must hold numbers above 0 for family gamma"),
        ("gaussian", "stay", 0, "must hold numbers above 0 for log"),
    ],
)
def test_outcomes_that_the_family_has_not_are_refused_by_row(
    tmp_path: Path, family: str, column: str, value: float, words: str
) -> None:
    tables = outcome_tables(1)
    tables[0][column] = tables[0][column].astype(float)
    tables[0].loc[3, column] = value
    with pytest.raises(DataError, match=f"{words}, got 1 other in row 5"):
        run(tmp_path, tables, family, *INFERENCE)


def test_numbers_are_refused_in_capc(tmp_path: Path) -> None:
    files = write_outcomes(tmp_path, outcome_tables(1), "poisson").split("=")[1].strip("[]")
    config = experiment(
        *("experiment=capc_breast_cancer", "data=csv", f"data.path={files.split(',')[0]}"),
        f"data.schema={tmp_path}/schema.yaml",
        folder=tmp_path / "run",
    )
    with pytest.raises(DataError, match=r"CaPC votes for classes, .* a number of family"):
        capc_data(config)


def test_a_target_that_is_a_number_needs_no_schema(tmp_path: Path) -> None:
    tables = outcome_tables(2)
    pd.concat(tables)[[*FEATURES, "visits"]].to_csv(tmp_path / "all.csv", index=False)
    config = experiment(
        *("experiment=inference", "data=csv", f"data.path={tmp_path}/all.csv"),
        *("data.target=visits", "data.family=poisson", "simulation.engine=local"),
        folder=tmp_path / "run",
    )
    metrics = simulation.run(config, tmp_path / "run")
    assert metrics["inference"]["outcome"] == "visits"
    found = [row["estimate"] for row in metrics["inference"]["coefficients"]]
    fitted = pooled_glm(tables, "poisson").params
    assert found == pytest.approx([fitted["age"], fitted["male"], fitted["const"]], abs=1e-7)
    kept = json.loads((tmp_path / "run" / "model.json").read_text())
    assert (kept["format"], kept["outcome"]) == ("fl-he poisson model", "visits")
