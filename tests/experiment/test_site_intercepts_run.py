"""Models with an intercept for each hospital, against statsmodels with a column for each site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import fl_he
from experiments import experiment
from quick import release, slow
from sites import (
    COLUMNS,
    SITE_FAMILIES,
    case_tables,
    fixed_effects,
    site_tables,
    write_sites,
)

from fl_he import simulation
from fl_he.config.constraints import ConfigError
from fl_he.strategies.opened_sum import RefusedError

SEEDS = [1, *slow((2,)), *release(*((seed,) for seed in range(3, 7)))]
by_family = pytest.mark.parametrize("family", SITE_FAMILIES)


def run(
    folder: Path,
    tables: list[pd.DataFrame],
    family: str,
    *more: str,
    columns: tuple[str, ...] = COLUMNS,
) -> dict[str, Any]:
    """Train on a hospital for each table; return the content of metrics.json."""
    config = experiment(
        *("experiment=inference", "data=csv", *write_sites(folder, tables, family, columns)),
        *("site_intercepts=true", "rounds=50", "simulation.engine=local", *more),
        folder=folder / "run",
    )
    return simulation.run(config, folder / "run")


@by_family
@pytest.mark.parametrize("seed", SEEDS)
def test_coefficients_are_those_of_fixed_effects(tmp_path: Path, family: str, seed: int) -> None:
    tables = site_tables(seed)
    metrics, fitted = run(tmp_path, tables, family), fixed_effects(tables, family)
    *rows, intercept = metrics["inference"]["coefficients"]
    for row, name in zip(rows, COLUMNS, strict=True):
        assert row["name"] == name
        assert row["estimate"] == pytest.approx(fitted.params[name], rel=1e-6, abs=1e-6)
        assert row["standard_error"] == pytest.approx(fitted.bse[name], rel=1e-5)
        assert row["p_value"] == pytest.approx(fitted.pvalues[name], abs=1e-6)
    assert intercept["estimate"] is None
    assert intercept["left_out"] == "each hospital has its own, which does not leave it"
    assert len(metrics["rounds"]) <= 9
    assert metrics["diagnostics"]["converged"]
    assert metrics["pooled"]["largest_difference"] < 1e-6
    assert metrics["federated"]["intercept"] is None
    fit, alone = metrics["inference"]["fit"], fixed_effects(tables, family, columns=())
    silent = {"logistic": 12, "poisson": 12}.get(family, 0)
    sites = {"contributing": 4 - (silent > 0), "silent": silent, "withheld": 0}
    assert metrics["inference"]["site_intercepts"] == sites
    assert fit["deviance"] == pytest.approx(fitted.deviance, rel=1e-8)
    assert fit["null_deviance"] == pytest.approx(alone.deviance, rel=1e-8)
    has_dispersion = family in ("gaussian", "gamma")
    assert fit["parameters"] == len(COLUMNS) + sites["contributing"] + has_dispersion
    assert fit["likelihood_ratio"]["df"] == len(COLUMNS)
    if not has_dispersion:
        assert fit["log_likelihood"] == pytest.approx(fitted.llf, rel=1e-8)
        assert fit["aic"] == pytest.approx(fitted.aic, rel=1e-8)
        chi2 = 2 * (fitted.llf - alone.llf)
        assert fit["likelihood_ratio"]["chi2"] == pytest.approx(chi2, abs=1e-6)
        if family == "poisson":
            found = fitted.pearson_chi2 / fitted.df_resid
            assert fit["dispersion"] == pytest.approx(found, rel=1e-8)
    else:
        assert fit["dispersion"] == pytest.approx(fitted.scale, rel=1e-8)
        assert metrics["inference"]["freedom"] == fitted.df_resid


def test_the_published_case_is_met(tmp_path: Path) -> None:
    tables = case_tables()
    metrics = run(tmp_path, tables, "logistic", columns=("age", "male", "bmi", "crp"))
    rows = metrics["inference"]["coefficients"][:-1]
    estimates, errors = ([row[key] for row in rows] for key in ("estimate", "standard_error"))
    assert estimates == pytest.approx([0.035946, 0.504294, 0.045644, 0.029614], abs=1e-6)
    assert errors == pytest.approx([0.003644, 0.085397, 0.010654, 0.003785], abs=1e-6)
    assert len(metrics["rounds"]) <= 9


@by_family
def test_an_l2_penalty_spares_the_intercepts(tmp_path: Path, family: str) -> None:
    metrics = run(tmp_path, site_tables(7), family, "C=0.01")
    assert metrics["pooled"]["largest_difference"] < 1e-6
    assert metrics["pooled"]["C"] == 0.01
    assert "penalty (C=0.01)" in metrics["inference"]["withheld"]


def test_the_number_of_few_rows_without_a_part_is_withheld(tmp_path: Path) -> None:
    tables = site_tables(8)
    tables[3] = tables[3][:4]
    metrics, fitted = run(tmp_path, tables, "poisson"), fixed_effects(tables, "poisson")
    sites = {"contributing": 3, "silent": 0, "withheld": 1}
    assert metrics["inference"]["site_intercepts"] == sites
    assert metrics["inference"]["fit"]["aic"] == pytest.approx(fitted.aic, rel=1e-8)
    assert metrics["inference"]["fit"]["dispersion"] is None
    page = (tmp_path / "run" / "report.html").read_text()
    assert "their number is withheld, as a hospital has few" in page
    assert "(against the hospitals&#39; intercepts only)" in page


@pytest.mark.slow
def test_the_run_s_model_alone_predicts_nothing(tmp_path: Path) -> None:
    tables = site_tables(9)
    run(tmp_path, tables, "logistic")
    assert json.loads((tmp_path / "run" / "model.json").read_text())["intercept"] is None
    for command in (("predict", "run", "site1.csv"), ("export", "run")):
        code, _, errors = fl_he(tmp_path, *command)
        assert code != 0
        assert "the model has no intercept, so it predicts nothing" in errors


def test_a_column_that_is_constant_within_hospitals_is_left_out(tmp_path: Path) -> None:
    tables = [table.assign(male=number % 2) for number, table in enumerate(site_tables(10))]
    metrics = run(tmp_path, tables, "gaussian")
    rows = {row["name"]: row for row in metrics["inference"]["coefficients"]}
    assert metrics["diagnostics"]["constant"] == ["male"]
    assert rows["male"]["left_out"].startswith("it does not vary within any hospital")
    fitted = fixed_effects(tables, "gaussian", columns=("age",))
    assert rows["age"]["standard_error"] == pytest.approx(fitted.bse["age"], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "event"), [("logistic", "no"), ("poisson", 0)])
def test_a_level_without_events_is_named(tmp_path: Path, family: str, event: object) -> None:
    tables, outcome = site_tables(11), SITE_FAMILIES[family][0]
    for table in tables:
        table["male"] = (np.arange(len(table)) % 5 == 0).astype(int)
        table.loc[table["male"] == 1, outcome] = event
    metrics = run(tmp_path, tables, family)
    assert metrics["diagnostics"]["separation"] == {
        **{"kind": "quasi-complete", "columns": ["male"], "largest": ["male"]}
    }
    rows = {row["name"]: row for row in metrics["inference"]["coefficients"]}
    assert rows["male"]["left_out"].startswith("no finite estimate")
    fitted = fixed_effects([table[table["male"] == 0] for table in tables], family, ("age",))
    assert rows["age"]["estimate"] == pytest.approx(fitted.params["age"], abs=1e-6)
    assert rows["age"]["standard_error"] == pytest.approx(fitted.bse["age"], rel=1e-5)


def test_no_hospital_with_both_classes_is_refused(tmp_path: Path) -> None:
    tables = [table.assign(died="no") for table in site_tables(12)]
    tables[0]["died"] = "yes"
    with pytest.raises(RefusedError, match="no hospital has its own intercept"):
        run(tmp_path, tables, "logistic")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("penalty=firth",), "penalty must be l2 with site_intercepts=true"),
        (("inference.profile=[age]",), "inference.profile must be left out with site_intercepts"),
        (("class_weight=balanced",), "class_weight must be equal with site_intercepts=true"),
        (("scaling=local",), "scaling must be federated, ranges or none with site_intercepts"),
        (("optimizer=lbfgs",), "optimizer must be auto or newton with site_intercepts=true"),
        (("test_size=0.25",), "test_size must be 0 with site_intercepts=true"),
        (("test_size=0.25", "evaluate=true"), "test_size must be 0 with site_intercepts=true"),
        (
            (
                *("privacy=gaussian", "privacy.epsilon=1", "privacy.delta=1e-5", "privacy.clip=1"),
                *("optimizer=gd", "scaling=none"),
            ),
            "privacy must be none with site_intercepts=true",
        ),
    ],
)
def test_settings_without_such_intercepts_are_refused(
    tmp_path: Path, settings: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        run(tmp_path, site_tables(1), "logistic", *settings)


def test_more_than_two_classes_are_refused(tmp_path: Path) -> None:
    settings = ("data.positive=null", "data.classes=[no,yes,other]")
    with pytest.raises(ConfigError, match=r"data\.classes must be left out with site_intercepts"):
        run(tmp_path, site_tables(1), "logistic", *settings)
