"""Kinds of models that a simulated party can have, by name, and how good such a model is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.voting.answering import AnsweringModel
from fl_he.learning.voting.feature_map import FOURIER, IDENTITY, PRODUCTS, SQUARES, Fourier

#: The kinds, and the feature maps on which they are linear, or a network.
_MAPS = {
    "logistic": (IDENTITY,),
    "lda": (IDENTITY,),
    "linear_svc": (IDENTITY,),
    "sgd": (IDENTITY,),
    "ridge": (IDENTITY,),
    "nearest_centroid": (IDENTITY,),
    "mlp": (IDENTITY,),
    "gaussian_nb": (IDENTITY, SQUARES),
    "polynomial": (IDENTITY, PRODUCTS),
    "fourier": (FOURIER,),
}
KINDS = tuple(_MAPS)
#: Begins the name of a kind that is a network in a file, whose path follows.
NETWORK = "network:"


def maps_of(kinds: Iterable[str]) -> set[str]:
    """Return the names of the feature maps that models of these kinds are on.

    Raises
    ------
    DataError
        If there is no such kind.
    """
    maps: set[str] = set()
    for kind in kinds:
        known = (IDENTITY,) if kind.startswith(NETWORK) else _MAPS.get(kind)
        if known is None:
            raise DataError(
                f"a model must be one of {', '.join(KINDS)} and {NETWORK}FILE, got {kind!r}"
            )
        maps.update(known)
    return maps


def new_model(kind: str, seed: int, fourier: Fourier) -> Any:
    """Return an unfitted scikit-learn classifier.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    seed : int
        For kinds that are fitted by chance.
    fourier : Fourier
        The public random features, for the kind that is on them.

    Raises
    ------
    DataError
        If there is no such kind.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis  # noqa: PLC0415 - lazy: slow to load
    from sklearn.linear_model import (  # noqa: PLC0415 - lazy: slow to load
        LogisticRegression,
        RidgeClassifier,
        SGDClassifier,
    )
    from sklearn.naive_bayes import GaussianNB  # noqa: PLC0415 - lazy: slow to load
    from sklearn.neighbors import NearestCentroid  # noqa: PLC0415 - lazy: slow to load
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415 - lazy: slow to load
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415 - lazy: slow to load
    from sklearn.preprocessing import PolynomialFeatures  # noqa: PLC0415 - lazy: slow to load
    from sklearn.svm import LinearSVC  # noqa: PLC0415 - lazy: slow to load

    maps_of([kind])
    return {
        "logistic": lambda: LogisticRegression(max_iter=1000),
        "lda": lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
        "linear_svc": lambda: LinearSVC(random_state=seed),
        "sgd": lambda: SGDClassifier(random_state=seed),
        "ridge": RidgeClassifier,
        "nearest_centroid": NearestCentroid,
        "mlp": lambda: MLPClassifier((32,), random_state=seed, max_iter=500),
        # the usual smoothing leaves variances so small that no fixed point holds their inverses
        "gaussian_nb": lambda: GaussianNB(var_smoothing=0.01),  # of the largest variance
        "polynomial": lambda: make_pipeline(
            PolynomialFeatures(2), LogisticRegression(C=0.1, max_iter=1000)
        ),
        "fourier": lambda: make_pipeline(fourier.unfitted(), LogisticRegression(max_iter=1000)),
    }[kind]()


def probabilities(model: Any, features: Array, classes: int) -> Array:
    """Return a model's chances of each class, shape (m, classes); of its scores where it has none.

    Scores become chances by the softmax, or the logistic function where there is one score.
    """
    if hasattr(model, "predict_proba"):
        return _placed(model, model.predict_proba(features), classes)
    if isinstance(model, AnsweringModel):
        return softmax(model.scores(features))
    scores = np.asarray(model.decision_function(features), dtype=np.float64)
    if scores.ndim == 1:
        scores = np.stack([np.zeros_like(scores), scores], axis=1)
    return _placed(model, softmax(scores), classes)


def softmax(scores: Array) -> Array:
    """Return the chances of scores of shape (m, classes)."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _placed(model: Any, known: Array, classes: int) -> Array:
    """Return the chances of all classes by those of the classes that a model knows."""
    chances = np.zeros((len(known), classes))
    chances[:, np.asarray(model.classes_, dtype=np.int64)] = known
    return chances


def label_auc(scores: Array, having: NDArray[np.int64]) -> float | None:
    """Return the area under the ROC curve, shapes (m,); None where all cases are of one class."""
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - a second to import

    return float(roc_auc_score(having, scores)) if len(np.unique(having)) == 2 else None


def class_accuracy(
    predicted: NDArray[np.int64], true: NDArray[np.int64], classes: int
) -> dict[str, Any]:
    """Return accuracy, balanced accuracy and the accuracy of each class, NaN for an absent one.

    Parameters
    ----------
    predicted, true : ndarray, shape (m,)
        Labels from 0 to ``classes - 1``.
    classes : int
    """
    from sklearn.metrics import recall_score  # noqa: PLC0415 - a second to import

    labels = list(range(classes))
    recalls = recall_score(true, predicted, labels=labels, average=None, zero_division=np.nan)
    return {
        "accuracy": float(np.mean(predicted == true)),
        "balanced_accuracy": float(np.nanmean(recalls)),
        "per_class_accuracy": [float(recall) for recall in recalls],
    }
