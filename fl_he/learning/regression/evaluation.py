"""Quality of predictions from sums over examples, which can be added under encryption.

A hospital counts labels against predictions (confusion matrix), scores in bins by class (from which
the ROC follows), and predicted against observed probabilities (calibration). Counts of hospitals
add up to those of the pooled data. Bins may hold one patient each, so company X alone opens the
sum; :mod:`fl_he.learning.regression.disclosure` says which figures leave it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from fl_he.config.groups import RISKS
from fl_he.learning.errors import DataError
from fl_he.learning.regression import likelihood
from fl_he.learning.regression.registry import class_family
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset

_GRID_BINS, _LARGEST_LOG_ODDS, _NARROWNESS = 160, 16.0, 200.0
#: Bins of equal width of the predicted probability, for the calibration error.
CALIBRATION_BINS = 10


def _grid() -> Array:
    """Return borders of bins that are narrow at 0 and wider outwards."""
    reach = math.asinh(_NARROWNESS * _LARGEST_LOG_ODDS)
    places = 2 * np.arange(1, _GRID_BINS) / _GRID_BINS - 1
    borders: Array = np.sinh(places * reach) / _NARROWNESS
    return borders


def _log_odds(probabilities: Array) -> Array:
    tiny = np.finfo(np.float64).tiny
    odds: Array = np.log(np.maximum(probabilities, tiny)) - np.log(
        np.maximum(1 - probabilities, tiny)
    )
    return odds


_TENTHS = np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS
_RISK_EDGES = _log_odds(np.array(RISKS))
_GRID = _grid()
#: Borders of the fine bins of a forecast's log-odds; a forecast on a border is in the bin below.
EDGES = np.union1d(_GRID, np.union1d(_log_odds(_TENTHS), _RISK_EDGES))
BINS = len(EDGES) + 1
_EVEN = np.linspace(-10.0, 10.0, 201)
#: Bins of a class's log-odds: of equal width, and narrow at the log-odds of a row of zeros. There
#: are the scores of a weak model if features are centred: of a rare class, far below 0.
SCORE_BINS = len(_EVEN) + len(_GRID) + 1
#: Fine bins below a probability of a half, which predict the class against which it stands.
HALF = int(np.searchsorted(EDGES, 0.0)) + 1
#: The same of the public risks.
AT_RISKS = np.searchsorted(EDGES, _RISK_EDGES) + 1


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Sums over examples of what a model predicts; k classes, r rows (r = 1 for two classes).

    Attributes
    ----------
    confusion
        Shape (k, k): examples of the row's class that were predicted as the column's.
    calibration
        Shape (3, BINS): forecasts that did not come true, those that did, and the sum of their
        probabilities, by log-odds of the forecast. That is label 1 for two classes, else the class
        that was predicted: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2.
    scores
        Shape (r, 2, SCORE_BINS): for each row's class against the others, examples of the others
        and of the class itself in ascending order of the log-odds of the class.
    squares
        Shape (r,): sum of the squared distances of each row's probability from 0 or 1.
    log_loss
        Sum over the examples.
    """

    confusion: Array
    calibration: Array
    scores: Array
    squares: Array
    log_loss: float

    @property
    def examples(self) -> int:
        """Number of examples."""
        return round(float(self.confusion.sum()))

    def to_vector(self) -> Array:
        """Return all sums as one vector."""
        return np.concatenate([np.ravel(part) for part in astuple(self)])

    @classmethod
    def of_vector(cls, values: Array) -> Counts:
        """Return the sums that a vector holds, counts as whole numbers.

        Raises
        ------
        DataError
            If these are no counts of one model. The message shows none of them.
        """
        # Of k > 2 classes there are k^2 + k (2 SCORE_BINS + 1) + 3 BINS + 1 values.
        linear, rest = 2 * SCORE_BINS + 1, len(values) - 3 * BINS - 1
        root = math.isqrt(linear**2 + 4 * max(rest, 0))
        classes = max(2, (root - linear) // 2)
        shapes = [np.shape(part) for part in astuple(cls.of_nobody(classes))]
        sizes = [math.prod(shape) for shape in shapes]
        if sum(sizes) != len(values):
            raise DataError("counts must be of one model, and they are not")
        parts = np.split(values, np.cumsum(sizes)[:-1])
        confusion, calibration, scores, squares, losses = (
            part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)
        )
        # Counts are whole; the sums of probabilities are not.
        calibration = np.vstack([np.rint(calibration[:2]), calibration[2:]])
        made = cls(np.rint(confusion), calibration, np.rint(scores), squares, float(losses))
        sums = [made.calibration[:2].sum(), *made.scores.sum(axis=(1, 2))]
        whole = (made.confusion, made.calibration, made.scores)
        same = set(sums) == {made.confusion.sum()} and (
            classes > 2
            or (made.confusion == np.add.reduceat(calibration[:2], [0, HALF], axis=1)).all()
        )
        if not same or min(part.min(initial=0.0) for part in whole) < 0:
            raise DataError("counts must be of one model, and they are not")
        return made

    @classmethod
    def of_nobody(cls, classes: int) -> Counts:
        """Return the sums over no examples."""
        rows = classes if classes > 2 else 1
        return cls(
            np.zeros((classes, classes)),
            np.zeros((3, BINS)),
            np.zeros((rows, 2, SCORE_BINS)),
            np.zeros(rows),
            0.0,
        )


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
        If the model is of other features or classes, or the labels are none.
    """
    examples, family = likelihood.examples_of(dataset, theta), class_family(dataset)
    labels, classes = dataset.labels.astype(np.intp), dataset.class_count
    of_rows = examples.means
    rows = of_rows.shape[1]
    predicted = family.predicted(of_rows)
    forecast, right = family.forecast(of_rows, dataset.labels)
    belongs = family.of_rows(dataset.labels, rows)
    pairs = np.bincount(labels * classes + predicted, minlength=classes**2)
    place = np.searchsorted(EDGES, _log_odds(forecast))
    if rows == 1:  # rounding must not part the bins from the prediction
        place = np.where(predicted == 1, np.maximum(place, HALF), np.minimum(place, HALF - 1))
    calibration = [
        np.bincount(place, weights=values, minlength=BINS) for values in (~right, right, forecast)
    ]
    centre = family.means(family.margins(np.zeros((1, len(dataset.feature_names))), theta))
    scores = [
        np.bincount(bins + SCORE_BINS * own, minlength=2 * SCORE_BINS)
        for bins, own in zip(_score_bins(of_rows, centre), belongs.T, strict=True)
    ]
    return Counts(
        pairs.reshape(classes, classes).astype(np.float64),
        np.array(calibration),
        np.array(scores, dtype=np.float64).reshape(rows, 2, SCORE_BINS),
        ((of_rows - belongs) ** 2).sum(axis=0),
        likelihood.loss_sum(examples),
    )


def _score_bins(probabilities: Array, centre: Array) -> Iterator[NDArray[np.intp]]:
    """Yield the bins of each row's scores; the centre has shape (1, r)."""
    for scores, (middle,) in zip(_log_odds(probabilities).T, _log_odds(centre).T, strict=True):
        yield np.searchsorted(np.sort(np.concatenate([_EVEN, middle + _GRID])), scores)


def calibration_error(calibration: Array) -> float:
    """Return the mean distance of predicted from observed probabilities.

    In bins of equal width of the probability, weighted by examples: Guo et al. 2017, equation 3.

    Parameters
    ----------
    calibration
        As `Counts` has it, of at least one example.
    """
    starts = [0, *(np.searchsorted(EDGES, _log_odds(_TENTHS)) + 1)]
    _, right, predicted = np.add.reduceat(calibration, starts, axis=1)
    return float(np.abs(predicted - right).sum() / calibration[:2].sum())


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
