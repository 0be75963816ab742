"""Private scaling: its sensitivity for any neighbours, and its result without noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from fl_he.learning.accounting import largest_rho
from fl_he.learning.data import load_breast_cancer
from fl_he.learning.discrete_gaussian import discrete_gaussian
from fl_he.learning.errors import DataError
from fl_he.learning.logistic import accuracy, probabilities
from fl_he.learning.privacy import Lattice, clipped_sum, share_variance
from fl_he.learning.private_scaling import (
    Ranges,
    range_distance,
    range_sums,
    read_ranges,
    scaling_of_sums,
)

ROW = arrays(np.float64, 3, elements=st.one_of(st.floats(-1e9, 1e9), st.floats(-2, 12)))
RANGES = Ranges(np.array([-1.0, 0.0, 1e-3]), np.array([1.0, 10.0, 1e3]))


@given(ROW, ROW, st.integers(0, 30))
def test_replacing_a_patient_moves_the_sums_by_at_most_the_distance(
    row: NDArray[np.float64], other: NDArray[np.float64], bits: int
) -> None:
    rest = np.array([[0.5, 3.0, 100.0]])
    moved = range_sums(np.vstack([rest, row]), RANGES, bits) - range_sums(
        np.vstack([rest, other]), RANGES, bits
    )
    assert sum(int(number) ** 2 for number in moved) <= range_distance(3, bits) ** 2


def test_the_distance_is_reached_and_hardly_more() -> None:
    low, high = (range_sums(row[None, :], RANGES, 20) for row in (RANGES.low, RANGES.high))
    reached = float(np.sqrt(((high - low).astype(float) ** 2).sum()))
    assert 0.999 * range_distance(3, 20) < reached <= range_distance(3, 20)


def test_without_noise_it_is_standardisation() -> None:
    features = np.random.default_rng(5).normal([0.0, 5.0, 500.0], [0.2, 1.0, 90.0], (400, 3))
    sums = range_sums(features, RANGES, 24)
    scaling = scaling_of_sums(sums, 400, RANGES, 24)
    fitted = StandardScaler().fit(np.clip(features, RANGES.low, RANGES.high))
    np.testing.assert_allclose(scaling.mean, fitted.mean_, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scaling.scale, fitted.scale_, rtol=1e-5)


@given(arrays(np.int64, 6, elements=st.integers(-(2**40), 2**40)))
def test_whatever_the_noise_did_the_scaling_can_be_used(sums: NDArray[np.int64]) -> None:
    scaling = scaling_of_sums(sums, 10, RANGES, 20)
    assert ((scaling.mean >= RANGES.low - 1e-9) & (scaling.mean <= RANGES.high + 1e-9)).all()
    assert (scaling.scale >= 0.099 * RANGES.half).all()
    assert (scaling.scale <= RANGES.half).all()


def test_one_budget_pays_for_scaling_and_training() -> None:
    """Epsilon 1 for both on breast_cancer, three tenths of it for the scaling; no crypto."""
    data = load_breast_cancer()
    # A range that is declared knows less than the data: a fifth wider, to round figures.
    margin = 0.2 * np.ptp(data.features, axis=0)
    ranges = Ranges(data.features.min(axis=0) - margin, data.features.max(axis=0) + margin)
    budget = largest_rho(1.0, 1e-5)
    scores = []
    for seed in range(10):
        rows = np.random.default_rng(seed).permutation(data.examples)
        train, test = data.take(rows[:426]), data.take(rows[426:])
        lattice = Lattice(24, 60)
        variance = share_variance(0.3 * budget, range_distance(30, 24), 1, lattice)
        sums = range_sums(train.features, ranges, 24) + discrete_gaussian(variance, 60)
        scaling = scaling_of_sums(sums, 426, ranges, 24)
        X, w, b = scaling.apply(train.features), np.zeros(30), 0.0
        variance = share_variance(0.7 * budget / 10, 2 * 2**22, 1, Lattice(24, 31))
        for _ in range(10):
            residuals = probabilities(X, w, b) - train.labels
            gradients = residuals[:, None] * np.c_[X, np.ones(426)]
            total = clipped_sum(gradients, 0.25, 24)
            step = 8.0 * (total + discrete_gaussian(variance, 31)) / 2**24 / 426
            w, b = w - step[:-1], b - float(step[-1])
        scores.append(accuracy(scaling.apply(test.features), test.labels, w, b))
    assert np.mean(scores) >= 0.9


@pytest.mark.parametrize(
    ("low", "high"), [([0.0], [0.0]), ([1.0], [0.0]), ([0.0], [1.0, 2.0]), ([np.nan], [1.0])]
)
def test_ranges_that_are_none_are_refused(low: list[float], high: list[float]) -> None:
    with pytest.raises(DataError):
        Ranges(np.array(low), np.array(high))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match=r"features must have shape \(rows, 3\)"):
        range_sums(np.zeros((5, 2)), RANGES, 20)
    with pytest.raises(DataError, match="sums must be 6 numbers"):
        scaling_of_sums(np.zeros(5, dtype=np.int64), 10, RANGES, 20)
    with pytest.raises(DataError, match="of 0"):
        scaling_of_sums(np.zeros(6, dtype=np.int64), 0, RANGES, 20)


def test_ranges_are_read_in_the_order_of_the_features(tmp_path: Path) -> None:
    file = tmp_path / "ranges.csv"
    file.write_text("feature,low,high\nage,0,120\n weight ,2.5,300\n")
    ranges = read_ranges(file, ["weight", "age"])
    assert ranges.low.tolist() == [2.5, 0.0]
    assert ranges.high.tolist() == [300.0, 120.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("feature,low,high\n", "got none for 'age'"),
        ("feature,low,high\nage,0,120\nage,0,120\n", "got 'age' twice"),
        ("feature,low,high\nage,0,120\nheight,0,3\n", "got 'height' which is no feature"),
        ("feature,low,high\nage,0,old\n", "in row 1 of"),
        ("feature,low\nage,0\n", "in row 1 of"),
        ("feature,low,high\nage,120,0\n", "low must be below high"),
        ("feature,low,high\nage,0,inf\n", "finite"),
    ],
)
def test_a_file_of_ranges_that_cannot_be_used_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "ranges.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        read_ranges(file, ["age"])


def test_a_missing_file_of_ranges_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ranges must be a CSV or JSON file"):
        read_ranges(tmp_path / "none.csv", ["age"])
