"""A party's own fitted classifier out of a file, as a model on scaled features.

Files are skops', which are data: unlike a pickle, reading one runs no code of the file's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.voting.answering import AnsweringModel, Layer
from fl_he.learning.voting.estimators import answering_model

#: Types in a fitted MLPClassifier that skops does not know; none of them is called.
_TRUSTED = [
    f"sklearn.neural_network._stochastic_optimizers.{name}"
    for name in ("AdamOptimizer", "SGDOptimizer")
]


def load_model_file(
    path: Path, classes: Sequence[str], features: Mapping[str, tuple[float, float]]
) -> AnsweringModel:
    """Read a classifier that was fitted on the table's own units.

    Parameters
    ----------
    path : Path
        A fitted classifier that can be evaluated under encryption, or a Pipeline of a
        StandardScaler or MinMaxScaler and one, saved by ``skops.io.dump``.
    classes : sequence of str
        The labels in their order. The classifier's are these names, or their places from 0.
    features : mapping of str to (float, float)
        Names in their order, and the bounds that become -1 and 1.

    Returns
    -------
    AnsweringModel
        On features scaled like that.

    Raises
    ------
    DataError
        If the file cannot be read, holds anything but such a model, or its features or classes
        are others.
    """
    estimator = _read(path)
    _check_features(estimator, features)
    return table_model(estimator, classes).on_scaled(list(features.values()))


def table_model(estimator: Any, classes: Sequence[str]) -> AnsweringModel:
    """Read a fitted classifier, behind a scaler or not, as a model on the table's own units.

    Raises
    ------
    DataError
        If it is of another kind, or its classes are others.
    """
    count = estimator.n_features_in_
    shift, factor = np.zeros(count), np.ones(count)
    if type(estimator).__name__ == "Pipeline" and len(estimator) == 2:
        scaler, last = estimator[0], estimator[1]
        if type(scaler).__name__ in ("StandardScaler", "MinMaxScaler"):
            shift, factor = _scaling(scaler, count)
            estimator = last
    first, *rest = answering_model(_with_places(estimator, classes), len(classes)).layers
    if first.weights.shape[1] != len(factor):
        raise DataError("the model is on other columns than the features")
    offsets = first.offsets - first.weights @ (shift * factor)
    return AnsweringModel((Layer(first.weights * factor, offsets), *rest))


def _read(path: Path) -> Any:
    try:
        from skops import io  # noqa: PLC0415 - slow to load
    except ImportError:
        raise DataError(
            "skops must be installed to read a model: pip install 'fl-he[capc]'"
        ) from None
    try:
        return io.load(path, trusted=_TRUSTED)
    except Exception as error:  # any error of a hostile or broken file
        raise DataError(
            "a model file must be a fitted scikit-learn classifier, saved by skops.io.dump, that "
            f"holds no types that skops does not trust ({type(error).__name__})"
        ) from None


def _check_features(estimator: Any, features: Mapping[str, object]) -> None:
    names = getattr(estimator, "feature_names_in_", None)
    count = getattr(estimator, "n_features_in_", None)
    if names is not None and [str(name) for name in names] != list(features):
        raise DataError("a model must have been fitted on the agreement's features in their order")
    if count != len(features):
        raise DataError(f"a model must have {len(features)} features, got {count}")


def _scaling(scaler: Any, count: int) -> tuple[Array, Array]:
    """Return shift and factor: the scaler makes ``(x - shift) * factor`` of x."""
    if type(scaler).__name__ == "MinMaxScaler":
        if scaler.clip:
            raise DataError("a MinMaxScaler must not clip")
        return -scaler.min_ / scaler.scale_, np.asarray(scaler.scale_, dtype=np.float64)
    mean = scaler.mean_ if scaler.with_mean else np.zeros(count)
    scale = scaler.scale_ if scaler.with_std else np.ones(count)
    return np.asarray(mean, dtype=np.float64), 1.0 / np.asarray(scale, dtype=np.float64)


def _with_places(estimator: Any, classes: Sequence[str]) -> Any:
    """Return the classifier with places for the names of its classes."""
    labels = getattr(estimator, "classes_", None)
    if labels is None or np.issubdtype(np.asarray(labels).dtype, np.number):
        return estimator
    if unknown := {str(label) for label in labels} - set(classes):
        raise DataError(f"a model's classes must be the agreement's, got {len(unknown)} others")
    placed = copy(estimator)
    with suppress(AttributeError):  # of a Pipeline or a search, which is refused by its kind
        placed.classes_ = np.array([list(classes).index(str(label)) for label in labels])
    return placed
