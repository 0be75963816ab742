"""The accounting against dp-accounting's other accountants and against exact divergences."""

from __future__ import annotations

import math
import sys

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

from fl_he.learning.errors import PrivacyError
from fl_he.learning.privacy import accounting
from fl_he.learning.privacy.accounting import ORDERS, epsilon_of_renyi, epsilon_of_rho, largest_rho


@pytest.mark.parametrize(
    ("rho", "delta"), [(0.001, 1e-5), (0.03, 1e-5), (0.3, 1e-6), (2.0, 1e-3), (30.0, 1e-9)]
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
        epsilon_of_renyi(ORDERS, delta)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf])
def test_an_epsilon_out_of_range_is_refused(epsilon: float) -> None:
    with pytest.raises(PrivacyError, match="epsilon must be above 0 and finite"):
        largest_rho(epsilon, 1e-5)


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
