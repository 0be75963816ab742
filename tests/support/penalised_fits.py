"""Fits by Firth's penalty, or without one, from the sums of several hospitals, unencrypted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fl_he.learning.optimizers import profile
from fl_he.learning.optimizers.base import Point
from fl_he.learning.optimizers.damped import Newton
from fl_he.learning.optimizers.scoring import FisherScoring, information_of, with_firth
from fl_he.learning.regression import firth, likelihood
from fl_he.learning.tables.data import Dataset

TOLERANCE = 1e-9
_MOST = 100


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


def hospitals(features: np.ndarray, labels: np.ndarray) -> list[Dataset]:
    """Divide a table's rows among three hospitals."""
    names = tuple(f"x{number}" for number in range(features.shape[1]))
    return [Dataset(features[at::3], labels[at::3], names) for at in range(3)]


def evaluate(datasets: Sequence[Dataset], theta: np.ndarray, *, penalty: bool) -> Point:
    """Return what the hospitals' sums tell of a model."""
    examples = [likelihood.examples_of(dataset, theta) for dataset in datasets]
    sums = np.sum([likelihood.derivative_sums(one) for one in examples], axis=0)
    count = sum(len(one.losses) for one in examples)
    loss, gradient, hessian = likelihood.mean_derivatives(sums, len(theta), count)
    point = Point(theta, loss, gradient, count, hessian)
    if not penalty:
        return point
    inverse = firth.inverse(information_of(point), point.theta)
    adjustment = np.sum([firth.adjustment_sum(one, inverse) for one in examples], axis=0)
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


def search(
    datasets: Sequence[Dataset],
    estimate: profile.Estimate,
    columns: Sequence[int],
    *,
    penalty: bool,
) -> list[profile.Bound]:
    """Return both bounds of each column."""
    bounds = estimate.bounds(columns)
    for _ in range(_MOST):
        if not (left := profile.still_open(bounds)):
            break
        points = [evaluate(datasets, bound.theta, penalty=penalty) for bound in left]
        profile.advance(bounds, points, estimate, TOLERANCE)
    return bounds
