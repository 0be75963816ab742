"""A trained logistic model and its JSON file, which is readable without this project."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.atomic import replace_file
from fl_he.learning.errors import DataError
from fl_he.learning.regression.logistic import probabilities
from fl_he.learning.tables.arrays import finite_array
from fl_he.learning.tables.scaling import Scaling

FORMAT = "fl-he logistic model"
VERSION = 2
_HOW_TO_USE = (
    "probability of label 1 ('positive' says what it is) = 1 / (1 + exp(-(intercept + sum over "
    "features i of coefficients[i] * (x[i] - mean[i]) / scale[i]))), "
    "x in the order of feature_names"
)
_ARRAYS = ("mean", "scale", "coefficients")
_KEYS = {"format", "version", "how_to_use", "positive", "feature_names", "intercept", *_ARRAYS}


@dataclass(frozen=True, slots=True, eq=False)
class LogisticModel:
    """A logistic model and the scaling of its features.

    Parameters
    ----------
    feature_names
        d different names, in the order of the columns.
    mean, scale
        Shape (d,): what was subtracted from each feature, and what it was divided by (> 0).
    coefficients
        Shape (d,), in standardised units: for features after the scaling.
    intercept
        A finite number.
    positive
        What label 1 stands for: a class, such as ``"benign"``, or a condition, such as
        ``"Chance of Admit >= 0.7"``; ``None`` where nobody said.

    Raises
    ------
    DataError
        If one of these does not hold.
    """

    feature_names: tuple[str, ...]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    intercept: float
    positive: str | None = None

    def __post_init__(self) -> None:
        names = tuple(self.feature_names)
        scaling = Scaling(self.mean, self.scale)
        coefficients = finite_array(self.coefficients, "coefficients", dimensions=1)
        intercept = finite_array(self.intercept, "intercept", dimensions=0)
        if not names or len(set(names)) != len(names):
            raise DataError(
                f"feature_names must be different names, at least one, got {len(names)} "
                f"of which {len(set(names))} differ"
            )
        if not len(names) == len(scaling.mean) == len(coefficients):
            raise DataError(
                "feature_names, mean and coefficients must be of equal length, "
                f"got {len(names)}, {len(scaling.mean)} and {len(coefficients)}"
            )
        if self.positive is not None and not self.positive.strip():
            raise DataError(f"positive must say what label 1 is or be None, got {self.positive!r}")
        object.__setattr__(self, "feature_names", names)
        object.__setattr__(self, "mean", scaling.mean)
        object.__setattr__(self, "scale", scaling.scale)
        object.__setattr__(self, "coefficients", coefficients)
        object.__setattr__(self, "intercept", float(intercept))

    def predict_probability(self, raw_features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of label 1 for features in their original units.

        Parameters
        ----------
        raw_features
            Shape (m, d), finite, m >= 1, columns in the order of ``feature_names``.

        Returns
        -------
        NDArray[np.float64]
            Shape (m,), in [0, 1].

        Raises
        ------
        DataError
            If the shape is another one or a value is not finite.
        """
        features = finite_array(raw_features, "features", dimensions=2)
        scaled = Scaling(self.mean, self.scale).apply(features)
        return probabilities(scaled, self.coefficients, self.intercept)

    def to_json(self) -> str:
        """Write the model as JSON text.

        An object with the keys ``format`` ("fl-he logistic model"), ``version`` (2),
        ``how_to_use`` (the formula in words), ``positive`` (what label 1 stands for, or null),
        ``feature_names`` (d strings), ``mean``, ``scale`` and ``coefficients`` (d numbers each)
        and ``intercept`` (a number). Numbers are written with the digits that give back the same
        float64. Version 1 had no ``positive``.
        """
        content = {
            "format": FORMAT,
            "version": VERSION,
            "how_to_use": _HOW_TO_USE,
            "positive": self.positive,
            "feature_names": list(self.feature_names),
            "mean": self.mean.tolist(),
            "scale": self.scale.tolist(),
            "coefficients": self.coefficients.tolist(),
            "intercept": self.intercept,
        }
        return json.dumps(content, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> LogisticModel:
        """Read what :meth:`to_json` writes, from a source that need not be trusted.

        Raises
        ------
        DataError
            If the text is not JSON, is of another format or version, lacks a key or has one
            more or twice, or holds anything but finite numbers and names.
        """
        content = parse_members(text, _KEYS, {FORMAT: VERSION})
        positive = content["positive"]
        if positive is not None and not isinstance(positive, str):
            raise DataError("model's positive must be a string or null")
        (intercept,) = read_numbers([content["intercept"]], "intercept")
        return cls(
            feature_names=read_names(content, "feature_names"),
            **{key: read_numbers(content[key], key) for key in _ARRAYS},
            intercept=intercept,
            positive=positive,
        )

    def save(self, path: str | Path) -> None:
        """Write the model to a file, all or nothing; missing folders are made.

        Raises
        ------
        OSError
            If the file cannot be written. An older file is then still whole.
        """
        write_model(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> LogisticModel:
        """Read a model from a file that :meth:`save` wrote.

        Raises
        ------
        DataError
            If the file cannot be read, or :meth:`from_json` refuses its text.
        """
        return cls.from_json(read_model(path))


def write_model(path: str | Path, text: str) -> None:
    """Write a model's text to a file, all or nothing; missing folders are made.

    Raises
    ------
    OSError
        If the file cannot be written. An older file is then still whole.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, text.encode())


def read_model(path: str | Path) -> str:
    """Return the text of a model's file; raises DataError if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"model file must exist, got {str(path)!r}, which was not found") from None
    except (OSError, UnicodeDecodeError) as error:
        kind = type(error).__name__
        raise DataError(f"model file must be readable text, got {str(path)!r} ({kind})") from None


def parse_members(text: str, keys: set[str], kinds: Mapping[str, int]) -> dict[str, Any]:
    """Return the members of a model's JSON object.

    Parameters
    ----------
    text
        From a source that need not be trusted.
    keys
        All that it must have.
    kinds
        The formats that are known, each with its version.

    Raises
    ------
    DataError
        If the text is not JSON, is of another format or version, or has other keys.
    """
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise DataError("model must be JSON, got text that is not") from None
    kind = content.get("format") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        formats = " or ".join(map(repr, kinds))
        raise DataError(f"model must be an object of format {formats}, got another one")
    if type(content.get("version")) is not int or content["version"] != kinds[kind]:
        raise DataError(f"model version must be {kinds[kind]}, got another one")
    if content.keys() != keys:
        raise DataError(
            f"model must have the keys {sorted(keys)}, "
            f"got {len(keys - content.keys())} too few and {len(content.keys() - keys)} too many"
        )
    return dict(content)


def read_names(content: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return a list of names of a model's members; raises DataError."""
    names = content[key]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"model's {key} must be a list of strings")
    return tuple(names)


def read_numbers(values: object, key: str) -> NDArray[np.float64]:
    """Refuse what numpy would turn into numbers by itself: true, null, "1"."""
    if not isinstance(values, list) or any(type(value) not in (int, float) for value in values):
        raise DataError(f"model's {key} must be made of numbers only")
    try:
        return np.array([float(value) for value in values])
    except OverflowError:
        raise DataError(f"model's {key} must fit into float64") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key is there twice")
    return content
