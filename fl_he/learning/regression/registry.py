"""The families of models, and which of them a number of classes, a file or parameters belong to.

A new family is a file like `logistic`, and its line in `FAMILIES`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fl_he.learning.errors import DataError
from fl_he.learning.regression import parameters
from fl_he.learning.regression.family import Family
from fl_he.learning.regression.logistic import LOGISTIC
from fl_he.learning.regression.softmax import SOFTMAX
from fl_he.learning.regression.trained import BALANCED, EQUAL, TrainedModel, read_model
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.scaling import Scaling

#: Of several families with models of as many classes, the first is trained.
FAMILIES: tuple[Family, ...] = (LOGISTIC, SOFTMAX)


def family_for(classes: int) -> Family:
    """Return the family of models of so many classes; raises DataError if there is none."""
    for family in FAMILIES:
        if family.rows(classes):
            return family
    raise DataError(f"a model must be of at least 2 classes, got {classes}")


def classes_of(rows: int) -> int | None:
    """Return the number of classes of models with so many rows of coefficients, if there are any.

    Examples
    --------
    >>> classes_of(1), classes_of(2), classes_of(3)
    (2, None, 3)
    """
    for classes in (rows, rows + 1):  # with a reference class there is one row less
        if classes > 1 and family_for(classes).rows(classes) == rows:
            return classes
    return None


def model_of(
    theta: Array,
    feature_names: tuple[str, ...],
    scaling: Scaling,
    positive: str | None,
    classes: tuple[str, ...],
    *,
    training: str | None = None,
    class_weights: Sequence[float] = (),
    method: str | None = None,
    schema: str | None = None,
) -> TrainedModel:
    """Return the trained model of a vector of parameters.

    Parameters
    ----------
    theta
        As :mod:`fl_he.learning.regression.parameters` lays it out.
    feature_names, scaling
        Of the model's features.
    positive
        What label 1 stands for, if there are two classes.
    classes
        Names of more than two classes; empty for two. Where they are not known, they are numbered.
    training
        How training ended, one of `trained.ENDS`; ``None`` if nobody can tell.
    class_weights
        Weight of an example by its class; empty: all weigh 1.
    method
        How the parameters were estimated, one of `trained.METHODS`; ``None`` if nobody can tell.
    schema
        Digest of the schema by which the tables were read; ``None`` without, or if nobody can tell.

    Raises
    ------
    DataError
        If they do not fit each other.
    """
    family = _family_of(theta, len(feature_names))
    return family.trained(
        feature_names=feature_names,
        mean=scaling.mean,
        scale=scaling.scale,
        training=training,
        class_weight=BALANCED if class_weights else EQUAL,
        method=method,
        schema=schema,
        **family.members(*parameters.split(theta, len(feature_names)), positive, classes),
    )


def class_probabilities(theta: Array, features: Array) -> Array:
    """Return the probability of every class, shape (m, k), of features in the model's units.

    Raises
    ------
    DataError
        If the parameters are of other features.
    """
    family = _family_of(theta, features.shape[1])
    return family.of_classes(family.probabilities(family.margins(features, theta)))


def load_model(path: str | Path) -> TrainedModel:
    """Read a trained model of any family; raises DataError if it is of none."""
    text = read_model(path)
    try:
        kind = json.loads(text).get("format")
    except (ValueError, RecursionError, AttributeError):
        kind = None
    known = (family.trained for family in FAMILIES if kind == family.trained.FORMAT)
    return next(known, FAMILIES[0].trained).from_json(text)


def _family_of(theta: Array, features: int) -> Family:
    _, intercepts = parameters.split(theta, features)
    classes = classes_of(len(intercepts))
    if classes is None:
        raise DataError(f"there is no model with {len(intercepts)} rows of coefficients")
    return family_for(classes)
