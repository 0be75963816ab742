"""Tables under differential privacy: how far one row moves the cells, and the figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_he.learning.describing.cells import Bounded, count_cells
from fl_he.learning.describing.form import TableForm, table_form
from fl_he.learning.describing.noisy import noise_of, noisy_sum, noisy_table
from fl_he.learning.errors import DataError
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.described import Described, Facts

SUMS = Bounded(24)
FACTS = (
    Facts("age", low=0.0, high=100.0, missing=True),
    Facts("nyha", low=1.0, high=4.0, whole=True),
    Facts("sex", levels=("F", "M"), missing=True),
)
ROWS = st.tuples(
    st.one_of(st.floats(-50, 150, width=32), st.just(float("nan"))),
    st.sampled_from([1.0, 2.0, 3.0, 4.0]),
    st.sampled_from([0.0, 1.0, float("nan")]),
    st.sampled_from([-12.0, -3.0, 3.0, 12.0, 40.0]),
)


def dataset(rows: list[tuple[float, ...]]) -> Dataset:
    age, nyha, sex, time = np.array(rows).T
    table = Described(FACTS, {"age": age, "nyha": nyha, "sex": sex})
    features = np.zeros((len(rows), 1))
    return Dataset(features, time, ("x",), "months", family="cox", described=table)


@settings(max_examples=300, deadline=None)
@given(st.lists(ROWS, min_size=2, max_size=5), ROWS, st.booleans())
def test_one_row_moves_the_cells_no_further_than_is_counted(
    rows: list[tuple[float, ...]], other: tuple[float, ...], grouped: bool
) -> None:
    first, second = dataset(rows), dataset([*rows[:-1], other])
    form = table_form(first, by="sex" if grouped else "", bins=7, times=(5.0, 20.0))
    cells = [np.ldexp(count_cells(one, form, SUMS), 24) for one in (first, second)]
    assert (cells[0] == np.rint(cells[0])).all()
    made = noisy_sum(form, SUMS)
    moved = np.square(cells[0] - cells[1]).sum()
    assert moved <= made.distance**2
    assert made.dimensions == cells[0].size


@pytest.mark.parametrize("grouped", [False, True])
def test_the_furthest_row_is_counted_closely(grouped: bool) -> None:
    """Rows at opposite bounds, or in other groups, move the cells by nearly the distance."""
    here = (100.0, 4.0, 0.0, 3.0)
    there = (100.0, 4.0, 1.0, -12.0) if grouped else (0.0, 1.0, 1.0, -12.0)
    first, second = dataset([here, here]), dataset([here, there])
    form = table_form(first, by="sex" if grouped else "", bins=7, times=(5.0, 20.0))
    cells = [np.ldexp(count_cells(one, form, SUMS), 24) for one in (first, second)]
    moved = np.sqrt(np.square(cells[0] - cells[1]).sum())
    assert moved == pytest.approx(noisy_sum(form, SUMS).distance, rel=1e-3 if grouped else 0.16)


def test_without_noise_the_figures_are_those_of_the_rows() -> None:
    rng = np.random.default_rng(2)
    age, nyha = rng.uniform(0, 100, 400), rng.integers(1, 5, 400).astype(float)
    sex, time = rng.integers(0, 2, 400).astype(float), rng.choice([-12.0, 3.0, 12.0, 40.0], 400)
    own = dataset(list(zip(age, nyha, sex, time, strict=True)))
    form = table_form(own, by="sex", bins=50, times=(5.0, 20.0))
    table = noisy_table(count_cells(own, form, SUMS), form, 400, SUMS, 0.0)
    assert table.sizes == (int((sex == 0).sum()), int((sex == 1).sum()), 0)
    found = table.variables[0].summaries
    for summary, values in zip(found, (age, age[sex == 0], age[sex == 1]), strict=False):
        assert summary.present == len(values)
        assert summary.mean == pytest.approx(values.mean(), abs=1e-5)
        assert summary.sd == pytest.approx(values.std(ddof=1), abs=1e-4)
        low, high = summary.quartiles[1]
        assert low < np.quantile(values, 0.5, method="inverted_cdf") <= high
    assert table.survival is not None
    assert table.survival.curves[0].survival[0] == pytest.approx(1 - (time == 3).mean())
    assert table.survival.curves[0].standard_error == (None, None)
    assert table.survival.log_rank is None


def test_counts_below_zero_are_zero() -> None:
    form = TableForm((FACTS[2],), "", (), 1, ())
    table = noisy_table(np.array([[10.4, -3.2, 7.6]]), form, 10, SUMS, 2.0)
    (summary,) = table.variables[0].summaries
    assert (summary.counts, summary.present, summary.missing) == ((0, 8), 8, 2)
    assert (table.rows, table.noise) == (10, 2.0)


def test_rows_of_all_are_public_and_only_columns_with_missing_cells_have_some() -> None:
    total = np.array([[7.3, 6.2, 2.1, 6.4, 1.9], [10.8, 3.0, 5.7, 3.2, 4.9]])
    sex, kind = FACTS[2], Facts("kind", levels=("a", "b"))
    form = TableForm((sex, kind), "sex", ("F", "M"), 1, ())
    with_some, without = noisy_table(total, form, 20, SUMS, 2.0).variables
    assert [one.missing for one in with_some.summaries] == [3, 0, 2]
    assert [one.missing for one in without.summaries] == [0, 0, 0]


def test_the_noise_is_that_of_the_budget() -> None:
    pytest.importorskip("dp_accounting")
    form = TableForm(FACTS, "", (), 5, ())
    terms = GaussianPrivacy(1.0, 1e-5, 1.0, 1, 3)
    made = noisy_sum(form, SUMS)
    variance = made.variance(1.0, terms)
    assert made.cost(variance, 3).epsilon(1e-5) <= 1.0
    assert made.cost(variance * 9 // 10, 3).epsilon(1e-5) > 1.0
    noise = noise_of(form, SUMS, terms, 3)
    assert noise == pytest.approx(np.sqrt(3.0 * variance) / 2**24)
    assert noise_of(form, SUMS, replace(terms, epsilon=2.0), 3) < noise
    # Two numbers within one group, and a category: 6 + 6 + 2 in squares.
    assert made.distance / 2**24 == pytest.approx(np.sqrt(14), rel=1e-6)


def test_numbers_without_bounds_have_no_noise() -> None:
    unbounded: Any = (Facts("crp"), *FACTS)
    with pytest.raises(DataError, match="need bounds in the schema; without bounds: 'crp'"):
        noisy_sum(TableForm(unbounded, "", (), 5, ()), SUMS)
