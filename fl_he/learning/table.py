"""Cells of CSV and Parquet files as numbers and labels.

No error here shows a cell: polars quotes cells in its messages, so these are dropped.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fl_he.learning.errors import DataError

_MISSING_TEXT = ("", "nan")
_MOST_NAMED_LABELS = 10


def read_table(path: Path, hint: str | None = None) -> pl.DataFrame:
    """Read a table, its column names stripped of blanks.

    A CSV file has a header, commas and UTF-8 text; all of its columns are returned as text,
    and a row without any value (a blank line) is left out.

    Parameters
    ----------
    path
        A file whose name ends in ``.csv`` or ``.parquet``.
    hint
        Where such a file comes from, for the user whose file is absent.

    Returns
    -------
    pl.DataFrame
        At least one row; column names are unique and not empty.

    Raises
    ------
    DataError
        If the file is absent or unreadable, or its columns cannot be told apart.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise DataError(f"data file must be a .csv or .parquet file, got {str(path)!r}")
    if not path.is_file():
        missing = f"data file must exist, got {str(path)!r}, which was not found"
        raise DataError(f"{missing}: {hint}" if hint else missing)
    try:
        columns, table = _read_csv(path) if suffix == ".csv" else _read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        kind = type(error).__name__
        raise DataError(
            f"data file must be a readable table, got {str(path)!r}, "
            f"which polars cannot read ({kind})"
        ) from None
    names = [name.strip() for name in columns]
    if not all(names):
        raise DataError(f"data file must name every column, got {names.count('')} without a name")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"column names must differ, got {repeated[0]!r} more than once")
    table.columns = names
    if table.height == 0:
        raise DataError(f"data file must have rows, got none in {str(path)!r}")
    return table


def numbers(column: pl.Series) -> NDArray[np.float64]:
    """Read a column as finite numbers.

    Parameters
    ----------
    column
        Numbers, or text that spells them.

    Returns
    -------
    NDArray[np.float64]
        Shape (rows,).

    Raises
    ------
    DataError
        If a value is missing (null, empty or NaN), not a number or infinite. The message
        names the column and the count.
    """
    name = column.name
    if column.dtype == pl.String:
        text = column.str.strip_chars()
        missing = _is_missing_text(text)
        values = text.cast(pl.Float64, strict=False)
        wrong = int((values.is_null() & ~missing).sum())
        if wrong:
            raise DataError(f"column {name!r} must be numeric, got {wrong} values of text")
    elif column.dtype.is_numeric() or column.dtype == pl.Null:
        values = column.cast(pl.Float64)
        missing = values.is_null() | values.is_nan().fill_null(value=False)
    else:
        raise DataError(f"column {name!r} must be numeric, got type {column.dtype}")
    _refuse_missing(name, missing)
    infinite = int(values.is_infinite().sum())
    if infinite:
        raise DataError(f"column {name!r} must be finite, got {infinite} infinite values")
    return values.to_numpy()


def class_labels(column: pl.Series, positive: str) -> NDArray[np.float64]:
    """Read a column of class names as 1.0 for the positive class and 0.0 for the other.

    Parameters
    ----------
    column
        Class names; other types are compared as the text that polars writes for them
        (``1``, ``1.0``, ``true``).
    positive
        The class that counts as 1. Blanks around it and around the names are ignored.

    Returns
    -------
    NDArray[np.float64]
        Shape (rows,). All zeros or all ones if the column holds one class only.

    Raises
    ------
    DataError
        If a name is missing (null, empty or NaN), if there are more than two classes, or if
        there are two and none is the positive one. Classes are named only where each has
        several rows and there are few of them: a value that occurs once may be a person's.
    """
    try:
        text = column.cast(pl.String).str.strip_chars()
    except pl.exceptions.PolarsError:
        raise DataError(
            f"target {column.name!r} must hold class names, got type {column.dtype}"
        ) from None
    _refuse_missing(column.name, _is_missing_text(text))
    counts = text.value_counts()
    classes = sorted(counts[column.name].to_list())
    named = len(classes) <= _MOST_NAMED_LABELS and bool((counts["count"] > 1).all())
    shown = f": {', '.join(map(repr, classes))}" if named else ""
    if len(classes) > 2:
        raise DataError(f"target {column.name!r} must have two classes, got {len(classes)}{shown}")
    label = positive.strip()
    if len(classes) == 2 and label not in classes:
        raise DataError(
            f"positive must be one of the two classes of target {column.name!r}{shown}, "
            f"got {label!r}"
        )
    return (text == label).cast(pl.Float64).to_numpy()


def at_least(column: pl.Series, threshold: float) -> NDArray[np.float64]:
    """Return 1.0 where a numeric column is greater than or equal to a threshold, else 0.0.

    Raises
    ------
    DataError
        If the threshold is not finite, or :func:`numbers` refuses the column.
    """
    if not math.isfinite(threshold):
        raise DataError(f"threshold must be a finite number, got {threshold}")
    return (numbers(column) >= threshold).astype(np.float64)


def _read_csv(path: Path) -> tuple[list[str], pl.DataFrame]:
    # The header is read as a row: polars would rename repeated columns, and a second target
    # would become a feature. Text keeps a label's spelling; numbers() converts the rest.
    rows = pl.read_csv(path, has_header=False, infer_schema=False, glob=False)
    names = [name or "" for name in rows.row(0)]
    text = pl.Series(names, dtype=pl.String).str.strip_chars()
    spelt = int(text.cast(pl.Float64, strict=False).is_not_null().sum())
    if spelt:
        # A record taken for names would reach the coordinator as the schema.
        raise DataError(
            f"data file must have a header of names, got {spelt} names that are numbers"
        )
    return names, rows[1:].filter(~pl.all_horizontal(pl.all().is_null()))


def _read_parquet(path: Path) -> tuple[list[str], pl.DataFrame]:
    table = pl.read_parquet(path, glob=False)
    return table.columns, table


def _is_missing_text(text: pl.Series) -> pl.Series:
    return text.is_null() | text.str.to_lowercase().is_in(_MISSING_TEXT).fill_null(value=False)


def _refuse_missing(name: str, missing: pl.Series) -> None:
    count = int(missing.sum())
    if count:
        raise DataError(f"column {name!r} must have no missing values, got {count}")
