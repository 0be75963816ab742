"""Gradients within declared bounds of an outcome: their units, and how far a patient moves them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.privacy.gradients import clipped_sum, lattice_clip
from fl_he.learning.regression.likelihood import Examples, examples_of
from fl_he.learning.regression.outcome_bounds import (
    OutcomeBounds,
    bounded_gradients,
    require_bounds,
)
from fl_he.learning.regression.registry import FAMILIES, NUMERIC
from fl_he.learning.tables.data import Dataset
from fl_he.run_files.metrics_contract import BOUNDED

Floats = NDArray[np.float64]
FEATURES, BITS, CLIP = 2, 20, 0.7
#: Numbers of any size: of features, of a model that nobody should have chosen, of outcomes.
WILD = st.one_of(
    st.floats(-3, 3), st.floats(-1e300, 1e300), st.sampled_from([0.0, 1e-300, 800.0, -800.0])
)
COUNTS = st.one_of(st.integers(0, 9).map(float), st.integers(0, 10**300).map(float))
BOUNDS = {"gaussian": (-2.0, 6.0), "poisson": (0.0, 8.0)}


def examples(family: str, features: Floats, labels: Floats, theta: Floats) -> Examples:
    names = tuple(f"x{j}" for j in range(features.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):  # as a hospital does
        return examples_of(Dataset(features, labels, names, family=family), theta)


def integers(family: str, rows: Floats, theta: Floats, ends: tuple[float, float]) -> list[int]:
    """Return the clipped sum of rows, whose last column is the outcome, as Python's integers."""
    found = examples(family, rows[:, :-1], rows[:, -1], theta)
    return [int(one) for one in clipped_sum(bounded_gradients(found, ends), CLIP, BITS)]


@pytest.mark.parametrize("family", BOUNDED)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_replacing_a_patient_moves_the_sum_by_at_most_twice_the_clip(
    family: str, data: st.DataObject
) -> None:
    """For any rows, model and bounds: neighbouring tables differ in one row."""
    outcomes = COUNTS if family == "poisson" else WILD
    row = st.builds(np.append, arrays(np.float64, FEATURES, elements=WILD), outcomes)
    table = np.array(data.draw(st.lists(row, min_size=1, max_size=5)))
    neighbour = table.copy()
    neighbour[data.draw(st.integers(0, len(table) - 1))] = data.draw(row)
    theta = data.draw(arrays(np.float64, FEATURES + 1, elements=WILD))
    high = data.draw(st.floats(1e-6, 1e6))
    ends = (0.0, high) if family == "poisson" else (-high / 3, high)
    sums = [integers(family, one, theta, ends) for one in (table, neighbour)]
    moved = sum((a - b) ** 2 for a, b in zip(*sums, strict=True))
    assert moved <= (2 * lattice_clip(CLIP, BITS)) ** 2 <= (2 * CLIP * 2**BITS) ** 2
    assert sum(one**2 for one in integers(family, table[:1], theta, ends)) <= (CLIP * 2**BITS) ** 2


@pytest.mark.parametrize("family", BOUNDED)
def test_gradients_are_those_of_a_loss_in_the_units_of_the_bounds(family: str) -> None:
    """Differences of a loss written out here; beyond the bound a count's loss is linear."""
    low, high = BOUNDS[family]
    rng = np.random.default_rng(4)
    X = np.c_[rng.normal(size=(40, FEATURES)), np.ones(40)]
    y = rng.poisson(5.0, 40).astype(float) if family == "poisson" else rng.normal(3, 4, 40)
    assert (y > high).any()
    within = np.clip(y, low, high)
    unit = 4.0 if family == "gaussian" else 1.0

    def losses(parameters: Floats) -> Floats:  # of parameters in the unit
        m = X @ parameters * unit
        if family == "gaussian":
            return np.asarray((m - within) ** 2 / 2 / unit**2)
        edge = math.log(high)
        mu = np.where(m < edge, np.exp(np.minimum(m, edge)), high * (1 + m - edge))
        return np.asarray((mu - within * m) / high)

    theta = np.array([0.8, -0.5, 0.4]) if family == "gaussian" else np.array([0.9, -0.6, 1.2])
    if family == "poisson":
        assert (X @ theta > math.log(high)).any()
    found = bounded_gradients(examples(family, X[:, :-1], y, theta * unit), (low, high))
    for place in range(3):
        step = np.zeros(3)
        step[place] = 1e-6
        expected = (losses(theta + step) - losses(theta - step)) / 2e-6
        np.testing.assert_allclose(found[:, place], expected, atol=1e-7)
    # no second derivative by the margin is above 1
    ones = np.linspace(-9, 9, 4001)
    margins = examples(family, ones[:, None] * unit, np.full(4001, low), np.array([1.0, 0.0]))
    slopes = np.diff(bounded_gradients(margins, (low, high))[:, -1]) / np.diff(ones)
    assert 0.99 < slopes.max() <= 1.0 + 1e-9
    assert slopes.min() >= -1e-9


def test_an_outcome_beyond_its_bounds_counts_as_the_bound() -> None:
    X, theta = np.ones((3, 1)), np.array([0.1, 0.2])
    for family, (low, high) in BOUNDS.items():
        far, near = (
            bounded_gradients(examples(family, X, np.array(y), theta), (low, high))
            for y in ([0.0, high + 1, 1e9], [0.0, high, high])
        )
        np.testing.assert_array_equal(far, near)


def test_the_exponential_of_a_margin_is_bounded() -> None:
    found = examples("poisson", np.array([[1e3], [1e200]]), np.array([2.0, 0.0]), np.ones(2))
    gradients = bounded_gradients(found, (0.0, 8.0))
    np.testing.assert_allclose(gradients, [[750.0, 0.75], [1e200, 1.0]])


def test_training_starts_within_the_bounds() -> None:
    gaussian, poisson = (OutcomeBounds.of(FAMILIES[name], BOUNDS[name]) for name in BOUNDED)
    assert gaussian is not None
    assert poisson is not None
    assert gaussian.start(2).tolist() == [0.0, 0.0, 2.0]
    assert poisson.start(1).tolist() == [0.0, pytest.approx(math.log(2.0))]
    for low, high in ((0.0, 1e-3), (0.0, 1.0), (3.0, 4.0), (0.0, 1e9)):
        bounds = OutcomeBounds.of(FAMILIES["poisson"], (low, high))
        assert bounds is not None
        assert low < math.exp(bounds.start(0)[0]) < high
    assert (gaussian.unit, gaussian.curvature) == (4.0, 1.0)
    assert (poisson.unit, poisson.curvature) == (1.0, 8.0)
    assert (gaussian.strength(2.0), poisson.strength(2.0)) == (2.0, 16.0)
    assert poisson.strength(None) is None


@pytest.mark.parametrize("family", sorted({*NUMERIC} - {*BOUNDED}))
def test_other_families_of_numbers_are_refused_by_name(family: str) -> None:
    message = f"privacy must be none with family {family}: of models of numbers only gaussian and"
    with pytest.raises(DataError, match=message):
        require_bounds(FAMILIES[family], ())
    with pytest.raises(DataError, match=f"must be left out with family {family}: they are for"):
        require_bounds(FAMILIES[family], (0.0, 1.0))


@pytest.mark.parametrize(
    ("family", "ends", "words"),
    [
        ("poisson", (), "outcome_bounds must be declared for family poisson with differential"),
        ("gaussian", (1.0,), "outcome_bounds must be two numbers, got 1"),
        ("gaussian", (1.0, 2.0, 3.0), "outcome_bounds must be two numbers, got 3"),
        ("gaussian", (2.0, 2.0), "must be a lower and a higher number"),
        ("gaussian", (3.0, 2.0), "must be a lower and a higher number"),
        ("gaussian", (1e15, 1e15 + 1), "must be a lower and a higher number"),
        ("gaussian", (0.0, math.inf), "must be a lower and a higher number"),
        ("gaussian", (0.0, 5e-324), "must be a lower and a higher number"),
        ("gaussian", (math.nan, 1.0), "must be a lower and a higher number"),
        ("poisson", (-1.0, 9.0), "outcome_bounds must be at least 0 with family poisson, got -1"),
        ("logistic", (0.0, 1.0), "must be left out with family logistic, whose outcome is a class"),
        ("softmax", (0.0, 1.0), "must be left out with family softmax, whose outcome is a class"),
    ],
)
def test_bounds_that_are_none_are_refused(family: str, ends: tuple[float, ...], words: str) -> None:
    with pytest.raises(DataError, match=words):
        require_bounds(FAMILIES[family], ends)


def test_classes_need_no_bounds() -> None:
    rng = np.random.default_rng(2)
    X, y, theta = rng.normal(size=(9, 2)), (np.arange(9) % 2).astype(float), np.ones(3)
    found = bounded_gradients(examples("", X, y, theta), ())
    expected = np.c_[X, np.ones(9)] * (1 / (1 + np.exp(-np.c_[X, np.ones(9)] @ theta)) - y)[:, None]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_labels_of_the_examples_stay_as_they_are() -> None:
    found = examples("poisson", np.ones((2, 1)), np.array([1.0, 99.0]), np.zeros(2))
    bounds = OutcomeBounds.of(found.family, (0.0, 8.0))
    assert bounds is not None
    within = bounds.applied(found)
    assert within.labels is found.labels
    assert replace(within, residuals=found.residuals).means is found.means
