"""Differential privacy of summed gradients: clipping, noise shares, and what they are worth.

Neighbouring data sets differ in the record of one patient of one hospital, which is replaced by any
other; how many patients each hospital has is public. A patient's gradient is clipped to the norm
``clip`` and laid on the lattice of fixed-point numbers, towards zero, so the norm does not grow.
Then replacing a patient moves a hospital's sum by at most ``2 * clip`` in L2, rounding included:
the gradients of all others stay, as they depend on the model and on public numbers only. Abadi et
al. 2016, "Deep Learning with Differential Privacy", algorithm 1.

Each hospital adds its own share of discrete Gaussian noise to its integers. Only the shares of
``contributors`` hospitals are counted, the fewest that a total may consist of; more add noise that
nobody counts on. ``accounting`` has the cost of such a sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import PrivacyError
from fl_he.learning.privacy.accounting import GaussianCost, gaussian_budget, gaussian_cost
from fl_he.learning.tables.arrays import Array

#: Beyond it a mean times its number of examples is not the sum's integer any more.
LARGEST_INTEGER_BITS = 50
#: A norm in float64 is wrong by less than this, relatively, up to a million dimensions.
_NORM_SLACK = 2.0**-30


@dataclass(frozen=True, slots=True)
class GaussianPrivacy:
    """Promise to patients, and the releases that it covers.

    Parameters
    ----------
    epsilon, delta : float
        Of all releases together, towards everybody outside the hospitals; epsilon above 0, delta
        above 0 and below 1.
    clip : float
        Largest L2 norm of one patient's gradient, above 0.
    rounds : int
        How many gradients a hospital releases, at least 1.
    contributors : int
        How many hospitals' noise is counted, at least 1.
    scaling : float
        Share of the budget, below 1, that one release of sums pays with by which the features are
        scaled (:mod:`fl_he.learning.privacy.scaling`); 0: there is none.

    Raises
    ------
    PrivacyError
        If a value is out of range.
    """

    epsilon: float
    delta: float
    clip: float
    rounds: int
    contributors: int
    scaling: float = 0.0

    def __post_init__(self) -> None:
        for name in ("epsilon", "clip"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise PrivacyError(f"{name} must be above 0 and finite, got {value:g}")
        if not 0.0 < self.delta < 1.0:
            raise PrivacyError(f"delta must be above 0 and below 1, got {self.delta:g}")
        for name in ("rounds", "contributors"):
            count = getattr(self, name)
            if count < 1:
                raise PrivacyError(f"{name} must be at least 1, got {count}")
        if not 0.0 <= self.scaling < 1.0:
            raise PrivacyError(f"scaling must be at least 0 and below 1, got {self.scaling:g}")


@dataclass(frozen=True, slots=True)
class Lattice:
    """The fixed-point numbers on which sums are counted.

    Parameters
    ----------
    fraction_bits : int
        The step is ``2**-fraction_bits``.
    dimensions : int
        Numbers in one sum, at least 1.
    """

    fraction_bits: int
    dimensions: int


@dataclass(frozen=True, slots=True)
class NoisySum:
    """A sum to which each hospital adds a share of discrete Gaussian noise.

    Parameters
    ----------
    distance : int
        How far, in steps, the sum moves in L2 from a data set to a neighbour, at most.
    dimensions : int
        Numbers in the sum.
    """

    distance: int
    dimensions: int

    def cost(self, variance: int, contributors: int) -> GaussianCost:
        """Return the cost of the sum with this many shares of a variance in steps squared."""
        return gaussian_cost(
            self.distance, variance, shares=contributors, dimensions=self.dimensions
        )

    def variance(self, share: float, terms: GaussianPrivacy, releases: int = 1) -> int:
        """Return the least variance, above 0, of one hospital's noise on this many such sums.

        Parameters
        ----------
        share : float
            Of the budget that the terms give, above 0.
        terms : GaussianPrivacy
        releases : int

        Raises
        ------
        PrivacyError
            If dp-accounting is not installed.
        """
        whole = gaussian_budget(terms.epsilon, terms.delta)
        budget = GaussianCost(share * whole.squared_mu, share * whole.gap)
        variance = math.ceil(releases * self.distance**2 / (budget.squared_mu * terms.contributors))
        while not self.cost(variance, terms.contributors).times(releases).fits(budget):
            variance += 1 + variance // 10**6  # what keeps the gap to continuous noise small
        return variance


def lattice_clip(clip: float, fraction_bits: int) -> int:
    """Return the clipping norm in steps of the lattice, rounded down.

    Raises
    ------
    PrivacyError
        If it is less than one step: every gradient would become zero.
    """
    steps = math.floor(math.ldexp(clip, fraction_bits))
    if steps < 1:
        raise PrivacyError(f"clip must be at least 2**-{fraction_bits}, got {clip:g}")
    return steps


def clipped_sum(gradients: Array, clip: float, fraction_bits: int) -> NDArray[np.int64]:
    """Return the sum of clipped gradients, in steps of the lattice.

    Parameters
    ----------
    gradients : ndarray, shape (m, d)
        One row for each patient. What is not a number counts as 0: whoever chooses the model
        could otherwise tell by it.
    clip : float
        Largest L2 norm of a row in the sum.
    fraction_bits : int
        Of the lattice.

    Returns
    -------
    int64 array of shape (d,)

    Raises
    ------
    PrivacyError
        If the sum may leave the integers that are exact, ``2**50``.
    """
    steps = lattice_clip(clip, fraction_bits)
    if (len(gradients) * steps).bit_length() > LARGEST_INTEGER_BITS:
        raise PrivacyError(
            f"clip * 2**fraction_bits * patients must be below 2**{LARGEST_INTEGER_BITS}, got "
            f"clip {clip:g}, {fraction_bits} fraction bits and {len(gradients)} patients"
        )
    with np.errstate(divide="ignore", over="ignore"):
        rows = np.where(np.isfinite(gradients), gradients, 0.0)
        norms = np.linalg.norm(rows, axis=1)
        factors = np.minimum(math.ldexp(1.0, fraction_bits), (1.0 - _NORM_SLACK) * steps / norms)
    total: NDArray[np.int64] = np.trunc(rows * factors[:, None]).astype(np.int64).sum(axis=0)
    return total


def noise_variance(terms: GaussianPrivacy, lattice: Lattice) -> int:
    """Return the variance of one hospital's noise on a gradient that keeps the promise.

    Returns
    -------
    int
        In steps squared, above 0.

    Raises
    ------
    PrivacyError
        If dp-accounting is not installed or the clipping norm is less than a step.
    """
    return _gradient_sum(terms, lattice).variance(1.0 - terms.scaling, terms, terms.rounds)


def epsilon_of_releases(
    terms: GaussianPrivacy,
    variance: int,
    lattice: Lattice,
    contributors: int | None = None,
    *,
    scaling: GaussianCost | None = None,
) -> float:
    """Return the epsilon of all releases, at the terms' delta.

    Parameters
    ----------
    terms : GaussianPrivacy
    variance : int
        Of one hospital's noise, in steps squared.
    lattice : Lattice
    contributors : int or None
        How many shares are counted; the terms' number if it is not given. One less is what is
        left towards a hospital, which knows its own share.
    scaling : GaussianCost or None
        Cost of the sums for the scaling, with as many shares, if they are released.
    """
    counted = terms.contributors if contributors is None else contributors
    cost = _gradient_sum(terms, lattice).cost(variance, counted).times(terms.rounds)
    return (cost if scaling is None else cost + scaling).epsilon(terms.delta)


def _gradient_sum(terms: GaussianPrivacy, lattice: Lattice) -> NoisySum:
    return NoisySum(2 * lattice_clip(terms.clip, lattice.fraction_bits), lattice.dimensions)
