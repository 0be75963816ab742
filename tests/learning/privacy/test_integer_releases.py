"""Exact privacy of counts against summed distributions, and against Google's loss distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting.pld.privacy_loss_distribution import from_discrete_gaussian_mechanism
from numpy.typing import NDArray

from fl_he.learning.privacy.accounting import GaussianCost
from fl_he.learning.privacy.integer_releases import IntegerReleases, are_narrow

Groups = list[tuple[int, float]]


def losses(count: int, variance: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the privacy losses of counts that move by one, and their chances."""
    numbers = np.arange(-100, 101)
    one = np.exp(-(numbers**2) / (2 * variance))
    chances = np.ones(1)
    for _ in range(count):
        chances = np.convolve(chances, one / one.sum())
    sums = np.arange(len(chances)) - len(chances) // 2
    return (count + 2 * sums) / (2 * variance), chances


def exact_delta(groups: Groups, epsilon: float) -> float:
    total, weight = np.zeros(1), np.ones(1)
    for count, variance in groups:
        more, chances = losses(count, variance)
        total = np.add.outer(total, more).ravel()
        weight = np.outer(weight, chances).ravel()
    above = total > epsilon
    return math.fsum(weight[above] * -np.expm1(epsilon - total[above]))


@pytest.mark.parametrize("delta", [1e-12, 1e-5, 1e-2])
@pytest.mark.parametrize(
    "groups",
    [[(1, 2.0)], [(2, 16.0)], [(6, 1.5)], [(4, 16.0), (2, 49.0)], [(2, 30.0), (5, 3.0)]],
)
def test_epsilon_is_that_of_the_summed_noise_and_never_less(groups: Groups, delta: float) -> None:
    epsilon = IntegerReleases(groups).epsilon(delta)
    assert exact_delta(groups, epsilon) <= delta
    assert exact_delta(groups, epsilon * (1 - 1e-5)) > delta


def test_narrow_noise_costs_its_distance_from_a_discrete_gaussian() -> None:
    for groups in ([(2, 0.5)], [(20, 0.81)], [(1, 0.2), (1, 0.3)]):
        assert exact_delta(groups, IntegerReleases(groups).epsilon(1e-5)) <= 1e-5
    assert IntegerReleases([(2, 0.49)]).epsilon(1e-5) == math.inf


def test_wide_noise_is_as_private_as_continuous_noise() -> None:
    groups = [(400, 2500.0), (200, 10_000.0)]
    continuous = GaussianCost(400 / 2500 + 200 / 10_000, 0.0).epsilon(1e-5)
    assert IntegerReleases(groups).epsilon(1e-5) == pytest.approx(continuous, rel=1e-6)


def test_counts_compose_as_googles_loss_distribution_says() -> None:
    """The noise of experiment=capc_digits: 25 answers of two counts each, and 25 tests."""
    answer, test = (
        from_discrete_gaussian_mechanism(sigma, 1, value_discretization_interval=1e-3)
        for sigma in (4.0, 8.0)
    )
    google = answer.self_compose(50).compose(test.self_compose(25)).get_epsilon_for_delta(1e-5)
    ours = IntegerReleases([(50, 16.0), (25, 64.0)]).epsilon(1e-5)
    assert ours == pytest.approx(google, rel=0.01)
    assert ours == pytest.approx(9.236, abs=5e-4)


def test_no_release_costs_nothing() -> None:
    assert IntegerReleases([(0, 4.0)]).epsilon(1e-9) == 0.0


def test_sums_that_are_too_wide_are_told() -> None:
    assert are_narrow([(400, 1e6), (1, 4e8)])
    assert not are_narrow([(1, 1.0), (401, 1e6)])
