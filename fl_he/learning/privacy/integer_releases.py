"""Exact privacy of counts that are released with discrete Gaussian noise.

A count that moves by one, with discrete Gaussian noise of variance v, has the privacy loss
``(1 + 2 x) / (2 v)`` where x is the noise (Canonne, Kamath, Steinke 2020, "The Discrete Gaussian
for Differential Privacy", section 3). Losses of releases add up, so the loss of n of them is
``(n + 2 S) / (2 v)`` with S the sum of their noise, and

``delta(epsilon) = E[max(0, 1 - exp(epsilon - loss))]``

is the smallest delta for which the n releases are (epsilon, delta)-private. The value is never too
small:

- Moving a count up or down by one gives the same distribution of the loss, since the noise is
  symmetric, and in both directions. A count that does not move loses less. So the pair "all counts
  move by one" dominates every pair of neighbours, also if a release depends on earlier ones (Zhu,
  Dong, Wang 2022, "Optimal Accounting of Differential Privacy via Characteristic Function",
  theorem 10).
- All that is computed from released counts, such as the class of the largest one, has no larger
  delta.
- S is nearly a discrete Gaussian of variance n v. "Nearly" is counted:
  :func:`fl_he.learning.privacy.accounting.gaussian_cost` has the factor for each share.
- Tails that are left out, and rounding, are added to delta.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fl_he.learning.tables.arrays import Array

#: Standard deviations of a sum that are looked at; both tails beyond weigh less than `_BEYOND`.
_REACH = 14.0
_BEYOND = 1e-40
#: Relative error of two sums of at most 28 * `_WIDEST` chances in float64.
_ROUNDING = 1e-9
#: Sums of a larger standard deviation would take seconds; for them Gaussians are as good.
_WIDEST = 20_000.0


class IntegerReleases:
    """Releases of one or two kinds of noise, counts that move by one.

    Parameters
    ----------
    groups : sequence of (int, float)
        Of each kind, of one or two: how many counts, at least 1, and the variance of the noise on
        each.

    Raises
    ------
    ValueError
        For another number of kinds.
    """

    def __init__(self, groups: Sequence[tuple[int, float]]) -> None:
        if len(groups) not in (1, 2):
            raise ValueError(f"releases must be of one or two kinds, got {len(groups)}")
        first, second = sorted([*groups, (0, 1.0)], key=lambda group: -math.prod(group))[:2]
        self._first, self._variance = first
        self._factor = math.exp(min(_gap(*first) + _gap(*second), 700.0))
        counts, variance = second
        numbers, self._weights = _chances(counts * variance)
        self._losses = (counts + 2.0 * numbers) / (2.0 * variance)
        numbers, chances = _chances(self._first * self._variance)
        # chances that the sum is at least a number, of which the last entry is beyond all
        self._tails = np.append(np.cumsum(chances[::-1])[::-1], 0.0)
        self._least = numbers[0]

    def delta(self, epsilon: float) -> float:
        """Return the delta at an epsilon, an upper bound that is as good as exact."""
        needed = epsilon - self._losses
        least = np.floor(self._variance * needed - self._first / 2.0) + 1.0
        here, there = self._tail(least), self._tail(least + self._first)
        excess = here - np.exp(np.minimum(needed, 700.0)) * there + _ROUNDING * here
        total = float(self._weights @ np.maximum(excess, 0.0))
        return min(1.0, self._factor * (total + 2.0 * _BEYOND))

    def epsilon(self, delta: float) -> float:
        """Return the epsilon at a delta, rounded up by 1e-9 of its value or a little more."""
        from scipy.optimize import brentq  # noqa: PLC0415 - lazy: half a second to import

        low, high = 0.0, 1.0
        if self.delta(low) <= delta:
            return low
        while self.delta(high) > delta:
            low, high = high, 2.0 * high
            if high > 1e6:
                return math.inf
        found: float = brentq(lambda e: math.log(self.delta(e) / delta), low, high, rtol=1e-9)
        while self.delta(found) > delta:
            found *= 1.0 + 1e-9
        return found

    def _tail(self, least: Array) -> Array:
        places = np.clip(least - self._least, 0, len(self._tails) - 1).astype(np.int64)
        tail: Array = self._tails[places]
        return tail


def are_narrow(groups: Sequence[tuple[int, float]]) -> bool:
    """Tell whether `IntegerReleases` computes with sums of this noise in about a second."""
    return all(count * variance <= _WIDEST**2 for count, variance in groups)


def _gap(count: int, variance: float) -> float:
    """Return the log of the factor between the chances of a sum and of a discrete Gaussian."""
    if count <= 1:
        return 0.0
    return math.inf if variance < 0.5 else 5.0 * (count - 1) * math.exp(-(math.pi**2) * variance)


def _chances(variance: float) -> tuple[Array, Array]:
    """Return the integers within reach, and their chances under a discrete Gaussian."""
    reach = math.ceil(_REACH * math.sqrt(variance))
    numbers = np.arange(-reach, reach + 1, dtype=np.float64)
    weights = np.exp(-(numbers**2) / (2.0 * variance)) if reach else np.ones(1)
    return numbers, weights / math.fsum(weights)
