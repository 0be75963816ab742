"""Mean and variance of features under differential privacy, from ranges that are public.

Values are clipped to their range and mapped to [-1, 1]; one patient's part of the sums is that
value and its square for each feature. Replacing a patient moves a feature's two sums by (u - v) and
(u^2 - v^2), whose squares together are largest, 4, at u = 1 and v = -1: so all sums together move
by at most ``2 sqrt(d)`` in L2, and each of the 2 d numbers by at most one step more for its
rounding. It is so for any ranges, whoever chose them.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError, PrivacyError
from fl_he.learning.privacy.gradients import GaussianPrivacy, Lattice, NoisySum
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.feature_ranges import Ranges
from fl_he.learning.tables.scaling import Scaling

#: Of half the range: a smaller scale would make noise into a feature.
_LEAST_SCALE = 0.1


def range_sums(features: Array, ranges: Ranges, fraction_bits: int) -> NDArray[np.int64]:
    """Return one hospital's sums of the mapped values and of their squares, on the lattice.

    Parameters
    ----------
    features
        Shape (m, d).
    ranges
        Of the d features.
    fraction_bits
        Of the lattice, whose step is ``2**-fraction_bits``.

    Returns
    -------
    int64 array of shape (2 d,)
        To be noised as :func:`scaling_sum` says.

    Raises
    ------
    DataError
        If the shapes do not fit.
    """
    with np.errstate(over="ignore"):
        mapped = np.clip(ranges.scaling.apply(features), -1.0, 1.0)
    each = np.concatenate([mapped, np.square(mapped)], axis=1)
    # Each row is rounded, not the sum: floating-point sums depend on the order of the rows.
    rounded = np.rint(np.ldexp(each, fraction_bits)).astype(np.int64)
    sums: NDArray[np.int64] = rounded.sum(axis=0)
    return sums


def scaling_variance(terms: GaussianPrivacy, lattice: Lattice) -> int:
    """Return the variance of one hospital's noise on :func:`range_sums`.

    Parameters
    ----------
    terms
        With a share of the budget for it.
    lattice
        Of the 2 d sums.

    Returns
    -------
    int
        In steps squared, above 0.

    Raises
    ------
    PrivacyError
        If nothing of the budget is for it, or dp-accounting is not installed.
    """
    if terms.scaling <= 0.0:
        raise PrivacyError("scaling has no share of the budget")
    return scaling_sum(lattice).variance(terms.scaling, terms)


def scaling_sum(lattice: Lattice) -> NoisySum:
    """Return :func:`range_sums` as a sum to which noise is added, on a lattice of the 2 d sums."""
    # 2 sqrt(d), and a step for the rounding of each number, both rounded up.
    exact = math.isqrt(2 * lattice.dimensions << 2 * lattice.fraction_bits) + 1
    return NoisySum(exact + math.isqrt(lattice.dimensions) + 1, lattice.dimensions)


def scaling_of_sums(
    sums: NDArray[np.int64], examples: int, ranges: Ranges, fraction_bits: int
) -> Scaling:
    """Return the scaling that noisy pooled sums give; any sums give one that can be used.

    Means are kept within their ranges, and no scale is below a tenth of half the range: noise may
    have made a variance as small as it likes.

    Parameters
    ----------
    sums
        Shape (2 d,), of all hospitals, with noise.
    examples
        Of all hospitals, at least 1.
    ranges, fraction_bits
        As in :func:`range_sums`.

    Raises
    ------
    DataError
        If the numbers are not as many as that.
    """
    features = len(ranges.low)
    if sums.shape != (2 * features,) or examples < 1:
        raise DataError(
            f"sums must be {2 * features} numbers of at least one example, got {sums.shape} "
            f"of {examples}"
        )
    means = np.ldexp(sums.astype(np.float64), -fraction_bits) / examples
    mean = np.clip(means[:features], -1.0, 1.0)
    variance = np.maximum(means[features:] - np.square(mean), _LEAST_SCALE**2)
    scale = np.minimum(np.sqrt(variance), 1.0)
    declared = ranges.scaling
    return Scaling(declared.mean + declared.scale * mean, declared.scale * scale)
