"""Counts and positive numbers with an exposure, federated, against statsmodels with an offset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import fl_he
from experiments import experiment
from exposure import (
    FAMILIES,
    FEATURES,
    TARGETS,
    exposed_tables,
    pooled_counts,
    pooled_fit,
    schema_text,
    without_schema,
    write_tables,
)
from quick import release, slow
from scipy.stats import chi2

from fl_he import simulation
from fl_he.config.constraints import ConfigError
from fl_he.experiment.data import simulated_data
from fl_he.learning.errors import DataError
from fl_he.learning.regression.glm import GlmModel
from fl_he.learning.regression.registry import load_model

SEEDS = [1, *slow((2,)), *release(*((seed,) for seed in range(3, 7)))]
by_family = pytest.mark.parametrize("family", TARGETS)
gamma_slowly = pytest.mark.parametrize("family", ["poisson", *slow(("gamma",))])


def run(
    folder: Path, tables: list[pd.DataFrame], family: str, *more: str, schema: str | None = None
) -> dict[str, Any]:
    """Train on a hospital for each table; return the content of metrics.json."""
    described: tuple[str, ...] = without_schema(family)
    if schema is not None:
        (folder / "schema.yaml").write_text(schema)
        described = (f"data.schema={folder}/schema.yaml",)
    inference = "experiment=inference" if "test_size=0.25" not in more else "optimizer=auto"
    config = experiment(
        *("data=csv", write_tables(folder, tables), *described, inference, *more),
        *("rounds=50", "simulation.engine=local"),
        folder=folder / "run",
    )
    return simulation.run(config, folder / "run")


def coefficients(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in metrics["inference"]["coefficients"]}


def compare(metrics: dict[str, Any], fitted: Any, names: dict[str, str]) -> None:
    rows = coefficients(metrics)
    for ours, theirs in names.items():
        row, error = rows[ours], fitted.bse[theirs]
        assert row["estimate"] == pytest.approx(fitted.params[theirs], abs=1e-6 * error)
        assert row["standard_error"] == pytest.approx(error, rel=1e-5)
        assert row["p_value"] == pytest.approx(fitted.pvalues[theirs], abs=1e-6)


@by_family
@pytest.mark.parametrize("by_schema", [False, *slow((True,))])
@pytest.mark.parametrize("seed", SEEDS)
def test_estimates_and_null_model_are_those_with_the_offset(
    tmp_path: Path, family: str, seed: int, by_schema: bool
) -> None:
    tables = exposed_tables(seed, low=1e-3, high=1e5)
    schema = schema_text(family) if by_schema else None
    metrics, fitted = run(tmp_path, tables, family, schema=schema), pooled_fit(tables, family)
    compare(metrics, fitted, {**dict(zip(FEATURES, FEATURES, strict=True)), "(intercept)": "const"})
    fit = metrics["inference"]["fit"]
    assert fit["deviance"] == pytest.approx(fitted.deviance, rel=1e-9)
    assert fit["null_deviance"] == pytest.approx(fitted.null_deviance, rel=1e-8)
    assert fit["d2"] == pytest.approx(1 - fitted.deviance / fitted.null_deviance, rel=1e-8)
    assert fit["pearson"] == pytest.approx(fitted.pearson_chi2, rel=1e-6)
    if family == "poisson":
        assert fit["log_likelihood"] == pytest.approx(fitted.llf, rel=1e-9)
        test = fit["likelihood_ratio"]
        assert test["chi2"] == pytest.approx(2 * (fitted.llf - fitted.llnull), rel=1e-6)
        assert test["p_value"] == pytest.approx(chi2.sf(test["chi2"], 2), abs=1e-9)
    assert len(metrics["rounds"]) <= 9
    assert metrics["diagnostics"]["converged"]
    assert metrics["pooled"]["largest_difference"] < 1e-6
    assert metrics["exposure"] == "years"
    page = (tmp_path / "run" / "report.html").read_text()
    assert f"of {TARGETS[family]}, with exposure years" in page
    assert "patients whose features are all 0 and whose exposure is 1" in page
    assert "once: the sum of the exposures" in page


@pytest.mark.parametrize("seed", SEEDS)
def test_counts_with_an_alpha_have_the_estimates_with_the_offset(tmp_path: Path, seed: int) -> None:
    tables = exposed_tables(seed)
    metrics, fitted = run(tmp_path, tables, "negative_binomial"), pooled_counts(tables)
    compare(metrics, fitted, {**dict(zip(FEATURES, FEATURES, strict=True)), "(intercept)": "const"})
    alpha, fit = metrics["inference"]["overdispersion"], metrics["inference"]["fit"]
    assert alpha["alpha"] == pytest.approx(fitted.params["alpha"], rel=1e-6)
    assert alpha["standard_error"] == pytest.approx(fitted.bse["alpha"], rel=1e-5)
    assert fit["log_likelihood"] == pytest.approx(fitted.llf, rel=1e-9)
    null = pooled_counts(tables, ()).llf
    assert fit["null_log_likelihood"] == pytest.approx(null, rel=1e-9)
    assert fit["likelihood_ratio"]["chi2"] == pytest.approx(2 * (fitted.llf - null), rel=1e-6)
    assert len(metrics["rounds"]) <= 12
    code, printed, errors = fl_he(tmp_path, "predict", "run", "site1.csv")
    assert code == 0, errors
    means = np.array(printed.splitlines()[1:], dtype=float)
    np.testing.assert_allclose(means, fitted.predict()[:400], rtol=1e-5)


@gamma_slowly
def test_intercepts_of_hospitals_are_those_with_the_offset(tmp_path: Path, family: str) -> None:
    tables = exposed_tables(7)
    metrics = run(tmp_path, tables, family, "site_intercepts=true")
    fitted = pooled_fit(tables, family, dummies=True)
    compare(metrics, fitted, dict(zip(FEATURES, FEATURES, strict=True)))
    alone = pooled_fit(tables, family, (), dummies=True)
    fit = metrics["inference"]["fit"]
    assert fit["null_deviance"] == pytest.approx(alone.deviance, rel=1e-8)
    assert metrics["pooled"]["largest_difference"] < 1e-6
    assert len(metrics["rounds"]) <= 9


@pytest.mark.slow
def test_intercepts_of_hospitals_of_counts_with_an_alpha_have_the_offset(tmp_path: Path) -> None:
    tables = exposed_tables(8)
    metrics = run(tmp_path, tables, "negative_binomial", "site_intercepts=true")
    fitted, alone = (pooled_counts(tables, one, dummies=True) for one in (FEATURES, ()))
    compare(metrics, fitted, dict(zip(FEATURES, FEATURES, strict=True)))
    fit = metrics["inference"]["fit"]
    assert fit["log_likelihood"] == pytest.approx(fitted.llf, rel=1e-9)
    assert fit["null_log_likelihood"] == pytest.approx(alone.llf, rel=1e-9)


@gamma_slowly
def test_own_fits_of_hospitals_have_the_offset(tmp_path: Path, family: str) -> None:
    tables = exposed_tables(8)
    metrics = run(tmp_path, tables, family, "inference.sites=true")
    fits = [pooled_fit([table], family) for table in tables]
    for row in metrics["inference"]["sites"]["heterogeneity"]:
        weights = np.array([fit.bse[row["name"]] ** -2 for fit in fits])
        mean = weights @ [fit.params[row["name"]] for fit in fits] / weights.sum()
        assert row["estimate"] == pytest.approx(mean, rel=1e-6)
        assert row["standard_error"] == pytest.approx(weights.sum() ** -0.5, rel=1e-6)
    assert metrics["inference"]["sites"]["fits"] == 3


def test_a_level_without_events_is_named_whatever_the_exposures(tmp_path: Path) -> None:
    tables = exposed_tables(9)
    for table in tables:
        table.loc[table["male"] == 1, "visits"] = 0
    metrics = run(tmp_path, tables, "poisson")
    separated = {"kind": "quasi-complete", "columns": ["male"], "largest": ["male"]}
    assert metrics["diagnostics"]["separation"] == separated
    others = [table[table["male"] == 0] for table in tables]
    compare(metrics, pooled_fit(others, "poisson", ("age",)), {"age": "age"})


@gamma_slowly
def test_figures_of_the_test_set_count_exposures(tmp_path: Path, family: str) -> None:
    tables = exposed_tables(10)
    metrics = run(tmp_path, tables, family, "test_size=0.25", "C=0.5", "evaluate=true")
    config = experiment(
        *("data=csv", write_tables(tmp_path, tables), *without_schema(family), "test_size=0.25"),
        folder=tmp_path / "run",
    )
    test = simulated_data(config).test
    means = load_model(tmp_path / "run" / "model.json").expected(test.features) * test.exposed
    rate = (
        test.labels.sum() / test.exposed.sum()
        if family == "poisson"
        else np.mean(test.labels / test.exposed)
    )
    deviance = FAMILIES[family].deviance(test.labels, means)
    null = FAMILIES[family].deviance(test.labels, rate * test.exposed)
    for model in (metrics["federated"], metrics["pooled"]):
        assert model["d2"] == pytest.approx(1 - deviance / null, rel=1e-5)
        assert model["mean_deviance"] == pytest.approx(deviance / len(means), rel=1e-5)
    squares = np.mean(np.square(test.labels - means))
    assert metrics["federated"]["rmse"] == pytest.approx(squares**0.5)
    assert metrics["pooled"]["largest_difference"] < 1e-6
    for entry, site in zip(metrics["sites"], ("site1", "site2", "site3"), strict=True):
        assert entry["hospital"] == site
    rounded = metrics["evaluation"]["calibration"]
    largest = max(entry[key] for entry in rounded for key in ("predicted", "observed"))
    half_grains = 8 * largest * len(rounded) / min(means.sum(), test.labels.sum())
    for entries, most in ((metrics["sites"], 1e-9), (rounded, half_grains)):
        predicted = sum(entry["examples"] * entry["predicted"] for entry in entries)
        observed = sum(entry["examples"] * entry["observed"] for entry in entries)
        assert predicted == pytest.approx(means.sum(), rel=most)
        assert observed == pytest.approx(test.labels.sum(), rel=most)


@pytest.mark.parametrize("by_schema", [True, *slow((False,))])
def test_predictions_are_of_each_row_s_exposure(tmp_path: Path, by_schema: bool) -> None:
    tables = exposed_tables(11)
    schema = schema_text("poisson") if by_schema else None
    run(tmp_path, tables, "poisson", schema=schema)
    model = load_model(tmp_path / "run" / "model.json")
    assert isinstance(model, GlmModel)
    assert model.exposure == "years"
    rates = model.expected(tables[1][[*FEATURES]].to_numpy(dtype=float))
    fitted = pooled_fit(tables, "poisson")
    of_site = np.asarray(fitted.fittedvalues)[400:550]
    np.testing.assert_allclose(rates * tables[1]["years"], of_site, rtol=1e-6)
    for options, heading, wanted in (
        ((), "expected", rates * tables[1]["years"]),
        (("--rate",), "rate", rates),
    ):
        code, printed, errors = fl_he(tmp_path, "predict", "run", "site2.csv", *options)
        assert (code, printed.splitlines()[0]) == (0, heading), errors
        found = np.array(printed.splitlines()[1:], dtype=float)
        np.testing.assert_allclose(found, wanted, rtol=1e-14)
    tables[1].drop(columns="years").to_csv(tmp_path / "new.csv", index=False)
    code, printed, errors = fl_he(tmp_path, "predict", "run", "new.csv")
    assert (code != 0, printed) == (True, "")
    assert "years" in errors
    assert "--rate predicts for an exposure of 1" in errors
    code, printed, _ = fl_he(tmp_path, "predict", "run", "new.csv", "--rate")
    assert (code, len(printed.splitlines())) == (0, 151)
    code, printed, errors = fl_he(tmp_path, "export", "run")
    assert code == 0, errors
    assert "It predicts for 1 of the exposure 'years'" in printed
    tables[1].loc[3, "years"] = 0.0
    tables[1].to_csv(tmp_path / "wrong.csv", index=False)
    code, printed, errors = fl_he(tmp_path, "predict", "run", "wrong.csv")
    lines = printed.splitlines()
    assert (len(lines), lines[4]) == (151, '""')
    others = np.array(lines[1:4] + lines[5:], dtype=float)
    np.testing.assert_allclose(others, np.delete(rates * tables[1]["years"], 3), rtol=1e-14)
    assert code == 1
    assert errors.splitlines()[0] == (
        "fl-he: row 5: column 'years': exposure other than a number from above 0 to 1e+14"
    )
    assert "1 of 150 rows without a prediction" in errors


def test_a_model_without_exposure_has_no_rate(tmp_path: Path) -> None:
    tables = exposed_tables(12)
    run(tmp_path, tables, "poisson", "data.exposure=null", "data.drop=[cost,falls,years]")
    code, _, errors = fl_he(tmp_path, "predict", "run", "site1.csv", "--rate")
    assert code != 0
    assert "--rate must come with a model with an exposure" in errors


CELLS = [
    (0.0, "exposure 'years' must hold numbers above 0, got 1 other in row 6"),
    (-2.5, "exposure 'years' must hold numbers above 0, got 1 other in row 6"),
    (1e300, "exposure 'years' must hold numbers of at most 1e+14 in size, got 1 other in row 6"),
    (None, "column 'years' must have no missing values, got 1 missing cell in row 6"),
    ("long", "column 'years' must be numeric, got 1 cell of text in row 6"),
    (float("inf"), "column 'years' must be finite, got 1 infinite cell in row 6"),
]


@pytest.mark.parametrize("by_schema", [False, True])
@pytest.mark.parametrize(("cell", "words"), CELLS)
def test_a_cell_that_is_no_exposure_is_named(
    tmp_path: Path, cell: object, words: str, by_schema: bool
) -> None:
    tables = exposed_tables(13)
    tables[0]["years"] = tables[0]["years"].astype(object)
    tables[0].loc[4, "years"] = cell
    with pytest.raises(DataError) as refused:
        run(tmp_path, tables, "poisson", schema=schema_text("poisson") if by_schema else None)
    assert words in str(refused.value)
    assert "data.drop" not in str(refused.value)
    if cell is None and by_schema:
        assert "declare missing: drop-row of outcome" in str(refused.value)


@pytest.mark.parametrize("by_schema", [False, True])
def test_all_faults_of_an_outcome_with_an_exposure_are_told(
    tmp_path: Path, by_schema: bool
) -> None:
    tables = [table.astype(object) for table in exposed_tables(13)]
    tables[0].loc[[3, 8], "years"], tables[0].loc[5, "years"] = 0, "long"
    tables[0].loc[9, "visits"] = 1.5
    with pytest.raises(DataError) as refused:
        run(tmp_path, tables, "poisson", schema=schema_text("poisson") if by_schema else None)
    for words in (
        "target 'visits' must hold whole numbers of 0 or more for family poisson, got 1 other",
        "column 'years' must be numeric, got 1 cell of text in row 7",
        "exposure 'years' must hold numbers above 0, got 2 others, the first in row 5",
    ):
        assert words in str(refused.value)


def test_rows_without_an_exposure_may_be_left_out(tmp_path: Path) -> None:
    tables = exposed_tables(14)
    kept = tables[0].drop(index=[4, 7])
    tables[0].loc[4, "years"] = None
    tables[0]["visits"] = tables[0]["visits"].astype(object)
    tables[0].loc[7, "visits"] = None
    files, schema = write_tables(tmp_path, tables), tmp_path / "schema.yaml"
    schema.write_text(schema_text("poisson", ", missing: drop-row"))
    config = experiment("data=csv", files, f"data.schema={schema}", folder=tmp_path / "run")
    found = simulated_data(replace(config, test_size=0.0)).hospitals[0]
    pairs = sorted(zip(found.exposed, found.labels, strict=True))
    assert pairs == sorted(zip(kept["years"], kept["visits"], strict=True))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("data.family=gaussian",), "data.exposure must be left out unless data.family=poisson"),
        (("data.family=null",), "data.exposure must be left out unless data.family=poisson"),
        (
            ("data.path=a.csv", "partition=column", "partition.column=years"),
            "partition.column must be another column than data.exposure",
        ),
    ],
)
def test_an_exposure_that_has_no_meaning_is_refused_by_name(
    tmp_path: Path, settings: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        run(tmp_path, exposed_tables(15), "poisson", *settings)


@pytest.mark.parametrize("by_schema", [False, True])
def test_an_exposure_with_privacy_is_refused_by_name(tmp_path: Path, by_schema: bool) -> None:
    files, schema = write_tables(tmp_path, exposed_tables(15)), tmp_path / "schema.yaml"
    schema.write_text(schema_text("poisson"))
    described = (f"data.schema={schema}",) if by_schema else without_schema("poisson")
    private = ("privacy=gaussian", "scaling=none", "C=1.0", "outcome_bounds=[0,9]")
    config = experiment("data=csv", files, *described, *private, folder=tmp_path / "run")
    with pytest.raises(DataError, match="exposure of the schema's outcome, must be left out with"):
        simulated_data(config)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"data.exposure": "age2"}, "exposure must be one of the columns"),
        ({"data.exposure": "visits"}, "exposure must be another column than target, got 'visits'"),
        ({"data.drop": "[cost,falls,years]"}, "drop must not name the exposure, got 'years'"),
    ],
)
def test_a_column_that_is_no_exposure_is_refused(
    tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    changes = [f"{key}={value}" for key, value in settings.items()]
    with pytest.raises(DataError, match=words):
        run(tmp_path, exposed_tables(16), "poisson", *changes)


def test_a_schema_refuses_exposures_of_other_outcomes(tmp_path: Path) -> None:
    tables = exposed_tables(17)
    for wrong, words in (
        (schema_text("poisson").replace("poisson", "gaussian"), "got family gaussian"),
        (schema_text("poisson").replace(", family: poisson", ""), "got an outcome of classes"),
        (schema_text("poisson").replace("exposure: years", "exposure: visits"), "another column"),
        (schema_text("poisson").replace("exposure: years", "exposure: age"), "must not name"),
    ):
        with pytest.raises(DataError, match=words):
            run(tmp_path, tables, "poisson", schema=wrong)


def test_a_split_keeps_each_row_s_exposure(tmp_path: Path) -> None:
    table = exposed_tables(18)[0]
    table["years"] = 1.0 + table["age"]
    table.to_csv(tmp_path / "one.csv", index=False)
    config = experiment(
        *("data=csv", f"data.path={tmp_path}/one.csv", *without_schema("poisson")),
        *("test_size=0.25", "hospitals=3", "partition=uneven"),
        folder=tmp_path / "run",
    )
    data = simulated_data(config)
    for part in (*data.hospitals, data.train, data.test):
        assert part.feature_names == FEATURES
        np.testing.assert_array_equal(part.exposed, 1.0 + part.features[:, 0])
