"""Newton's method and L-BFGS, whose steps are halved while the log loss would rise.

A round evaluates the objective once, so a step that was too long is found out in the next round:
then the next model is half as far from the last good one, in the same direction. A step is good if
the loss falls by a share of what the gradient promises (Armijo): Nocedal and Wright 2006,
"Numerical Optimization", equation 3.4, algorithm 3.1.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.base import Optimizer, Point, read, read_vectors, rounding_of
from fl_he.learning.tables.arrays import Array

_SHARE = 1e-4
#: Steps are not halved below it: the direction is no good, and the next one is taken from here.
_SHORTEST = 2.0**-20


@dataclass(frozen=True, slots=True, eq=False)
class _Base:
    """The last good model, and the step that was taken from it."""

    theta: Array
    loss: float
    gradient: Array
    examples: int
    direction: Array
    length: float


class DampedOptimizer(Optimizer):
    """An optimizer that tries a full step along a direction of descent first.

    Attributes
    ----------
    rounding : float
        A rise of the loss by less, or by this share of the loss, may be rounding.
    """

    rounding = 1e-7  # of fixed-point numbers

    def __init__(self) -> None:
        self._base: _Base | None = None

    @property
    def last_direction(self) -> Array | None:
        """Direction of the last step, shape (p,); ``None`` before the first."""
        return None if self._base is None else self._base.direction

    def step(self, point: Point) -> Array:
        """See Optimizer."""
        if np.isnan(point.loss):
            raise DataError("a damped step must be given the loss")
        base = self._base
        if base is not None and self._is_too_long(base, point):
            self._base = replace(base, length=base.length / 2)
            return base.theta + self._base.length * base.direction
        if base is not None and base.examples == point.examples:
            self.learn(point.theta - base.theta, point.gradient - base.gradient)
        direction, length = self.direction(point)
        self._base = _Base(
            point.theta, point.loss, point.gradient, point.examples, direction, length
        )
        return point.theta + length * direction

    def _is_too_long(self, base: _Base, point: Point) -> bool:
        # The losses of other hospitals' examples are another function.
        if base.examples != point.examples or base.length < _SHORTEST:
            return False
        promised = _SHARE * base.length * float(base.gradient @ base.direction)
        return point.loss > base.loss + promised + self.rounding * max(1.0, abs(base.loss))

    @abstractmethod
    def direction(self, point: Point) -> tuple[Array, float]:
        """Return a direction of descent, shape (p,), and the length to try first."""

    @abstractmethod
    def learn(self, moved: Array, turned: Array) -> None:
        """Take note of a good step, and of how the gradient changed with it."""

    def to_members(self) -> dict[str, Any]:
        """See Optimizer."""
        if self._base is None:
            return {"base": None}
        values = asdict(self._base).items()
        return {"base": {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values}}

    def most_numbers(self, parameters: int) -> int:
        """See Optimizer."""
        return 3 * parameters

    def restore(self, members: Mapping[str, Any]) -> None:
        """See Optimizer."""
        base = members.get("base")
        if base is None:
            self._base = None
            return
        if not isinstance(base, Mapping):
            raise DataError("the training's base must be an object")
        theta, gradient, direction = read_vectors(base, "theta", "gradient", "direction")
        loss, length = read(base, "loss"), read(base, "length")
        self._base = _Base(theta, loss, gradient, int(read(base, "examples")), direction, length)


class Newton(DampedOptimizer):
    """Damped Newton's method: the step solves ``H step = -gradient``.

    The Hessian is the loss's own where it is known, else its expectation. Of a gamma model that
    would be Fisher scoring, which takes twice to ten times as many rounds.

    Where the Hessian is singular (softmax does not fix the sum of the intercepts, and without a
    penalty not that of the coefficients), it is the shortest of all solutions. Hastie, Tibshirani
    and Friedman 2009, "The Elements of Statistical Learning", section 4.4.1, equation 4.24.

    The Hessian is scaled to a unit diagonal first, so that a feature's unit does not count for
    what is singular: Nocedal and Wright 2006, section 2.2, "Scaling".
    """

    second_order = True
    rounding = 1e-12  # of float64: loss and derivatives travel as limbs

    def direction(self, point: Point) -> tuple[Array, float]:
        """See DampedOptimizer."""
        if point.loss_hessian is not None:
            point = replace(point, hessian=point.loss_hessian, loss_hessian=None, rest=None)
        values, columns, found = point.spectrum
        step = -columns[:, found] @ (columns[:, found].T @ point.gradient / values[found])
        # Shortest in the parameters' own units: without any part along what is not determined.
        basis, _ = np.linalg.qr(columns[:, ~found])
        return np.asarray(step - basis @ (basis.T @ step), dtype=np.float64), 1.0

    def distance(self, point: Point) -> float:
        """Return the Newton decrement in standard errors, ``sqrt(n g' H^-1 g)``.

        This is the length of the step that is left, in the metric of the information of n
        examples: no parameter, and no linear combination of parameters, is further from the
        optimum than this many of its standard errors. Boyd and Vandenberghe 2004, "Convex
        Optimization", section 9.5.1. With a dispersion standard errors are larger by its root. A
        singular direction counts as one of very little
        information, so that a gradient along it is far from the optimum.
        """
        values, columns, _ = point.spectrum
        squared = np.square(columns.T @ point.gradient) / np.maximum(values, rounding_of(values))
        return float(np.sqrt(point.examples * squared.sum() / point.dispersion))

    def learn(self, moved: Array, turned: Array) -> None:
        """See DampedOptimizer; every Hessian is new."""


class LBFGS(DampedOptimizer):
    """Limited-memory BFGS: curvature from the last steps instead of a Hessian.

    For models whose Hessian would be too much to encrypt. Nocedal and Wright 2006, algorithms 7.4
    and 7.5. A step whose curvature is not positive is not learnt from.

    Parameters
    ----------
    memory
        How many steps are remembered, at least 1.
    """

    def __init__(self, memory: int = 10) -> None:
        super().__init__()
        self._memory = memory
        self._steps: list[tuple[Array, Array]] = []

    def direction(self, point: Point) -> tuple[Array, float]:
        """See DampedOptimizer."""
        if not self._steps:
            return -point.gradient, min(1.0, 1.0 / max(point.gradient_norm, 1e-300))
        q, shares = point.gradient.copy(), list[float]()
        for moved, turned in reversed(self._steps):
            shares.append(float(moved @ q) / float(moved @ turned))
            q = q - shares[-1] * turned
        moved, turned = self._steps[-1]
        q = q * (float(moved @ turned) / float(turned @ turned))
        for moved, turned in self._steps:
            q = q + (shares.pop() - float(turned @ q) / float(moved @ turned)) * moved
        return -q, 1.0

    def learn(self, moved: Array, turned: Array) -> None:
        """See DampedOptimizer."""
        lengths = float(np.linalg.norm(moved) * np.linalg.norm(turned))
        if float(moved @ turned) > 1e-10 * lengths:
            self._steps = [*self._steps, (moved, turned)][-self._memory :]

    def to_members(self) -> dict[str, Any]:
        """See Optimizer."""
        steps = [{"moved": m.tolist(), "turned": t.tolist()} for m, t in self._steps]
        return {**super().to_members(), "steps": steps}

    def most_numbers(self, parameters: int) -> int:
        """See Optimizer."""
        return super().most_numbers(parameters) + 2 * self._memory * parameters

    def restore(self, members: Mapping[str, Any]) -> None:
        """See Optimizer."""
        super().restore(members)
        steps = members.get("steps")
        if not isinstance(steps, list) or not all(isinstance(one, Mapping) for one in steps):
            raise DataError("the training's steps must be a list of objects")
        vectors = (read_vectors(one, "moved", "turned") for one in steps)
        self._steps = [(moved, turned) for moved, turned in vectors]
