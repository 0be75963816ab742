"""Training as a function of totals: what is summed up next, and the model that follows.

Whoever knows the task and all totals so far comes to the same model. So hospitals and company X
need nobody else to tell them which model they are at. A purpose says what a sum is for:

prepare     sums of the data, before the first step
train       derivatives at the model, from which a step follows
firth       derivatives of Firth's penalty where a sum before has told the information
profile     derivatives at the bounds of profile likelihood intervals, after the last step
separation  examples on either side of a direction that may separate the classes
sites       differences between the hospitals
figures     what the model predicts right

The last three are asked of the final model and change nothing of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.base import Point, penalised
from fl_he.learning.optimizers.between import SiteSums
from fl_he.learning.optimizers.overdispersed import (
    is_too_small,
    log_alpha_error,
    overdispersed_point,
    without_alpha,
)
from fl_he.learning.optimizers.profile import Estimate, Search
from fl_he.learning.optimizers.scoring import information_of, point_of, with_firth
from fl_he.learning.optimizers.state import State
from fl_he.learning.optimizers.task import Models, Moments, Question
from fl_he.learning.privacy.scaling import scaling_of_sums
from fl_he.learning.regression import firth, parameters
from fl_he.learning.regression.dependencies import dependencies, design_information
from fl_he.learning.regression.glm import GlmFamily, OutcomeMoments
from fl_he.learning.regression.likelihood import upper_triangle
from fl_he.learning.regression.negative_binomial import NegativeBinomial
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.feature_ranges import Ranges
from fl_he.learning.tables.incomplete import federated_means
from fl_he.learning.tables.moments import balanced_weights
from fl_he.learning.tables.scaling import from_moments, is_constant

PREPARE, TRAIN, FIRTH, PROFILE = "prepare", "train", "firth", "profile"
SEPARATION, SITES, FIGURES = "separation", "sites", "figures"

#: Of a mean of hospitals' sums, each of which is correctly rounded, and of what is subtracted.
_ROUNDINGS = 4
#: Smallest deviation of residuals, as a share of the outcome's, that the optimum is judged by.
_LEAST_DEVIATION = 1e-6


class Training(State):
    """A model in training; its attributes are those of `State`.

    Examples
    --------
    >>> from fl_he.learning.optimizers.task import Task
    >>> from fl_he.learning.tables.moments import Limbs
    >>> own = Limbs(24, 24)
    >>> task = Task(1, 2, "gd", 0.5, None, "none", (), (), False, 0.0, None, None, own)
    >>> training = Training(task)
    >>> training.due
    'train'
    >>> mean = {"coefficients": np.array([0.2]), "intercept": np.array([-0.4])}
    >>> training.take("train", mean, 100, loss=0.7)
    >>> training.theta.tolist()
    [-0.1, 0.2]
    """

    @property
    def due(self) -> str:
        """The purpose of the sum that comes next in training: prepare, train or firth."""
        if self.pending:
            return FIRTH
        return TRAIN if self._moments() is None else PREPARE

    def may_ask(self, purpose: str) -> bool:
        """Tell whether a sum of a purpose can come now."""
        if purpose in (PREPARE, TRAIN, FIRTH) or self.due != TRAIN:
            return purpose == self.due and (self.search is None or purpose == FIRTH)
        if purpose == PROFILE:
            search = self.searching()
            return search is not None and search.goes_on
        if purpose == SEPARATION:
            return self.watch.proof is None and self._direction() is not None
        if purpose == SITES:
            return self.task.sites and self.converged and self.between is None
        return purpose == FIGURES

    def question(self, purpose: str) -> Question:
        """Return what is summed up next for a purpose.

        Raises
        ------
        DataError
            If no sum of this purpose can come now.
        """
        if not self.may_ask(purpose):
            raise DataError(f"a sum for {purpose!r:.20} cannot come now, {self.due} is due")
        if (moments := self._moments()) is not None:
            return moments
        if purpose == FIRTH:
            roots = [firth.root(information_of(one), one.theta, one.rest) for one in self.pending]
            return Models(np.array([one.theta for one in self.pending]), np.array(roots))
        if purpose == SEPARATION and (direction := self._direction()) is not None:
            return Models(direction[None])
        if purpose == PROFILE and (search := self.searching()) is not None:
            for theta in search.models:
                self._require_small("coefficients", theta, self.task.max_coefficient)
            return Models(search.models)
        return Models(self.theta[None])

    def take(
        self,
        purpose: str,
        means: Mapping[str, Array],
        examples: int,
        loss: float = math.nan,
        accuracy: float = math.nan,
        *,
        min_cell: int = 1,
    ) -> None:
        """Continue by the total of what was asked for.

        Parameters
        ----------
        purpose
        means
            The total of each array by its name, divided by ``examples``.
        examples
            How many the total is of, at least 1.
        loss, accuracy
            Mean log loss and share of labels that are predicted, where derivatives were asked for;
            not a number where nobody may know it. Second-order derivatives have the loss in them.
        min_cell
            Fewest cells of a count that company X gives out, if it has any.

        Raises
        ------
        DataError
            If the total is no answer to what was asked, or nothing can be made of it.
        """
        if examples < 1:
            raise DataError(f"examples must be at least 1, got {examples}")
        if purpose == FIGURES or not self.may_ask(purpose):
            raise DataError(f"a total for {purpose!r:.20} cannot come now, {self.due} is due")
        self.point = None
        if (moments := self._moments()) is not None:
            self._prepare(moments, means, examples, min_cell)
            self.prepared += 1
        elif purpose == TRAIN:
            self._evaluate(self._evaluation(means, examples, loss), accuracy)
        elif purpose == FIRTH:
            rows = self._rows(means, "adjustments", len(self.pending), examples)
            self._penalise(rows[:, 0], examples)
        elif purpose == SEPARATION:
            self.watch.prove(len(self.taking_part), _named(means, "sides"))
        elif purpose == SITES:
            self.between = self._site_sums(means, examples)
        elif (search := self.searching()) is not None:
            rows = self._rows(means, "derivatives", len(search.models), examples)
            self._follow(search, rows, examples)

    def estimate(self) -> Estimate | None:
        """Return the maximum of the likelihood, whether or not training has reached it.

        ``None`` if no evaluation has told the information.
        """
        if self.hessian is None:
            return None
        theta, information = self.theta, self.examples * self.hessian
        log_likelihood = -self.examples * self.loss
        _, log_determinant = firth.whitening(information, theta)
        if self.task.firth or not math.isfinite(log_determinant):
            log_likelihood += log_determinant / 2
        return Estimate(theta, log_likelihood, firth.inverse(information, theta), self.examples)

    def searching(self) -> Search | None:
        """Return the search for intervals as it is, or as it would begin; ``None``: there is none.

        It begins where training has converged and the likelihood there is known.
        """
        if self.search is not None or not self.task.profile or not self.converged:
            return self.search
        estimate = self.estimate()
        if estimate is None or not math.isfinite(estimate.log_likelihood):
            return None
        return Search(estimate.bounds(self.task.profile))

    def _moments(self) -> Moments | None:
        task, imputed = self.task, self.imputed
        if len(imputed) < len(task.imputed):
            return Moments(cells=True)
        pooled = self.about_the_mean or task.scaling == "federated"
        if pooled and task.low and not self.scale:
            return Moments(low=task.low, high=task.high)
        sums = pooled and not self.mean
        counts = task.balanced and not self.class_weights
        outcome = self.is_glm and not self.outcome and self.bounds is None
        if sums or counts or outcome:
            return Moments(sums, counts, imputed=imputed, outcome=outcome)
        return Moments(mean=self.mean, imputed=imputed) if pooled and not self.scale else None

    def _prepare(
        self, asked: Moments, means: Mapping[str, Array], examples: int, min_cell: int
    ) -> None:
        task = self.task
        if asked.cells:
            columns = len(task.imputed)
            sums = self._joined(means, "sums", examples, columns)
            present = np.rint(_named(means, "cells", (columns,)) * examples)
            self.imputed = federated_means(task.imputed, sums, present, examples, min_cell)
            return
        if asked.low:
            ranges = Ranges(np.array(asked.low), np.array(asked.high))
            bits = task.limbs.fraction_bits
            steps = np.rint(np.ldexp(_named(means, "within") * examples, bits)).astype(np.int64)
            scaling = scaling_of_sums(steps, examples, ranges, bits)
            self.mean, self.scale = tuple(scaling.mean.tolist()), tuple(scaling.scale.tolist())
            return
        if asked.mean:
            variance = self._joined(means, "squares", examples, task.features) / examples
            mean = np.array(asked.mean)
            scaling = from_moments(mean, variance, _ROUNDINGS)
            constant = np.flatnonzero(is_constant(mean, variance, _ROUNDINGS))
            units = (1.0,) * task.features if task.scaling == "none" else task.scale
            self.scale = units or tuple(scaling.scale.tolist())
            self.constant = tuple(constant.tolist())
        weights = self.class_weights
        if asked.counts:
            counts = _named(means, "counts", (task.classes,)) * examples
            weights = tuple(balanced_weights(np.rint(counts)).tolist())
        if asked.outcome and isinstance(self.family, GlmFamily):
            outcome = task.limbs.join(_named(means, "outcome") * examples) / examples
            if outcome.shape != (len(fields(OutcomeMoments)),):
                raise DataError(f"moments of the outcome must be others, got {outcome.shape}")
            self.outcome = tuple(outcome.tolist())
            start = self.family.start(task.features, self.moments)
            self.theta = self.theta if task.site_intercepts else start
            if isinstance(self.family, NegativeBinomial):
                self.overdispersion = self.family.first_told(self.moments)
        if asked.sums:
            sums = self._joined(means, "sums", examples, task.features)
            self.mean = tuple((sums / examples).tolist())
        self.class_weights = weights

    def _joined(self, means: Mapping[str, Array], name: str, examples: int, columns: int) -> Array:
        sums = self.task.limbs.join(_named(means, name) * examples)
        if len(sums) != columns:
            raise DataError(f"{name} must be of {columns} columns, got {len(sums)}")
        return sums

    def _rows(self, means: Mapping[str, Array], name: str, models: int, examples: int) -> Array:
        """Return the sums at this many models and their rests, shape (models, 2, values)."""
        digits = _named(means, name)
        if digits.ndim != 3 or digits.shape[1] != models:
            raise DataError(f"{name} must be of {models} models, got shape {digits.shape}")
        parts = self._parts(digits.reshape(len(digits), -1), examples)
        return parts.reshape(2, *digits.shape[1:]).swapaxes(0, 1)

    def _parts(self, digits: Array, examples: int) -> Array:
        limbs = self.task.limbs.of_derivatives(scaled=self.standardised and not self.is_glm)
        return np.array(limbs.join_parts(digits * examples))

    def _site_sums(self, means: Mapping[str, Array], examples: int) -> SiteSums:
        counts = np.rint(_named(means, "counts", (2,)) * examples).astype(int).tolist()
        own, scores = (self._parts(_named(means, name), examples) for name in ("own", "scores"))
        return SiteSums.of_parts(counts, own, scores, self.task.features, len(self.theta))

    def _evaluation(self, means: Mapping[str, Array], examples: int, loss: float) -> Point:
        """Return what a total tells of the model, without any penalty."""
        if self.second_order:
            digits = _named(means, "derivatives")
            sums, sites = self._parts(digits, examples), self.task.site_intercepts
            if self.family.has_alpha:
                told, mean = self.overdispersion, self.moments.mean
                point = overdispersed_point(self.theta, told, sums, examples, mean, sites=sites)
            else:
                by_loss = self.family.steps_by_loss
                point = point_of(self.theta, sums, examples, sites=sites, by_loss=by_loss)
            if point.sites is not None and not point.sites.contributing:
                raise DataError(
                    "no hospital has its own intercept: each has outcomes of one class, or "
                    "counts of 0, alone; train without site_intercepts"
                )
            checks = 0 if math.isnan(point.pearson) else 1
            checks += 0 if point.trends is None else len(point.trends)
            checks += 0 if point.loss_hessian is None else len(upper_triangle(point.loss_hessian))
            if checks != self.family.check_values(self.task.features):
                raise DataError("derivatives must be of the task's family, and they are not")
            return replace(point, dispersion=self._scale(point))
        coefficients, intercepts = self.parameters
        shape = coefficients.shape if len(intercepts) > 1 else coefficients.shape[1:]
        parts = _named(means, "coefficients", shape), _named(means, "intercept", intercepts.shape)
        return Point(self.theta / self._unit, loss, parameters.join(*parts), examples)

    @property
    def _unit(self) -> float:
        """Unit of the parameters by which first-order derivatives are."""
        return 1.0 if self.bounds is None else self.bounds.unit

    def _scale(self, point: Point) -> float:
        """Return the dispersion by which the distance from the optimum is judged.

        A model that predicts every outcome has none: its optimum is judged by a millionth of the
        outcome's deviation.
        """
        family = self.family
        if not isinstance(family, GlmFamily) or not family.has_dispersion:
            return 1.0
        unit = family.unit(self.moments)
        return max(point.pearson / point.examples, (_LEAST_DEVIATION * unit) ** 2)

    def _evaluate(self, point: Point, accuracy: float) -> None:
        self._look(point, accuracy)
        self._require_overdispersed(point)
        self.loss = point.loss
        C = self.task.C if self.bounds is None else self.bounds.strength(self.task.C)
        point = self._along(penalised(point, self.task.features, C))
        if self.task.firth:
            self.pending = (point,)
        else:
            self._step(point)

    def _look(self, point: Point, accuracy: float) -> None:
        """Take note of features without a coefficient, and of a direction that may separate."""
        task, hessian = self.task, point.hessian
        family = self.family
        may_separate = task.C is None and not task.firth
        may_separate &= not isinstance(family, GlmFamily) or family.may_separate
        if hessian is not None and self.aliased is None and not self.parameters[0].any():
            information = design_information(hessian, task.features)
            found = dependencies(information, point.examples)
            constant = {*(self.constant or ()), *found.constant}
            self.constant = tuple(sorted(constant))
            self.aliased = {j: of for j, of in found.aliased.items() if j not in constant}
            kept = [*self.taking_part, task.features]
            self.watch.first = information[np.ix_(kept, kept)] if may_separate else None
        free = self.free
        point = without_alpha(point)
        hessian = point.hessian
        if task.C is None and hessian is not None:
            self.watch.settled = False  # one round alone says nothing of standard errors
            if self.hessian is not None:
                rows = len(point.theta[free]) // (len(self.taking_part) + 1)
                before = self.information_of_free(self.hessian, self.rest, self.examples)
                now = self.information_of_free(hessian, point.rest, point.examples)
                self.watch.compare(point.theta[free], before, now, rows)
        if may_separate and round(np.nan_to_num(accuracy) * point.examples) == point.examples:
            self.watch.predicts_all(point.theta[free])

    def _along(self, point: Point) -> Point:
        return point.along(self._moves)

    @property
    def _moves(self) -> NDArray[np.bool_]:
        moves = np.zeros(len(self.theta), dtype=np.bool_)
        moves[self.free] = True
        return moves

    def _step(self, point: Point) -> None:
        # Rounded probabilities of several rows: directions without information have a rest.
        seen = point if len(self.parameters[1]) == 1 else replace(point, rest=None)
        distance, stepped = self.optimizer.distance(seen), self.optimizer.step(seen)
        moves, task = self._moves, self.task
        family = self.family
        if task.site_intercepts or (isinstance(family, GlmFamily) and not family.has_intercept):
            moves[-1] = False  # whose gradient is 0, but for the step's rounding
        stepped, told = np.split(stepped, [len(self.theta)])
        theta = np.where(moves, stepped * self._unit, self.theta)
        self._require_small("coefficients", theta, task.max_coefficient)
        self._require_small("steps of coefficients", theta - self.theta, task.max_step)
        self.distance, self.theta = distance, theta
        self.point, self.examples, self.pearson = point, point.examples, point.pearson
        self.trends, self.sites = point.trends, point.sites
        self.hessian, self.rest, self.overdispersion = None, None, tuple(told.tolist())
        if task.C is None:
            profile = without_alpha(point)
            self.hessian, self.rest = profile.hessian, profile.rest
            if self.family.has_alpha:
                self.log_alpha_error = log_alpha_error(point, self.free)
        self.steps += 1

    def _penalise(self, adjustments: Array, examples: int) -> None:
        points: Sequence[Point] | None = None
        if examples == self.pending[0].examples:  # else of other hospitals than the sum before
            pairs = zip(self.pending, adjustments, strict=True)
            points = [self._along(with_firth(point, row)) for point, row in pairs]
        self.pending = ()
        if self.search is not None:
            self._advance(self.search, points)
        elif points is not None:
            self._step(points[0])

    def _follow(self, search: Search, rows: Array, examples: int) -> None:
        """Continue the search by derivatives at the open bounds."""
        pairs = zip(search.models, rows, strict=True)
        points = [self._along(point_of(theta, parts, examples)) for theta, parts in pairs]
        self.search = search
        if examples != self.examples:
            self._advance(search, None)
        elif self.task.firth:
            self.pending = tuple(points)
        else:
            self._advance(search, points)

    def _advance(self, search: Search, points: Sequence[Point] | None) -> None:
        if (estimate := self.estimate()) is not None:
            search.take(points, estimate, self.task.tolerance, self.task.max_coefficient)

    def _direction(self) -> Array | None:
        """Return the direction whose sides are to be counted, as a model."""
        if (found := self.watch.direction(len(self.taking_part))) is None:
            return None
        direction = np.zeros(len(self.theta))
        direction[self.free] = found
        return direction

    def _require_overdispersed(self, point: Point) -> None:
        if (alpha := point.overdispersion) and is_too_small(alpha.told[0], alpha.slope, alpha.mean):
            raise DataError(
                f"counts of family {self.family.name} must vary more than Poisson's do, and given "
                "the features these do not: set family poisson"
            )

    def _require_small(self, name: str, theta: Array, most: float | None) -> None:
        largest = float(np.abs(parameters.split(theta, self.task.features)[0]).max())
        if isinstance(self.family, GlmFamily):
            largest /= self._unit if self.bounds else self.family.unit(self.moments)
        if most is not None and not largest <= most:
            raise DataError(
                f"{name} must be at most {most:g} in size (value withheld): a finite optimum may "
                "lie beyond, so draft the study plan with a larger --max-coefficient (for steps, "
                "--max-step); or the classes may be separated, so draft it with penalty=firth or C"
            )


def _named(means: Mapping[str, Array], name: str, shape: tuple[int, ...] | None = None) -> Array:
    if name not in means:
        raise DataError(f"a total must hold {name!r} as it was asked for, got {sorted(means)}")
    found = means[name]
    if shape not in (None, found.shape):
        raise DataError(f"{name} must have shape {shape}, got {found.shape}")
    return found
