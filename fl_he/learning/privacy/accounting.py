"""Noise as epsilon and delta, and back: exact Gaussian composition, and concentrated privacy.

The conversions are those of Google's dp-accounting, the extra ``fl-he[privacy]``; no other module
of fl-he imports it. The mechanisms of fl-he add discrete Gaussian noise. Two bounds of their cost:

- **Gaussian** (:class:`GaussianCost`). A release with continuous Gaussian noise of variance
  sigma^2 and an L2 sensitivity of D is mu-GDP, ``mu = D / sigma``; of releases one after another
  the mu^2 add up, also if each release depends on those before (Dong, Roth, Su 2022, "Gaussian
  Differential Privacy", corollary 3.3). Epsilon and delta follow without a loss (Balle, Wang 2018,
  "Improving the Gaussian Mechanism for Differential Privacy", theorem 8). A discrete Gaussian of
  variance S is nearly the continuous one of variance S - s, whose value y is replaced by an integer
  drawn from the discrete Gaussian of variance s around y (Peikert 2010, "An Efficient and Parallel
  Gaussian Sampler for Lattices", theorem 3.1); a sum of discrete Gaussians is nearly one (Kairouz,
  Liu, Steinke 2021, "The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure
  Aggregation", theorem 9). "Nearly" is counted: see :func:`gaussian_cost`.
- **Concentrated** (rho). The Renyi divergence of order alpha between neighbours is at most
  ``rho * alpha`` for every alpha above 1, for a discrete Gaussian with ``rho = D^2 / (2 sigma^2)``
  exactly (Canonne, Kamath, Steinke 2020, theorem 4); rhos add up (Bun, Steinke 2016, lemma 1.7).
  For noise as narrow as a few integers, of which the first bound knows little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import numpy as np

from fl_he.learning.errors import PrivacyError
from fl_he.learning.tables.arrays import Array

#: Renyi orders that are tried. Any set gives a true bound, a dense one the smallest.
ORDERS: Array = 1.0 + np.geomspace(0.05, 20_000.0, 600)
#: Share of epsilon and of delta that pays for the gap to continuous noise and for rounding.
_RESERVE = 1e-6


@dataclass(frozen=True, slots=True)
class GaussianCost:
    """Cost of releases whose discrete Gaussian noise is nearly continuous; costs add up.

    Parameters
    ----------
    squared_mu : float
        Sum of the mu^2 of Gaussian differential privacy of the nearby continuous releases.
    gap : float
        How far the log of any event's probability is from that of the nearby releases, at most.
    """

    squared_mu: float
    gap: float

    def __add__(self, other: GaussianCost) -> GaussianCost:
        return GaussianCost(self.squared_mu + other.squared_mu, self.gap + other.gap)

    def times(self, releases: int) -> GaussianCost:
        """Return the cost of this many such releases."""
        return GaussianCost(releases * self.squared_mu, releases * self.gap)

    def epsilon(self, delta: float) -> float:
        """Return the epsilon at a delta.

        If the nearby releases are (epsilon', delta')-private, these are
        ``(epsilon' + 2 gap, exp(gap) delta')``-private.

        Raises
        ------
        PrivacyError
            If delta is not between 0 and 1, or dp-accounting is not installed.
        """
        _check_delta(delta)
        if not self.squared_mu > 0.0:
            return 2.0 * self.gap
        if not math.isfinite(self.squared_mu + self.gap):
            return math.inf
        near = (1.0 - 1e-9) * delta * math.exp(-self.gap)  # the 1e-9 for floating point
        epsilon = _dp_accounting().get_epsilon_gaussian(1.0 / math.sqrt(self.squared_mu), near)
        return float(epsilon) + 2.0 * self.gap

    def fits(self, budget: GaussianCost) -> bool:
        """Return whether neither part of this cost is above that of a budget."""
        return self.squared_mu <= budget.squared_mu and self.gap <= budget.gap


def gaussian_cost(
    distance: float, variance: float, *, shares: int = 1, dimensions: int = 1
) -> GaussianCost:
    """Return the cost of integers with this many shares of discrete Gaussian noise.

    Let b(v) bound how much ``sum over j of exp(-(j - t)^2 / (2 v))`` varies with t, relatively: by
    Poisson's summation ``b(v) = 2.1 exp(-2 pi^2 v)`` for v of at least 1/4. Two distributions that
    differ by such a factor only, and each sum to 1, have a log ratio of at most
    ``log((1 + b) / (1 - b)) <= 5 exp(-2 pi^2 v)``. For each number:

    - k shares of a variance v, nearly one discrete Gaussian, and the next share differ from one
      discrete Gaussian of variance (k + 1) v by the factor for ``v k / (k + 1)``, at least v / 2;
    - the discrete Gaussian of variance S = shares * v differs from the continuous one of variance
      S - s, replaced by a discrete Gaussian of variance s around it, by the factor for s.

    Parameters
    ----------
    distance : float
        L2 sensitivity, in steps of the integers.
    variance : float
        Of one share, in steps squared, above 0.
    shares : int
        How many are counted; without one the cost is infinite.
    dimensions : int
        How many numbers may differ between neighbours, at least 1.
    """
    rounding = 2.0 + math.log(dimensions) / (2.0 * math.pi**2)  # s: all numbers' gap is 4e-17
    left = shares * variance - rounding
    if left <= 0.0 or variance < 0.5:
        return GaussianCost(math.inf, math.inf)
    gap = math.exp(-2.0 * math.pi**2 * rounding) + (shares - 1) * math.exp(-(math.pi**2) * variance)
    return GaussianCost(distance**2 / left, 5.0 * dimensions * gap)


@lru_cache(maxsize=64)
def gaussian_budget(epsilon: float, delta: float) -> GaussianCost:
    """Return the cost that a budget of epsilon and delta allows altogether.

    Returns
    -------
    GaussianCost
        Its :meth:`~GaussianCost.epsilon` is at most `epsilon`, and hardly less.

    Raises
    ------
    PrivacyError
        If a value is out of range, or dp-accounting is not installed.
    """
    _check_epsilon(epsilon)
    _check_delta(delta)
    near = (1.0 - _RESERVE) * epsilon, (1.0 - _RESERVE) * delta
    sigma = _dp_accounting().get_sigma_gaussian(*near, tol=1e-15)
    return GaussianCost(1.0 / sigma**2, 0.1 * _RESERVE * min(epsilon, 1.0))


def epsilon_of_rho(rho: float, delta: float) -> float:
    """Return the epsilon, at a delta, of what is rho-zCDP altogether.

    Parameters
    ----------
    rho : float
        At least 0; infinity: no privacy at all.
    delta : float
        Above 0, below 1.

    Returns
    -------
    float
        At least 0.

    Raises
    ------
    PrivacyError
        If a value is out of range, or dp-accounting is not installed.
    """
    if not rho >= 0.0:
        raise PrivacyError(f"rho must be at least 0, got {rho:g}")
    return epsilon_of_renyi(rho * ORDERS, delta)


def epsilon_of_renyi(divergences: Array, delta: float, orders: Array = ORDERS) -> float:
    """Return the epsilon, at a delta, of bounds on the Renyi divergence.

    Parameters
    ----------
    divergences : ndarray, shape (n,)
        A bound for each order, at least 0; infinity: no privacy at all.
    delta : float
        Above 0, below 1.
    orders : ndarray, shape (n,)
        Above 1.

    Raises
    ------
    PrivacyError
        If a value is out of range, or dp-accounting is not installed.
    """
    _check_delta(delta)
    if divergences.shape != orders.shape or not (divergences >= 0.0).all():
        raise PrivacyError(
            f"divergences must be {orders.size} numbers of at least 0, one for each order"
        )
    return float(_dp_accounting().rdp.compute_epsilon(orders, divergences, delta)[0])


@lru_cache(maxsize=64)
def largest_rho(epsilon: float, delta: float) -> float:
    """Return the rho that a budget of epsilon and delta allows altogether.

    Cached: the search takes most of the time of a small CaPC batch, in which each node asks for it.

    Returns
    -------
    float
        Above 0; its :func:`epsilon_of_rho` is at most `epsilon`, and hardly less.

    Raises
    ------
    PrivacyError
        If a value is out of range, or dp-accounting is not installed.
    """
    _check_epsilon(epsilon)
    # epsilon_of_rho grows with rho without end, and exceeds rho from some point on
    low, high = 0.0, 1.0
    while epsilon_of_rho(high, delta) <= epsilon:
        low, high = high, 2.0 * high
    while high - low > 1e-9 * high:
        middle = 0.5 * (low + high)
        if epsilon_of_rho(middle, delta) <= epsilon:
            low = middle
        else:
            high = middle
    return low


def _check_epsilon(epsilon: float) -> None:
    if not (math.isfinite(epsilon) and epsilon > 0.0):
        raise PrivacyError(f"epsilon must be above 0 and finite, got {epsilon:g}")


def _check_delta(delta: float) -> None:
    if not 0.0 < delta < 1.0:
        raise PrivacyError(f"delta must be above 0 and below 1, got {delta:g}")


def _dp_accounting() -> ModuleType:
    try:
        import dp_accounting  # noqa: PLC0415 - lazy: an extra, and a second to import
    except ImportError:
        raise PrivacyError(
            "differential privacy needs the package dp-accounting: pip install 'fl-he[privacy]'"
        ) from None
    module: ModuleType = dp_accounting
    return module
