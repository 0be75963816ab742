"""All that totals have changed of a training, as it stands and as it is written down."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers import optimizer_of
from fl_he.learning.optimizers.base import (
    Optimizer,
    Point,
    SiteCounts,
    read,
    read_mapping,
    read_matrix,
    read_places,
)
from fl_he.learning.optimizers.between import SiteSums
from fl_he.learning.optimizers.overdispersed import OverdispersedNewton
from fl_he.learning.optimizers.profile import Search
from fl_he.learning.optimizers.scoring import FisherScoring
from fl_he.learning.optimizers.separating import Watch
from fl_he.learning.optimizers.task import Task
from fl_he.learning.regression import likelihood, parameters
from fl_he.learning.regression.glm import GlmFamily, OutcomeMoments
from fl_he.learning.regression.hazards import read_trends
from fl_he.learning.regression.negative_binomial import TOLD
from fl_he.learning.regression.outcome_bounds import OutcomeBounds
from fl_he.learning.regression.registry import family_named
from fl_he.learning.regression.separation import Information
from fl_he.learning.regression.trained import (
    CONVERGED,
    FIRTH,
    L2,
    MAXIMUM_LIKELIHOOD,
    NOT_CONVERGED,
    PRIVATE,
    SEPARATED,
)
from fl_he.learning.tables.arrays import Array, finite_array

#: Share of the largest number by which two computations of one step may differ.
AGREEMENT = 1e-9
#: Standard errors between a model and the optimum of all information that has not vanished.
_NEAR = 1e-3
#: Longest text of a float64, of a feature's number below 10,000,000, each with its comma and blank.
_NUMBER_TEXT, _PLACE_TEXT = 26, 9
#: No names and numbers outside lists have a longer text.
_NAMES_TEXT = 2048
_VECTORS = ("mean", "scale", "class_weights", "imputed", "outcome", "overdispersion", "theta")


class State:
    """A training between two totals.

    Parameters
    ----------
    task : Task

    Attributes
    ----------
    task : Task
    bounds : OutcomeBounds or None
        Declared ones, in whose units gradients are.
    theta : ndarray, shape (p,)
        The model after all totals so far, as `fl_he.learning.regression.parameters` lays it out.
    mean, scale : tuple of float
        Units of the model; empty where they are not known, or each hospital's own.
    class_weights : tuple of float
        Empty: all examples weigh 1.
    imputed : tuple of float
        Means that missing cells get, of the task's columns; empty where they are not known.
    outcome : tuple of float
        `OutcomeMoments` where the outcome is a number, once a total has told; else empty.
    overdispersion : tuple of float
        Of counts with an alpha, from the same total on: see
        `fl_he.learning.regression.negative_binomial.told_alpha`.
    constant, aliased : tuple of int, mapping of int to tuple of int
        Features without a coefficient of their own, of an aliased one with the earlier ones that
        make it; ``None`` where no total has told. See
        `fl_he.learning.regression.dependencies.Dependencies`.
    watch : Watch
        What is known of separated classes.
    prepared, steps : int
        Totals of the data so far, and steps that were taken.
    distance : float
        Of the last model but one from the optimum, in the optimizer's unit; infinite before the
        first step.
    loss : float
        Mean log loss of the last model that was evaluated, without a penalty; not a number where
        nobody may know it.
    examples : int
        Of the total from which the last step followed.
    hessian : ndarray, shape (p, p), or None
        The Hessian there, of an optimizer of second order without an L2 penalty.
    rest : ndarray, shape (p, p), or None
        What the rounding of ``examples * hessian`` leaves out, if it is known.
    pearson : float
        Pearson's chi-square there, of an outcome that is a number; else not a number.
    log_alpha_error : float
        Standard error of the logarithm of alpha there; not a number where nobody knows it.
    trends : ndarray or None
        Sums there of :mod:`fl_he.learning.regression.hazards`, of a time to an event.
    sites : SiteCounts or None
        There, where each hospital has its own intercept.
    between : SiteSums or None
        Differences between the hospitals at the final model, once a total has told them.
    point : Point or None
        All of the evaluation from which the last total had a step follow; not written down.
    pending : tuple of Point
        Evaluations that wait for the derivatives of Firth's penalty.
    search : Search or None
        For profile likelihood intervals, once the first total of it was taken.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.family = family_named(task.family, task.classes)
        self.optimizer: Optimizer = optimizer_of(task.optimizer, task.lr)
        if task.firth:
            self.optimizer = FisherScoring()
        elif self.family.has_alpha:
            self.optimizer = OverdispersedNewton()
        self.bounds = OutcomeBounds.of(self.family, task.outcome_bounds)
        zeros = self.family.zeros(task.features, task.classes)
        self.theta: Array = zeros if self.bounds is None else self.bounds.start(task.features)
        self.mean, self.scale = ((), ()) if self.about_the_mean else (task.mean, task.scale)
        self.class_weights: tuple[float, ...] = ()
        self.imputed: tuple[float, ...] = ()
        self.outcome: tuple[float, ...] = ()
        self.overdispersion: tuple[float, ...] = ()
        self.constant: tuple[int, ...] | None = None
        self.aliased: Mapping[int, tuple[int, ...]] | None = None
        self.watch = Watch()
        self.prepared, self.steps, self.distance = 0, 0, math.inf
        self.loss, self.examples = math.nan, 0
        self.hessian: Array | None = None
        self.rest: Array | None = None
        self.pearson = self.log_alpha_error = math.nan
        self.trends: Array | None = None
        self.sites: SiteCounts | None = None
        self.between: SiteSums | None = None
        self.point: Point | None = None
        self.pending: tuple[Point, ...] = ()
        self.search: Search | None = None

    @property
    def second_order(self) -> bool:
        """Whether the derivatives asked for are those of second order too."""
        return self.optimizer.second_order

    @property
    def about_the_mean(self) -> bool:
        """Whether each hospital subtracts the mean of all hospitals from its features.

        Of numbers far from 0 the information has no digits left for their variance: the relative
        error of a standard error is about float64's rounding divided by ``(deviation / mean)**2``.
        No model depends on the origin, as no penalty is on the intercept. The first information
        tells the mean anyway.
        """
        return self.second_order and self.task.scaling != "local"

    @property
    def standardised(self) -> bool:
        """Whether features are about 1 in size where steps are computed.

        Those of first order write no sums as digits, see `Limbs.of_derivatives`.
        """
        declared = self.about_the_mean and self.task.scale
        return self.task.scaling != "none" and not declared

    @property
    def is_glm(self) -> bool:
        """Whether the outcome is a number."""
        return isinstance(self.family, GlmFamily)

    @property
    def moments(self) -> OutcomeMoments:
        """Moments of an outcome that is a number; raises DataError where no total has told them."""
        if not self.outcome:
            raise DataError("moments of the outcome must be summed up before they are used")
        return OutcomeMoments(*self.outcome)

    @property
    def shown_loss(self) -> float:
        """The mean loss; of an outcome that is a number half the mean deviance."""
        return self.loss - self.moments.saturated if self.is_glm else self.loss

    @property
    def dispersion(self) -> float:
        """Estimate of the dispersion at the model before the last step; 1 where none is estimated.

        Pearson's chi-square by its degrees of freedom: McCullagh and Nelder 1989, section 4.5.2.
        """
        if not isinstance(self.family, GlmFamily) or not self.family.has_dispersion:
            return 1.0
        return self.pearson / self.freedom if self.freedom > 0 else math.nan

    @property
    def intercepts(self) -> int:
        """Number of the intercepts of a row of coefficients: one, or one for each site."""
        return 1 if self.sites is None else self.sites.contributing

    @property
    def freedom(self) -> int:
        """Examples of contributing sites less parameters, of one row of coefficients."""
        silent = 0 if self.sites is None else self.sites.silent
        return self.examples - silent - (len(self.free) - 1 + self.intercepts)

    @property
    def converged(self) -> bool:
        """Whether the model is at the optimum, within the task's tolerance."""
        near = self.distance <= self.task.tolerance and self.watch.settled
        return near and not self.watch.is_proof

    @property
    def end(self) -> str:
        """End of the training, if it takes no more steps; one of `ENDS`."""
        if self.watch.is_proof:
            return SEPARATED
        return CONVERGED if self.converged else NOT_CONVERGED

    def method(self, *, private: bool) -> str:
        """Return how the model is estimated, one of `METHODS`."""
        if private:
            return PRIVATE
        if self.task.firth:
            return FIRTH
        return MAXIMUM_LIKELIHOOD if self.task.C is None else L2

    @property
    def is_over(self) -> bool:
        """Whether more steps would change nothing, or tell no more of separated classes."""
        candidate = self.watch.candidate
        gone = candidate is not None and candidate.gone
        judged = self.watch.proof is not None
        return self.converged or judged or (gone and self.distance <= _NEAR)

    @property
    def parameters(self) -> tuple[Array, Array]:
        """Coefficients of shape (r, d) and intercepts of shape (r,)."""
        return parameters.split(self.theta, self.task.features)

    @property
    def left_out(self) -> list[int]:
        """Numbers of the features that have no coefficient of their own.

        With a penalty aliased ones have.
        """
        return sorted({*(self.constant or ()), *((self.task.C is None and self.aliased) or ())})

    @property
    def taking_part(self) -> list[int]:
        """Numbers of the features that have a coefficient of their own."""
        left_out = set(self.left_out)
        return [j for j in range(self.task.features) if j not in left_out]

    @property
    def free(self) -> NDArray[np.intp]:
        """Places of the parameters that take part, ascending."""
        features = self.task.features
        rows = len(self.theta) // (features + 1)
        places = parameters.row_places(rows, features)[:, [*self.taking_part, features]]
        return np.sort(places.ravel())

    def information_of_free(self, hessian: Array, rest: Array | None, examples: int) -> Information:
        """Return the information of the parameters that take part; see `hessian` and `rest`."""
        part = np.ix_(self.free, self.free)
        return Information(examples * hessian[part], examples, None if rest is None else rest[part])

    def agrees(self, other: State) -> bool:
        """Tell whether another computation of the same steps came to the same, but for rounding."""
        ours, theirs = self._models(), other._models()
        return self._decisions() == other._decisions() and all(
            a.shape == b.shape
            and bool((np.abs(a - b) <= AGREEMENT * np.abs(b).max(initial=0.0)).all())
            for a, b in zip(ours, theirs, strict=True)
        )

    def adopt(self, other: State) -> None:
        """Continue with another computation's numbers; what is not written down stays."""
        vars(self).update({**vars(other), "point": self.point})

    def _decisions(self) -> tuple[object, ...]:
        """Return all that is decided, and says what is asked next."""
        search = self.search
        bounds = None if search is None else [(one.column, one.state) for one in search.bounds]
        tried = None
        if search is not None:
            rivals = [(one.bound, one.column, one.steps, one.ended) for one in search.rivals]
            tried = search.iterations, search.missed, rivals
        columns = self.constant, self.aliased and dict(self.aliased)
        sums = self.prepared, self.steps, len(self.pending), tried
        return *sums, *columns, self.watch.proof, bounds

    def _models(self) -> list[Array]:
        """Return all units and models, of which the next questions are."""
        search = self.search
        models = [] if search is None else [one.theta for one in search.parts]
        return [*(np.array(getattr(self, name)) for name in _VECTORS), *models]

    def to_json(self) -> str:
        """Return all that totals have changed; `restored` gives it back bit for bit."""
        return json.dumps(self.to_members(), allow_nan=False)

    @property
    def longest_text(self) -> int:
        """Most characters of `to_json` while there is no search; the task alone decides it."""
        count, triangle = len(self.theta), len(self.theta) * (len(self.theta) + 1) // 2
        # units, class weights, the model, constant features and a candidate direction; means of
        # cells, moments of the outcome, counts of sites, and alpha
        known = (
            len(self.task.imputed) + len(fields(OutcomeMoments)) + len(fields(SiteCounts)) + TOLD
        )
        known += self.family.check_values(self.task.features)
        numbers = 6 * count + known + self.optimizer.most_numbers(count)
        places = 0
        if self.second_order:
            places = 2 * count + triangle  # of aliased features, two for each key
            if self.task.C is None:
                # the Hessian, and the first information or a pending one with its rest
                numbers += 2 * count + (3 if self.task.firth else 2) * triangle
        return _NAMES_TEXT + _NUMBER_TEXT * numbers + _PLACE_TEXT * places

    @classmethod
    def restored(cls, task: Task, text: str) -> Self:
        """Return the training that `to_json` wrote down; raises DataError if it wrote no such."""
        try:
            members: object = json.loads(text)
        except (ValueError, RecursionError):
            members = None
        return cls.from_members(task, members)

    def to_members(self) -> dict[str, Any]:
        """Return the members of `to_json`'s object."""
        aliased = (
            None if self.aliased is None else {str(j): [*of] for j, of in self.aliased.items()}
        )
        return {
            **{name: list(getattr(self, name)) for name in _VECTORS},
            "constant": None if self.constant is None else list(self.constant),
            "aliased": aliased,
            "watch": self.watch.to_members(),
            "prepared": self.prepared,
            "steps": self.steps,
            "distance": self.distance if math.isfinite(self.distance) else None,
            "optimizer": self.optimizer.to_members(),
            "loss": self.loss if math.isfinite(self.loss) else None,
            "examples": self.examples,
            "pearson": self.pearson if math.isfinite(self.pearson) else None,
            "log_alpha_error": self.log_alpha_error if self.log_alpha_error > 0.0 else None,
            "trends": None if self.trends is None else self.trends.tolist(),
            "sites": None if self.sites is None else self.sites.to_vector().tolist(),
            "between": None if self.between is None else self.between.to_members(),
            "hessian": _triangle(self.hessian),
            "rest": _triangle(self.rest),
            "pending": [point.to_members() for point in self.pending],
            "search": None if self.search is None else self.search.to_members(),
        }

    @classmethod
    def from_members(cls, task: Task, members: object) -> Self:
        """Return the training that `to_members` wrote down; raises DataError."""
        training = cls(task)
        if not isinstance(members, dict):
            raise DataError("training must be a JSON object")
        for name in _VECTORS:
            # Before a release that knew of means, nothing was written of them.
            vector = finite_array(members.get(name, []), f"the training's {name}", dimensions=1)
            setattr(training, name, vector if name == "theta" else tuple(vector.tolist()))
        sizes = {
            "theta": (training.family.count(task.features, task.classes),),
            "outcome": (0, len(fields(OutcomeMoments))) if training.is_glm else (0,),
            "overdispersion": (0, TOLD) if training.family.has_alpha else (0,),
            "mean": (0, task.features),
            "scale": (0, task.features),
            "class_weights": (0, task.classes),
            "imputed": (0, len(task.imputed)),
        }
        for name, allowed in sizes.items():
            if len(getattr(training, name)) not in allowed:
                raise DataError(f"the training's {name} must be of the task's features and classes")
        for name in ("prepared", "steps", "examples"):
            setattr(training, name, int(read(members, name)))
        if members.get("distance") is not None:
            training.distance = read(members, "distance")
        for name in ("loss", "pearson", "log_alpha_error"):
            if members.get(name) is not None:
                setattr(training, name, read(members, name))
        training.trends = read_trends(members.get("trends"), task.features)
        if members.get("sites") is not None:
            sites = finite_array(members["sites"], "the training's sites", dimensions=1)
            training.sites = SiteCounts.of_vector(sites)
        if members.get("between") is not None:
            training.between = SiteSums.from_members(
                read_mapping(members, "between"), task.features, len(training.theta)
            )
        training.optimizer.restore(read_mapping(members, "optimizer"))
        training._restore_columns(members)
        rows = len(training.theta) // (task.features + 1)
        part = len(training.taking_part)
        training.watch = Watch.from_members(members.get("watch"), part, rows)
        training.hessian = read_matrix(members.get("hessian"), len(training.theta))
        training.rest = read_matrix(members.get("rest"), len(training.theta))
        training._restore_search(members)
        return training

    def _restore_search(self, members: Mapping[str, Any]) -> None:
        """Read the search, and the evaluations that wait, one at each model that was asked for."""
        asked = 1
        if members.get("search") is not None:
            self.search = search = Search.from_members(members["search"])
            columns = [bound.column for bound in search.bounds]
            if columns != [column for column in self.task.profile for _ in range(2)] or any(
                len(one.theta) != len(self.theta) for one in search.parts
            ):
                raise DataError("the training's bounds must be of the task's parameters")
            asked = len(search.models)
        pending = members.get("pending")
        if not isinstance(pending, list) or len(pending) not in (0, asked):
            raise DataError("the training's pending points must be those of the models at work")
        self.pending = tuple(Point.from_members(one, len(self.theta)) for one in pending)

    def _restore_columns(self, members: Mapping[str, Any]) -> None:
        features = self.task.features
        if (constant := members.get("constant")) is not None:
            self.constant = read_places(constant, "constant", features)
        if members.get("aliased") is not None:
            items = read_mapping(members, "aliased").items()
            places = {str(j): j for j in range(features)}
            if any(name not in places for name, _ in items):
                raise DataError("the training's aliased must be by numbers of features")
            self.aliased = {places[j]: read_places(of, "aliased", features) for j, of in items}


def _triangle(matrix: Array | None) -> list[float] | None:
    return None if matrix is None else likelihood.upper_triangle(matrix).tolist()
