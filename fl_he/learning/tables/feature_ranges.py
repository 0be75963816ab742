"""Declared (public) lower and upper bounds of each feature.

Bounds are declared from what is known of a feature, not from the data: an age is between 0 and 120.
So they tell nothing of the patients.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fl_he.learning.errors import DataError, Fault
from fl_he.learning.tables.arrays import Array, finite_array, set_fields
from fl_he.learning.tables.scaling import Scaling
from fl_he.learning.tables.table_file import shown, some

_LIMIT = 1 << 20  # characters: ten thousand features and more
_MOST_NAMED = 10


@dataclass(frozen=True, slots=True, eq=False)
class Ranges:
    """Public lower and upper bounds of each feature.

    Parameters
    ----------
    low, high
        Shape (d,), finite, each low below its high.

    Raises
    ------
    DataError
        If one of these does not hold.
    """

    low: Array
    high: Array

    def __post_init__(self) -> None:
        low = finite_array(self.low, "low", dimensions=1)
        high = finite_array(self.high, "high", dimensions=1)
        # Half a range of neighbouring float64 may be 0.
        if low.shape != high.shape or not (low / 2.0 < high / 2.0).all():
            raise DataError("low must be below high for every feature, and both of one length")
        set_fields(self, low=low, high=high)

    @property
    def scaling(self) -> Scaling:
        """The scaling by which each range becomes -1 to 1."""
        low, high = self.low / 2.0, self.high / 2.0
        return Scaling(mean=low + high, scale=high - low)


def read_ranges(path: Path, feature_names: Sequence[str]) -> Ranges:
    """Read a CSV file with the columns feature, low and high, in any order of rows.

    A JSON file is a list of objects with these members; Flower ships no CSV files.

    Raises
    ------
    DataError
        If the file cannot be read; else of all by which it does not hold one usable range for each
        feature.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            text = file.read(_LIMIT + 1)
        if len(text) > _LIMIT:
            raise DataError(f"a file of ranges must have at most {_LIMIT} characters: {path}")
        is_json = path.suffix == ".json"
        rows = list(_json_rows(text, path) if is_json else _csv_rows(text))
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"ranges must be a file that can be read, got {path}: {error.strerror}"
        ) from None
    except (ValueError, RecursionError, csv.Error) as error:
        raise DataError(
            f"ranges must be a CSV or JSON file, got {path}: {type(error).__name__}"
        ) from None
    found: dict[str, tuple[float, float]] = {}
    faults, named = list[Fault](), set[str]()
    for place, row in rows:
        try:
            name, bounds = row["feature"].strip(), (float(row["low"]), float(row["high"]))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            name = row.get("feature") if isinstance(row, dict) else None
            of = f" ({shown(name.strip())})" if isinstance(name, str) else ""
            named |= {name.strip()} if isinstance(name, str) else set()
            words = f"{place} must have a feature and the numbers low and high"
            faults.append(Fault(f"{words}{of}"))
            continue
        if name in named or name not in feature_names:
            what = "twice" if name in named else "which is no feature"
            words = f"ranges must be one for each feature, got {shown(name)} {what}, in {place}"
            faults.append(Fault(words))
        elif not (-math.inf < bounds[0] / 2.0 < bounds[1] / 2.0 < math.inf):
            words = f"low must be below high and both finite in {place} ({shown(name)})"
            faults.append(Fault(words))
        named.add(name)
        found[name] = bounds
    if named and named.isdisjoint(feature_names):
        raise DataError(
            f"the ranges in {path} are not of this table's features: {some(feature_names, 3)}; "
            "ranges=FILE names a file with feature, low and high of each"
        )
    if missing := [name for name in feature_names if name not in named]:
        words = f"each feature needs a range; without one: {some(missing, _MOST_NAMED)}"
        faults.append(Fault(words))
    if faults:
        raise DataError.of(faults, f" ({path}{'' if is_json else ', the header is row 1'})")
    low, high = np.array([found[name] for name in feature_names]).reshape(-1, 2).T
    return Ranges(low, high)


def _csv_rows(text: str) -> Iterator[tuple[str, Any]]:
    """Yield the rows of a CSV file and their names: blank lines count, as in tables."""
    header: list[str] | None = None
    for number, row in enumerate(csv.reader(io.StringIO(text, newline="")), start=1):
        if header is None and any(row):
            header = [name.strip() for name in row]
        elif any(row):
            yield f"row {number}", dict(zip(header or [], row, strict=False))


def _json_rows(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a JSON list and their names."""
    rows = json.loads(text)
    if not isinstance(rows, list):
        raise DataError(f"{path} must contain a JSON list of ranges, not {type(rows).__name__}")
    for number, row in enumerate(rows, start=1):
        yield f"entry {number}", row
