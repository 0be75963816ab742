"""A trained model and its JSON file, which is readable without this project."""

from __future__ import annotations

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from fl_he.atomic import replace_file
from fl_he.learning.errors import DataError
from fl_he.learning.regression import parameters
from fl_he.learning.tables.arrays import Array, different_names, finite_array, set_fields
from fl_he.learning.tables.columns import TOO_LARGE, too_large
from fl_he.learning.tables.faulty_rows import MOST_TOLD, FaultyRows
from fl_he.learning.tables.scaling import Scaling
from fl_he.learning.tables.table_file import RowNumbers

#: How training can have ended: at the optimum, where separated classes have none, or before it.
CONVERGED, SEPARATED, NOT_CONVERGED = ENDS = ("converged", "separated", "not converged")
#: How the classes of the training data can have weighed.
EQUAL, BALANCED = WEIGHTINGS = ("equal", "balanced")
#: How coefficients can have been estimated; privacy also where there is a penalty.
MAXIMUM_LIKELIHOOD, L2, FIRTH, PRIVATE = METHODS = (
    "maximum likelihood",
    "L2 penalty",
    "Firth's penalty",
    "differential privacy",
)
#: Members that tell of the training, and what each can be.
_TOLD: Mapping[str, tuple[str, ...]] = {
    "training": ENDS,
    "class_weight": WEIGHTINGS,
    "method": METHODS,
}
#: Members that tell of the training, the SHA-256 of the schema by which tables were read, and the
#: means of all hospitals that missing cells got.
_ABOUT = (*_TOLD, "schema", "imputed")
_DIGEST = re.compile("[0-9a-f]{64}")
#: Those of `_ABOUT`, or `converged`, by how many versions a file is older.
_EARLIER: Mapping[int, set[str]] = {
    1: {"training", "class_weight", "method", "schema"},
    2: {"training", "class_weight", "method"},
    3: {"training", "class_weight"},
    4: {"training"},
    5: {"converged"},
    6: set(),
}


@dataclass(frozen=True, slots=True, eq=False)
class TrainedModel(ABC):
    """A model of one family and the scaling of its features.

    A class of it says what its file has: `FORMAT` and `VERSION`, the formula in words, and all
    other members in their order, each with the function that reads it.

    Parameters
    ----------
    feature_names
        d different names, in the order of the columns.
    mean, scale
        Shape (d,): what was subtracted from each feature, and what it was divided by (> 0).
    training
        How training ended, one of `ENDS`; ``None`` if nobody can tell.
    class_weight
        Weighting of the classes, one of `WEIGHTINGS`; ``None`` if nobody can tell.
    method
        How the coefficients were estimated, one of `METHODS`; ``None`` if nobody can tell.
    schema
        Digest of the schema by which the tables were read; ``None`` without, or if nobody can tell.
    imputed
        Means of all hospitals by the names of the table's columns whose missing cells got them, in
        the units of the table, of dates in days; empty if there are none.

    Raises
    ------
    DataError
        If one of these does not hold, or one of the class's own.
    """

    FORMAT: ClassVar[str]
    VERSION: ClassVar[int]
    HOW_TO_USE: ClassVar[str]
    #: Largest margin that has a prediction.
    MOST_MARGIN: ClassVar[float] = math.inf
    MEMBERS: ClassVar[Mapping[str, Callable[[object, str], Any]]]

    feature_names: tuple[str, ...]
    mean: Array
    scale: Array
    training: str | None = field(default=None, kw_only=True)
    class_weight: str | None = field(default=None, kw_only=True)
    method: str | None = field(default=None, kw_only=True)
    schema: str | None = field(default=None, kw_only=True)
    imputed: Mapping[str, float] = field(default_factory=dict, kw_only=True)

    @property
    @abstractmethod
    def theta(self) -> Array:
        """The parameters, as :mod:`fl_he.learning.regression.parameters` lays them out."""

    @abstractmethod
    def expected(self, raw_features: Array, rows: RowNumbers | None = None) -> Array:
        """Return the expected outcome of features in their original units.

        Of classes that is a probability.

        Parameters
        ----------
        raw_features
            Shape (m, d), finite, m >= 1, columns in the order of ``feature_names``.
        rows
            Where the rows are in their file, for errors; ``None``: numbered from 1.

        Raises
        ------
        DataError
            If the shape is another one, a value is not finite, or one is so large that its row has
            no prediction.
        """

    @abstractmethod
    def predictions(
        self, raw_features: Array, rows: RowNumbers | None = None
    ) -> tuple[list[str], list[list[str]]]:
        """Return the header and the rows of a table of predictions; see `expected`.

        Numbers have the digits that give back the same float64.
        """

    @property
    def used(self) -> NDArray[np.bool_]:
        """Features with a coefficient other than 0, shape (d,); all if none has."""
        coefficients, _ = parameters.split(self.theta, len(self.feature_names))
        used = np.array(coefficients.any(axis=0))
        return used if used.any() else ~used

    def margins(self, raw_features: Array, rows: RowNumbers | None) -> Array:
        """Return the margins of features in their original units; see `expected`."""
        margins, largest = self._margins(raw_features)
        if largest.any():
            raise too_large(self.feature_names, largest, rows)
        return margins

    def pass_over(self, raw_features: Array, rows: RowNumbers, faulty: FaultyRows) -> None:
        """Add the rows in which a value is so large that there is no prediction; see `expected`.

        Unless that are all rows that are not faulty yet: see `margins`.
        """
        places = np.flatnonzero(~faulty.wrong)
        _, largest = self._margins(raw_features[places])
        if not (wrong := largest.any(axis=1)).all():
            found = np.zeros(len(faulty.wrong), dtype=bool)
            found[places] = wrong
            faulty.add(found)
            for column in np.flatnonzero(largest.any(axis=0)).tolist():
                of = places[largest[:, column]][:MOST_TOLD]
                faulty.tell(self.feature_names[column], TOO_LARGE, rows.numbers[of].tolist())

    def _margins(self, raw_features: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Return the margins, and the cells because of which rows have none, shape (m, d)."""
        features = finite_array(raw_features, "features", dimensions=2)
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = Scaling(self.mean, self.scale).apply(features)
            margins = parameters.margins(self.theta, scaled)
            coefficients, _ = parameters.split(self.theta, len(self.feature_names))
            terms = np.nan_to_num(np.abs(scaled) * np.abs(coefficients).max(axis=0), nan=np.inf)
        predicted = np.isfinite(margins) & (margins <= self.MOST_MARGIN)
        overflows = np.array(~predicted.all(axis=1))
        # The largest terms of a row are why its margin overflows.
        largest = overflows[:, None] & (terms == terms.max(axis=1, keepdims=True))
        return margins, largest

    def to_json(self) -> str:
        """Write the model as JSON text.

        Numbers are written with the digits that give back the same float64.
        """
        content = {
            "format": self.FORMAT,
            "version": self.VERSION,
            "how_to_use": self.HOW_TO_USE,
            **{name: getattr(self, name) for name in _ABOUT},
            **{name: _without_nan(getattr(self, name)) for name in self.MEMBERS},
        }
        return json.dumps(content, indent=2, allow_nan=False, default=np.ndarray.tolist) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what :meth:`to_json` writes, from a source that need not be trusted.

        Files of the six versions before are read too: none had ``imputed``, the first five had no
        ``schema``, the first four no ``method``, the first three no ``class_weight``, the second
        had ``converged`` in place of ``training``, true, false or null, the first had neither.

        Raises
        ------
        DataError
            If the text is not JSON, is of another format or version, lacks a key or has one
            more or twice, or holds anything but finite numbers and names.
        """
        try:
            content = json.loads(text, object_pairs_hook=_unique)
        except (ValueError, RecursionError):
            raise DataError("the model is not JSON") from None
        if not isinstance(content, dict) or content.get("format") != cls.FORMAT:
            raise DataError(f"model must be an object of format {cls.FORMAT!r}")
        content = _updated(content, cls.VERSION)
        if type(content.get("version")) is not int or content["version"] != cls.VERSION:
            raise DataError(f"model version must be {cls.VERSION}")
        keys = {"format", "version", "how_to_use", *_ABOUT, *cls.MEMBERS}
        if content.keys() != keys:
            missing, unknown = len(keys - content.keys()), len(content.keys() - keys)
            raise DataError(
                f"model must have the keys {sorted(keys)}, got {missing} too few and {unknown} "
                "too many"
            )
        told = {name: content[name] for name in _ABOUT}
        for name, known in _TOLD.items():
            if told[name] not in (None, *known):
                raise DataError(f"model's {name} must be one of {', '.join(known)}, or null")
        digest = read_optional_text(told["schema"], "schema")
        if digest is not None and not _DIGEST.fullmatch(digest):
            raise DataError("model's schema must be a SHA-256 digest, or null")
        told["imputed"] = _read_means(told["imputed"])
        members = {name: read(content[name], name) for name, read in cls.MEMBERS.items()}
        return cls(**members, **told)

    def save(self, path: str | Path) -> None:
        """Write the model to a file; see :func:`write_model`."""
        write_model(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model from a file that :meth:`save` wrote.

        Raises
        ------
        DataError
            If the file cannot be read, or :meth:`from_json` refuses its text.
        """
        return cls.from_json(read_model(path))

    def check_features(self) -> None:
        """Refuse names that do not differ, and a scaling that cannot be one; raises DataError."""
        scaling = Scaling(self.mean, self.scale)
        set_fields(
            self,
            feature_names=different_names("feature_names", self.feature_names, 1),
            mean=scaling.mean,
            scale=scaling.scale,
        )


@dataclass(frozen=True, slots=True, eq=False)
class RowModel(TrainedModel):
    """A model with one row of coefficients; see TrainedModel.

    Parameters
    ----------
    coefficients
        Shape (d,), for features after the scaling.
    intercept
        A finite number, or NaN where each hospital has its own.
    """

    coefficients: Array
    intercept: float

    def __post_init__(self) -> None:
        self.check_features()
        coefficients = finite_array(self.coefficients, "coefficients", dimensions=1)
        if not len(self.feature_names) == len(self.mean) == len(coefficients):
            raise DataError(
                "feature_names, mean and coefficients must be of equal length, "
                f"got {len(self.feature_names)}, {len(self.mean)} and {len(coefficients)}"
            )
        if not math.isnan(self.intercept):
            finite_array(self.intercept, "intercept", dimensions=0)
        set_fields(self, coefficients=coefficients, intercept=float(self.intercept))

    @property
    def theta(self) -> Array:
        """See TrainedModel."""
        return parameters.join(self.coefficients, np.array([known_intercept(self.intercept)]))


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


def read_names(names: object, key: str) -> tuple[str, ...]:
    """Return a list of names; raises DataError."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"model's {key} must be a list of strings")
    return tuple(names)


def read_optional_text(text: object, key: str) -> str | None:
    """Return a text, or None; raises DataError."""
    if text is not None and not isinstance(text, str):
        raise DataError(f"model's {key} must be a string or null")
    return text


def read_number(value: object, key: str) -> float:
    """Return one number; raises DataError."""
    return float(read_numbers([value], key)[0])


def read_intercept(value: object, key: str) -> float:
    """Return one number, NaN for null; raises DataError."""
    if value is None:
        return math.nan
    return float(finite_array(read_number(value, key), key, dimensions=0))


def known_intercept(intercept: float) -> float:
    """Return a model's intercept; raises DataError if the model has none."""
    if math.isnan(intercept):
        raise DataError(
            "the model has no intercept, so it predicts nothing: with site_intercepts=true each "
            "hospital of the training has its own intercept, in its own model file"
        )
    return intercept


def read_numbers(values: object, key: str) -> Array:
    """Return a list of numbers; refuses what numpy takes for one: true, null, "1"."""
    if not isinstance(values, list) or any(type(value) not in (int, float) for value in values):
        raise DataError(f"model's {key} must be made of numbers only")
    try:
        return np.array([float(value) for value in values])
    except OverflowError:
        raise DataError(f"model's {key} must fit into float64") from None


def read_rows(rows: object, key: str) -> Array:
    """Return lists of numbers, all of one length; raises DataError."""
    if not isinstance(rows, list) or not rows:
        raise DataError(f"model's {key} must be a list of lists")
    numbers = [read_numbers(row, key) for row in rows]
    if len({len(row) for row in numbers}) != 1:
        raise DataError(f"model's {key} must be lists of one length")
    return np.array(numbers)


def _without_nan(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def _read_means(means: object) -> Mapping[str, float]:
    if not isinstance(means, dict):
        raise DataError("model's imputed must be an object of numbers by names of columns")
    numbers = finite_array(read_numbers([*means.values()], "imputed"), "imputed", dimensions=1)
    return dict(zip(means, numbers.tolist(), strict=True))


def _updated(content: dict[str, Any], now: int) -> dict[str, Any]:
    """Return the content of a file of an earlier version as that of a file of this version."""
    version = content.get("version")
    said = content.keys() & {"converged", *_ABOUT}
    if type(version) is not int or _EARLIER.get(now - version) != said:
        return content
    new = {**dict.fromkeys(_ABOUT), "imputed": {}, **content, "version": now}
    if "training" in said:
        return new
    converged = content.get("converged")
    if not isinstance(converged, bool | None):
        raise DataError("model's converged must be true, false or null")
    new.pop("converged", None)
    return new | {"training": {True: CONVERGED, False: NOT_CONVERGED, None: None}[converged]}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key is there twice")
    return content
