"""Fits by Firth's penalty, or without one, from the sums of several hospitals, unencrypted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize

from fl_he.learning.optimizers import profile
from fl_he.learning.optimizers.base import Point
from fl_he.learning.optimizers.damped import Newton
from fl_he.learning.optimizers.scoring import FisherScoring, information_of, point_of, with_firth
from fl_he.learning.regression import firth, likelihood
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import Limbs

TOLERANCE = 1e-9
#: Of columns in any unit.
LIMBS = Limbs(24, 24, lowest=-200, span=400)
#: Upper bound of the column that separates the classes: firthmodels ends at the lower one of two
#: maxima over the other parameters, at 27.277.
SEPARATED_UPPER = 27.342723099
_MOST = 200


def table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return features and labels of a table of its kind.

    ``overlapping`` classes; ``rare`` events, 5 of 400; classes that one column ``separated``; and
    ``quasi``, where all of one level of a column are of one class.
    """
    rng = np.random.default_rng(11)
    if name == "overlapping":
        features = rng.normal(size=(90, 3)) * [1.0, 5.0, 0.1]
        risk = features @ [0.8, -0.1, 3.0]
        return features, (rng.random(90) < 1 / (1 + np.exp(-risk))).astype(float)
    if name == "rare":
        features = rng.normal(size=(400, 2))
        labels = np.zeros(400)
        labels[np.argsort(features @ [1.0, 0.3] + rng.normal(size=400))[-5:]] = 1.0
        return features, labels
    if name == "separated":
        features = rng.normal(size=(60, 2))
        return features, (features[:, 0] > 0.1).astype(float)
    features = np.column_stack([rng.integers(0, 2, 50), rng.normal(size=50)]).astype(float)
    return features, features[:, 0] * (rng.random(50) < 0.4)


TABLES = ("overlapping", "rare", "separated", "quasi")


def intervals(fit: Any, name: str) -> np.ndarray:
    """Return the profile likelihood intervals of firthmodels, but for the bound that it misses."""
    found = np.array(fit.conf_int(method="pl", tol=1e-9, max_iter=500)[:-1])
    if name == "separated":
        found[0, 1] = SEPARATED_UPPER
    return found


def hospitals(features: np.ndarray, labels: np.ndarray) -> list[Dataset]:
    """Divide a table's rows among three hospitals."""
    names = tuple(f"x{number}" for number in range(features.shape[1]))
    return [Dataset(features[at::3], labels[at::3], names) for at in range(3)]


def evaluate(datasets: Sequence[Dataset], theta: np.ndarray, *, penalty: bool) -> Point:
    """Return the quantities of a model from the hospitals' sums."""
    examples = [likelihood.examples_of(dataset, theta) for dataset in datasets]
    digits = np.sum([LIMBS.split(*likelihood.derivative_parts(one)) for one in examples], axis=0)
    parts = np.array(LIMBS.join_parts(digits))
    count = sum(len(one.losses) for one in examples)
    point = point_of(theta, parts, count)
    if not penalty:
        return point
    root = firth.root(information_of(point), point.theta, point.rest)
    adjustment = np.sum([firth.adjustment_sum(one, root) for one in examples], axis=0)
    return with_firth(point, adjustment)


def fit(datasets: Sequence[Dataset], *, penalty: bool) -> tuple[Point, int]:
    """Return the evaluation at the estimate, and the iterations until it."""
    optimizer = FisherScoring() if penalty else Newton()
    theta = np.zeros(datasets[0].features.shape[1] + 1)
    for number in range(_MOST):
        point = evaluate(datasets, theta, penalty=penalty)
        if optimizer.distance(point) <= TOLERANCE:
            return point, number
        theta = optimizer.step(point)
    raise AssertionError("the fit must converge")


def estimate_of(point: Point) -> profile.Estimate:
    """Return the estimate at which a fit ended."""
    log_likelihood = -point.examples * point.loss
    return profile.Estimate(
        point.theta,
        log_likelihood,
        firth.inverse(information_of(point), point.theta),
        point.examples,
    )


def hard_table(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features and labels whose penalised likelihood has several maxima at some bounds.

    A combination of four standardised columns separates the classes.
    """
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(15, 60))
    columns = [rng.normal(size=rows), rng.integers(0, 4, rows), np.exp(rng.normal(size=rows))]
    features = np.column_stack([*columns, rng.integers(0, 2, rows)]).astype(float)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    risk = features @ rng.normal(size=4)
    return features, (risk > np.quantile(risk, 0.4)).astype(float)


def highest(
    features: np.ndarray, labels: np.ndarray, column: int, value: float, near: np.ndarray
) -> float:
    """Return the largest penalised log likelihood of all models with a coefficient.

    Climbs by scipy from zero, from a model near and from planes through patients.
    """
    design = np.column_stack([features, np.ones(len(features))])
    free = np.arange(design.shape[1]) != column
    rng = np.random.default_rng(0)

    def lost(others: np.ndarray) -> tuple[float, np.ndarray]:
        theta = np.insert(others, column, value)
        margins = design @ theta
        p = 1.0 / (1.0 + np.exp(-margins))
        weighted = design * np.sqrt(p * (1.0 - p))[:, None]
        sign, log_determinant = np.linalg.slogdet(weighted.T @ weighted)
        if sign <= 0.0 or np.linalg.cond(weighted) > 1e7:
            return np.inf, np.zeros(len(others))
        leverages = np.square(np.linalg.qr(weighted)[0]).sum(axis=1)
        slope = (labels - p + leverages * (0.5 - p)) @ design
        loss = np.logaddexp(0.0, (1.0 - 2.0 * labels) * margins).sum()
        return float(loss - log_determinant / 2), -slope[free]

    starts = [np.zeros(free.sum()), near[free]]
    for _ in range(60):
        rows = rng.choice(len(design), size=int(free.sum()), replace=False)
        plane, *_ = np.linalg.lstsq(design[rows][:, free], -value * design[rows, column])
        starts.append(plane)
    found = [minimize(lost, start, jac=True, method="BFGS").fun for start in starts]
    return -float(np.min(found))


def search(
    datasets: Sequence[Dataset],
    estimate: profile.Estimate,
    columns: Sequence[int],
    *,
    penalty: bool,
) -> list[profile.Bound]:
    """Return both bounds of each column."""
    found = profile.Search(estimate.bounds(columns))
    while found.goes_on and found.iterations < _MOST:
        points = [evaluate(datasets, theta, penalty=penalty) for theta in found.models]
        found.take(points, estimate, TOLERANCE)
    return found.bounds
