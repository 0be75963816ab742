"""CaPC's accounting against published figures and against exact Renyi divergences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fl_he.learning.errors import PrivacyError
from fl_he.learning.voting.gnmax import (
    ConfidentGNMax,
    VotingBudget,
    epsilon_by_votes,
    log_chance_of_another_class,
    renyi_by_votes,
)

#: The orders of the published analysis. With ours the bound is a little smaller.
PUBLISHED = np.concatenate([np.arange(2.0, 100.0, 0.5), np.logspace(2.0, 3.0, 200)])
FEW = ConfidentGNMax(sigma_gnmax=7.0, sigma_threshold=30.0, threshold=50.0)
MANY = ConfidentGNMax(sigma_gnmax=40.0, sigma_threshold=200.0, threshold=300.0)


def counts(top: int, voters: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    result = np.zeros(10)
    result[:2] = top, voters - top
    return result


@pytest.mark.parametrize(
    ("noise", "top", "voters", "delta", "epsilon"),
    [
        (FEW, 49, 49, 1e-5, 1.6266),
        (FEW, 44, 49, 1e-5, 1.9067),
        (FEW, 34, 49, 1e-5, 4.6447),
        (MANY, 249, 249, 1e-6, 0.3046),
        (MANY, 224, 249, 1e-6, 0.3746),
        (MANY, 174, 249, 1e-6, 0.8429),
    ],
)
def test_a_hundred_queries_by_their_votes_cost_what_was_published(
    noise: ConfidentGNMax, top: int, voters: int, delta: float, epsilon: float
) -> None:
    votes = [counts(top, voters)] * 100
    assert epsilon_by_votes(votes, noise, delta, PUBLISHED) == pytest.approx(epsilon, abs=1e-4)
    assert epsilon_by_votes(votes, noise, delta) == pytest.approx(epsilon, rel=0.01)


@pytest.mark.parametrize(
    ("sigma", "delta", "queries", "epsilon"),
    [
        (7.0, 1e-5, 1, 0.8031),
        (7.0, 1e-5, 100, 10.910),
        (7.0, 1e-5, 1000, 50.943),
        (40.0, 1e-6, 1, 0.1425),
        (40.0, 1e-6, 100, 1.6601),
        (40.0, 1e-6, 1000, 5.9281),
    ],
)
def test_answers_for_any_votes_cost_what_was_published(
    sigma: float, delta: float, queries: int, epsilon: float
) -> None:
    noise = ConfidentGNMax(sigma)
    # A tie of ten: the votes themselves help nobody.
    tied = [np.full(10, 5.0)] * queries
    assert epsilon_by_votes(tied, noise, delta, PUBLISHED) == pytest.approx(epsilon, rel=1e-4)
    ours = noise.epsilon(queries, delta)
    # The published orders begin at 2; the best one for a large epsilon is below it.
    assert 0.97 * epsilon < ours < 1.0001 * epsilon


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 50), min_size=2, max_size=10),
    st.floats(1.0, 100.0),
    st.floats(1.0, 100.0),
    st.floats(-50.0, 100.0),
)
def test_votes_never_cost_more_than_any_votes(
    votes: list[int], sigma: float, sigma_threshold: float, threshold: float
) -> None:
    noise = ConfidentGNMax(sigma, sigma_threshold, threshold)
    by_votes = epsilon_by_votes([np.array(votes, dtype=float)] * 20, noise, 1e-6)
    assert by_votes <= noise.epsilon(20, 1e-6) * (1 + 1e-9)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 60), st.sampled_from([-2, 2]), st.floats(1.0, 20.0))
def test_the_bound_is_above_the_exact_divergence_of_two_classes(
    ahead: int, moved: int, sigma: float
) -> None:
    """With two classes GNMax is a coin whose chance is known, and so is its divergence."""
    log_q = log_chance_of_another_class(np.array([float(ahead), 0.0]), sigma)
    behind = stats.norm.logcdf(-ahead / (math.sqrt(2) * sigma))
    assert log_q == pytest.approx(behind, rel=1e-12)
    spread = math.sqrt(2) * sigma
    mine = stats.norm.logcdf(np.array([ahead, -ahead]) / spread)
    other = stats.norm.logcdf(np.array([ahead + moved, -ahead - moved]) / spread)
    orders = np.array([1.5, 2.0, 4.0, 8.0, 16.0, 32.0])
    exact = [
        np.logaddexp.reduce(alpha * mine - (alpha - 1) * other) / (alpha - 1) for alpha in orders
    ]
    assert (renyi_by_votes(log_q, sigma, orders) >= np.array(exact) - 1e-12).all()


def test_the_chance_of_another_class_is_a_bound() -> None:
    votes, sigma = np.array([12.0, 9.0, 9.0, 3.0]), 2.0
    noisy = votes + np.random.default_rng(1).normal(0.0, sigma, (200_000, 4))
    seen = np.mean(noisy.argmax(axis=1) != 0)
    bound = math.exp(log_chance_of_another_class(votes, sigma))
    assert seen <= bound <= 1.3 * seen


def test_a_chance_is_at_most_that_of_a_tie() -> None:
    assert math.exp(log_chance_of_another_class(np.full(4, 3.0), 1.0)) == pytest.approx(0.75)


def test_certain_votes_cost_nothing() -> None:
    assert (renyi_by_votes(-math.inf, 3.0) == 0.0).all()


def test_a_query_costs_its_test_and_its_answer() -> None:
    assert FEW.rho(3) == pytest.approx(3 / (2 * 30**2) + 3 / 7**2)
    assert ConfidentGNMax(7.0).rho(3) == pytest.approx(3 / 7**2)
    with pytest.raises(PrivacyError, match="queries must be at least 0, got -1"):
        FEW.rho(-1)


def test_a_budget_is_spent_to_the_last_query_and_no_further() -> None:
    budget = VotingBudget(MANY, epsilon=1.0, delta=1e-6)
    batch = budget.affordable()
    assert MANY.epsilon(batch, 1e-6) <= 1.0 < MANY.epsilon(batch + 1, 1e-6)
    with pytest.raises(PrivacyError, match=f"queries must be at most {batch}"):
        budget.spend(batch + 1)
    budget.spend(batch // 2)
    assert budget.affordable() == batch - batch // 2
    budget.spend(batch - batch // 2)
    assert budget.affordable() == 0
    assert budget.queries == batch
    with pytest.raises(PrivacyError, match="queries must be at most 0"):
        budget.spend(1)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_no_noise_is_refused(sigma: float) -> None:
    with pytest.raises(PrivacyError, match="sigma_gnmax must be above 0 and finite"):
        ConfidentGNMax(sigma)
    with pytest.raises(PrivacyError, match="sigma_threshold must be above 0 and finite"):
        ConfidentGNMax(1.0, sigma)


def test_one_class_is_refused() -> None:
    with pytest.raises(PrivacyError, match="counts must be those of at least 2 classes, got 1"):
        log_chance_of_another_class(np.array([3.0]), 1.0)
