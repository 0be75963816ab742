"""Shares of 95% intervals that cover the true value: 400 sets of 600 rows of three hospitals.

Sums of hospitals are added in plain here: tests of runs compare those of encrypted sums with
statsmodels to a millionth of a standard error. Steps and intervals are those of a run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from fl_he.learning.optimizers.base import Point
from fl_he.learning.optimizers.damped import Newton
from fl_he.learning.optimizers.scoring import information_of, point_of
from fl_he.learning.regression.glm import GlmFamily, OutcomeMoments
from fl_he.learning.regression.inference import LEVEL, estimates_of
from fl_he.learning.regression.likelihood import derivative_parts, examples_of
from fl_he.learning.regression.own_intercepts import profiled
from fl_he.learning.regression.registry import FAMILIES
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.scaling import Scaling

SETS, ROWS, NAMES = 400, (400, 150, 50), ("a", "b")
#: Effects of both features, and of each further class twice as large.
TRUTH = np.array([0.4, -0.5])
#: Intercepts of the hospitals, where they differ.
OWN = (0.3, -0.4, 1.0)
CLASSES = ("x", "y", "z")
WITH_SITES = ("logistic", "gaussian", "poisson", "gamma")


def labels_of(family: str, margins: Array, rng: np.random.Generator) -> Array:
    """Draw an outcome for each margin; a time to an event has a minus sign where it is censored."""
    means = np.exp(margins)
    if family == "gaussian":
        return np.asarray(rng.normal(margins, 1.5), dtype=np.float64)
    if family == "poisson":
        return rng.poisson(means).astype(np.float64)
    if family == "gamma":
        return np.asarray(rng.gamma(2.0, means / 2.0), dtype=np.float64)
    if family == "softmax":
        shares = np.column_stack([np.ones(len(means)), means, means**2])
        bounds = np.cumsum(shares / shares.sum(axis=1)[:, None], axis=1)
        above = rng.random(len(means))[:, None] > bounds
        return np.asarray(above.sum(axis=1), dtype=np.float64)
    if family in ("cox", "cox-breslow"):
        event, end = rng.exponential(1.0 / means), rng.exponential(2.0, len(means))
        seen = np.asarray(event <= end)
        return np.asarray(np.copysign(np.minimum(event, end), seen - 0.5))
    return np.asarray(rng.random(len(means)) < means / (1.0 + means), dtype=np.float64)


def hospitals_of(family: str, rng: np.random.Generator, *, own: bool) -> list[Dataset]:
    """Draw the patients of three hospitals, whose intercepts may differ."""
    hospitals = []
    for rows, intercept in zip(ROWS, OWN, strict=True):
        features = np.column_stack([rng.normal(size=rows), rng.integers(0, 2, rows)])
        margins = features @ TRUTH + (intercept if own else 0.2)
        labels = labels_of(family, margins, rng)
        classes = CLASSES if family == "softmax" else ()
        name = "" if family in ("logistic", "softmax") else family
        hospitals.append(Dataset(features, labels, NAMES, classes=classes, family=name))
    return hospitals


@dataclass(frozen=True)
class Fit:
    """A fit of all hospitals' rows; the point is that of the estimates."""

    point: Point
    family: GlmFamily | None

    def intervals(self, intercepts: int) -> Array:
        """Return both ends of each coefficient's interval, shape (coefficients, 2)."""
        point, more = self.point, dict[str, Any]()
        if (family := self.family) is not None:
            more["ratio"] = family.ratio
            if family.has_dispersion:
                freedom = point.examples - len(NAMES) - intercepts
                more |= {"freedom": freedom, "dispersion": point.pearson / freedom}
        found = estimates_of(
            *(point.theta, NAMES, Scaling.none(len(NAMES))),
            classes=CLASSES,
            hessian=information_of(point) / point.examples,
            examples=point.examples,
            **more,
        )
        rows = [row for row in found.rows() if row["name"] in NAMES]
        return np.array([[row["lower"], row["upper"]] for row in rows])


def fitted(hospitals: list[Dataset], family: str, *, own: bool) -> Fit:
    """Return the fit by Newton's method from the sums of hospitals."""
    kind, examples = FAMILIES[family], sum(ROWS)
    glm = kind if isinstance(kind, GlmFamily) else None
    theta = kind.zeros(len(NAMES), hospitals[0].class_count)
    if glm is not None:
        sums = np.sum([glm.outcome_sums(one.labels, one.exposed) for one in hospitals], axis=0)
        theta = glm.start(len(NAMES), OutcomeMoments(*(sums / examples)))
    if own:
        theta[-1] = 0.0
    optimizer, evaluate = Newton(), profiled if own else examples_of
    for _ in range(9):
        parts = [derivative_parts(evaluate(one, theta)) for one in hospitals]
        point = point_of(theta, np.sum(parts, axis=0), examples)
        if family == "softmax":  # whose directions without information have a rest
            point = replace(point, rest=None)
        if optimizer.distance(point) <= 1e-4:
            return Fit(point, glm)
        theta = optimizer.step(point)
        if own:
            theta[-1] = 0.0
    raise AssertionError("nine rounds have not found the optimum")


@pytest.mark.release
@pytest.mark.parametrize(
    ("family", "own"),
    [
        *((family, False) for family in (*WITH_SITES, "softmax", "cox", "cox-breslow")),
        *((family, True) for family in WITH_SITES),
    ],
)
def test_intervals_of_three_hospitals_cover_the_truth(family: str, own: bool) -> None:
    rng, covered = np.random.default_rng(7), list[Array]()
    truths = np.concatenate([TRUTH, 2 * TRUTH]) if family == "softmax" else TRUTH
    for _ in range(SETS):
        fit = fitted(hospitals_of(family, rng, own=own), family, own=own)
        ends = fit.intervals(len(ROWS) if own else 1)
        inside = (ends[:, 0] <= truths) & (truths <= ends[:, 1])
        covered.append(inside.astype(np.float64))
    assert np.mean(covered) == pytest.approx(LEVEL, abs=0.02)
