"""Publishable figures on twenty tables, compared with statsmodels on the pooled rows.

``experiment=inference`` gives statsmodels' figures on columns of unit deviation, carried back to
the tables' units, or names the column that has none and says why. statsmodels itself is held
against arithmetic of 160 bits.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from exact_logit import exact_fit
from experiments import experiment
from numpy.typing import NDArray
from patients import write_csv
from quick import slow_but
from twenty_tables import CONSTANT, INTERCEPT, TABLES, Table, table

from fl_he import simulation
from fl_he.experiment.data import simulated_data
from fl_he.terminal.show import show_run

#: Figures of a coefficient, all missing where the data have none.
FIGURES = (
    *("estimate", "standard_error", "z", "p_value", "lower", "upper"),
    *("odds_ratio", "odds_ratio_lower", "odds_ratio_upper"),
    *("odds_ratio_sd", "odds_ratio_sd_lower", "odds_ratio_sd_upper"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Pooled:
    """Results of statsmodels for the columns that have estimates, the intercept last."""

    names: list[str]
    estimates: NDArray[np.float64]
    errors: NDArray[np.float64]
    p_values: NDArray[np.float64]
    ends: NDArray[np.float64]
    fit: Any


def design(given: Table) -> tuple[list[str], NDArray[np.float64], NDArray[np.int64]]:
    """Return columns with estimates, and the rows that decide them."""
    rows = np.full(len(given.sick), True) if given.within is None else given.within
    names = [name for name in given.columns if name not in given.left_out]
    X = np.column_stack([given.columns[name] for name in names]).astype(np.float64)
    return names, X[rows], given.sick[rows]


def pooled(given: Table) -> Pooled:
    names, X, y = design(given)
    means, deviations = X.mean(axis=0), X.std(axis=0)
    Z = np.column_stack([(X - means) / deviations, np.ones(len(X))])
    fit = sm.Logit(y, Z).fit(method="newton", disp=False, tol=1e-9, ridge_factor=0.0)
    back = np.diag([*(1.0 / deviations), 1.0])
    back[-1, :-1] = -means / deviations
    carried = fit.t_test(back)
    figures = (np.ravel(carried.effect), np.ravel(carried.sd), carried.pvalue, carried.conf_int())
    return Pooled([*names, INTERCEPT], *figures, fit)


def settings(given: Table, folder: Path) -> list[str]:
    return [
        *("experiment=inference", "simulation.engine=local", "crypto.key_bits=1024", "data=csv"),
        *(f"data.path={folder}/table.csv", "data.target=sick", "data.positive=1"),
        *given.settings,
    ]


@pytest.mark.parametrize(
    "name",
    slow_but(
        TABLES,
        *("1% events", "collinear but for 1e-3", "quasi-complete separation"),
    ),
)
def test_figures_are_statsmodels_or_the_reason_is_named(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given, folder = table(name), tmp_path / "run"
    write_csv(tmp_path / "table.csv", {**given.columns, "sick": given.sick})
    folder.mkdir()
    monkeypatch.setenv("COLUMNS", "200")
    show_run(simulation.run(experiment(*settings(given, tmp_path), folder=folder), folder), folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    text = "".join(capsys.readouterr())
    check_names(given, metrics, text)
    if INTERCEPT not in given.left_out:
        check_figures(pooled(given), metrics)


def check_figures(expected: Pooled, metrics: dict[str, Any]) -> None:
    """Hold the figures of all columns that have estimates against the pooled fit."""
    inference = metrics["inference"]
    assert inference["withheld"] is None
    rows = {row["name"]: row for row in inference["coefficients"]}

    def figures(*keys: str) -> NDArray[np.float64]:
        return np.array([[rows[name][key] for key in keys] for name in expected.names], float)

    errors = expected.errors
    estimates, standard_errors, p_values = figures("estimate", "standard_error", "p_value").T
    np.testing.assert_allclose((estimates - expected.estimates) / errors, 0, atol=1e-6)
    np.testing.assert_allclose(standard_errors / errors, 1, atol=1e-6, rtol=0)
    ends = figures("lower", "upper") - expected.ends
    np.testing.assert_allclose(ends / errors[:, None], 0, atol=1e-6)
    np.testing.assert_allclose(p_values, expected.p_values, atol=1e-6, rtol=0)
    whole = inference["fit"]
    assert whole["log_likelihood"] == pytest.approx(expected.fit.llf, abs=1e-6, rel=0)
    assert whole["deviance"] == pytest.approx(-2 * expected.fit.llf, abs=2e-6, rel=0)
    if metrics["diagnostics"]["separation"] is None:
        assert metrics["rounds"][-1]["converged"]
        assert whole["parameters"] == len(expected.names)
        assert whole["aic"] == pytest.approx(expected.fit.aic, abs=2e-6, rel=0)
        assert whole["null_log_likelihood"] == pytest.approx(expected.fit.llnull, abs=1e-6, rel=0)


def check_names(given: Table, metrics: dict[str, Any], text: str) -> None:
    """Look for each column without an estimate, and why, in the files and on the terminal."""
    inference, diagnostics = metrics["inference"], metrics["diagnostics"]
    rows = {row["name"]: row for row in inference["coefficients"]}
    assert list(rows) == [*given.columns, INTERCEPT]
    reasons = {name: row["left_out"] for name, row in rows.items() if row["left_out"]}
    assert reasons.keys() == given.left_out.keys()
    lines = [line.split() for line in text.splitlines()]
    for name, words in given.left_out.items():
        assert words in reasons[name]
        assert [rows[name][key] for key in FIGURES] == [None] * len(FIGURES)
        if name != INTERCEPT:
            said = "do(es)? not vary in the training data" if words == CONSTANT else words
            assert re.search(rf"\b{name}\b.*{said}|{said}.*\b{name}\b", text)
        assert [line for line in lines if line[:1] == [name]] in ([], [[name, "NA"]])
    constant = [name for name, words in given.left_out.items() if words == CONSTANT]
    aliased = {name: words for name, words in given.left_out.items() if "combination" in words}
    assert diagnostics["constant"] == constant
    assert diagnostics["aliased"].keys() == aliased.keys()
    for name, earlier in diagnostics["aliased"].items():
        assert re.findall(r"\w+", aliased[name].split(" of ")[1].replace(" and", "")) == earlier
    if given.separation is None:
        assert diagnostics["separation"] is None
        return
    kind, columns = given.separation
    assert diagnostics["separation"]["kind"] == kind
    assert set(columns) <= set(diagnostics["separation"]["columns"])
    assert not diagnostics["converged"]


@pytest.mark.release
@pytest.mark.parametrize("name", [name for name in TABLES if name != "complete separation"])
def test_statsmodels_is_exact(name: str) -> None:
    """A second algorithm, in more digits, says the same of each table."""
    given = table(name)
    _, X, y = design(given)
    exact, found = exact_fit(X, y), pooled(given)
    np.testing.assert_allclose((found.estimates - exact.params) / exact.bse, 0, atol=1e-8)
    np.testing.assert_allclose(found.errors / exact.bse, 1, atol=1e-8, rtol=0)
    np.testing.assert_allclose(found.p_values, exact.pvalues, atol=1e-8, rtol=0)
    assert found.fit.llf == pytest.approx(exact.llf, abs=1e-8, rel=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_hospitals_are_as_each_table_wants_them(name: str, tmp_path: Path) -> None:
    given = table(name)
    write_csv(tmp_path / "table.csv", {**given.columns, "sick": given.sick})
    hospitals = simulated_data(experiment(*settings(given, tmp_path), folder=tmp_path)).hospitals
    assert 3 <= len(hospitals) <= 5
    least, most = given.sizes
    assert least <= min(hospital.examples for hospital in hospitals) <= most
    assert given.one_class == sum(len(np.unique(one.labels)) == 1 for one in hospitals)
