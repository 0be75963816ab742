"""Privacy cost of CaPC's noisy votes: Confident-GNMax and its threshold test.

Answering parties vote for classes. The threshold test says whether the largest count with noise of
standard deviation sigma_threshold reaches the threshold; a query that passes is answered with the
class whose count, with noise of standard deviation sigma_gnmax on each, is the largest (Papernot
et al. 2018, "Scalable Private Learning with PATE", algorithm 1).

Neighbours differ in one patient of one answering party, whose model may be another one altogether:
one vote moves from one class to another. Two counts change by one, sqrt(2) in L2, and the largest
one by at most one. So an answer has a sensitivity of sqrt(2) and a test one of 1, for any votes:
labels are released by this rule. `epsilon_by_votes` is a bound by the votes themselves. It is
smaller where the parties agree, and for analysis only: such an epsilon tells something about the
votes, and must not be released with the labels.

Shapes here: counts (classes,), the votes of each class for one query.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import PrivacyError
from fl_he.learning.privacy.accounting import (
    ORDERS,
    GaussianCost,
    epsilon_of_renyi,
    epsilon_of_rho,
    gaussian_budget,
    gaussian_cost,
    largest_rho,
)
from fl_he.learning.privacy.integer_releases import IntegerReleases, are_narrow
from fl_he.learning.tables.arrays import Array


@dataclass(frozen=True, slots=True)
class ConfidentGNMax:
    """The noise of one vote.

    Parameters
    ----------
    sigma_gnmax : float
        Of the noise on each class's count, above 0.
    sigma_threshold : float or None
        Of the noise of the threshold test, above 0; None: there is no test, every query is
        answered.
    threshold : float
        The count that the largest one must reach, noise included.

    Raises
    ------
    PrivacyError
        If a sigma is out of range.
    """

    sigma_gnmax: float
    sigma_threshold: float | None = None
    threshold: float = 0.0

    def __post_init__(self) -> None:
        for name in ("sigma_gnmax", "sigma_threshold"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0.0):
                raise PrivacyError(f"{name} must be above 0 and finite, got {value:g}")

    def rho(self, queries: int) -> float:
        """Return the concentrated cost of this many queries, all of them counted as answered.

        A threshold test, if there is one, costs the same for either answer.

        Raises
        ------
        PrivacyError
            Unless there are at least 0 queries.
        """
        if queries < 0:
            raise PrivacyError(f"queries must be at least 0, got {queries}")
        test = 0.0 if self.sigma_threshold is None else 0.5 / self.sigma_threshold**2
        return queries * (test + 1.0 / self.sigma_gnmax**2)

    def gaussian(self) -> GaussianCost:
        """Return the Gaussian cost of one query, counted as answered.

        Only the numbers that differ between neighbours need a continuous stand-in: two counts, and
        the largest one.
        """
        answer = gaussian_cost(math.sqrt(2.0), self.sigma_gnmax**2, dimensions=2)
        if self.sigma_threshold is None:
            return answer
        return answer + gaussian_cost(1.0, self.sigma_threshold**2)

    def counts(self, queries: int) -> IntegerReleases | None:
        """Return the counts that differ between neighbours; None if the noise is too wide.

        Those are two counts of each answer, and the largest one of each test.
        """
        groups = [(2 * queries, self.sigma_gnmax**2)]
        if self.sigma_threshold is not None:
            groups.append((queries, self.sigma_threshold**2))
        return IntegerReleases(groups) if are_narrow(groups) else None

    def epsilon(self, queries: int, delta: float) -> float:
        """Return the epsilon of this many queries for any votes: this one may be released.

        The smallest of three bounds. The exact one is not there for very wide noise, for which the
        Gaussian one is as good. The concentrated one is for noise of less than one vote.
        """
        concentrated = epsilon_of_rho(self.rho(queries), delta)
        gaussian = self.gaussian().times(queries).epsilon(delta)
        return min(concentrated, gaussian, _exact_epsilon(self, queries, delta))

    def affordable(self, epsilon: float, delta: float) -> int:
        """Return how many queries a budget pays for."""
        return _affordable(self, epsilon, delta)


@lru_cache(maxsize=64)
def _exact_epsilon(noise: ConfidentGNMax, queries: int, delta: float) -> float:
    counts = noise.counts(queries)
    return math.inf if counts is None else counts.epsilon(delta)


@lru_cache(maxsize=64)
def _affordable(noise: ConfidentGNMax, epsilon: float, delta: float) -> int:
    one, budget = noise.gaussian(), gaussian_budget(epsilon, delta)
    most = max(
        math.floor(largest_rho(epsilon, delta) / noise.rho(1)),
        math.floor(min(budget.squared_mu / one.squared_mu, budget.gap / one.gap)),
    )

    def fits(queries: int) -> bool:
        counts = noise.counts(queries)  # the margin is for the rounding of `epsilon`
        return counts is not None and counts.delta((1.0 - 1e-8) * epsilon) <= delta

    step = 1
    while fits(most + step):
        most, step = most + step, 2 * step
    while step > 1:
        step //= 2
        most += step * fits(most + step)
    return most


def noise_of(
    sigma_gnmax: float | None, sigma_threshold: float | None, threshold: float | None
) -> ConfidentGNMax | None:
    """Return the noise of a vote with these settings; None if something is released without any.

    Parameters
    ----------
    sigma_gnmax, sigma_threshold : float or None
        See ConfidentGNMax; None for no noise.
    threshold : float or None
        None: there is no test.

    Raises
    ------
    PrivacyError
        If a sigma is out of range.
    """
    if sigma_gnmax is None or (threshold is not None and sigma_threshold is None):
        return None
    return ConfidentGNMax(sigma_gnmax, sigma_threshold, 0.0 if threshold is None else threshold)


class VotingNoise(Protocol):
    """Noise of a vote that pays for queries."""

    def affordable(self, epsilon: float, delta: float) -> int:
        """Return how many queries a budget pays for."""


class VotingBudget:
    """Spent and remaining budget for the patients of one answering party.

    All queries have the same noise, so the budget is a number of queries, whoever chooses them.

    Parameters
    ----------
    noise : ConfidentGNMax or ClippedVotes
    epsilon, delta : float
        The budget over all queries of all querying parties.
    """

    def __init__(self, noise: VotingNoise, epsilon: float, delta: float) -> None:
        self.queries = 0
        self._most = noise.affordable(epsilon, delta)

    def affordable(self) -> int:
        """Return how many more queries fit."""
        return max(0, self._most - self.queries)

    def spend(self, queries: int) -> None:
        """Count queries, before anything of their batch is opened.

        Raises
        ------
        PrivacyError
            If they do not fit; nothing is spent then.
        """
        if queries > self.affordable():
            raise PrivacyError(
                f"queries must be at most {self.affordable()}, which is what is left of the "
                f"privacy budget, got {queries}"
            )
        self.queries += queries


def epsilon_by_votes(votes: Sequence[Array], noise: ConfidentGNMax, delta: float) -> float:
    """Return a bound on the epsilon of queries with these votes. For analysis, not to be released.

    Every event has at most ``exp(epsilon)`` times its probability under any neighbouring votes,
    plus delta. The other direction, from neighbouring votes to these, is not covered, as in
    Papernot et al. 2018, theorem 6.

    Parameters
    ----------
    votes : sequence of ndarray, shape (classes,)
        The counts of each query, in their order: whole numbers.
    noise : ConfidentGNMax
        Of integers, as a run draws it.
    delta : float
        Above 0, below 1.

    Raises
    ------
    PrivacyError
        If a value is out of range.
    """
    divergences = sum((divergence_by_votes(counts, noise) for counts in votes), 0.0 * ORDERS)
    return min(epsilon_of_renyi(divergences, delta), noise.epsilon(len(votes), delta))


def divergence_by_votes(counts: Array, noise: ConfidentGNMax, orders: Array = ORDERS) -> Array:
    """Return bounds on the Renyi divergence of one query from neighbouring votes.

    The larger of two bounds: for the integers that a run draws as noise, and for continuous noise.
    Their chances differ where a sigma is as small as a few votes.

    Parameters
    ----------
    counts : ndarray, shape (classes,)
        Whole numbers.
    noise : ConfidentGNMax
    orders : ndarray, shape (n,)
        Above 1.

    Returns
    -------
    ndarray, shape (n,)
    """
    bounds = [_divergence(counts, noise, orders, whole=whole) for whole in (False, True)]
    any_votes: Array = orders * noise.rho(1)
    smaller: Array = np.minimum(np.max(bounds, axis=0), any_votes)
    return smaller


def _divergence(counts: Array, noise: ConfidentGNMax, orders: Array, *, whole: bool) -> Array:
    """Return the bound for one kind of noise.

    A query with a threshold test is unanswered, or passes the test and is answered. With the
    chances p here and p' there of passing, and D the divergence of the answer, the divergence of
    order alpha is

    ``log((1 - p)^alpha (1 - p')^(1 - alpha) + p^alpha p'^(1 - alpha) exp((alpha - 1) D))
    / (alpha - 1)``.

    The largest count there is within one of the one here, and the formula is convex in p', so one
    of the two ends is the worst. (Papernot et al. 2018, section 4.4, weight D by p instead: an
    expectation, which may be below the privacy loss.)
    """
    another = log_chance_of_another_class(counts, noise.sigma_gnmax, whole=whole)
    answer = renyi_by_votes(another, noise.sigma_gnmax, orders)
    if noise.sigma_threshold is None:
        return answer
    exponents = orders - 1.0
    missing = noise.threshold - float(counts.max())
    passed, failed = log_chances_of_passing(missing, noise.sigma_threshold, whole=whole)
    worst = np.zeros_like(orders)
    for more in (-1.0, 1.0):
        there = log_chances_of_passing(missing + more, noise.sigma_threshold, whole=whole)
        answered = orders * passed - exponents * there[0] + exponents * answer
        unanswered = orders * failed - exponents * there[1]
        worst = np.maximum(worst, np.logaddexp(unanswered, answered) / exponents)
    return worst


def log_chances_of_passing(missing: float, sigma: float, *, whole: bool) -> tuple[float, float]:
    """Return the logs of the chances that noise reaches a number, and that it does not.

    Parameters
    ----------
    missing : float
        Votes between the largest count and the threshold, negative above it.
    sigma : float
        Standard deviation of the noise.
    whole : bool
        Whether the noise is of integers, as a run draws it, or continuous.
    """
    from scipy.special import log_ndtr  # noqa: PLC0415 - as slow as dp-accounting

    if whole:
        least = math.ceil(missing)
        return _log_tail(least, sigma), _log_tail(1 - least, sigma)
    return float(log_ndtr(-missing / sigma)), float(log_ndtr(missing / sigma))


def log_chance_of_another_class(counts: Array, sigma: float, *, whole: bool = False) -> float:
    """Return a bound on the log of the chance that GNMax gives another class than the largest.

    Papernot et al. 2018, proposition 7: the sum over the other classes of their chances to overtake
    the largest, ``erfc((n_max - n_j) / (2 sigma)) / 2`` each, and never more than
    ``1 - 1 / classes``. Integers may be equal; a tie is broken at random and counts half.

    Parameters
    ----------
    counts : ndarray, shape (classes,)
        Whole numbers.
    sigma : float
        Standard deviation of the noise on each count.
    whole : bool
        Whether the noise is of integers, as a run draws it, or continuous.

    Raises
    ------
    PrivacyError
        If there are fewer than two classes.
    """
    from scipy.special import log_ndtr, logsumexp  # noqa: PLC0415 - as slow as dp-accounting

    if counts.ndim != 1 or counts.size < 2:
        raise PrivacyError(f"counts must be those of at least 2 classes, got {counts.size}")
    behind = np.delete(counts.max() - counts, int(np.argmax(counts)))
    if whole:
        tails = [[_log_tail(int(gap) + past, sigma, 2) for past in (0, 1)] for gap in behind]
        overtaking = np.logaddexp(*np.transpose(tails)) - math.log(2.0)
    else:
        overtaking = log_ndtr(-behind / (math.sqrt(2.0) * sigma))
    return min(float(logsumexp(overtaking)), math.log1p(-1.0 / counts.size))


@cache
def _log_tail(least: int, sigma: float, draws: int = 1) -> float:
    """Return the log of the chance that discrete Gaussian noise is at least so large.

    The difference of two draws is d in proportion to ``exp(-d^2 / (4 sigma^2))`` times a sum of
    ``exp(-(x - d / 2)^2 / sigma^2)`` over all integers x, which depends on the parity of d alone.
    """
    from scipy.special import logsumexp  # noqa: PLC0415 - as slow as dp-accounting

    reach = 40 * math.ceil(sigma)
    start = max(least, -reach)
    every, tail = np.arange(-reach, reach + 1), np.arange(start, max(start, 0) + reach + 1)
    shares = [0.0, 0.0]
    if draws == 2:
        shares = [float(logsumexp(-(((every - half) / sigma) ** 2))) for half in (0.0, 0.5)]

    def log_sum(numbers: NDArray[np.int64]) -> float:
        weights = -(numbers**2) / (2.0 * draws * sigma**2) + np.take(shares, numbers % 2)
        return float(logsumexp(weights))

    return min(0.0, log_sum(tail) - log_sum(every))


def renyi_by_votes(log_q: float, sigma: float, orders: Array = ORDERS) -> Array:
    """Return bounds on the Renyi divergence of GNMax, by the chance q of another class.

    Papernot et al. 2018, theorem 6 with the two higher orders of proposition 10; where it does not
    apply or is larger, ``alpha / sigma^2``, which holds for any votes.

    Parameters
    ----------
    log_q : float
        Log of (a bound on) the chance, at most 0.
    sigma : float
        Standard deviation of the noise on each count.
    orders : ndarray, shape (n,)
        Above 1.

    Returns
    -------
    ndarray, shape (n,)
    """
    if log_q == -math.inf:
        return np.zeros_like(orders)
    any_votes: Array = orders / sigma**2
    high2 = sigma * math.sqrt(-log_q)
    high1 = high2 + 1.0
    if high2 <= 1.0:
        return any_votes
    epsilon1, epsilon2 = high1 / sigma**2, high2 / sigma**2
    log_limit = (high2 - 1.0) * epsilon2 - high2 * (
        math.log(high1 / (high1 - 1.0)) + math.log(high2 / (high2 - 1.0))
    )
    if log_q > log_limit or log_q + epsilon2 >= 0.0:
        return any_votes
    log_p = _log1m_exp(log_q)
    log_a = log_p - _log1m_exp((log_q + epsilon2) * (high2 - 1.0) / high2)
    log_b = epsilon1 - log_q / (high1 - 1.0)
    exponents = orders - 1.0
    log_moment = np.logaddexp(log_p + exponents * log_a, log_q + exponents * log_b)
    by_votes: Array = np.where(orders <= high1, log_moment / exponents, np.inf)
    bounds: Array = np.minimum(any_votes, np.maximum(by_votes, 0.0))
    return bounds


def _log1m_exp(x: float) -> float:
    """Return ``log(1 - exp(x))`` for x of at most 0, precise at both ends."""
    if x >= 0.0:
        return -math.inf
    return math.log1p(-math.exp(x)) if x < -math.log(2.0) else math.log(-math.expm1(x))
