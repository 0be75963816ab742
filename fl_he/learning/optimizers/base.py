"""Optimizers' interface: the next model from a round's total over the last one.

Every optimizer sees one :class:`Point` a round: the penalised mean loss of the model that was sent,
its gradient and, if it asks for it, its Hessian. What it remembers from round to round is
``to_members``, plain numbers that give it back bit for bit.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.regression.likelihood import from_upper_triangle, upper_triangle
from fl_he.learning.regression.parameters import is_penalised
from fl_he.learning.regression.products import within
from fl_he.learning.tables.arrays import Array, finite_array

#: Share of the largest eigenvalue below which an eigenvalue has lost half of its digits.
_FEW_DIGITS = 1e-8


@dataclass(frozen=True, slots=True)
class SiteCounts:
    """Number of sites with a finite intercept, and rows of the sites without one.

    Attributes
    ----------
    contributing
        Sites with a finite intercept.
    silent
        Rows of all other sites, but for those of ``withheld``.
    withheld
        Other sites of so few rows that they do not tell their number.
    """

    contributing: int
    silent: int
    withheld: int

    def to_vector(self) -> Array:
        """Return the counts in their order, shape (3,)."""
        return np.array(astuple(self), dtype=np.float64)

    @classmethod
    def of_vector(cls, counts: Array) -> SiteCounts:
        """Read what `to_vector` returned, or a sum of such; raises DataError."""
        if counts.shape != (len(fields(cls)),) or not (counts >= 0.0).all():
            raise DataError("sites with a finite intercept must be counted, and they are not")
        return cls(*np.rint(counts).astype(int).tolist())


@dataclass(frozen=True, eq=False)
class Overdispersion:
    """Derivatives of the mean loss by the logarithm of alpha, and the model without features.

    Attributes
    ----------
    told
        Where they are: see :func:`fl_he.learning.regression.negative_binomial.told_alpha`.
    slope, curvature
        First and second derivative by the logarithm.
    cross
        Derivative of the gradient by the logarithm, shape (p,).
    null_loss, null_gradient, null_hessian
        Of the intercept and the logarithm of alpha of the model without features, shape (2,) and
        (2, 2).
    mean
        Of the outcome.
    """

    told: tuple[float, ...]
    slope: float
    curvature: float
    cross: Array
    null_loss: float
    null_gradient: Array
    null_hessian: Array
    mean: float


@dataclass(frozen=True, eq=False)
class Point:
    """A model, and what its objective looks like there.

    Attributes
    ----------
    theta
        Parameters, shape (p,).
    loss
        Mean log loss with the penalty; not a number where nobody may know it.
    gradient
        Shape (p,).
    examples
        How many the means are of. Points of different examples are not compared.
    hessian
        Shape (p, p), or ``None`` if nobody asked for it.
    penalty_gradient
        The part of the gradient that is Firth's penalty's, shape (p,); ``None`` without it.
    rest
        What the rounding of ``examples * hessian`` leaves out, shape (p, p); ``None``: not known.
    pearson
        Pearson's chi-square of all examples, of an outcome that is a number; else not a number.
    trends
        Sums of :mod:`fl_he.learning.regression.hazards`, of a time to an event; else ``None``.
    loss_hessian
        Of the loss itself, shape (p, p), where ``hessian`` is its expectation; else ``None``.
    dispersion
        By which the information is smaller than ``examples * hessian``.
    sites
        `SiteCounts` where each site has its own intercept; else ``None``.
    overdispersion
        Of counts with an alpha; else ``None``.
    """

    theta: Array
    loss: float
    gradient: Array
    examples: int
    hessian: Array | None = None
    penalty_gradient: Array | None = None
    rest: Array | None = None
    pearson: float = math.nan
    trends: Array | None = None
    loss_hessian: Array | None = None
    dispersion: float = 1.0
    sites: SiteCounts | None = None
    overdispersion: Overdispersion | None = None

    @property
    def gradient_norm(self) -> float:
        """Euclidean norm of the gradient."""
        return float(np.linalg.norm(self.gradient))

    def to_members(self) -> dict[str, Any]:
        """Return what waits for the derivatives of Firth's penalty, as JSON can hold it."""
        triangles = {
            name: None if matrix is None else upper_triangle(matrix).tolist()
            for name, matrix in (("hessian", self.hessian), ("rest", self.rest))
        }
        return {
            "theta": self.theta.tolist(),
            "loss": self.loss,
            "gradient": self.gradient.tolist(),
            "examples": self.examples,
            **triangles,
        }

    @classmethod
    def from_members(cls, members: object, size: int) -> Point:
        """Read what `to_members` returned, of this many parameters; raises DataError."""
        if not isinstance(members, Mapping):
            raise DataError("a pending point must be an object")
        theta, gradient = read_vectors(members, "theta", "gradient")
        hessian = read_matrix(members.get("hessian"), size)
        if hessian is None or len(theta) != size:
            raise DataError("a pending point must be of the task's parameters")
        loss, examples = read(members, "loss"), int(read(members, "examples"))
        rest = read_matrix(members.get("rest"), size)
        return cls(theta, loss, gradient, examples, hessian, rest=rest)

    @cached_property
    def spectrum(self) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Return d, W and which of d are not 0 within rounding: ``W' H W = diag(d)``, W regular.

        The Hessian is scaled to a unit diagonal first. The digits that float64 loses then, of
        directions of little information, are in the rest: with it H is diagonalised again.
        """
        if self.hessian is None:
            raise DataError("Newton's method must be given a Hessian")
        diagonal = np.diag(self.hessian)
        scale = 1.0 / np.sqrt(np.where(diagonal > 0.0, diagonal, 1.0))
        values, vectors = np.linalg.eigh(scale[:, None] * self.hessian * scale)
        columns = scale[:, None] * vectors
        if self.rest is not None and values[0] < _FEW_DIGITS * values[-1]:
            columns = columns / np.sqrt(np.maximum(values, rounding_of(values)))
            total = within(self.examples * self.hessian, self.rest, columns)
            values, vectors = np.linalg.eigh((total + total.T) / (2.0 * self.examples))
            columns = columns @ vectors
        return values, columns, values > rounding_of(values)

    def along(self, moves: NDArray[np.bool_]) -> Point:
        """Return the point with zeros for the derivatives by the parameters that do not move."""
        hessian, slope, rest = self.hessian, self.penalty_gradient, self.rest
        alpha, own = self.overdispersion, self.loss_hessian
        return replace(
            self,
            overdispersion=alpha and replace(alpha, cross=alpha.cross * moves),
            gradient=self.gradient * moves,
            hessian=None if hessian is None else hessian * np.outer(moves, moves),
            loss_hessian=None if own is None else own * np.outer(moves, moves),
            penalty_gradient=None if slope is None else slope * moves,
            rest=None if rest is None else rest * np.outer(moves, moves),
        )


def rounding_of(values: Array) -> float:
    """Return the eigenvalue below which a matrix is singular within rounding."""
    return len(values) * float(np.finfo(np.float64).eps) * max(1.0, float(values[-1]))


def penalised(point: Point, features: int, C: float | None) -> Point:
    """Add scikit-learn's L2 penalty ``w'w / (2 C n)``, which spares the intercepts.

    scikit-learn minimises ``w'w / 2 + C * (sum of log losses)``. Divided by ``C * n`` this is the
    mean loss plus the penalty, so both have the same optimum (user guide of scikit-learn,
    "Logistic regression", binary case).

    Parameters
    ----------
    point
        Without a penalty; its n is that of all the data that are trained on, at least 1.
    features
        d.
    C
        Inverse strength, greater than 0; ``None`` or infinity is no penalty.

    Raises
    ------
    ValueError
        If ``C`` or the number of examples is out of range.
    """
    if point.examples < 1:
        raise ValueError(f"examples must be at least 1, got {point.examples}")
    if C is not None and not C > 0.0:
        raise ValueError(f"C must be greater than 0, got {C}")
    factor = 0.0 if C is None else 1.0 / (C * point.examples)
    strength, own = factor * is_penalised(point.theta, features), point.loss_hessian
    return replace(
        point,
        loss=point.loss + 0.5 * float(strength * point.theta @ point.theta),
        gradient=point.gradient + strength * point.theta,
        hessian=None if point.hessian is None else point.hessian + np.diag(strength),
        loss_hessian=own if own is None else own + np.diag(strength),
        rest=None if C is not None else point.rest,
    )


class Optimizer(ABC):
    """An algorithm that needs one evaluation of the objective a round.

    Attributes
    ----------
    second_order : bool
        Whether it needs the Hessian.
    """

    second_order = False

    @abstractmethod
    def step(self, point: Point) -> Array:
        """Return the next parameters to evaluate, shape (p,)."""

    def distance(self, point: Point) -> float:
        """Return how far a model is from the optimum, in the unit of the run's tolerance."""
        return point.gradient_norm

    def to_members(self) -> dict[str, Any]:
        """Return what it remembers, as JSON can hold it."""
        return {}

    def most_numbers(self, parameters: int) -> int:
        """Return the most numbers in lists of `to_members`, for a model of this many parameters."""
        return 0

    def restore(self, members: Mapping[str, Any]) -> None:  # noqa: B027 - default: no memory
        """Continue from what `to_members` returned; raises DataError if it is not that."""


class GradientDescent(Optimizer):
    """``theta - learning_rate * gradient``: nothing to remember.

    Parameters
    ----------
    learning_rate
        Greater than 0.
    """

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate

    def step(self, point: Point) -> Array:
        """See Optimizer."""
        return point.theta - self.learning_rate * point.gradient


class Nesterov(GradientDescent):
    """Accelerated gradient descent with adaptive restart.

    ``x = y - learning_rate * gradient(y)``, then ``y = x + k / (k + 3) * (x - x_before)``; k begins
    anew when the gradient points along the movement. Nesterov 1983, "A method for solving the
    convex programming problem with convergence rate O(1/k^2)"; O'Donoghue and Candes 2015,
    "Adaptive Restart for Accelerated Gradient Schemes", section 3.2, gradient scheme. The model is
    y, where the gradient is taken.
    """

    def __init__(self, learning_rate: float) -> None:
        super().__init__(learning_rate)
        self._before: Array | None = None
        self._steps = 0

    def step(self, point: Point) -> Array:
        """See Optimizer."""
        stepped = super().step(point)
        moved = np.zeros_like(stepped) if self._before is None else stepped - self._before
        self._before = stepped
        self._steps = 0 if point.gradient @ moved > 0 else self._steps + 1
        momentum: Array = stepped + self._steps / (self._steps + 3) * moved
        return momentum if self._steps else stepped

    def to_members(self) -> dict[str, Any]:
        """See Optimizer."""
        before = None if self._before is None else self._before.tolist()
        return {"before": before, "steps": self._steps}

    def most_numbers(self, parameters: int) -> int:
        """See Optimizer."""
        return parameters

    def restore(self, members: Mapping[str, Any]) -> None:
        """See Optimizer."""
        known = members.get("before") is not None
        self._before = read_vectors(members, "before")[0] if known else None
        self._steps = int(read(members, "steps"))


def read(members: Mapping[str, Any], key: str) -> float:
    """Return a number of what a training remembered; raises DataError."""
    value = members.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e300 < value < 1e300:
        raise DataError(f"the training's {key} must be a number below 1e300 in size")
    return value


def read_flag(members: Mapping[str, Any], key: str) -> bool:
    """Return a truth value of what a training remembered; raises DataError."""
    if not isinstance(value := members.get(key), bool):
        raise DataError(f"the training's {key} must be true or false")
    return value


def read_mapping(members: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object that a training remembered; raises DataError."""
    if not isinstance(found := members.get(name), Mapping):
        raise DataError(f"the training's {name} must be an object")
    return found


def read_places(value: object, name: str, features: int) -> tuple[int, ...]:
    """Return ascending numbers of features that a training remembered; raises DataError."""
    if (
        not isinstance(value, list)
        or any(type(one) is not int or not 0 <= one < features for one in value)
        or value != sorted(set(value))
    ):
        raise DataError(f"the training's {name} must be numbers of features, in ascending order")
    return tuple(value)


def read_vectors(members: Mapping[str, Any], *keys: str) -> list[Array]:
    """Return vectors of one length of what a training remembered; raises DataError."""
    vectors = [
        finite_array(members.get(key), f"the training's {key}", dimensions=1) for key in keys
    ]
    if len({len(vector) for vector in vectors}) != 1:
        raise DataError("the training's vectors must be of one length")
    return vectors


def read_matrix(triangle: object, size: int) -> Array | None:
    """Return the symmetric matrix of an upper triangle, ``None`` for null; raises DataError."""
    if triangle is None:
        return None
    values = finite_array(triangle, "the training's hessian", dimensions=1)
    return from_upper_triangle(values, size)
