"""Columns that are constant, or linear combinations of earlier columns, by the information.

Such a column has no coefficient of its own. R's ``glm`` decides in the columns' order, the
intercept first: a column is left out if nothing of it is left once the columns before it are taken
out (LINPACK's ``dqrdc`` with limited pivoting, Chambers and Hastie 1992, "Statistical Models in S",
section 6.3). The same is decided here on cross products, as no coordinator has a design matrix: the
Cholesky decomposition without pivoting of the information in the columns' order. What remains on
its diagonal is the square of what is left of a column (Golub and Van Loan 2013, "Matrix
Computations", sections 4.2.5 and 5.2.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fl_he.learning.regression.parameters import row_places
from fl_he.learning.tables.arrays import Array

#: Columns whose parts in a combination are smaller, as shares of the largest, may be rounding.
_SMALL_PARTS = (1e-2, 1e-3, 1e-4)
#: A column's variance about its regression on earlier columns, as a share of its variance, below
#: which the column is aliased: a multiple correlation above 0.9999999995.
_ALIASED = 1e-9


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Features without a coefficient of their own, by their numbers.

    Attributes
    ----------
    constant
        Features that do not vary.
    aliased
        Of each aliased feature the earlier ones whose linear combination the feature is, but for a
        constant.
    """

    constant: tuple[int, ...]
    aliased: Mapping[int, tuple[int, ...]]


def design_information(hessian: Array, features: int) -> Array:
    """Return the information of one row's coefficients and intercept, shape (d + 1, d + 1).

    At a model of zeros this is a multiple of ``sum w x x'`` in every family, w the class weights.

    Parameters
    ----------
    hessian
        Without the penalty, its rows and columns laid out like the parameters.
    features
        d.
    """
    places = row_places(len(hessian) // (features + 1), features)[0]
    return np.asarray(hessian[np.ix_(places, places)], dtype=np.float64)


def dependencies(information: Array, examples: int) -> Dependencies:
    """Find constant and aliased features.

    A feature is compared with its variance about the mean: one of mean 1e6 and deviation 1 is not
    constant. The variance and what is left of it are differences of sums. Below the rounding of
    these sums, about ``sqrt(n) eps`` of each, nothing is left.

    Parameters
    ----------
    information
        Of d features and the intercept, the intercept last, at a model of zeros: see
        :func:`design_information`.
    examples
        n, the number of examples.

    Examples
    --------
    >>> ones, x = np.ones(4), np.array([1.0, 2.0, 4.0, 7.0])
    >>> design = np.column_stack([x, 7.3 * ones, 2 * x + 1, ones])
    >>> dependencies(design.T @ design, 4)
    Dependencies(constant=(1,), aliased={2: (0,)})
    """
    d = len(information) - 1
    rounding = 4.0 * np.sqrt(examples) * float(np.finfo(np.float64).eps)
    means = information[:d, d] / information[d, d]
    centred = information[:d, :d] - information[d, d] * np.outer(means, means)
    raw, variance = np.diag(information)[:d], np.diag(centred)
    varies = variance > rounding * raw
    # A column without variance must not divide; it is never used.
    scale = 1.0 / np.sqrt(np.where(varies, variance, 1.0))
    correlation = scale[:, None] * centred * scale
    lost = rounding * np.where(varies, raw * scale**2, 1.0)

    free: list[int] = []
    aliased: dict[int, tuple[int, ...]] = {}
    root = np.zeros((d, d))
    for j in np.flatnonzero(varies).tolist():
        k = len(free)
        row = np.linalg.solve(root[:k, :k], correlation[free, j])
        left = 1.0 - float(row @ row)
        loadings = np.linalg.solve(root[:k, :k].T, row).astype(np.float64)
        # Errors of the sums enter with the squared weights of the columns that they belong to.
        error = lost[j] + float(np.square(loadings) @ lost[free]) if k else 0.0
        if left < max(_ALIASED, error):
            aliased[j] = _fewest(correlation, j, free, loadings, max(_ALIASED, error))
            continue
        root[k, :k], root[k, k] = row, np.sqrt(left)
        free.append(j)
    return Dependencies(tuple(np.flatnonzero(~varies).tolist()), aliased)


def _fewest(
    correlation: Array, column: int, free: Sequence[int], loadings: Array, most: float
) -> tuple[int, ...]:
    """Return the columns of the largest parts in a combination that leave no more of a column.

    Parameters
    ----------
    correlation
        Shape (d, d).
    column
        The aliased one.
    free, loadings
        Columns of which it is a combination, and their parts for one standard deviation.
    most
        Share of the column's variance that may be left.
    """
    sizes, places = np.abs(loadings), np.array(free)
    for share in _SMALL_PARTS:
        used = places[sizes > share * sizes.max()]
        row = correlation[used, column]
        inner = correlation[np.ix_(used, used)]
        if 1.0 - float(row @ np.linalg.solve(inner, row)) < most:
            return tuple(used.tolist())
    return tuple(places[sizes > np.sqrt(_ALIASED)].tolist())
