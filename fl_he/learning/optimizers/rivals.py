"""Other maxima of the penalised likelihood over the other parameters at a profile likelihood bound.

Firth's penalised likelihood is not concave, above all where the classes are separated: with a
coefficient at its bound, there may be several maxima over the other parameters. The search for the
bound has followed one of them. Rivals climb from other starts at the same value of the coefficient.
If one ends above the likelihood's drop, the bound is further out, and its search continues there.

No finite number of starts proves that there is no higher maximum. The first few find out whether
there are several; if so, more follow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from statistics import NormalDist
from typing import Any

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.base import Point, read, read_flag, read_vectors
from fl_he.learning.optimizers.scoring import FisherScoring
from fl_he.learning.tables.arrays import Array

#: How far above the drop a rival must end, in units of the log likelihood.
BETTER = 1e-6
#: Rivals of a bound at first, and of one where some of these end at another maximum.
_FEW, _RIVALS = 16, 64
#: A maximum that is further above or below the drop is another one than the search has followed.
_OTHER = 1e-3
#: A rival ends so near a maximum, in standard errors, or after this many evaluations.
_NEAR, _MOST_STEPS = 1e-3, 25
#: A rival this near a maximum gains no more than twice the square of the distance.
_JUDGED = 0.1
#: Starts are this many standard errors around the bound's model.
_AROUND = (3.0, 10.0)
#: The estimate is carried on to the bound by no larger factor.
_FURTHEST = 20.0


class _Climb(FisherScoring):
    """Fisher scoring whose steps are not longer than a unit: far off, a whole step leads nowhere.

    Parameters
    ----------
    units
        Shape (p,); 0 for a parameter that never moves.
    """

    def __init__(self, units: Array) -> None:
        super().__init__()
        self._units = units

    def direction(self, point: Point) -> tuple[Array, float]:
        """See DampedOptimizer."""
        direction, _ = super().direction(point)
        moves = self._units > 0.0
        length = float(np.linalg.norm(direction[moves] / self._units[moves]))
        return direction, min(1.0, 1.0 / max(length, 1e-300))


class Rival:
    """A climb over all parameters but one.

    Parameters
    ----------
    bound
        Number of the bound at which it climbs.
    column
        Number of the coefficient that stays.
    theta
        The model to evaluate first, shape (p,).
    units
        Of a step, shape (p,): see `_Climb`.

    Attributes
    ----------
    theta
        The model to evaluate next.
    best, height
        The best model so far, and how far its log likelihood is above that of the bound.
    steps
        Evaluations so far.
    ended
        Whether more evaluations would change nothing.
    """

    def __init__(self, bound: int, column: int, theta: Array, units: Array) -> None:
        self.bound, self.column, self.theta = bound, column, theta
        self.best, self.height = theta, -math.inf
        self.steps, self.ended, self._units = 0, False, units
        self._optimizer = self._begun()

    @property
    def is_other(self) -> bool:
        """Whether it has come to another maximum than that of the bound."""
        return math.isfinite(self.height) and abs(self.height) > _OTHER

    def advance(self, point: Point, above: float, most: float | None) -> None:
        """Take the step that follows from an evaluation at `theta`.

        Parameters
        ----------
        point
            There, with Hessian.
        above
            How far its log likelihood is above that of the bound.
        most
            Largest size of a coefficient; a rival that goes beyond ends. ``None``: any.
        """
        self.steps += 1
        if above > self.height:
            self.best, self.height = point.theta, above
        others = _without(point, self.column)
        try:
            stepped = self._optimizer.step(others)
        except DataError:  # the start has no information
            self.ended, self._optimizer = True, self._begun()
            return
        distance = self._optimizer.distance(others) if math.isfinite(above) else math.inf
        self.theta = np.insert(stepped, self.column, point.theta[self.column])
        hopeless = distance <= _JUDGED and above + 2.0 * distance**2 < 0.0
        ran_out = self.steps >= _MOST_STEPS or not within(self.theta, most)
        self.ended = hopeless or distance <= _NEAR or ran_out

    def _begun(self) -> _Climb:
        return _Climb(np.delete(self._units, self.column))

    def to_members(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "bound": self.bound,
            "column": self.column,
            "theta": self.theta.tolist(),
            "best": self.best.tolist(),
            "units": self._units.tolist(),
            "height": self.height if math.isfinite(self.height) else None,
            "steps": self.steps,
            "ended": self.ended,
            "optimizer": self._optimizer.to_members(),
        }

    @classmethod
    def from_members(cls, members: object) -> Rival:
        """Read what `to_members` returned; raises DataError."""
        if not isinstance(members, Mapping) or not isinstance(members.get("optimizer"), Mapping):
            raise DataError("a rival must be an object with an optimizer")
        theta, best, units = read_vectors(members, "theta", "best", "units")
        bound, column, steps = (int(read(members, name)) for name in ("bound", "column", "steps"))
        if not 0 <= column < len(theta):
            raise DataError("a rival must be of a coefficient")
        result = cls(bound, column, theta, units)
        result.best, result.steps, result.ended = best, steps, read_flag(members, "ended")
        if members.get("height") is not None:
            result.height = read(members, "height")
        result._optimizer.restore(members["optimizer"])
        return result


def next_wave(begun: int, ended: Sequence[Rival]) -> range:
    """Return the numbers of the starts that come next at a bound; empty: none do.

    Parameters
    ----------
    begun
        From how many models rivals have started.
    ended
        These rivals.
    """
    if not begun:
        return range(_FEW)
    more = begun < _RIVALS and any(rival.is_other for rival in ended)
    return range(begun, _RIVALS) if more else range(0)


def starts(column: int, theta: Array, estimate: Array, errors: Array) -> Iterator[Array]:
    """Yield models with a bound's coefficient from which rivals climb.

    They are around the bound's model, this model with larger coefficients, or the estimate carried
    on to the bound with other signs. All nodes draw the same ones: the numbers of this generator do
    not depend on versions.

    Parameters
    ----------
    column
        Number of the coefficient.
    theta
        The model at the bound, shape (p,).
    estimate, errors
        The maximum of the log likelihood, and the standard errors there, shape (p,).
    """
    draw = Random(0).random
    far = abs(theta[column]) > _FURTHEST * abs(estimate[column])
    factor = 1.0 if far else abs(theta[column] / estimate[column])
    for number in range(_RIVALS):
        uniform = np.array([draw() for _ in theta])
        kind = number % (len(_AROUND) + 2)
        if kind < len(_AROUND):
            normal = [NormalDist().inv_cdf(min(max(u, 1e-9), 1.0 - 1e-9)) for u in uniform]
            start = theta + _AROUND[kind] * errors * np.array(normal)
        elif kind == len(_AROUND):
            start = theta * 10.0**uniform
        else:
            start = np.where(uniform < 0.5, -factor, factor) * estimate
        start[column] = theta[column]
        yield start


def within(theta: Array, most: float | None) -> bool:
    """Tell whether no coefficient is larger; the intercept, which is last, may be."""
    return most is None or bool(np.abs(theta[:-1]).max() <= most)


def _without(point: Point, column: int) -> Point:
    """Return a point of all parameters but one."""
    slope, hessian = point.penalty_gradient, point.hessian
    return Point(
        np.delete(point.theta, column),
        point.loss,
        np.delete(point.gradient, column),
        point.examples,
        None if hessian is None else np.delete(np.delete(hessian, column, 0), column, 1),
        None if slope is None else np.delete(slope, column),
    )
