"""Standardisation of features: zero mean and unit variance."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array, finite_array, set_fields
from fl_he.learning.tables.columns import cells, described
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.table_file import some

_MOST_NAMED = 10
#: Squares of larger numbers are no float64.
_LARGEST = 1e150
#: A smaller variance of numbers that differ is no float64 of full precision.
_SMALLEST = 1e-300


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """Shift and scale of each feature.

    Parameters
    ----------
    mean
        Shape (d,), finite.
    scale
        Shape (d,), finite and greater than 0.

    Raises
    ------
    DataError
        If one of these does not hold.
    """

    mean: Array
    scale: Array

    def __post_init__(self) -> None:
        mean = finite_array(self.mean, "mean", dimensions=1)
        scale = finite_array(self.scale, "scale", dimensions=1)
        if mean.shape != scale.shape:
            raise DataError(f"scale must have {len(mean)} values as mean has, got {len(scale)}")
        unusable = int(np.count_nonzero(scale <= 0.0))
        if unusable:
            raise DataError(f"scale must be greater than 0, got {unusable} values that are not")
        set_fields(self, mean=mean, scale=scale)

    @classmethod
    def none(cls, features: int) -> Scaling:
        """Return the scaling that leaves this many features as they are."""
        return cls(mean=np.zeros(features), scale=np.ones(features))

    def apply(self, features: Array) -> Array:
        """Return ``(features - mean) / scale`` for features of shape (m, d).

        Raises
        ------
        DataError
            If the features do not have d columns.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise DataError(
                f"features must have shape (rows, {len(self.mean)}), got {features.shape}"
            )
        scaled: Array = (features - self.mean) / self.scale
        return scaled


def standardise(dataset: Dataset) -> tuple[Dataset, Scaling]:
    """Standardise a dataset as scikit-learn's ``StandardScaler`` does.

    The scale is the population's standard deviation (divided by m, not m - 1), and 1 for a
    constant feature: see :func:`from_moments`.

    Returns
    -------
    tuple[Dataset, Scaling]
        The standardised dataset, and what was done to its features.

    Raises
    ------
    DataError
        If a feature is so large, or differs by so little, that its variance is not a float64.
    """
    features = dataset.features
    with np.errstate(over="ignore", invalid="ignore"):
        mean, variance = features.mean(axis=0), features.var(axis=0)
    large = (np.abs(features) >= _LARGEST) & ~np.isfinite(variance)
    if large.any():
        found = cells(dataset.feature_names, large, "cell{s} above 1e150", dataset.rows)
        where = described({name: facts.words for name, facts in found.items()})
        raise DataError(
            "numbers must be below 1e150 in size to be standardised; they are larger in "
            f"{where}: correct such cells, or save the column in a larger unit"
            f"{dataset.rows.note if dataset.rows else ''}"
        )
    varies = features.max(axis=0) > features.min(axis=0)
    small = [dataset.feature_names[at] for at in np.flatnonzero(varies & (variance < _SMALLEST))]
    if small:
        raise DataError(
            "numbers must be 1e-150 or more apart to be standardised; they are closer in "
            f"column {some(small, _MOST_NAMED)}: save them in a smaller unit"
        )
    scaling = from_moments(mean, variance, dataset.examples)
    return replace(dataset, features=scaling.apply(features)), scaling


def from_moments(mean: Array, variance: Array, roundings: int) -> Scaling:
    """Return the scaling that makes features of this mean and variance standard.

    A feature that is constant within rounding has scale 1. Rounding is judged as scikit-learn
    does, by the error bound of the two-pass variance: Chan, Golub and LeVeque 1983, "Algorithms
    for computing the sample variance: analysis and recommendations".

    Parameters
    ----------
    mean, variance
        Shape (d,), of all examples; the variance is the population's.
    roundings
        How often a sum was rounded: as often as there are examples, unless it was summed exactly.

    Raises
    ------
    DataError
        If one of them is not finite.
    """
    constant = is_constant(mean, variance, roundings)
    with np.errstate(over="ignore", invalid="ignore"):
        return Scaling(mean, np.where(constant, 1.0, np.sqrt(variance)))


def is_constant(mean: Array, variance: Array, roundings: int) -> NDArray[np.bool_]:
    """Return which features do not vary within rounding; see :func:`from_moments`."""
    with np.errstate(over="ignore", invalid="ignore"):
        rounding = roundings * np.finfo(np.float64).eps
        bound = rounding * variance + (rounding * mean) ** 2
        constant: NDArray[np.bool_] = (variance <= bound) & np.isfinite(variance)
    return constant
