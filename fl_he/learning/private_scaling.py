"""Mean and variance of features under differential privacy, from ranges that are public.

What a feature's values are in is declared beforehand, from what is known of the feature and not
from the data: an age is between 0 and 120. Values are clipped to their range and mapped to
[-1, 1]; one patient's part of the sums is that value and its square for each feature. Replacing a
patient moves a feature's two sums by (u - v) and (u^2 - v^2), whose squares together are largest,
4, at u = 1 and v = -1: so all sums together move by at most ``2 sqrt(d)`` in L2, and each of the
2 d numbers by at most one step more for its rounding.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.arrays import finite_array
from fl_he.learning.errors import DataError
from fl_he.learning.scaling import Scaling

Array = NDArray[np.float64]

#: Of half the range: a smaller scale would make noise into a feature.
_LEAST_SCALE = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Ranges:
    """Between what the values of each feature are, by public knowledge.

    Parameters
    ----------
    low, high
        Shape (d,), finite, each low below its high.

    Raises
    ------
    DataError
        If one of these does not hold.
    """

    low: Array
    high: Array

    def __post_init__(self) -> None:
        low = finite_array(self.low, "low", dimensions=1)
        high = finite_array(self.high, "high", dimensions=1)
        # Half a range of neighbouring float64 may be 0.
        if low.shape != high.shape or not (low / 2.0 < high / 2.0).all():
            raise DataError("low must be below high for every feature, and both of one length")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)

    @property
    def centre(self) -> Array:
        """Middle of each range."""
        centre: Array = self.low / 2.0 + self.high / 2.0
        return centre

    @property
    def half(self) -> Array:
        """Half of each range's length."""
        half: Array = self.high / 2.0 - self.low / 2.0
        return half


def read_ranges(path: Path, feature_names: Sequence[str]) -> Ranges:
    """Read a CSV file with the columns feature, low and high, in any order of rows.

    A JSON file is a list of objects with these members; Flower ships no CSV files.

    Raises
    ------
    DataError
        If the file cannot be read, or does not hold one usable range for each feature.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = json.load(file) if path.suffix == ".json" else list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"ranges must be a CSV or JSON file, got {path}: {type(error).__name__}"
        ) from error
    if not isinstance(rows, list):
        raise DataError(f"ranges must be a list in a JSON file, got another thing in {path}")
    found: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows, start=1):
        try:
            name, bounds = row["feature"].strip(), (float(row["low"]), float(row["high"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise DataError(
                f"ranges must have a feature and the numbers low and high in row {number} of {path}"
            ) from None
        if name in found or name not in feature_names:
            what = "twice" if name in found else "which is no feature"
            raise DataError(f"ranges must be one for each feature, got {name!r} {what}")
        found[name] = bounds
    if missing := [name for name in feature_names if name not in found]:
        raise DataError(f"ranges must be one for each feature, got none for {missing[0]!r}")
    low, high = np.array([found[name] for name in feature_names]).reshape(-1, 2).T
    return Ranges(low, high)


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
        To be noised with :func:`range_distance`.

    Raises
    ------
    DataError
        If the shapes do not fit.
    """
    if features.ndim != 2 or features.shape[1] != len(ranges.low):
        raise DataError(f"features must have shape (rows, {len(ranges.low)}), got {features.shape}")
    clipped = np.clip(features, ranges.low, ranges.high)
    mapped = np.clip((clipped - ranges.centre) / ranges.half, -1.0, 1.0)
    each = np.concatenate([mapped, np.square(mapped)], axis=1)
    # Each row is rounded, not the sum: floating-point sums depend on the order of the rows.
    rounded = np.rint(np.ldexp(each, fraction_bits)).astype(np.int64)
    sums: NDArray[np.int64] = rounded.sum(axis=0)
    return sums


def range_distance(features: int, fraction_bits: int) -> int:
    """Return how far, in steps, replacing a patient moves :func:`range_sums` in L2, at most.

    Parameters
    ----------
    features
        d, at least 1.
    fraction_bits
        Of the lattice.
    """
    exact = math.isqrt(4 * features << 2 * fraction_bits) + 1
    return exact + math.isqrt(2 * features) + 1


def scaling_of_sums(
    sums: NDArray[np.int64], examples: int, ranges: Ranges, fraction_bits: int
) -> Scaling:
    """Return the scaling that noisy pooled sums give; whatever they are, it can be used.

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
    return Scaling(ranges.centre + ranges.half * mean, ranges.half * scale)
