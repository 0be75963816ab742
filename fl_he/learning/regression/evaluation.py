"""How well a model predicts, from counts alone: they can be summed up under encryption.

A hospital counts labels against predictions (confusion matrix), scores in bins by class (from which
the ROC follows), and predicted against observed probabilities (calibration). Counts of hospitals
add up to those of the pooled data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.regression import likelihood
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset

#: Bins of the log-odds. They are narrow at 0, where a weak model's scores are, and wider outwards.
SCORE_BINS = 160
_LARGEST_LOG_ODDS, _NARROWNESS = 16.0, 200.0
#: Bins of equal width of the predicted probability.
CALIBRATION_BINS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """What a model's predictions come to on some examples.

    Attributes
    ----------
    confusion
        Shape (k, k): examples of the row's class that were predicted as the column's.
    scores
        Shape (r, 2, SCORE_BINS): for each class against the others (r = k; r = 1 for two
        classes), examples of the others and of the class itself by the log-odds of the class.
    calibration
        Shape (3, CALIBRATION_BINS): examples, sum of the predicted probabilities, and how many
        were right, by predicted probability. That is of label 1 for two classes, else of the class
        that was predicted: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2.
    log_loss
        Sum over the examples.
    """

    confusion: Array
    scores: Array
    calibration: Array
    log_loss: float

    @property
    def examples(self) -> int:
        """How many there are."""
        return round(float(self.confusion.sum()))


def count(dataset: Dataset, theta: Array) -> Counts:
    """Evaluate a model on examples that it was not trained on.

    Parameters
    ----------
    dataset
        In the units of the model.
    theta
        Parameters, as :mod:`fl_he.learning.regression.parameters` lays them out.

    Raises
    ------
    DataError
        If the model is of other features or classes.
    """
    examples = likelihood.examples_of(dataset, theta)
    labels, classes = dataset.labels.astype(np.intp), dataset.class_count
    family, of_rows = examples.family, examples.probabilities
    predicted = family.predicted(of_rows)
    forecast, right = family.forecast(of_rows, dataset.labels)
    belongs = family.of_rows(dataset.labels, of_rows.shape[1])
    pairs = np.bincount(labels * classes + predicted, minlength=classes**2)
    confusion = pairs.reshape(classes, classes).astype(np.float64)
    bins = _score_bins(of_rows) + SCORE_BINS * belongs
    scores = [np.bincount(row, minlength=2 * SCORE_BINS).reshape(2, -1) for row in bins.T]
    place = np.minimum((forecast * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)
    calibration = [
        np.bincount(place, weights=values, minlength=CALIBRATION_BINS)
        for values in (np.ones(len(labels)), forecast, right)
    ]
    return Counts(
        confusion,
        np.array(scores, dtype=np.float64),
        np.array(calibration),
        math.fsum(examples.losses),
    )


def _score_bins(probabilities: Array) -> NDArray[np.intp]:
    tiny = np.finfo(np.float64).tiny
    log_odds = np.log(np.maximum(probabilities, tiny)) - np.log(np.maximum(1 - probabilities, tiny))
    reach = math.asinh(_NARROWNESS * _LARGEST_LOG_ODDS)
    share = 0.5 + 0.5 * np.arcsinh(_NARROWNESS * log_odds) / reach
    return np.clip((share * SCORE_BINS).astype(np.intp), 0, SCORE_BINS - 1)


def figures(counts: Counts) -> dict[str, Any]:
    """Return what is known of a model from counts.

    Parameters
    ----------
    counts
        Of any number of examples, at least 1, of any number of hospitals.

    Returns
    -------
    dict
        ``examples``, ``accuracy``, ``balanced_accuracy``, ``roc_auc`` (the mean over classes
        against the others; ``None`` if there are none), ``log_loss``, ``confusion`` as lists,
        ``calibration``: for each bin that is not empty ``examples``, mean ``predicted`` and
        ``observed``; and ``calibration_error``, the mean distance of the two, weighted by examples.

    Raises
    ------
    DataError
        If there are no examples.
    """
    examples = counts.examples
    if examples < 1:
        raise DataError(f"examples must be at least 1, got {examples}")
    confusion = counts.confusion
    of_class = confusion.sum(axis=1)
    present = of_class > 0
    areas = [area for row in counts.scores if (area := roc_auc(row)) is not None]
    bins = [
        {"examples": round(n), "predicted": float(p / n), "observed": float(right / n)}
        for n, p, right in counts.calibration.T
        if n > 0
    ]
    error = sum(b["examples"] * abs(b["predicted"] - b["observed"]) for b in bins) / examples
    return {
        "examples": examples,
        "accuracy": float(np.trace(confusion) / examples),
        "balanced_accuracy": float(np.mean(np.diag(confusion)[present] / of_class[present])),
        "roc_auc": float(np.mean(areas)) if areas else None,
        "log_loss": counts.log_loss / examples,
        "confusion": np.rint(confusion).astype(int).tolist(),
        "calibration": bins,
        "calibration_error": float(error),
    }


def roc_auc(scores: Array) -> float | None:
    """Return the area under the ROC curve of scores in bins; scores of one bin count as equal.

    Source: Hanley and McNeil 1982, "The meaning and use of the area under a receiver operating
    characteristic (ROC) curve", whose W is the share of pairs in the right order, ties by half.

    Parameters
    ----------
    scores
        Shape (2, bins): how many negatives and positives are in each bin, in ascending order.

    Returns
    -------
    float or None
        ``None`` if there are no positives or no negatives.
    """
    negatives, positives = scores
    pairs = float(negatives.sum() * positives.sum())
    if pairs <= 0:
        return None
    below = np.cumsum(negatives) - negatives
    return float(positives @ (below + negatives / 2)) / pairs
