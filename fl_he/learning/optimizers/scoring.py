"""Fisher scoring for Firth's penalty, which learns the penalty's own curvature on its way.

The step solves ``I step = score``, I the information without the penalty: Heinze and Schemper 2002,
"A solution to the problem of separation in logistic regression", section 2. That converges slowly
where the penalty has much of the curvature, so it is learnt from the penalty's gradients.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.base import Point, SiteCounts, read_vectors
from fl_he.learning.optimizers.damped import Newton
from fl_he.learning.regression.cox import trend_values
from fl_he.learning.regression.firth import adjustment_sum, inverse, root, whitening
from fl_he.learning.regression.likelihood import (
    derivative_parts,
    examples_of,
    from_upper_triangle,
    mean_derivatives,
    upper_triangle,
)
from fl_he.learning.regression.registry import family_of
from fl_he.learning.tables.arrays import Array, finite_array
from fl_he.learning.tables.data import Dataset

#: Least curvature along any direction, as a share of the information's.
_LEAST_CURVATURE = 0.3
#: Of a fit of one table: steps at most, and how far it may be from the optimum.
_MOST_STEPS, _FITTED = 200, 1e-9
#: Numbers of `SiteCounts`.
COUNTS = len(fields(SiteCounts))
#: A secant is not learnt from if its correction is no larger relative to its vectors.
_LEAST_CORRECTION = 1e-8


def information_of(point: Point) -> Array:
    """Return the information of all examples at a model, without any penalty; shape (p, p)."""
    if point.hessian is None:
        raise DataError("Firth's penalty and profile likelihoods must be given the information")
    return point.examples * point.hessian


def point_of(
    theta: Array, parts: Array, examples: int, *, sites: bool = False, by_loss: bool = False
) -> Point:
    """Return what sums of derivatives of second order tell of a model, without any penalty.

    Parameters
    ----------
    theta
        Shape (p,).
    parts
        Sums of :func:`fl_he.learning.regression.likelihood.derivative_parts`, shape (2, k).
    examples
        How many they are of.
    sites
        Whether the sums end with `SiteCounts`.
    by_loss
        Whether the loss's own Hessian is behind Pearson's chi-square.

    Raises
    ------
    DataError
        If they are of other parameters.
    """
    counts = None
    if sites:
        counts, parts = SiteCounts.of_vector(parts[0, -COUNTS:]), parts[:, :-COUNTS]
    start = 1 + len(theta)
    end = start + len(theta) * start // 2
    (sums, rest), more = parts[:, :end], parts[0, end:]
    known = (0, trend_values(len(theta) - 1), len(theta) * start // 2)
    if len(more) and len(more) - 1 not in known:
        raise DataError(f"the derivatives' length is not that of {len(theta)} parameters")
    pearson, behind = (float(more[0]), more[1:]) if len(more) else (math.nan, more)
    own = None
    if by_loss:
        own, behind = from_upper_triangle(behind, len(theta)) / examples, more[:0]
    loss, gradient, hessian = mean_derivatives(sums, len(theta), examples)
    point = Point(
        *(theta, loss, gradient, examples, hessian),
        pearson=pearson,
        trends=behind if len(behind) else None,
        loss_hessian=own,
        sites=counts,
    )
    # The difference of two numbers that are equal but for their last digits is exact.
    lost = from_upper_triangle(sums[start:], len(theta)) - information_of(point)
    return replace(point, rest=lost + from_upper_triangle(rest[start:], len(theta)))


def with_firth(point: Point, adjustment: Array) -> Point:
    """Add Firth's penalty to the mean loss and gradient.

    Parameters
    ----------
    point
        Without a penalty, with its Hessian.
    adjustment
        Sum of all hospitals' :func:`fl_he.learning.regression.firth.adjustment_sum`, shape (p,).

    Returns
    -------
    Point
        The loss is infinite where the information is singular: no step ends there. The Hessian
        stays the information's mean.

    Raises
    ------
    DataError
        If the adjustment is of another number of parameters.
    """
    if adjustment.shape != point.theta.shape:
        raise DataError(f"an adjustment must have {len(point.theta)} values, got {adjustment.size}")
    _, log_determinant = whitening(information_of(point), point.theta, point.rest)
    slope = -adjustment / point.examples
    return replace(
        point,
        loss=point.loss - 0.5 * log_determinant / point.examples,
        gradient=point.gradient + slope,
        penalty_gradient=slope,
    )


def fitted(dataset: Dataset) -> Array | None:
    """Return the estimates of one table with Firth's penalty, ``None`` if there are none.

    There are none if columns are linear combinations of others.
    """
    optimizer = FisherScoring()
    theta = family_of(dataset).zeros(len(dataset.feature_names), dataset.class_count)
    for _ in range(_MOST_STEPS):
        examples = examples_of(dataset, theta)
        point = point_of(theta, derivative_parts(examples), dataset.examples)
        try:
            point = with_firth(
                point, adjustment_sum(examples, root(information_of(point), theta, point.rest))
            )
            theta = optimizer.step(point)
        except DataError:
            return None
        if optimizer.distance(point) <= _FITTED:
            return theta
    return None


class Curvature:
    """Curvature that the information leaves out, learnt from gradients of the penalty.

    The symmetric rank-one update of the penalty's Hessian: Nocedal and Wright 2006, "Numerical
    Optimization", section 6.2, equations 6.24 and 6.26.
    """

    def __init__(self) -> None:
        self._matrix: Array | None = None
        self._last: tuple[Array, Array] | None = None

    def learn(self, theta: Array, slope: Array, information: Array) -> None:
        """Take note of the penalty's gradient at a model.

        Parameters
        ----------
        theta, slope
            Shape (p,).
        information
            There, shape (p, p), of the same number of examples as the gradient.
        """
        matrix = np.zeros_like(information) if self._matrix is None else self._matrix
        if self._last is not None:
            moved, turned = theta - self._last[0], slope - self._last[1]
            missing = turned - matrix @ moved
            along = float(missing @ moved)
            # In the metric of the information, so that a feature's unit does not count.
            white, _ = whitening(information, theta)
            lengths = np.sqrt(moved @ information @ moved) * np.linalg.norm(missing @ white)
            if abs(along) > _LEAST_CORRECTION * float(lengths):
                matrix = matrix + np.outer(missing, missing) / along
        self._matrix, self._last = matrix, (theta, slope)

    def shift(self, information: Array, rest: Array | None) -> float | None:
        """Return the length of the penalty's gradient in standard errors; ``None``: not known.

        At the penalised estimates this is the likelihood's Newton decrement: about so far away is
        the maximum of the likelihood without the penalty.

        Parameters
        ----------
        information
            At the model of the last gradient, shape (p, p).
        rest
            The part of the information that its rounding leaves out; ``None``: nothing.
        """
        if self._last is None:
            return None
        theta, slope = self._last
        white, log_determinant = whitening(information, theta, rest)
        return float(np.linalg.norm(slope @ white)) if math.isfinite(log_determinant) else None

    def covariance(self, information: Array, theta: Array) -> Array:
        """Return the inverse of the information and of what it leaves out, shape (p, p).

        Where that would be little or negative, it is taken to be a share of the information.
        """
        if self._matrix is None:
            return inverse(information, theta)
        white, _ = whitening(information, theta)
        values, vectors = np.linalg.eigh(np.eye(white.shape[1]) + white.T @ self._matrix @ white)
        root = white @ (vectors / np.sqrt(np.maximum(values, _LEAST_CURVATURE)))
        return np.asarray(root @ root.T, dtype=np.float64)

    def to_members(self) -> dict[str, Any]:
        """Return what it remembers, as JSON can hold it."""
        if self._matrix is None or self._last is None:
            return {"curvature": None}
        theta, slope = self._last
        return {
            "curvature": upper_triangle(self._matrix).tolist(),
            "last_theta": theta.tolist(),
            "last_slope": slope.tolist(),
        }

    @classmethod
    def from_members(cls, members: Mapping[str, Any]) -> Curvature:
        """Read what `to_members` returned; raises DataError."""
        result = cls()
        if members.get("curvature") is not None:
            theta, slope = read_vectors(members, "last_theta", "last_slope")
            values = finite_array(members["curvature"], "the curvature", dimensions=1)
            result._matrix, result._last = from_upper_triangle(values, len(theta)), (theta, slope)
        return result


class FisherScoring(Newton):
    """Damped Fisher scoring, with what the steps tell of the penalty's curvature.

    The points must have Firth's penalty in them: see `with_firth`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._curvature = Curvature()
        self._examples: int | None = None

    def step(self, point: Point) -> Array:
        """See Optimizer."""
        if self._examples != point.examples:  # the penalty of other examples is another function
            self._examples, self._curvature = point.examples, Curvature()
        if point.penalty_gradient is not None and math.isfinite(point.loss):
            slope = point.examples * point.penalty_gradient
            self._curvature.learn(point.theta, slope, information_of(point))
        theta = super().step(point)
        if self._base is None or not math.isfinite(self._base.loss):
            raise DataError(
                "the information is singular: some columns are linear combinations of others; "
                "leave them out (data.drop)"
            )
        return theta

    def direction(self, point: Point) -> tuple[Array, float]:
        """See DampedOptimizer."""
        score = -point.examples * point.gradient
        return self._curvature.covariance(information_of(point), point.theta) @ score, 1.0

    def shift(self, information: Array, rest: Array | None) -> float | None:
        """Return how far the penalty moves the estimates; see `Curvature.shift`."""
        return self._curvature.shift(information, rest)

    def to_members(self) -> dict[str, Any]:
        """See Optimizer."""
        members = self._curvature.to_members()
        return {**super().to_members(), "examples": self._examples, **members}

    def most_numbers(self, parameters: int) -> int:
        """See Optimizer."""
        triangle = parameters * (parameters + 1) // 2
        return super().most_numbers(parameters) + 2 * parameters + triangle

    def restore(self, members: Mapping[str, Any]) -> None:
        """See Optimizer."""
        super().restore(members)
        examples = members.get("examples")
        if not isinstance(examples, int | None):
            raise DataError("the training's examples must be an integer")
        self._examples, self._curvature = examples, Curvature.from_members(members)
