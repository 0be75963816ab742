"""Figures of a table against polars, numpy and statsmodels on the pooled rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.duration.survfunc import SurvfuncRight, survdiff

from fl_he.learning.describing.cells import Bounded, count_cells, places
from fl_he.learning.describing.form import OUTCOME, TableForm, table_form
from fl_he.learning.describing.statistics import Table, Variable, table_of
from fl_he.learning.describing.survival import curve_of
from fl_he.learning.errors import DataError
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.described import Described, Facts
from fl_he.learning.tables.moments import Limbs

LIMBS = Limbs(24, 24)
FACTS = (
    Facts("age", low=0.0, high=100.0, missing=True),
    Facts("large"),
    Facts("stage", levels=("I", "II", "III"), missing=True),
)


def dataset(rng: np.random.Generator, rows: int, labels: Any = None, family: str = "") -> Dataset:
    def lost(values: Any) -> NDArray[np.float64]:
        return np.where(rng.random(rows) < 0.2, np.nan, values)

    values = {
        "age": lost(rng.uniform(0, 100, rows)),
        "large": 1e6 + rng.normal(0, 1e-4, rows),
        "stage": lost(rng.integers(0, 3, rows)),
    }
    labels = rng.integers(0, 2, rows).astype(float) if labels is None else labels
    return Dataset(
        np.zeros((rows, 1)),
        labels,
        ("x",),
        "yes",
        described=Described(FACTS, values),
        family=family,
    )


def summed(parts: Sequence[Dataset], form: TableForm, min_cell: int = 5) -> Table:
    total = np.sum([count_cells(part, form, LIMBS) for part in parts], axis=0)
    return table_of(total, form, sum(part.examples for part in parts), LIMBS, min_cell)


def pooled(parts: Sequence[Dataset]) -> pl.DataFrame:
    found = [part.described for part in parts]
    tables = [pl.DataFrame(dict(one.values)) for one in found if one is not None]
    labels = [pl.Series("label", part.labels) for part in parts]
    whole = pl.concat([table.with_columns(one) for table, one in zip(tables, labels, strict=True)])
    return whole.with_columns(pl.col("age", "large", "stage").fill_nan(None))


@pytest.fixture(scope="module")
def parts() -> list[Dataset]:
    rng = np.random.default_rng(3)
    return [dataset(rng, rows) for rows in (200, 90, 30)]


@pytest.fixture(scope="module")
def table(parts: list[Dataset]) -> Table:
    return summed(parts, table_form(parts[0], by=OUTCOME, bins=50))


def named(table: Table, name: str) -> Variable:
    return next(one for one in table.variables if one.name == name)


def test_means_and_deviations_are_those_of_the_pooled_rows(
    parts: list[Dataset], table: Table
) -> None:
    whole = pooled(parts)
    assert table.groups == ("not yes", "yes")
    rows = [whole, *(whole.filter(pl.col("label") == label) for label in (0, 1))]
    assert table.sizes == tuple(len(one) for one in rows[1:])
    for name in ("age", "large"):
        for summary, own in zip(named(table, name).summaries, rows, strict=True):
            cells = own[name]
            assert summary.missing == cells.null_count()
            assert summary.present == len(cells) - cells.null_count()
            values = cells.drop_nulls().to_numpy()
            assert summary.mean == pytest.approx(values.mean(), rel=1e-12)
            exact = np.sqrt(np.square(values - values.mean()).sum() / (len(values) - 1))
            assert summary.sd == pytest.approx(exact, rel=1e-9)
            if name == "age":  # polars loses digits of the others
                assert summary.sd == pytest.approx(cells.std(), rel=1e-9)


def test_quartiles_are_in_their_bins(parts: list[Dataset], table: Table) -> None:
    whole = pooled(parts)
    for label, summary in zip((None, 0, 1), named(table, "age").summaries, strict=True):
        own = whole if label is None else whole.filter(pl.col("label") == label)
        values = own["age"].drop_nulls().to_numpy()
        exact = np.quantile(values, (0.25, 0.5, 0.75), method="inverted_cdf")
        for (low, high), value in zip(summary.quartiles, exact, strict=True):
            assert low < value <= high
            assert high - low < 20
    assert named(table, "large").summaries[0].quartiles == ()


def test_levels_are_counted(parts: list[Dataset], table: Table) -> None:
    whole, found = pooled(parts), named(table, "stage")
    assert found.levels == (("I",), ("II",), ("III",))
    for label, summary in zip((None, 0, 1), found.summaries, strict=True):
        own = whole if label is None else whole.filter(pl.col("label") == label)
        assert summary.counts == tuple((own["stage"] == level).sum() for level in range(3))
        assert summary.missing == own["stage"].null_count()


def test_standardised_differences_are_those_of_their_formulas(
    parts: list[Dataset], table: Table
) -> None:
    whole = pooled(parts)
    first, second = (whole.filter(pl.col("label") == label) for label in (0, 1))
    a, b = (one["age"].drop_nulls().to_numpy() for one in (first, second))
    expected = abs(a.mean() - b.mean()) / np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
    assert named(table, "age").difference == pytest.approx(expected, rel=1e-9)
    dummies = [
        np.column_stack([(one["stage"].drop_nulls() == level).to_numpy() for level in (0, 1)])
        for one in (first, second)
    ]
    spread = sum(np.cov(one.T.astype(float), ddof=0) for one in dummies) / 2
    apart = dummies[0].mean(axis=0) - dummies[1].mean(axis=0)
    expected = np.sqrt(apart @ np.linalg.inv(spread) @ apart)
    assert named(table, "stage").difference == pytest.approx(expected, rel=1e-9)


def test_a_value_on_a_border_is_in_the_lower_bin() -> None:
    facts = Facts("x", low=0.0, high=4.0)
    values = np.repeat([0.0, 1.0, 2.0, 4.0], 5)
    table = Described((facts,), {"x": values})
    own = Dataset(np.zeros((20, 1)), np.ones(20), ("x",), described=table)
    (found,) = summed([own], TableForm((facts,), "", (), 4, ())).variables
    assert found.summaries[0].quartiles == ((0.0, 1.0), (0.0, 1.0), (1.0, 2.0))


def test_few_whole_numbers_have_a_bin_each() -> None:
    facts = Facts("nyha", low=1.0, high=4.0, whole=True)
    form = TableForm((facts,), "", (), 20, ())
    rng = np.random.default_rng(1)
    values = rng.integers(1, 5, 100).astype(float)
    own = Dataset(
        np.zeros((100, 1)), np.ones(100), ("x",), described=Described((facts,), {"nyha": values})
    )
    (found,) = summed([own], form).variables
    middle = tuple(np.quantile(values, (0.25, 0.5, 0.75), method="inverted_cdf"))
    assert found.summaries[0].quartiles == tuple((one, one) for one in middle)
    assert found.summaries[0].sd == pytest.approx(values.std(ddof=1), rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e8, 1e8, width=32), min_size=5, max_size=30))
def test_sums_of_any_numbers_are_exact(numbers: list[float]) -> None:
    values = np.array(numbers)
    facts = Facts("x")
    own = Dataset(
        np.zeros((len(values), 1)),
        np.ones(len(values)),
        ("x",),
        described=Described((facts,), {"x": values}),
    )
    form = TableForm((facts,), "", (), 1, ())
    try:
        (found,) = summed([own, own], form, 1).variables
    except DataError:
        assert np.ptp(values) < 1e-8
        return
    twice = np.tile(values, 2)
    assert found.summaries[0].mean == pytest.approx(twice.mean(), rel=1e-9, abs=1e-9)
    assert found.summaries[0].sd == pytest.approx(twice.std(ddof=1), rel=1e-9, abs=1e-12)


def times_of(rng: np.random.Generator, rows: int) -> NDArray[np.float64]:
    """Return times in whole months, with a minus sign without an event."""
    months = np.ceil(rng.exponential(20, rows)).clip(1, 60)
    return np.where((rng.random(rows) < 0.3) | (months == 60), -months, months)


def test_curves_and_the_log_rank_test_are_statsmodels_on_every_time() -> None:
    rng = np.random.default_rng(5)
    parts = [dataset(rng, rows, times_of(rng, rows), "cox") for rows in (300, 150, 60)]
    form = table_form(parts[0], by="stage", times=np.arange(1.0, 61.0).tolist())
    assert form.groups == ("I", "II", "III", "missing")
    require_statsmodels(parts, form, summed(parts, form, 1), np.arange(1.0, 61.0))


def test_a_median_is_where_exactly_half_of_the_rows_are_left() -> None:
    for rows in (*range(2, 200, 2), 1000):
        times = np.arange(1.0, rows + 1.0).tolist()
        counts = np.stack([np.ones(rows), np.zeros(rows)])
        assert curve_of(counts, times).median == rows / 2


def test_times_are_rounded_up_to_the_grid() -> None:
    rng = np.random.default_rng(6)
    parts = [dataset(rng, rows, times_of(rng, rows), "cox") for rows in (300, 150, 60)]
    grid = np.array([6.0, 12.0, 24.0, 48.0])
    form = table_form(parts[0], by="stage", times=grid.tolist())
    found = summed(parts, form)
    assert found.survival is not None
    assert found.survival.times == tuple(grid)
    require_statsmodels(parts, form, found, grid)


def require_statsmodels(
    parts: Sequence[Dataset], form: TableForm, table: Table, grid: NDArray[np.float64]
) -> None:
    labels = np.concatenate([part.labels for part in parts])
    stages = np.concatenate([part.described.values["stage"] for part in parts if part.described])
    stages = np.where(np.isnan(stages), 3, stages)
    at = np.searchsorted(grid, np.abs(labels))
    status = (labels > 0) & (at < len(grid))
    time = np.where(at < len(grid), grid[np.minimum(at, len(grid) - 1)], grid[-1])
    found = table.survival
    assert found is not None
    for group, curve in zip((None, 0, 1, 2, 3), found.curves, strict=True):
        own = np.ones(len(labels), bool) if group is None else stages == group
        theirs = SurvfuncRight(time[own], status[own])
        ours = dict(zip(found.times, range(len(found.times)), strict=True))
        places = [ours[one] for one in theirs.surv_times]
        survival = np.array(curve.survival)[places]
        assert survival == pytest.approx(theirs.surv_prob, abs=1e-12)
        errors = np.array(curve.standard_error, dtype=float)[places]
        reached = theirs.surv_prob > 0
        assert errors[reached] == pytest.approx(theirs.surv_prob_se[reached], abs=1e-12)
        assert np.array(curve.at_risk)[places] == pytest.approx(theirs.n_risk)
        median = theirs.quantile(0.5)
        assert curve.median == (None if np.isnan(median) else median)
    chi2, p = survdiff(time, status, stages)
    assert found.log_rank is not None
    assert found.log_rank.chi2 == pytest.approx(chi2, rel=1e-9)
    assert found.log_rank.p_value == pytest.approx(p, rel=1e-9)
    assert found.log_rank.df == len(form.groups) - 1


def test_cells_that_no_rows_have_are_refused(parts: list[Dataset]) -> None:
    form = table_form(parts[0], by=OUTCOME, bins=10)
    right = count_cells(parts[0], form, LIMBS)
    columns, _, _ = places(form, LIMBS)
    rows = parts[0].examples
    table_of(right, form, rows, LIMBS, 5)
    age, _, stage = columns
    for cell, change in (
        ((0, 0), 1.0),
        ((0, age.present), 1.0),
        ((1, age.bins.start), 1.0),
        ((1, age.bins.start), -right[1, age.bins.start] - 1.0),
        ((0, stage.levels.start), 0.5),
        ((0, stage.levels.start), float(rows)),
    ):
        wrong = right.copy()
        wrong[cell] += change
        with pytest.raises(DataError, match="counts of rows that add up"):
            table_of(wrong, form, rows, LIMBS, 5)
    with pytest.raises(DataError, match="cells of a table must have shape"):
        table_of(right[:, 1:], form, rows, LIMBS, 5)
    few = parts[0].take(np.arange(4))
    with pytest.raises(DataError, match="fewer than 5 rows"):
        table_of(count_cells(few, form, LIMBS), form, 4, LIMBS, 5)


def test_columns_that_cannot_be_summed_are_named(parts: list[Dataset]) -> None:
    form = table_form(parts[0])
    assert parts[0].described is not None
    for value, words in ((1e15, "must be below 1e.14 in size"), (0.0, None)):
        values: dict[str, Any] = {
            **parts[0].described.values,
            "large": np.full(parts[0].examples, value),
        }
        own = replace(parts[0], described=replace(parts[0].described, values=values))
        if words is None:
            assert summed([own], form).variables[1].summaries[0].sd == 0.0
            continue
        with pytest.raises(DataError, match=words):
            count_cells(own, form, LIMBS)
    tiny: dict[str, Any] = {
        **parts[0].described.values,
        "large": np.arange(parts[0].examples) * 1e-16,
    }
    own = replace(parts[0], described=replace(parts[0].described, values=tiny))
    with pytest.raises(DataError, match="'large' must have squares about their mean"):
        count_cells(own, form, LIMBS)


def test_forms_that_a_table_has_not_are_refused(parts: list[Dataset]) -> None:
    for settings_, words in (
        ({"columns": ["weight"]}, "must be among 'age', 'large', 'stage', 'outcome', got 'weight'"),
        (
            {"by": "age"},
            "by outcome or by a column that the schema declares as category or boolean",
        ),
        ({"times": [1.0]}, "a grid of times must be of an outcome of family cox"),
        ({"bins": 0}, "1 to 1000 bins"),
    ):
        with pytest.raises(DataError, match=words):
            table_form(parts[0], **settings_)
    with pytest.raises(DataError, match="ascend"):
        TableForm(FACTS, "", (), 5, (2.0, 1.0))
    numeric = replace(parts[0], family="gaussian")
    with pytest.raises(DataError, match="an outcome of classes"):
        table_form(numeric, by=OUTCOME)


def test_all_numbers_of_a_total_are_bounded() -> None:
    groups = tuple(f"g{group}" for group in range(50))
    columns = tuple(Facts(f"x{column}") for column in range(500))
    form = TableForm(columns, "g", groups, 1, ())
    with pytest.raises(DataError, match="at most 200000 numbers in its total, got 225050"):
        places(form, LIMBS)
    assert places(replace(form, columns=columns[:444]), LIMBS)[2] == 1 + 444 * 9
    assert places(form, Bounded(24))[2] == 1 + 500 * 3
    grid = tuple(np.arange(1.0, 1001.0).tolist())
    more = tuple(Facts(f"x{column}") for column in range(700))
    with pytest.raises(DataError, match="got 205100: take fewer columns, groups, bins or times"):
        TableForm(more, "g", groups, 1, grid)
