"""Private scaling: its sensitivity for any neighbours, and its result without noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, get_epsilon_gaussian
from dp_accounting.pld import PLDAccountant
from gaussian_delta import gaussian_delta
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from fl_he.learning.errors import DataError, PrivacyError
from fl_he.learning.privacy.discrete_gaussian import discrete_gaussian
from fl_he.learning.privacy.gradients import (
    GaussianPrivacy,
    Lattice,
    epsilon_of_releases,
    noise_variance,
)
from fl_he.learning.privacy.scaling import (
    range_sums,
    scaling_of_sums,
    scaling_sum,
    scaling_variance,
)
from fl_he.learning.tables.feature_ranges import Ranges

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
    assert sum(int(number) ** 2 for number in moved) <= scaling_sum(Lattice(bits, 6)).distance ** 2


def test_the_distance_is_reached_and_hardly_more() -> None:
    low, high = (range_sums(row[None, :], RANGES, 20) for row in (RANGES.low, RANGES.high))
    reached = float(np.sqrt(((high - low).astype(float) ** 2).sum()))
    distance = scaling_sum(Lattice(20, 6)).distance
    assert 0.999 * distance < reached <= distance


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
    assert (scaling.scale >= 0.099 * RANGES.scaling.scale).all()
    assert (scaling.scale <= RANGES.scaling.scale).all()


@pytest.mark.parametrize("share", [0.05, 0.2, 0.9])
@pytest.mark.parametrize("contributors", [1, 3])
def test_one_budget_pays_for_scaling_and_training(share: float, contributors: int) -> None:
    terms = GaussianPrivacy(1.0, 1e-5, 0.2, 30, contributors, share)
    sums, gradients = Lattice(24, 60), Lattice(24, 31)
    variance, noise = noise_variance(terms, gradients), scaling_variance(terms, sums)
    # The two together, as one Gaussian, by Google's own formula and by quadrature.
    squares = [
        (scaling_sum(sums).distance ** 2 / (contributors * noise), 1),
        ((2 * math.floor(0.2 * 2**24)) ** 2 / (contributors * variance), 30),
    ]
    mu = math.sqrt(sum(square * releases for square, releases in squares))
    cost = scaling_sum(sums).cost(noise, contributors)
    reported = epsilon_of_releases(terms, variance, gradients, scaling=cost)
    assert get_epsilon_gaussian(1 / mu, 1e-5) == pytest.approx(reported, rel=1e-6)
    assert gaussian_delta(mu, reported) <= 1e-5
    assert 0.9999 < reported <= 1.0
    assert cost.squared_mu == pytest.approx(share * mu**2, rel=1e-4)


def test_googles_loss_distribution_finds_the_same_cost() -> None:
    terms = GaussianPrivacy(1.0, 1e-5, 0.2, 30, 3, 0.2)
    tight = PLDAccountant()
    sums = Lattice(24, 60)
    noise = math.sqrt(3 * scaling_variance(terms, sums)) / scaling_sum(sums).distance
    multiplier = math.sqrt(3 * noise_variance(terms, Lattice(24, 31))) / (2 * 0.2 * 2**24)
    tight.compose(GaussianDpEvent(noise)).compose(GaussianDpEvent(multiplier), 30)
    # It rounds losses up, each release's by 1e-4 at most.
    assert 0.999 < tight.get_epsilon(1e-5) < 1.0 + 31e-4


def test_a_scaling_that_nothing_pays_for_is_refused() -> None:
    with pytest.raises(PrivacyError, match="scaling has no share of the budget"):
        scaling_variance(GaussianPrivacy(1.0, 1e-5, 0.2, 30, 3), Lattice(24, 60))


def test_with_many_patients_the_noise_is_small() -> None:
    features = np.random.default_rng(6).normal([0.1, 4.0, 300.0], [0.2, 1.0, 90.0], (9000, 3))
    lattice = Lattice(24, 6)
    terms = GaussianPrivacy(1.0, 1e-5, 1.0, 10, 3, 0.2)
    noise = sum(discrete_gaussian(scaling_variance(terms, lattice), 6) for _ in range(3))
    scaling = scaling_of_sums(range_sums(features, RANGES, 24) + noise, 9000, RANGES, 24)
    fitted = StandardScaler().fit(np.clip(features, RANGES.low, RANGES.high))
    assert (np.abs(scaling.mean - fitted.mean_) < 0.05 * RANGES.scaling.scale).all()
    np.testing.assert_allclose(scaling.scale, fitted.scale_, rtol=0.25)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(DataError, match=r"features must have shape \(rows, 3\)"):
        range_sums(np.zeros((5, 2)), RANGES, 20)
    with pytest.raises(DataError, match="sums must be 6 numbers"):
        scaling_of_sums(np.zeros(5, dtype=np.int64), 10, RANGES, 20)
    with pytest.raises(DataError, match="of 0"):
        scaling_of_sums(np.zeros(6, dtype=np.int64), 0, RANGES, 20)
