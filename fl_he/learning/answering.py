"""What an answering party can evaluate under encryption, out of fitted scikit-learn classifiers.

A linear classifier's class is the one with the largest ``weights @ features + offset``. A neural
network's is that of its last layer, after layers of the same form with a ReLU behind each.
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


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A linear map.

    Parameters
    ----------
    weights : ndarray, shape (outputs, inputs)
    offsets : ndarray, shape (outputs,)
        In the last layer ``-inf`` for a class that the model does not know.
    """

    weights: NDArray[np.float64] = field(repr=False)
    offsets: NDArray[np.float64] = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class AnsweringModel:
    """Layers with a ReLU behind each but the last.

    Parameters
    ----------
    layers : tuple of Layer
        At least one; the last one's outputs are the classes.

    Raises
    ------
    DataError
        If the layers do not fit each other, or hold anything but finite numbers.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not self.layers:
            raise DataError("a model must have at least one layer, got none")
        inputs = self.layers[0].weights.shape[1:]
        for number, layer in enumerate(self.layers):
            shape, last = layer.weights.shape, number == len(self.layers) - 1
            if len(shape) != 2 or shape[1:] != inputs or layer.offsets.shape != shape[:1]:
                raise DataError(
                    f"layer {number} must have {inputs} inputs and an offset for each output, got "
                    f"weights {shape} and offsets {layer.offsets.shape}"
                )
            offsets = layer.offsets[layer.offsets != -np.inf] if last else layer.offsets
            if not (np.isfinite(layer.weights).all() and np.isfinite(offsets).all()):
                raise DataError("a model must hold finite numbers only")
            inputs = shape[:1]

    def predict(self, features: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the class of each row of features, shape (m, d)."""
        values = features
        for layer in self.layers[:-1]:
            values = np.maximum(values @ layer.weights.T + layer.offsets, 0.0)
        last = self.layers[-1]
        scores: NDArray[np.float64] = values @ last.weights.T + last.offsets
        return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def answering_model(estimator: Any, classes: int) -> AnsweringModel:
    """Read a fitted scikit-learn classifier, or take a model as it is.

    Parameters
    ----------
    estimator : object
        An AnsweringModel, or a classifier fitted on labels from 0 to ``classes - 1``; it need not
        have seen all of them.
    classes : int

    Raises
    ------
    DataError
        If it is of another kind; the error names those that can be evaluated.
    """
    if isinstance(estimator, AnsweringModel):
        if len(estimator.layers[-1].offsets) != classes:
            raise DataError(f"a model's last layer must have {classes} outputs, got another number")
        return estimator
    kind = type(estimator).__name__
    ours = type(estimator).__module__.startswith("sklearn.")
    if ours and kind == "MLPClassifier":
        return _network(estimator, classes)
    if ours and kind in LINEAR_KINDS:
        return AnsweringModel((_linear(estimator, classes),))
    raise DataError(
        f"an answering model must be one of {', '.join(LINEAR_KINDS)}, MLPClassifier of "
        f"scikit-learn, or layers with ReLUs as an AnsweringModel, got {kind}"
    )


def _network(estimator: Any, classes: int) -> AnsweringModel:
    if estimator.activation != "relu":
        raise DataError(f"an MLPClassifier must have ReLUs, got {estimator.activation}")
    layers = [
        Layer(np.asarray(weights.T, dtype=np.float64), np.asarray(offsets, dtype=np.float64))
        for weights, offsets in zip(estimator.coefs_, estimator.intercepts_, strict=True)
    ]
    last = _by_class(layers[-1].weights, layers[-1].offsets, estimator.classes_, classes)
    return AnsweringModel((*layers[:-1], last))


def _linear(estimator: Any, classes: int) -> Layer:
    kind = type(estimator).__name__
    if kind == "NearestCentroid":
        coefficients, intercepts = _nearest_centroid(estimator)
    else:
        coefficients = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64))
        intercepts = np.broadcast_to(estimator.intercept_, len(coefficients)).astype(np.float64)
    return _by_class(coefficients, intercepts, estimator.classes_, classes)


def _by_class(
    weights: NDArray[np.float64], offsets: NDArray[np.float64], labels: Any, classes: int
) -> Layer:
    """Return the scores in the order of all classes, of which the model may know a few only."""
    known = np.asarray(labels)
    if not np.issubdtype(known.dtype, np.number) or not np.isin(known, np.arange(classes)).all():
        raise DataError(f"a model's labels must be integers from 0 to {classes - 1}, got others")
    if len(weights) == 1 and len(known) == 2:
        # one score for two classes: the second one's, against 0
        weights = np.vstack([np.zeros_like(weights), weights])
        offsets = np.concatenate([[0.0], offsets])
    if len(weights) != len(known):
        raise DataError(
            f"a model must have a score for each of its {len(known)} classes, got {len(weights)}"
        )
    places = known.astype(np.int64)
    all_weights = np.zeros((classes, weights.shape[1]))
    all_offsets = np.full(classes, -np.inf)
    all_weights[places], all_offsets[places] = weights, offsets
    return Layer(all_weights, all_offsets)


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
