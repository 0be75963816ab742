"""The accounting against dp-accounting's other accountants, quadrature and exact divergences."""

from __future__ import annotations

import math
import sys
from decimal import Decimal, localcontext

import dp_accounting
import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, get_epsilon_gaussian
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from gaussian_delta import gaussian_delta
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fl_he.learning.errors import PrivacyError
from fl_he.learning.privacy import accounting
from fl_he.learning.privacy.accounting import (
    ORDERS,
    GaussianCost,
    epsilon_of_renyi,
    epsilon_of_rho,
    gaussian_budget,
    gaussian_cost,
    largest_rho,
)


@pytest.mark.parametrize(
    ("rho", "delta"),
    [
        (0.001, 1e-5),
        (0.03, 1e-5),
        (0.3, 1e-6),
        (2.0, 1e-3),
        pytest.param(30.0, 1e-9, marks=pytest.mark.slow),
    ],
)
def test_epsilon_lies_between_the_tight_and_the_usual_bound(rho: float, delta: float) -> None:
    """A Gaussian of multiplier 1/sqrt(2 rho) is rho-zCDP, and its loss distribution is exact."""
    event = dp_accounting.GaussianDpEvent(1 / math.sqrt(2 * rho))
    tight = PLDAccountant().compose(event).get_epsilon(delta)
    usual = RdpAccountant().compose(event).get_epsilon(delta)
    ours = epsilon_of_rho(rho, delta)
    assert tight < ours <= usual * 1.001
    assert epsilon_of_renyi(rho * ORDERS, delta) == ours


@pytest.mark.parametrize("sigma", [0.7, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("shift", [1, 3])
def test_discrete_noise_has_the_divergence_that_is_counted(sigma: float, shift: int) -> None:
    xs = np.arange(-1000, 1001)
    log_p = -(xs**2) / (2 * sigma**2)
    log_p -= np.logaddexp.reduce(log_p)
    log_q = -((xs - shift) ** 2) / (2 * sigma**2)
    log_q -= np.logaddexp.reduce(log_q)
    rho = shift**2 / (2 * sigma**2)
    for order in (1.2, 2.0, 5.0, 17.0):
        exact = np.logaddexp.reduce(order * log_p - (order - 1) * log_q) / (order - 1)
        assert exact <= rho * order * (1 + 1e-9)


@pytest.mark.parametrize("epsilon", [0.01, 0.5, 1.0, 8.0, 100.0])
@pytest.mark.parametrize("delta", [1e-9, 1e-5, 1e-2])
def test_the_largest_rho_fits_and_hardly_more_does(epsilon: float, delta: float) -> None:
    rho = largest_rho(epsilon, delta)
    assert epsilon_of_rho(rho, delta) <= epsilon < epsilon_of_rho(rho * (1 + 1e-6), delta)


def test_the_search_for_the_largest_rho_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each node of a CaPC batch asks for it several times."""
    tried: list[float] = []
    real = accounting.epsilon_of_rho

    def counted(rho: float, delta: float) -> float:
        tried.append(rho)
        return real(rho, delta)

    monkeypatch.setattr(accounting, "epsilon_of_rho", counted)
    found = largest_rho(2.34567, 1e-5)
    first = len(tried)
    assert first > 10
    assert largest_rho(2.34567, 1e-5) == found
    assert len(tried) == first
    assert largest_rho(2.34567, 2e-5) != found


def test_no_release_costs_nothing_and_no_noise_everything() -> None:
    assert epsilon_of_rho(0.0, 1e-5) == 0.0
    assert epsilon_of_rho(math.inf, 1e-5) == math.inf


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, math.nan])
def test_a_delta_out_of_range_is_refused(delta: float) -> None:
    refused = "delta must be above 0 and below 1"
    with pytest.raises(PrivacyError, match=refused):
        epsilon_of_rho(1.0, delta)
    with pytest.raises(PrivacyError, match=refused):
        largest_rho(1.0, delta)
    with pytest.raises(PrivacyError, match=refused):
        gaussian_budget(1.0, delta)
    with pytest.raises(PrivacyError, match=refused):
        GaussianCost(1.0, 0.0).epsilon(delta)
    with pytest.raises(PrivacyError, match=refused):
        epsilon_of_renyi(ORDERS, delta)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf])
def test_an_epsilon_out_of_range_is_refused(epsilon: float) -> None:
    with pytest.raises(PrivacyError, match="epsilon must be above 0 and finite"):
        largest_rho(epsilon, 1e-5)
    with pytest.raises(PrivacyError, match="epsilon must be above 0 and finite"):
        gaussian_budget(epsilon, 1e-5)


@pytest.mark.parametrize("rho", [-1.0, math.nan])
def test_a_rho_out_of_range_is_refused(rho: float) -> None:
    with pytest.raises(PrivacyError, match="rho must be at least 0"):
        epsilon_of_rho(rho, 1e-5)


@pytest.mark.parametrize("bounds", [np.full(3, 1.0), np.full(ORDERS.size, math.nan), -ORDERS])
def test_divergences_that_are_none_are_refused(bounds: np.ndarray) -> None:
    with pytest.raises(PrivacyError, match=f"divergences must be {ORDERS.size} numbers"):
        epsilon_of_renyi(bounds, 1e-5)


def test_without_dp_accounting_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(PrivacyError, match=r"pip install 'fl-he\[privacy\]'"):
        epsilon_of_rho(1.0, 1e-5)
    with pytest.raises(PrivacyError, match=r"pip install 'fl-he\[privacy\]'"):
        GaussianCost(1.0, 0.0).epsilon(1e-5)


# Gaussian composition.


@pytest.mark.parametrize("delta", [1e-9, 1e-5, 1e-2])
@pytest.mark.parametrize("mu", [0.003, 0.05, 0.27, 1.0, 4.0, 12.0])
def test_epsilon_is_that_of_the_integral_and_never_less(mu: float, delta: float) -> None:
    epsilon = GaussianCost(mu**2, 0.0).epsilon(delta)
    if epsilon == 0.0:
        assert gaussian_delta(mu, 0.0) <= delta
        return
    assert gaussian_delta(mu, epsilon) <= delta
    assert gaussian_delta(mu, epsilon * (1 - 1e-6) - 1e-9) > delta


@pytest.mark.parametrize("releases", [1, 7, 50])
def test_releases_compose_as_googles_loss_distribution_says(releases: int) -> None:
    """One or two kinds of noise; Google's epsilon is rounded up, by at most 1e-4 a release."""
    wide, narrow = GaussianDpEvent(30.0), GaussianDpEvent(10.0)
    losses = PLDAccountant().compose(wide, releases).compose(narrow, 2).get_epsilon(1e-5)
    ours = (gaussian_cost(1.0, 900.0).times(releases) + gaussian_cost(1.0, 100.0).times(2)).epsilon(
        1e-5
    )
    exact = get_epsilon_gaussian(1 / math.sqrt(releases / 900 + 2 / 100), 1e-5)
    assert exact < ours < 1.02 * exact  # a little for the integers
    assert exact <= losses <= exact + 1e-4 * (releases + 2)


def masses(variance: float, shares: int = 1) -> NDArray[np.float64]:
    """Return the distribution of a sum of discrete Gaussians, around the middle of the array."""
    xs = np.arange(-150, 151)
    one: NDArray[np.float64] = np.exp(-(xs**2) / (2 * variance))
    one /= one.sum()
    total: NDArray[np.float64] = one
    for _ in range(shares - 1):
        total = np.convolve(total, one)
    return total


def delta_of(here: NDArray[np.float64], there: NDArray[np.float64], epsilon: float) -> float:
    return math.fsum(np.maximum(0.0, here - math.exp(epsilon) * there).ravel())


def shifted(total: NDArray[np.float64], shift: int) -> NDArray[np.float64]:
    moved: NDArray[np.float64] = np.r_[np.zeros(shift), total[:-shift]]
    return moved


@pytest.mark.parametrize("delta", [1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1])
@pytest.mark.parametrize("shift", [1, 2, 5])
@pytest.mark.parametrize(("variance", "shares"), [(3.0, 1), (8.5, 1), (49.0, 1), (2.0, 2), (5, 4)])
def test_integers_are_as_private_as_counted(
    variance: float, shares: int, shift: int, delta: float
) -> None:
    """The exact delta of one release, and of two independent ones, at the epsilon counted."""
    total = masses(variance, shares)
    cost = gaussian_cost(shift, variance, shares=shares)
    moved = shifted(total, shift)
    assert delta_of(moved, total, cost.epsilon(delta)) <= delta
    kept = np.abs(np.arange(len(total)) - len(total) // 2) <= 150
    here, there = np.outer(moved[kept], moved[kept]), np.outer(total[kept], total[kept])
    assert delta_of(here, there, cost.times(2).epsilon(delta)) <= delta


def test_integers_are_less_private_than_continuous_noise_of_their_variance() -> None:
    """Without the part of the variance that rounding takes, the bound would be none."""
    total, below = masses(49.0), 0
    for delta in np.geomspace(1e-8, 0.1, 200):
        epsilon = GaussianCost(25 / 49, 0.0).epsilon(delta)
        below += delta_of(shifted(total, 5), total, epsilon) > delta
    assert below > 20


@pytest.mark.parametrize("shares", [2, 3, 6])
@pytest.mark.parametrize("variance", [0.5, 0.7, 1.0])
def test_a_sum_of_narrow_shares_is_as_near_to_one_as_counted(variance: float, shares: int) -> None:
    total, one = masses(variance, shares), masses(variance * shares)
    middle = len(total) // 2
    near = slice(middle - 8, middle + 9)
    ratio = np.log(total[near]) - np.log(one[len(one) // 2 - 8 : len(one) // 2 + 9])
    gap = gaussian_cost(1.0, variance, shares=shares).gap
    apart = 5.0 * (shares - 1) * math.exp(-(math.pi**2) * variance)
    assert 1e-7 < np.abs(ratio).max() <= apart
    assert math.isinf(gap) if shares * variance <= 2.0 else gap >= apart


def test_what_rounding_changes_is_within_the_gap_of_one_share() -> None:
    """``sum over j of exp(-(j - t)^2 / 4)`` is largest at t = 0 and smallest at 1/2."""
    with localcontext(prec=40):
        largest, smallest = (
            sum(((-((j - t) ** 2) / 4).exp() for j in map(Decimal, range(-25, 27))), Decimal(0))
            for t in (Decimal(0), Decimal("0.5"))
        )
        varies = float((largest / smallest).ln())
    cost = gaussian_cost(3.0, 1e12)
    assert cost.squared_mu == pytest.approx(9.0 / (1e12 - 2.0), rel=1e-14)
    assert 0.5 * cost.gap < varies <= cost.gap


def test_many_numbers_leave_more_for_rounding() -> None:
    one, many = gaussian_cost(1.0, 100.0), gaussian_cost(1.0, 100.0, dimensions=10**6)
    assert many.gap == pytest.approx(one.gap, rel=1e-9)
    assert many.squared_mu > one.squared_mu
    apart = gaussian_cost(1.0, 1.5, shares=10, dimensions=10**6).gap
    assert apart == pytest.approx(10**6 * 5 * 9 * math.exp(-1.5 * math.pi**2), rel=1e-6)


def test_a_gap_costs_twice_in_epsilon_and_once_in_delta() -> None:
    cost = GaussianCost(0.25, 0.125)
    near = get_epsilon_gaussian(2.0, 1e-5 * math.exp(-0.125))
    assert cost.epsilon(1e-5) == pytest.approx(near + 0.25, rel=1e-9)


@pytest.mark.slow
@settings(deadline=None)
@given(st.floats(0.001, 100.0), st.floats(1e-12, 0.5))
def test_a_budget_is_kept_and_hardly_less(epsilon: float, delta: float) -> None:
    budget = gaussian_budget(epsilon, delta)
    assert budget.epsilon(delta) <= epsilon
    more = GaussianCost(budget.squared_mu * (1 + 1e-4), budget.gap)
    assert more.epsilon(delta) > epsilon
    mu = math.sqrt(budget.squared_mu)
    assert gaussian_delta(mu, epsilon) <= delta


def test_no_noise_costs_everything_and_nothing_nothing() -> None:
    assert gaussian_cost(1.0, 0.1).epsilon(1e-5) == math.inf
    assert gaussian_cost(1.0, 100.0, shares=0).epsilon(1e-5) == math.inf
    assert gaussian_cost(1.0, 100.0).times(0).epsilon(1e-5) == 0.0
