"""Newton's method for counts with an alpha: coefficients and log alpha are estimated together.

The model without features, for the likelihood-ratio test, is fitted at the same time: each total
has its derivatives too, so that it takes no rounds.

Far from the optimum the Hessian is not positive definite. The step then leaves out the derivatives
by coefficients and log alpha together, whose expectation is 0, and takes the curvature by alpha in
the place of that by log alpha: Lawless 1987, "Negative binomial and mixed Poisson regression".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.base import Overdispersion, Point, rounding_of
from fl_he.learning.optimizers.damped import Newton
from fl_he.learning.optimizers.scoring import COUNTS, information_of, point_of
from fl_he.learning.regression.inference import inverse_of
from fl_he.learning.regression.negative_binomial import TOLD
from fl_he.learning.regression.products import less, product
from fl_he.learning.tables.arrays import Array

#: Sums of the model without features, as `fl_he.learning.regression.likelihood` lays them out:
#: loss, gradient, Hessian, Pearson's chi-square, and three derivatives by log alpha.
_NULL = 7
#: Derivatives by log alpha, apart from those by the parameters and log alpha.
_SLOPES = 2
#: Change of log alpha in one step above which parameters and alpha take steps of their own.
_LONG = 0.5
#: Change of alpha in one step, as a share of alpha.
_LEAST, _MOST = -0.9, 3.0
#: Of alpha times the mean count; below it no data tell an alpha from 0.
_NONE = 1e-4


def overdispersed_point(
    theta: Array,
    told: Sequence[float],
    parts: Array,
    examples: int,
    mean: float,
    *,
    sites: bool = False,
) -> Point:
    """Return what sums tell of a model with an alpha, without any penalty.

    Parameters
    ----------
    theta, parts, examples
        See :func:`fl_he.learning.optimizers.scoring.point_of`. Derivatives by log alpha follow the
        others, and then those of the model without features.
    told
        See :func:`fl_he.learning.regression.negative_binomial.told_alpha`.
    mean
        Of the outcome.
    sites
        Whether the sums end with `SiteCounts`.

    Raises
    ------
    DataError
        If they are of other parameters.
    """
    size = len(theta)
    by_alpha, others = _SLOPES + size, 2 + size + size * (size + 1) // 2
    parts, counts = np.split(parts, [parts.shape[1] - COUNTS * sites], axis=1)
    if parts.shape[1] != others + by_alpha + _NULL or len(told) != TOLD:
        raise DataError("derivatives must be of a model with an alpha, and they are not")
    own, null = parts[:, : -by_alpha - _NULL], parts[0, -_NULL:] / examples
    slope, curvature, *cross = (parts[0, -by_alpha - _NULL : -_NULL] / examples).tolist()
    loss, by_intercept, twice, _, by_log, by_log_twice, mixed = null.tolist()
    found = Overdispersion(
        tuple(told),
        slope,
        curvature,
        np.array(cross),
        loss,
        np.array([by_intercept, by_log]),
        np.array([[twice, mixed], [mixed, by_log_twice]]),
        mean,
    )
    own = np.column_stack([own, counts])
    return replace(point_of(theta, own, examples, sites=sites), overdispersion=found)


def is_too_small(log_alpha: float, slope: float, mean: float) -> bool:
    """Return whether alpha tells nothing and should be smaller still: counts are Poisson's."""
    return math.exp(log_alpha) * mean < _NONE and slope > 0.0


def without_alpha(point: Point) -> Point:
    """Return a point whose Hessian is that of the loss at the best alpha for given parameters.

    The second derivative of this profile is the Schur complement of log alpha, whose inverse is the
    parameters' block of the inverse of the whole: Patefield 1977, "On the maximized likelihood
    function". Where the whole is not positive definite, and without an alpha, the point stays as it
    is.
    """
    alpha, hessian, examples = point.overdispersion, point.hessian, point.examples
    if alpha is None or hessian is None or not _is_convex(_with_alpha(point)):
        return point
    row = alpha.cross[None, :] * math.sqrt(examples / alpha.curvature)
    rest = np.zeros_like(hessian) if point.rest is None else point.rest
    rounded, lost = less((information_of(point), rest), product(row, row))
    reduced = replace(point, hessian=rounded / examples)
    return replace(reduced, rest=rounded - information_of(reduced) + lost)


def log_alpha_error(point: Point, free: NDArray[np.intp]) -> float:
    """Return the standard error of log alpha, not a number if the information is singular.

    Parameters
    ----------
    point
        Without a penalty.
    free
        Places of the parameters that take part.
    """
    places = np.append(free, len(point.theta))
    inverse = inverse_of(information_of(_with_alpha(point))[np.ix_(places, places)])
    return math.nan if inverse is None else math.sqrt(inverse[-1, -1])


class OverdispersedNewton(Newton):
    """Damped Newton's method for the parameters followed by the numbers told of alpha."""

    def step(self, point: Point) -> Array:
        """See Optimizer; shape (p + 3,)."""
        return super().step(_whole(point))

    def distance(self, point: Point) -> float:
        """See Newton, of all that is estimated."""
        return super().distance(_whole(point))

    def direction(self, point: Point) -> tuple[Array, float]:
        """See DampedOptimizer; alpha is changed by a share of its size."""
        direction, length = super().direction(point)
        places = [-TOLD, -1]
        direction[places] = np.log1p(np.clip(direction[places], _LEAST, _MOST))
        return direction, length

    def most_numbers(self, parameters: int) -> int:
        """See Optimizer."""
        return super().most_numbers(parameters + TOLD)


def _whole(point: Point) -> Point:
    """Return the point of the parameters followed by the numbers told of alpha."""
    alpha = point.overdispersion
    if alpha is None:
        raise DataError("steps of alpha must be given derivatives by it")
    own = _safe(_with_alpha(point))
    null = replace(
        point,
        theta=np.array(alpha.told[1:]),
        gradient=alpha.null_gradient,
        hessian=alpha.null_hessian,
        rest=None,
    )
    if is_too_small(alpha.told[-1], float(alpha.null_gradient[-1]), alpha.mean):
        null = replace(null, gradient=null.gradient * np.array([1.0, 0.0]))
    null = _safe(null)
    size = len(own.theta)
    hessian = np.zeros((size + len(null.theta),) * 2)
    rest = np.zeros_like(hessian)
    hessian[:size, :size], hessian[size:, size:] = own.hessian, null.hessian
    if own.rest is not None:
        rest[:size, :size] = own.rest
    return replace(
        own,
        theta=np.concatenate([own.theta, null.theta]),
        loss=point.loss + alpha.null_loss,
        gradient=np.concatenate([own.gradient, null.gradient]),
        hessian=hessian,
        rest=None if own.rest is None else rest,
    )


def _with_alpha(point: Point) -> Point:
    """Return the point of the parameters followed by log alpha, as it is."""
    alpha, hessian = point.overdispersion, point.hessian
    if alpha is None or hessian is None:
        raise DataError("derivatives by alpha must come with a Hessian")
    whole = np.block([[hessian, alpha.cross[:, None]], [alpha.cross, np.array(alpha.curvature)]])
    return replace(
        point,
        theta=np.append(point.theta, alpha.told[0]),
        gradient=np.append(point.gradient, alpha.slope),
        hessian=whole,
        rest=None if point.rest is None else np.pad(point.rest, (0, 1)),
        overdispersion=None,
    )


def _is_convex(point: Point) -> bool:
    """Return whether no eigenvalue is negative but for rounding, and log alpha has information."""
    values, _, _ = point.spectrum
    informed = point.hessian is not None and point.hessian[-1, -1] > 0.0
    return bool(informed and values[0] >= -rounding_of(values))


def _safe(point: Point) -> Point:
    """Return the point of parameters and log alpha with a Hessian whose step is not too long."""
    if _is_convex(point):
        step, _ = Newton().direction(point)
        if abs(float(step[-1])) <= _LONG:
            return point
    slope, hessian = float(point.gradient[-1]), np.array(point.hessian)
    by_alpha = float(hessian[-1, -1]) - slope
    hessian[-1, :-1] = hessian[:-1, -1] = 0.0
    hessian[-1, -1] = by_alpha if by_alpha > 0.0 else max(abs(slope), np.finfo(np.float64).tiny)
    return replace(point, hessian=hessian)
