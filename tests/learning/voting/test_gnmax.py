"""CaPC's accounting against published figures and against exact Renyi divergences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting import get_epsilon_gaussian
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from fl_he.learning.errors import PrivacyError
from fl_he.learning.privacy.accounting import epsilon_of_renyi, epsilon_of_rho
from fl_he.learning.tables.arrays import Array
from fl_he.learning.voting.gnmax import (
    ConfidentGNMax,
    VotingBudget,
    divergence_by_votes,
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


def published(votes: Array, noise: ConfidentGNMax) -> Array:
    """Return the divergence as it was published: the answer is weighted by its chance."""
    above = (votes.max() - noise.threshold) / (noise.sigma_threshold or 1.0)
    rare = float(stats.norm.logcdf(-abs(above)))
    tested = renyi_by_votes(rare, math.sqrt(2.0) * (noise.sigma_threshold or 1.0), PUBLISHED)
    another = log_chance_of_another_class(votes, noise.sigma_gnmax)
    answered = float(stats.norm.cdf(above))
    return tested + answered * renyi_by_votes(another, noise.sigma_gnmax, PUBLISHED)


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
def test_the_parts_of_a_hundred_queries_cost_what_was_published(
    noise: ConfidentGNMax, top: int, voters: int, delta: float, epsilon: float
) -> None:
    """The published sum is an expectation. The bound is not, but knows the test's exact cost."""
    votes = counts(top, voters)
    expected = epsilon_of_renyi(100 * published(votes, noise), delta, PUBLISHED)
    assert expected == pytest.approx(epsilon, abs=1e-4)
    assert 0.85 * expected < epsilon_by_votes([votes] * 100, noise, delta)
    assert epsilon_by_votes([votes] * 100, noise, delta) <= noise.epsilon(100, delta)


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
    tied = queries * divergence_by_votes(np.full(10, 5.0), noise, PUBLISHED)
    assert epsilon_of_renyi(tied, delta, PUBLISHED) == pytest.approx(epsilon, rel=1e-4)
    ours = noise.epsilon(queries, delta)
    # The published orders begin at 2; the best one for a large epsilon is below it.
    assert 0.97 * epsilon < epsilon_of_rho(noise.rho(queries), delta) < 1.0001 * epsilon
    # Integers compose nearly as continuous noise does, sometimes a little better.
    exact = get_epsilon_gaussian(sigma / math.sqrt(2 * queries), delta)
    assert ours == pytest.approx(exact, rel=1e-3)
    assert ours < 0.99 * epsilon
    assert epsilon_by_votes([np.full(10, 5.0)] * queries, noise, delta) == ours


def outcomes(votes: tuple[int, int], noise: ConfidentGNMax) -> Array:
    """Return the chances of no answer, the first class and the second, with continuous noise."""
    above = (max(votes) - noise.threshold) / (noise.sigma_threshold or 1.0)
    test = [0.0, 1.0] if noise.sigma_threshold is None else stats.norm.cdf([-above, above])
    ahead = (votes[0] - votes[1]) / (math.sqrt(2) * noise.sigma_gnmax)
    answer = stats.norm.cdf([ahead, -ahead])
    return np.array([test[0], *(test[1] * answer)])


def rounded_outcomes(votes: tuple[int, int], noise: ConfidentGNMax) -> Array:
    """Return the same chances with the noise of a run: integers, and ties broken at random."""
    xs = np.arange(-400, 401)
    tested, added = (
        np.exp(-(xs**2) / (2 * (sigma or 1.0) ** 2))
        for sigma in (noise.sigma_threshold, noise.sigma_gnmax)
    )
    tested, added = tested / tested.sum(), added / added.sum()
    test = [0.0, 1.0]
    if noise.sigma_threshold is not None:
        reached = max(votes) + xs >= noise.threshold
        test = [tested[~reached].sum(), tested[reached].sum()]
    apart = np.convolve(added, added)  # symmetric, so the difference of two as well
    behind = votes[0] - votes[1] + np.arange(-800, 801)
    tie = apart[behind == 0].sum() / 2
    answer = np.array([apart[behind > 0].sum() + tie, apart[behind < 0].sum() + tie])
    return np.array([test[0], *(test[1] * answer)])


def exact_epsilon(here: Array, there: Array, delta: float) -> float:
    """Return the least epsilon by bisection."""
    low, high = 0.0, 700.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        excess = float(np.maximum(0.0, here - math.exp(middle) * there).sum())
        low, high = (middle, high) if excess > delta else (low, middle)
    return high


def neighbours(votes: tuple[int, int]) -> list[tuple[int, int]]:
    moved = [(votes[0] - 1, votes[1] + 1), (votes[0] + 1, votes[1] - 1)]
    return [one for one in moved if min(one) >= 0]


def test_a_query_with_a_threshold_costs_at_least_what_it_exactly_costs() -> None:
    """An expectation, by which the answer would count a tenth, says 1.93."""
    noise = ConfidentGNMax(1.0, sigma_threshold=10.0, threshold=20.0)
    here = outcomes((7, 3), noise)
    exact = max(exact_epsilon(here, outcomes(one, noise), 1e-5) for one in neighbours((7, 3)))
    assert exact == pytest.approx(5.137, abs=1e-3)
    bound = epsilon_by_votes([np.array([7.0, 3.0])], noise, 1e-5)
    assert exact < bound < 1.3 * exact


@settings(deadline=None, max_examples=100)
@given(
    st.tuples(st.integers(0, 30), st.integers(0, 30)),
    st.builds(
        ConfidentGNMax,
        st.floats(0.7, 20.0),
        st.one_of(st.none(), st.floats(0.7, 30.0)),
        st.integers(0, 60),
    ),
    st.sampled_from([1e-9, 1e-6, 1e-5, 1e-3, 1e-2]),
    st.integers(1, 2),
)
@example((7, 3), ConfidentGNMax(1.0, 10.0, 20), 1e-5, 1)
@example((20, 0), ConfidentGNMax(2.0, 1.0, 25), 1e-5, 2)
@example((0, 25), ConfidentGNMax(1.0, 1.0, 27), 1e-3, 2)
def test_the_bound_by_votes_is_above_the_exact_epsilon_of_two_classes(
    votes: tuple[int, int], noise: ConfidentGNMax, delta: float, queries: int
) -> None:
    """For the integers that are drawn, and without the bound for any votes for continuous noise."""
    counts = np.array(votes, dtype=float)
    continuous = epsilon_of_renyi(queries * divergence_by_votes(counts, noise), delta)
    integers = epsilon_by_votes([counts] * queries, noise, delta)
    for chances, bound in ((outcomes, continuous), (rounded_outcomes, integers)):
        here = chances(votes, noise)
        for one in neighbours(votes):
            there = chances(one, noise)
            pairs = (
                (here, there) if queries == 1 else (np.outer(here, here), np.outer(there, there))
            )
            assert exact_epsilon(*pairs, delta) <= bound + 1e-9


@settings(deadline=None, max_examples=50)
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


@pytest.mark.parametrize("queries", [1, 25, 400])
@pytest.mark.parametrize("noise", [ConfidentGNMax(4.0, 8.0), ConfidentGNMax(1.0), MANY])
def test_an_epsilon_is_below_the_bounds_for_other_noise(
    noise: ConfidentGNMax, queries: int
) -> None:
    counts = noise.counts(queries)
    assert counts is not None
    exact = counts.epsilon(1e-5)
    assert noise.epsilon(queries, 1e-5) == exact
    assert exact <= epsilon_of_rho(noise.rho(queries), 1e-5)
    assert exact <= noise.gaussian().times(queries).epsilon(1e-5)


def test_noise_too_wide_or_too_narrow_for_the_exact_epsilon_has_one() -> None:
    wide, narrow = ConfidentGNMax(2e5), ConfidentGNMax(0.6)
    assert wide.counts(1) is None
    assert wide.epsilon(1, 1e-9) == wide.gaussian().epsilon(1e-9)
    assert narrow.epsilon(1, 1e-5) == epsilon_of_rho(narrow.rho(1), 1e-5)


def test_the_same_budget_pays_for_more_queries_than_a_bound_for_any_noise() -> None:
    noise = ConfidentGNMax(4.0, 8.0)
    assert epsilon_of_rho(noise.rho(26), 1e-5) > 10.0
    assert noise.affordable(10.0, 1e-5) == 28
    assert noise.epsilon(28, 1e-5) <= 10.0 < noise.epsilon(29, 1e-5)


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
