"""Comparison of predictions with outcomes that the rows' owner knows: nothing is sent.

Sources: Cox 1958, "Two further applications of a model for binary regression" (slope and intercept
of a calibration); Steyerberg 2019, "Clinical Prediction Models", 2nd edition, sections 15.3 and
15.4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.regression import glm_fit
from fl_he.learning.regression.cox import concordance
from fl_he.learning.regression.evaluation import roc_auc
from fl_he.learning.regression.family import ClassFamily, Family
from fl_he.learning.regression.glm import GlmFamily
from fl_he.learning.regression.inference import interval_reach
from fl_he.learning.regression.likelihood import examples_of, hessian_sum, loss_sum, mean_gradient
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset

_TENTHS, _MOST_STEPS, _LEAST_STEP, _CLOSE = 10, 50, 1e-6, 1e-10


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate with its 95% interval; an end is ``None`` if the data tell no spread.

    With an estimated dispersion the interval is that of Student's distribution, as in
    :class:`fl_he.learning.regression.inference.Estimates`.
    """

    value: float
    lower: float | None
    upper: float | None


@dataclass(frozen=True, slots=True)
class Part:
    """Rows whose predictions are neighbours, or the rows of all.

    Attributes
    ----------
    rows : int
    lower, upper : float
        Least and largest prediction.
    predicted, observed : float
        Sum of the predictions, and of the outcomes: how many came true, or events.
    """

    rows: int
    lower: float
    upper: float
    predicted: float
    observed: float


@dataclass(frozen=True, slots=True)
class ClassPart:
    """A class against the others: rows of it, their expected number, and the area under its ROC."""

    name: str
    observed: float
    predicted: float
    roc_auc: float | None


@dataclass(frozen=True, slots=True)
class Validation:
    """A model on rows whose outcomes are known.

    Attributes
    ----------
    whole : Part
        Of all rows; of more than two classes, and below, of the class that is predicted.
    figures : mapping of str to float or None
        By the names of metrics.json; ``None`` where undefined.
    in_the_large : Estimate or None
        Intercept of the outcomes on the model's margin as an offset; ``None`` if the family has
        none, or there is no finite estimate.
    intercept, slope : Estimate or None
        Of the outcomes on the model's margin.
    tenths : tuple of Part
        By the prediction; equal predictions are not parted.
    classes : tuple of ClassPart
        Of more than two classes.
    """

    whole: Part
    figures: Mapping[str, float | None]
    in_the_large: Estimate | None
    intercept: Estimate | None
    slope: Estimate | None
    tenths: tuple[Part, ...]
    classes: tuple[ClassPart, ...] = ()


def validate(family: Family, margins: Array, dataset: Dataset) -> Validation:
    """Compare predictions with outcomes.

    Parameters
    ----------
    family
        The model's, with its alpha.
    margins
        Of the model, without the exposure, shape (m, r).
    dataset
        Labels, classes and exposures of the m rows; its features do not matter.

    Raises
    ------
    DataError
        If there are no rows.

    Examples
    --------
    >>> from fl_he.learning.regression.logistic import LOGISTIC
    >>> margins = np.array([[-2.0], [0.0], [0.5], [1.0]])
    >>> data = Dataset(margins, np.array([0.0, 1.0, 0.0, 1.0]), ("margin",))
    >>> found = validate(LOGISTIC, margins, data)
    >>> found.figures["roc_auc"], found.whole.observed, round(found.whole.predicted, 3)
    (0.75, 2.0, 1.973)
    """
    if isinstance(family, ClassFamily):
        return _of_classes(family, margins, dataset)
    if isinstance(family, GlmFamily):
        return _of_numbers(family, margins, dataset)
    raise DataError(f"a model of family {family.name} cannot be compared with outcomes")


def _of_classes(family: ClassFamily, margins: Array, dataset: Dataset) -> Validation:
    means, labels = family.means(margins), dataset.labels
    forecast, right = family.forecast(means, labels)
    belongs = family.of_rows(labels, means.shape[1])
    areas = [_area(*one) for one in zip(means.T, belongs.T, strict=True)]
    known = [area for area in areas if area is not None]
    found = {
        "accuracy": float(np.mean(family.predicted(means) == labels)),
        "roc_auc": float(np.mean(known)) if known else None,
        "brier_score": float(np.square(means - belongs).sum(axis=1).mean()),
        "log_loss": float(family.losses(margins, labels).mean()),
    }
    tenths, whole = _parts(forecast, forecast, right.astype(np.float64))
    if means.shape[1] == 1:
        return Validation(whole, found, *_recalibrated(family, margins, dataset), tenths)
    sums = zip(belongs.sum(axis=0).tolist(), means.sum(axis=0).tolist(), strict=True)
    classes = tuple(
        ClassPart(name, *both, area)
        for name, both, area in zip(dataset.classes, sums, areas, strict=True)
    )
    return Validation(whole, found, None, None, None, tenths, classes)


def _of_numbers(family: GlmFamily, margins: Array, dataset: Dataset) -> Validation:
    exposed = margins + np.log(dataset.exposed)[:, None]
    predicted, outcomes = family.means(exposed)[:, 0], dataset.labels
    large, intercept, slope = _recalibrated(family, margins, dataset)
    if not family.has_intercept:  # a time, of which the model tells the order alone
        seen = (~np.signbit(outcomes)).astype(np.float64)
        right, pairs = concordance(margins[:, 0], outcomes)
        known = {"concordance": right / pairs if pairs else math.nan}
        tenths, whole = _parts(predicted, predicted, seen)
        return Validation(whole, _finite(known), None, None, slope, tenths)
    alone = _alone(margins, dataset)
    known = glm_fit.figures(family, alone, np.array([1.0, 0.0]))
    tenths, whole = _parts(family.means(margins)[:, 0], predicted, outcomes)
    return Validation(whole, _finite(known), large, intercept, slope, tenths)


def _alone(margins: Array, dataset: Dataset) -> Dataset:
    """Return the dataset with the model's margin as its only feature."""
    return replace(dataset, features=margins, feature_names=("margin",), described=None)


def _finite(found: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in found.items()}


def _area(scores: Array, positive: NDArray[np.bool_]) -> float | None:
    """Return the area under the ROC curve, each different score in a bin."""
    _, place = np.unique(scores, return_inverse=True)
    return roc_auc(np.array([np.bincount(place, ~positive), np.bincount(place, positive)]))


def _parts(order: Array, predicted: Array, observed: Array) -> tuple[tuple[Part, ...], Part]:
    """Return the tenths by an order of the rows, and all rows."""
    _, place, counts = np.unique(order, return_inverse=True, return_counts=True)
    tenth = (_TENTHS * (np.cumsum(counts) - counts / 2.0) / len(order)).astype(np.intp)[place]

    def part(rows: NDArray[np.bool_]) -> Part:
        within = order[rows]
        sums = (float(one[rows].sum()) for one in (predicted, observed))
        return Part(len(within), float(within.min()), float(within.max()), *sums)

    whole = part(np.ones(len(order), dtype=bool))
    return tuple(part(tenth == one) for one in np.unique(tenth)), whole


def _recalibrated(
    family: Family, margins: Array, dataset: Dataset
) -> tuple[Estimate | None, Estimate | None, Estimate | None]:
    """Return the calibration in the large, and intercept and slope."""
    alone, large = _alone(margins, dataset), None
    has_intercept = not isinstance(family, GlmFamily) or family.has_intercept
    if has_intercept:
        (large,) = _fitted(family, alone, [1]) or (None,)
    both = _fitted(family, alone, [0, 1] if has_intercept else [0])
    slope, *intercept = both or (None,)
    return large, intercept[0] if intercept else None, slope


def _fitted(family: Family, dataset: Dataset, free: list[int]) -> list[Estimate] | None:
    """Fit slope (0) and intercept (1), of which others stay 1 and 0, by Newton's method."""
    theta = np.array([1.0, 0.0])
    for _ in range(_MOST_STEPS):
        examples = examples_of(dataset, theta, family=family)
        hessian = hessian_sum(examples)[np.ix_(free, free)]
        gradient = mean_gradient(examples)[free] * dataset.examples
        try:
            inverse = np.linalg.inv(hessian).astype(np.float64)
        except np.linalg.LinAlgError:
            return None
        step = inverse @ gradient
        if not np.isfinite(step).all():
            return None
        if (np.abs(step) <= _CLOSE * (1.0 + np.abs(theta[free]))).all():
            return _estimates(family, dataset, theta, free, inverse)
        size, loss = 1.0, loss_sum(examples)
        while size > _LEAST_STEP:
            moved = theta.copy()
            moved[free] -= size * step
            if loss_sum(examples_of(dataset, moved, family=family)) <= loss + _CLOSE * abs(loss):
                break
            size /= 2.0
        theta = moved
    return None


def _estimates(
    family: Family, dataset: Dataset, theta: Array, free: list[int], inverse: Array
) -> list[Estimate]:
    dispersion, freedom = 1.0, None
    if isinstance(family, GlmFamily) and family.has_dispersion:
        examples, freedom = examples_of(dataset, theta, family=family), dataset.examples - len(free)
        pearson = float(family.pearson(examples.means, dataset.labels).sum())
        dispersion = pearson / freedom if freedom > 0 else math.nan
    reaches = interval_reach(freedom) * np.sqrt(dispersion * np.diag(inverse))
    found = []
    for value, reach in zip(theta[free].tolist(), reaches.tolist(), strict=True):
        ends = (value - reach, value + reach) if math.isfinite(reach) else (None, None)
        found.append(Estimate(value, *ends))
    return found
