"""Constant and aliased columns, against the rule of R's glm on the pooled columns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fl_he.learning.regression import likelihood
from fl_he.learning.regression.dependencies import dependencies, design_information
from fl_he.learning.regression.registry import family_for
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.scaling import standardise

Numbers = NDArray[np.float64]
#: R's `glm` calls LINPACK with it: min(1e-7, epsilon / 1000).
R_TOLERANCE = 1e-11


def information(features: Numbers, classes: int = 2, *, scaled: bool = True) -> Numbers:
    """Return the first round's, of a model of zeros."""
    rows, columns = features.shape
    names = tuple(f"x{number}" for number in range(columns))
    labels = (np.arange(rows) % classes).astype(float)
    data = Dataset(features, labels, names, classes=("a", "b", "c") if classes > 2 else ())
    if scaled:
        data, _ = standardise(data)
    examples = likelihood.examples_of(data, family_for(classes).zeros(columns, classes))
    return design_information(likelihood.hessian_sum(examples) / rows, columns)


def dropped_by_r(features: Numbers) -> set[int]:
    """Return the columns that R's glm gives NA: Householder QR, intercept first, no pivoting."""
    basis, dropped = [np.ones(len(features)) / np.sqrt(len(features))], set()
    for number, column in enumerate(features.T):
        rest = column.copy()
        for _ in range(2):
            for one in basis:
                rest = rest - (one @ rest) * one
        if np.linalg.norm(rest) <= R_TOLERANCE * np.linalg.norm(column):
            dropped.add(number)
        else:
            basis.append(rest / np.linalg.norm(rest))
    return dropped


@st.composite
def designs(draw: st.DrawFn) -> Numbers:
    """Return columns of which some are constant or combinations of others, in any order."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, columns = draw(st.integers(12, 60)), draw(st.integers(1, 5))
    base = rng.integers(-4, 5, (rows, columns)).astype(float)
    if draw(st.booleans()):
        base = base + rng.standard_normal(base.shape)
    weights = rng.integers(-2, 3, (columns, draw(st.integers(0, 3))))
    made = [base, base @ weights + rng.integers(-3, 4, weights.shape[1])]
    if draw(st.booleans()):
        made.append(np.full((rows, 1), draw(st.sampled_from([0.0, 0.1, 7.3, 1e6]))))
    if draw(st.booleans()):
        made.append(np.eye(3)[rng.integers(0, 3, rows)])
    whole = np.hstack(made)
    units = draw(st.sampled_from([[1.0], [1e-9, 1.0, 1e9]]))
    scale = rng.choice(units, whole.shape[1])
    return np.asarray(whole[:, rng.permutation(whole.shape[1])] * scale)


@given(designs(), st.booleans(), st.sampled_from([2, 3]))
@settings(max_examples=150)
def test_columns_are_dropped_as_r_does(design: Numbers, scaled: bool, classes: int) -> None:
    found = dependencies(information(design, classes, scaled=scaled), len(design))
    assert {*found.constant, *found.aliased} == dropped_by_r(design)
    for number, earlier in found.aliased.items():
        assert earlier
        assert max(earlier) < number
        kept = design[:, earlier]
        combined = np.column_stack([kept / np.linalg.norm(kept, axis=0), np.ones(len(design))])
        column = design[:, number] / np.linalg.norm(design[:, number])
        solution, *_ = np.linalg.lstsq(combined, column, rcond=None)
        np.testing.assert_allclose(combined @ solution, column, atol=1e-7)


def test_constants_and_combinations_are_told_apart_and_named() -> None:
    x = np.random.default_rng(1).integers(0, 9, (40, 2)).astype(float)
    design = np.column_stack([x[:, 0], np.full(40, 7.3), x[:, 1], 3 * x[:, 0], x.sum(axis=1) - 4])
    found = dependencies(information(design), 40)
    assert found.constant == (1,)
    assert dict(found.aliased) == {3: (0,), 4: (0, 2)}


def test_columns_that_only_rounding_puts_into_a_combination_are_not_named() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3))
    near = x[:, 1] + 1e-4 * x[:, 2]  # so near that their parts are not known to 1e-5
    design = np.column_stack([x[:, 0], x[:, 1], near, 2 * x[:, 0] + 1 + 1e-6 * x[:, 1]])
    assert dict(dependencies(information(design), 400).aliased) == {3: (0,)}


def test_a_small_part_without_which_more_is_left_is_named() -> None:
    x = np.random.default_rng(0).normal(size=(400, 2))
    design = np.column_stack([x, x[:, 0] + 1e-3 * x[:, 1]])
    assert dict(dependencies(information(design), 400).aliased) == {2: (0, 1)}


@pytest.mark.parametrize("scaled", [True, False])
def test_a_large_mean_makes_no_column_constant(scaled: bool) -> None:
    rng = np.random.default_rng(2)
    x = 1e6 + rng.standard_normal((500, 2))
    design = np.column_stack([x, x[:, 0] - 2 * x[:, 1], np.full(500, 1e6)])
    found = dependencies(information(design, scaled=scaled), 500)
    assert found.constant == (3,)
    assert set(found.aliased) == {2}


def test_noise_of_a_thousandth_is_a_column_of_its_own() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal(600)
    design = np.column_stack([x, x + 1e-3 * rng.standard_normal(600)])
    assert not dependencies(information(design), 600).aliased


def test_more_columns_than_rows_are_aliased_from_the_last_row_on() -> None:
    design = np.random.default_rng(4).standard_normal((6, 9))
    found = dependencies(information(design), 6)
    assert set(found.aliased) == {5, 6, 7, 8}


@pytest.mark.parametrize("rows", [10_000, 200_000])
@pytest.mark.parametrize("value", [0.1, 1e-9, 123456.789])
def test_rounding_makes_no_constant_vary(rows: int, value: float) -> None:
    rng = np.random.default_rng(5)
    design = np.column_stack([rng.standard_normal(rows), np.full(rows, value)])
    found = dependencies(information(design, scaled=False), rows)
    assert found.constant == (1,)
    assert not found.aliased
