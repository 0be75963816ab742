"""Models that an answering party can evaluate under encryption, as integers.

A linear classifier's class is the one with the largest ``weights @ features + offset``. Only the
order of the classes counts, so weights and offsets may be scaled together until they fill the bits
that there are for a comparison.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError

#: scikit-learn's names of what `linear_model` takes.
LINEAR_KINDS = (
    "LogisticRegression",
    "LogisticRegressionCV",
    "LinearSVC",
    "LinearDiscriminantAnalysis",
    "SGDClassifier",
    "RidgeClassifier",
    "Perceptron",
    "PassiveAggressiveClassifier",
    "NearestCentroid",
)
#: Weights longer than this make the evaluation slower and no better.
_LARGEST_SCALE_BITS = 16
_FEWEST_WEIGHT_BITS = 4


@dataclass(frozen=True, slots=True, eq=False)
class LinearModel:
    """A linear classifier.

    Parameters
    ----------
    weights : ndarray, shape (classes, features)
    offsets : ndarray, shape (classes,)
        ``-inf`` for a class that the model does not know.
    """

    weights: NDArray[np.float64] = field(repr=False)
    offsets: NDArray[np.float64] = field(repr=False)

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the class of each row of features, shape (m, d)."""
        scores: NDArray[np.float64] = features @ self.weights.T + self.offsets
        return np.asarray(scores.argmax(axis=1), dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class IntegerLinearModel:
    """The same in integers: what is computed under encryption, exactly.

    Attributes
    ----------
    weights : list of list of int, shape (classes, features)
    offsets : list of int, shape (classes,)
    """

    weights: list[list[int]] = field(repr=False)
    offsets: list[int] = field(repr=False)

    def scores(self, features: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return ``weights @ features + offsets`` of each row, shape (m, classes)."""
        scores: NDArray[np.int64] = features @ np.array(self.weights).T + np.array(self.offsets)
        return scores


def linear_model(estimator: Any, classes: int) -> LinearModel:
    """Read a fitted scikit-learn classifier.

    Parameters
    ----------
    estimator : object
        Fitted on labels from 0 to ``classes - 1``; it need not have seen all of them.
    classes : int

    Raises
    ------
    DataError
        If it is of another kind; the error names those that can be evaluated.
    """
    kind = type(estimator).__name__
    if kind not in LINEAR_KINDS or not type(estimator).__module__.startswith("sklearn."):
        raise DataError(
            f"an answering model must be one of {', '.join(LINEAR_KINDS)} of scikit-learn, got "
            f"{kind}"
        )
    if kind == "NearestCentroid":
        coefficients, intercepts = _nearest_centroid(estimator)
    else:
        coefficients = np.asarray(estimator.coef_, dtype=np.float64)
        intercepts = np.broadcast_to(estimator.intercept_, len(coefficients)).astype(np.float64)
    known = np.asarray(estimator.classes_)
    if not np.issubdtype(known.dtype, np.number) or not np.isin(known, np.arange(classes)).all():
        raise DataError(f"a model's labels must be integers from 0 to {classes - 1}, got others")
    if len(coefficients) == 1 and len(known) == 2:
        # one score for two classes: the second one's, against 0
        coefficients = np.vstack([np.zeros_like(coefficients), coefficients])
        intercepts = np.concatenate([[0.0], intercepts])
    if coefficients.shape[0] != len(known):
        raise DataError(
            f"a model must have a score for each of its {len(known)} classes, got "
            f"{coefficients.shape[0]} (one against one is not linear in the features)"
        )
    weights = np.zeros((classes, coefficients.shape[1]))
    offsets = np.full(classes, -np.inf)
    labels = known.astype(np.int64)
    weights[labels], offsets[labels] = coefficients, intercepts
    if not (np.isfinite(weights).all() and np.isfinite(offsets[labels]).all()):
        raise DataError("a model must hold finite numbers only")
    return LinearModel(weights, offsets)


def in_integers(
    model: LinearModel, fraction_bits: int, integer_bits: int, largest_difference: int
) -> IntegerLinearModel:
    """Scale and round a model so that no two classes' scores are too far apart.

    Parameters
    ----------
    model : LinearModel
    fraction_bits, integer_bits : int
        Fixed point of the features.
    largest_difference : int
        Between two classes' scores.

    Raises
    ------
    DataError
        If too few bits would be left for the weights.
    """
    known = np.isfinite(model.offsets)
    centred = model.weights - model.weights[known].mean(axis=0)
    centred[~known] = 0.0
    offsets = np.where(known, model.offsets, 0.0)
    offsets = np.where(known, offsets - offsets[known].mean(), 0.0)
    limit = float(1 << (fraction_bits + integer_bits))
    unit = float(1 << fraction_bits)
    # reach of each class's score; 1 for the rounding of each weight
    size = np.abs(centred).sum(axis=1) * limit + np.abs(offsets) * unit
    rounding = 0.5 * (model.weights.shape[1] * limit + 1.0)
    share = (largest_difference - 1) / 2.0
    scale = min((share - rounding) / max(size.max(), 1e-300), 2.0**_LARGEST_SCALE_BITS)
    largest_weight = np.abs(centred).max() * scale
    if share <= rounding or largest_weight < 1 << _FEWEST_WEIGHT_BITS:
        raise DataError(
            "a model must leave its weights at least "
            f"{_FEWEST_WEIGHT_BITS} bits: raise value_bits, or lower fraction_bits or integer_bits"
        )
    weights = np.rint(centred * scale).astype(np.int64)
    scaled = np.rint(offsets * scale * unit).astype(np.int64)
    reach = int(np.abs(weights).sum(axis=1).max() * int(limit) + np.abs(scaled).max())
    scaled[~known] = -reach - 1  # below all others, whatever the query
    return IntegerLinearModel(weights.tolist(), scaled.tolist())


def fixed_point(
    features: NDArray[np.float64], fraction_bits: int, integer_bits: int
) -> NDArray[np.int64]:
    """Round features of shape (m, d) to fixed point.

    Raises
    ------
    DataError
        For the first one that is not finite or too large, by its place.
    """
    with np.errstate(over="ignore"):
        scaled = np.rint(np.ldexp(features, fraction_bits))
    fits = np.abs(scaled) < float(1 << (fraction_bits + integer_bits))
    if not fits.all():
        row, column = np.argwhere(~fits)[0]
        raise DataError(
            f"feature {column} of query {row} must be below 2**{integer_bits} in size, got a "
            "larger one: raise integer_bits, or scale the feature"
        )
    return scaled.astype(np.int64)


def _nearest_centroid(estimator: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``|x - c|^2 = |x|^2 - 2 c x + |c|^2`` as a score, without what is common to all."""
    settings = (estimator.metric, estimator.shrink_threshold, estimator.priors)
    if settings != ("euclidean", None, "uniform"):
        raise DataError(
            "a NearestCentroid must have the euclidean metric, no shrink_threshold and uniform "
            "priors, got others"
        )
    centroids = np.asarray(estimator.centroids_, dtype=np.float64)
    return centroids, -0.5 * (centroids**2).sum(axis=1)
