"""A trained softmax model and its JSON file; and which kind of model belongs to given classes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.regression import logistic, model, parameters, softmax
from fl_he.learning.regression.model import LogisticModel
from fl_he.learning.tables.arrays import finite_array
from fl_he.learning.tables.scaling import Scaling

FORMAT = "fl-he softmax model"
VERSION = 1
_HOW_TO_USE = (
    "margin of class c = intercepts[c] + sum over features i of coefficients[c][i] * "
    "(x[i] - mean[i]) / scale[i]; probability of classes[c] = exp(margin of c) / sum over all "
    "classes of exp(margin), x in the order of feature_names"
)
_KEYS = {
    *("format", "version", "how_to_use", "classes", "feature_names"),
    *("mean", "scale", "coefficients", "intercepts"),
}


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxModel:
    """A softmax model of k > 2 classes and the scaling of its features.

    Parameters
    ----------
    feature_names
        d different names, in the order of the columns.
    mean, scale
        Shape (d,): what was subtracted from each feature, and what it was divided by (> 0).
    coefficients
        Shape (k, d), in standardised units.
    intercepts
        Shape (k,).
    classes
        k different names.

    Raises
    ------
    DataError
        If one of these does not hold.
    """

    feature_names: tuple[str, ...]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        names, classes = tuple(self.feature_names), tuple(self.classes)
        scaling = Scaling(self.mean, self.scale)
        coefficients = finite_array(self.coefficients, "coefficients", dimensions=2)
        intercepts = finite_array(self.intercepts, "intercepts", dimensions=1)
        for what, given, least in (("feature_names", names, 1), ("classes", classes, 3)):
            if len(given) < least or len(set(given)) != len(given):
                raise DataError(
                    f"{what} must be different names, at least {least}, got {len(given)} of which "
                    f"{len(set(given))} differ"
                )
        if coefficients.shape != (len(classes), len(names)) or (
            len(intercepts) != len(classes) or len(scaling.mean) != len(names)
        ):
            raise DataError(
                "coefficients must have a row for each class and a column for each feature, "
                f"got shapes {coefficients.shape} and {intercepts.shape} for {len(classes)} "
                f"classes and {len(names)} features"
            )
        for name, value in (
            ("feature_names", names),
            ("classes", classes),
            ("mean", scaling.mean),
            ("scale", scaling.scale),
            ("coefficients", coefficients),
            ("intercepts", intercepts),
        ):
            object.__setattr__(self, name, value)

    def predict_probability(self, raw_features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each class's probability for features in their original units, shape (m, k).

        Raises
        ------
        DataError
            If the features are not finite or not of shape (m, d).
        """
        features = finite_array(raw_features, "features", dimensions=2)
        scaled = Scaling(self.mean, self.scale).apply(features)
        return softmax.probabilities(scaled, self.coefficients, self.intercepts)

    def to_json(self) -> str:
        """Write the model as JSON text: the fields, ``format``, ``version`` and ``how_to_use``."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "how_to_use": _HOW_TO_USE,
            "classes": list(self.classes),
            "feature_names": list(self.feature_names),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "coefficients": self.coefficients.tolist(),
            "intercepts": self.intercepts.tolist(),
        }
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> SoftmaxModel:
        """Read what :meth:`to_json` writes, from a source that need not be trusted.

        Raises
        ------
        DataError
            If it is anything else.
        """
        content = model.parse_members(text, _KEYS, {FORMAT: VERSION})
        rows = content["coefficients"]
        if not isinstance(rows, list) or not rows:
            raise DataError("model's coefficients must be a list of lists")
        numbers = [model.read_numbers(row, "coefficients") for row in rows]
        if len({len(row) for row in numbers}) != 1:
            raise DataError("model's coefficients must be lists of one length")
        return cls(
            feature_names=model.read_names(content, "feature_names"),
            mean=model.read_numbers(content["mean"], "mean"),
            scale=model.read_numbers(content["scale"], "scale"),
            coefficients=np.array(numbers),
            intercepts=model.read_numbers(content["intercepts"], "intercepts"),
            classes=model.read_names(content, "classes"),
        )

    def save(self, path: str | Path) -> None:
        """Write the model to a file, all or nothing; missing folders are made."""
        model.write_model(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> SoftmaxModel:
        """Read a model from a file that :meth:`save` wrote; raises DataError."""
        return cls.from_json(model.read_model(path))


Model = LogisticModel | SoftmaxModel


def model_of(
    theta: NDArray[np.float64],
    feature_names: tuple[str, ...],
    scaling: Scaling,
    positive: str | None,
    classes: tuple[str, ...],
) -> Model:
    """Return the model of a vector of parameters.

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

    Raises
    ------
    DataError
        If they do not fit each other.
    """
    coefficients, intercepts = parameters.split(theta, len(feature_names))
    if len(intercepts) == 1:
        return LogisticModel(
            feature_names=feature_names,
            mean=scaling.mean,
            scale=scaling.scale,
            coefficients=coefficients[0],
            intercept=float(intercepts[0]),
            positive=positive,
        )
    return SoftmaxModel(
        feature_names=feature_names,
        mean=scaling.mean,
        scale=scaling.scale,
        coefficients=coefficients,
        intercepts=intercepts,
        classes=classes or tuple(map(str, range(len(intercepts)))),
    )


def load_model(path: str | Path) -> Model:
    """Read a model of either kind; raises DataError if it is neither."""
    text = model.read_model(path)
    try:
        kind = json.loads(text).get("format")
    except (ValueError, RecursionError, AttributeError):
        kind = None
    return SoftmaxModel.from_json(text) if kind == FORMAT else LogisticModel.from_json(text)


def class_probabilities(
    theta: NDArray[np.float64], features: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the probability of every class, shape (m, 2) or (m, k), of scaled features.

    Raises
    ------
    DataError
        If the parameters are of other features.
    """
    coefficients, intercepts = parameters.split(theta, features.shape[1])
    if len(intercepts) > 1:
        return softmax.probabilities(features, coefficients, intercepts)
    positive = logistic.probabilities(features, coefficients[0], float(intercepts[0]))
    return np.column_stack([1.0 - positive, positive])
