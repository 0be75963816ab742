"""Training as a function of totals: what is summed up next, and the model that follows.

Whoever knows the task and all totals so far comes to the same model. So hospitals and company X
need nobody else to tell them which model they are at.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers import optimizer_of
from fl_he.learning.optimizers.base import Point, penalised, read
from fl_he.learning.regression import likelihood, parameters
from fl_he.learning.regression.registry import family_for
from fl_he.learning.tables.arrays import Array, finite_array
from fl_he.learning.tables.moments import Limbs, balanced_weights
from fl_he.learning.tables.scaling import from_moments

#: Share of the largest number by which two computations of one step may differ.
AGREEMENT = 1e-9
_VECTORS = ("mean", "scale", "class_weights", "theta")


@dataclass(frozen=True, slots=True)
class Task:
    """What is trained: all that is fixed before the first total.

    Attributes
    ----------
    features, classes : int
        Of the model, at least 1 and 2.
    optimizer : str
        A key of `fl_he.learning.optimizers.OPTIMIZERS`.
    lr : float
        Greater than 0.
    C : float or None
        Inverse strength of the L2 penalty, greater than 0; ``None``: no penalty.
    scaling : {"none", "local", "federated"}
        Units of the model; see `fl_he.wire.learning_terms.LearningTerms`.
    mean, scale : tuple of float
        Declared units; empty: with federated scaling they are of the pooled data.
    balanced : bool
        Whether each class weighs the same.
    tolerance : float
        How far from the optimum training ends, in the optimizer's unit; at least 0.
    max_step, max_coefficient : float or None
        Largest change of a coefficient in one step, and largest size of a coefficient, in the units
        of the model; ``None``: any.
    limbs : Limbs
        How hospitals write sums.
    """

    features: int
    classes: int
    optimizer: str
    lr: float
    C: float | None
    scaling: str
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    balanced: bool
    tolerance: float
    max_step: float | None
    max_coefficient: float | None
    limbs: Limbs


@dataclass(frozen=True, slots=True)
class Moments:
    """Asks for sums of the features and counts of the classes, or for squares about a mean."""

    sums: bool = False
    counts: bool = False
    mean: tuple[float, ...] = ()


class Training:
    """A model in training.

    Attributes
    ----------
    theta : ndarray, shape (p,)
        The model after all totals so far, as `fl_he.learning.regression.parameters` lays it out.
    mean, scale : tuple of float
        Units of the model; empty where they are not known, or each hospital's own.
    class_weights : tuple of float
        Empty: all examples weigh 1.
    steps : int
        How many were taken; sums before the first one are of the data, and of no model.
    distance : float
        Of the last model but one from the optimum, in the optimizer's unit; infinite before the
        first step.

    Examples
    --------
    >>> task = Task(1, 2, "gd", 0.5, None, "none", (), (), False, 0.0, None, None, Limbs(24, 24))
    >>> training = Training(task)
    >>> training.moments() is None  # so derivatives at theta are asked for
    True
    >>> training.take({"coefficients": np.array([0.2]), "intercept": np.array([-0.4])}, 100, 0.7)
    >>> training.theta.tolist()
    [-0.1, 0.2]
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._optimizer = optimizer_of(task.optimizer, task.lr)
        self.theta: Array = family_for(task.classes).zeros(task.features, task.classes)
        self.mean, self.scale = task.mean, task.scale
        self.class_weights: tuple[float, ...] = ()
        self.steps, self.distance = 0, math.inf

    @property
    def second_order(self) -> bool:
        """Whether the derivatives asked for are those of second order too."""
        return self._optimizer.second_order

    @property
    def is_over(self) -> bool:
        """Whether the model is at the optimum, within the task's tolerance."""
        return self.distance <= self._task.tolerance

    @property
    def parameters(self) -> tuple[Array, Array]:
        """Coefficients of shape (r, d) and intercepts of shape (r,)."""
        return parameters.split(self.theta, self._task.features)

    def moments(self) -> Moments | None:
        """Return which sums of the data come next; ``None``: the derivatives at the model."""
        pooled = self._task.scaling == "federated"
        sums = pooled and not self.mean
        counts = self._task.balanced and not self.class_weights
        if sums or counts:
            return Moments(sums, counts)
        return Moments(mean=self.mean) if pooled and not self.scale else None

    def take(self, means: Mapping[str, Array], examples: int, loss: float) -> None:
        """Go on by the total of what was asked for.

        Parameters
        ----------
        means
            The total of each array by its name, divided by ``examples``.
        examples
            How many the total is of, at least 1.
        loss
            Mean log loss, where derivatives of first order were asked for; not a number where
            nobody may know it.

        Raises
        ------
        DataError
            If the total is no answer to what was asked, or nothing can be made of it.
        """
        if examples < 1:
            raise DataError(f"examples must be at least 1, got {examples}")
        if (asked := self.moments()) is None:
            self._step(self._point(means, examples, loss))
            return
        features = self._task.features
        if asked.mean:
            variance = self._joined(means, "squares", examples, features) / examples
            scaling = from_moments(np.array(asked.mean), variance, examples)
            self.scale = tuple(scaling.scale.tolist())
        if asked.sums:
            mean = self._joined(means, "sums", examples, features) / examples
            self.mean = tuple(mean.tolist())
        if asked.counts:
            counts = _named(means, "counts", self._task.classes) * examples
            self.class_weights = tuple(balanced_weights(np.rint(counts)).tolist())

    def to_json(self) -> str:
        """Return all that totals have changed; `restored` gives it back bit for bit."""
        members: dict[str, Any] = {name: list(getattr(self, name)) for name in _VECTORS}
        members["steps"] = self.steps
        members["distance"] = None if math.isinf(self.distance) else self.distance
        members["optimizer"] = self._optimizer.to_members()
        return json.dumps(members, allow_nan=False)

    @classmethod
    def restored(cls, task: Task, text: str) -> Self:
        """Return the training that `to_json` wrote down; raises DataError if it wrote no such."""
        training = cls(task)
        try:
            members: Any = json.loads(text)
        except (ValueError, RecursionError):
            members = None
        if not isinstance(members, dict):
            raise DataError("training must be a JSON object")
        for name in _VECTORS:
            vector = finite_array(members.get(name), f"the training's {name}", dimensions=1)
            setattr(training, name, vector if name == "theta" else tuple(vector.tolist()))
        if len(training.theta) != family_for(task.classes).count(task.features, task.classes):
            raise DataError("the training's theta must be of the task's features and classes")
        training.steps = int(read(members, "steps"))
        if members.get("distance") is not None:
            training.distance = read(members, "distance")
        if not isinstance(optimizer := members.get("optimizer"), Mapping):
            raise DataError("the training's optimizer must be an object")
        training._optimizer.restore(optimizer)
        return training

    def agrees(self, other: Training) -> bool:
        """Tell whether another computation of the same steps came to the same, but for rounding."""
        pairs = [(np.array(getattr(self, n)), np.array(getattr(other, n))) for n in _VECTORS]
        return self.steps == other.steps and all(
            a.shape == b.shape
            and bool((np.abs(a - b) <= AGREEMENT * np.abs(b).max(initial=0.0)).all())
            for a, b in pairs
        )

    def _joined(self, means: Mapping[str, Array], name: str, examples: int, features: int) -> Array:
        sums = self._task.limbs.join(_named(means, name) * examples)
        if len(sums) != features:
            raise DataError(f"{name} must be of {features} features, got {len(sums)}")
        return sums

    def _point(self, means: Mapping[str, Array], examples: int, loss: float) -> Point:
        task, theta = self._task, self.theta
        if self.second_order:
            limbs = task.limbs.of_derivatives(scaled=task.scaling != "none")
            sums = limbs.join(_named(means, "derivatives") * examples)
            loss, gradient, hessian = likelihood.mean_derivatives(sums, len(theta), examples)
            point = Point(theta, loss, gradient, examples, hessian)
        else:
            gradient = parameters.join(_named(means, "coefficients"), _named(means, "intercept"))
            if len(gradient) != len(theta):
                raise DataError(f"a gradient must have {len(theta)} values, got {len(gradient)}")
            point = Point(theta, loss, gradient, examples)
        return penalised(point, task.features, task.C)

    def _step(self, point: Point) -> None:
        distance, theta = self._optimizer.distance(point), self._optimizer.step(point)
        task = self._task
        _require_small("coefficients", theta, task.features, task.max_coefficient)
        _require_small("steps of coefficients", theta - self.theta, task.features, task.max_step)
        self.distance, self.theta = distance, theta
        self.steps += 1


def _require_small(name: str, theta: Array, features: int, most: float | None) -> None:
    largest = float(np.abs(parameters.split(theta, features)[0]).max())
    if most is not None and not largest <= most:
        raise DataError(
            f"{name} must be at most {most:g} in size, got {largest:.4g}: the classes may be "
            "separated, and a penalty (C) keeps coefficients finite"
        )


def _named(means: Mapping[str, Array], name: str, length: int | None = None) -> Array:
    if name not in means or length not in (None, len(means[name])):
        raise DataError(f"a total must hold {name!r} as it was asked for, got {sorted(means)}")
    return means[name]
