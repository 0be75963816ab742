"""Profile likelihood intervals: how far a coefficient can go before the likelihood drops too far.

A bound of coefficient j is the largest or smallest value at which the log likelihood, maximised
over all other parameters, is a quantile below its maximum. Venzon and Moolgavkar 1988, "A method
for computing profile-likelihood-based confidence intervals", equation 2; Heinze and Schemper 2002,
section 2, for the penalised log likelihood.

Each step goes as far along j as a quadratic model of the log likelihood allows. With score U and
covariance V, the step is ``V (U + m e_j)``, and ``m^2 = (2 (l - level) + U' V U) / V_jj``. A step
that came out much worse is halved. All bounds need one evaluation each in a round, so that they
advance together.

Without a penalty the log likelihood is concave: a bound that is reached is the only one. With
Firth's it is not, so that a bound is found only once no rival beats it: see `rivals`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import NormalDist
from typing import Any

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.base import Point, read, read_vectors
from fl_he.learning.optimizers.rivals import BETTER, Rival, next_wave, starts, within
from fl_he.learning.optimizers.scoring import Curvature, information_of
from fl_he.learning.optimizers.task import most_models
from fl_he.learning.regression.firth import whitening
from fl_he.learning.regression.inference import LEVEL
from fl_he.learning.tables.arrays import Array

#: Half the quantile of chi squared with one degree of freedom: how far the log likelihood drops.
DROP = NormalDist().inv_cdf((1 + LEVEL) / 2) ** 2 / 2
#: A step is too long if it comes out worse than the worst of this many before, by this factor.
_MEMORY, _WORSE = 5, 2.0
#: A step is not halved below it: the bound is given up.
_SHORTEST = 2.0**-12
#: No bound is searched for further away, in standard errors at the estimate.
FURTHEST = 100.0
#: Steps below it, in standard errors, are rounding.
_LEAST_TOLERANCE = 1e-8
#: Evaluations in a row of other examples than the estimate's, after which a search ends.
_MOST_MISSED = 3

_STATES = OPEN, REACHED, FOUND, NONE, LOST = "open", "reached", "found", "none", "lost"
_NUMBERS = ("column", "side", "length", "starts")
_VECTORS = ("theta", "base", "step")


@dataclass(slots=True, eq=False)
class Bound:
    """One bound in search.

    Attributes
    ----------
    column
        Number of the coefficient.
    side
        -1.0 for the lower bound, 1.0 for the upper one.
    theta
        The model to evaluate next, shape (p,). Once the bound is found, it is the model there.
    base, step, length
        The last good model, the step from it, and the share of the step that `theta` is away.
    misses
        How far from the bound the last good models were, in units of the log likelihood.
    state
        ``open``; ``reached``: rivals are tried; ``found``; ``none``: further away than `FURTHEST`,
        where the likelihood is still too high; ``lost``: the steps lead nowhere.
    starts
        From how many models rivals have started since it was reached.
    curvature
        Of Firth's penalty.
    """

    column: int
    side: float
    theta: Array
    base: Array
    step: Array
    length: float = 1.0
    misses: Array = field(default_factory=lambda: np.array([DROP]))
    state: str = OPEN
    starts: int = 0
    curvature: Curvature = field(default_factory=Curvature)

    def advance(self, point: Point, estimate: Estimate, tolerance: float) -> None:
        """Take the step that follows from an evaluation at `theta`.

        Parameters
        ----------
        point
            There, with Hessian.
        estimate
        tolerance
            The bound is reached if the next step is no longer, in standard errors.
        """
        n, j = point.examples, self.column
        information, score, miss = information_of(point), -n * point.gradient, math.inf
        moved = self.side * (point.theta[j] - estimate.theta[j])
        _, log_determinant = whitening(information, point.theta)
        if math.isfinite(log_determinant) and moved > 0.0:
            if point.penalty_gradient is not None:
                self.curvature.learn(point.theta, n * point.penalty_gradient, information)
            cov = self.curvature.covariance(information, point.theta)
            along = cov @ score
            whole, above = float(score @ along), estimate.above(point)
            # What the other parameters could still add to the likelihood.
            others = max(0.0, whole - float(along[j] ** 2 / cov[j, j])) / 2
            miss = abs(above + others) + others
        rounding = 1e-11 * max(1.0, abs(estimate.log_likelihood))
        if not miss <= _WORSE * self.misses.max() + rounding:
            self.length /= 2
            self.theta = self.base + self.length * self.step
            if self.length < _SHORTEST:
                self.state = LOST
            return
        furthest = FURTHEST * estimate.error(j)
        multiplier = math.sqrt(max(0.0, (2.0 * above + whole) / cov[j, j]))
        to_furthest = (furthest - moved - self.side * float(along[j])) / cov[j, j]
        step = along + self.side * min(multiplier, to_furthest) * cov[:, j]
        self.base, self.step, self.length = point.theta, step, 1.0
        self.misses = np.append(self.misses, miss)[-_MEMORY:]
        self.theta = point.theta + step
        if above > 0.0 and moved >= (1.0 - _LEAST_TOLERANCE) * furthest:
            self.state = NONE
        elif np.sqrt(max(0.0, step @ information @ step)) <= max(tolerance, _LEAST_TOLERANCE):
            self.state = FOUND if point.penalty_gradient is None else REACHED

    def reopen(self, theta: Array) -> None:
        """Continue from a better model at the bound."""
        self.theta = self.base = theta
        self.step, self.length, self.misses = np.zeros(len(theta)), 1.0, np.array([DROP])
        self.state, self.starts, self.curvature = OPEN, 0, Curvature()

    def to_members(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            **{name: getattr(self, name) for name in _NUMBERS},
            **{name: getattr(self, name).tolist() for name in (*_VECTORS, "misses")},
            "state": self.state,
            **self.curvature.to_members(),
        }

    @classmethod
    def from_members(cls, members: object) -> Bound:
        """Read what `to_members` returned; raises DataError."""
        if not isinstance(members, Mapping) or members.get("state") not in _STATES:
            raise DataError("a bound must be an object with a state")
        theta, base, step = read_vectors(members, *_VECTORS)
        (misses,) = read_vectors(members, "misses")
        if not len(misses):
            raise DataError("a bound must have misses")
        column, side, length, begun = (read(members, name) for name in _NUMBERS)
        place, curvature = (int(column), side, theta, base, step), Curvature.from_members(members)
        return cls(*place, length, misses, members["state"], int(begun), curvature)


@dataclass(frozen=True, slots=True, eq=False)
class Estimate:
    """The maximum of the log likelihood.

    Attributes
    ----------
    theta
        Shape (p,).
    log_likelihood
        There, with Firth's penalty if there is one.
    cov
        Covariance of the estimates, shape (p, p).
    examples
    """

    theta: Array
    log_likelihood: float
    cov: Array
    examples: int

    def above(self, point: Point) -> float:
        """Return how far a model's log likelihood is above that of a bound."""
        return -point.examples * point.loss - (self.log_likelihood - DROP)

    def error(self, column: int) -> float:
        """Return a coefficient's standard error."""
        return float(np.sqrt(self.cov[column, column]))

    def bounds(self, columns: Sequence[int]) -> list[Bound]:
        """Return both bounds of each column, at the first model to evaluate: that of Wald.

        Those of a column without an estimate are lost.
        """
        result = []
        for column in columns:
            for side in (-1.0, 1.0):
                bound = Bound(column, side, self.theta, self.theta, np.zeros(len(self.theta)))
                if (error := self.error(column)) > 0.0:
                    bound.step = side * math.sqrt(2 * DROP) / error * self.cov[:, column]
                    bound.theta = self.theta + bound.step
                else:
                    bound.state = LOST
                result.append(bound)
        return result


@dataclass(slots=True, eq=False)
class Search:
    """The search for all bounds together.

    Attributes
    ----------
    bounds
        Two of each column, the lower one first.
    iterations
        Evaluations so far.
    missed
        How many of the last of them were of other examples than the estimate's.
    rivals
        Of the bounds that are reached.
    """

    bounds: list[Bound]
    iterations: int = 0
    missed: int = 0
    rivals: list[Rival] = field(default_factory=list)

    @property
    def lost_hospitals(self) -> bool:
        """Whether the search has ended because evaluations were of other examples."""
        return self.missed >= _MOST_MISSED

    @property
    def ended(self) -> int:
        """Number of bounds whose search has ended."""
        return sum(bound.state not in (OPEN, REACHED) for bound in self.bounds)

    @property
    def goes_on(self) -> bool:
        """Whether another evaluation would tell more."""
        return self.ended < len(self.bounds) and not self.lost_hospitals

    @property
    def parts(self) -> list[Bound | Rival]:
        """All bounds and rivals."""
        parts: list[Bound | Rival] = [*self.bounds]
        return parts + self.rivals

    @property
    def models(self) -> Array:
        """The models to evaluate next, shape (k, p)."""
        return np.array([one.theta for one in self._at_work])

    @property
    def _at_work(self) -> list[Bound | Rival]:
        """Bounds and rivals that are evaluated next: some rivals wait if there are many."""
        left = [
            one
            for one in self.parts
            if (one.state == OPEN if isinstance(one, Bound) else not one.ended)
        ]
        return left[: most_models(len(self.bounds[0].theta))]

    def take(
        self,
        points: Sequence[Point] | None,
        estimate: Estimate,
        tolerance: float,
        most: float | None = None,
    ) -> None:
        """Advance by an evaluation at each of `models`.

        Parameters
        ----------
        points
            ``None``: they were of other examples.
        estimate
        tolerance
            See `Bound.advance`.
        most
            Largest size of a rival's coefficients; ``None``: any.

        Raises
        ------
        DataError
            If a point is of other examples than the estimate: their likelihoods are not compared.
        """
        self.iterations += 1
        self.missed = self.missed + 1 if points is None else 0
        if points is None:
            return
        for one, point in zip(self._at_work, points, strict=True):
            if point.examples != estimate.examples:
                raise DataError(
                    f"the likelihood must be of the {estimate.examples} examples of the estimate, "
                    f"got {point.examples}"
                )
            if isinstance(one, Bound):
                one.advance(point, estimate, tolerance)
            else:
                one.advance(point, estimate.above(point), most)
        for number, bound in enumerate(self.bounds):
            if bound.state == REACHED:
                self._judge(number, bound, estimate, most)

    def _judge(self, number: int, bound: Bound, estimate: Estimate, most: float | None) -> None:
        """Have a bound that is reached continue, or be found, once all of its rivals have ended."""
        mine = [rival for rival in self.rivals if rival.bound == number]
        while bound.state == REACHED and all(rival.ended for rival in mine):
            best = max(mine, key=lambda rival: rival.height, default=None)
            if best is not None and best.height > BETTER:
                bound.reopen(best.best)
            elif wave := next_wave(bound.starts, mine):
                mine += self._rivals(number, bound, estimate, most, wave)
                bound.starts = wave.stop
            else:
                bound.state = FOUND
        left = [rival for rival in self.rivals if rival.bound != number]
        self.rivals = [*left, *(mine if bound.state == REACHED else [])]

    def _rivals(
        self, number: int, bound: Bound, estimate: Estimate, most: float | None, wave: range
    ) -> list[Rival]:
        errors, moved = np.sqrt(np.diag(estimate.cov)), bound.theta - estimate.theta
        known = errors > 0.0
        units = errors * (2.0 + float(np.linalg.norm(moved[known] / errors[known])))
        models = starts(bound.column, bound.theta, estimate.theta, errors)
        return [
            Rival(number, bound.column, start, units)
            for start in islice(models, wave.start, wave.stop)
            if within(start, most)
        ]

    def to_members(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "bounds": [bound.to_members() for bound in self.bounds],
            "iterations": self.iterations,
            "missed": self.missed,
            "rivals": [rival.to_members() for rival in self.rivals],
        }

    @classmethod
    def from_members(cls, members: object) -> Search:
        """Read what `to_members` returned; raises DataError."""
        if not isinstance(members, Mapping) or any(
            not isinstance(members.get(name), list) for name in ("bounds", "rivals")
        ):
            raise DataError("a search must be an object with lists of bounds and rivals")
        bounds = [Bound.from_members(bound) for bound in members["bounds"]]
        rivals = [Rival.from_members(rival) for rival in members["rivals"]]
        if any(
            not 0 <= rival.bound < len(bounds) or rival.column != bounds[rival.bound].column
            for rival in rivals
        ):
            raise DataError("a search's rivals must be of its bounds")
        iterations, missed = (int(read(members, name)) for name in ("iterations", "missed"))
        return cls(bounds, iterations, missed, rivals)
