"""Cells of a table as numbers and labels. No error here shows a cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.table_file import RowNumbers, read_table

_MISSING_TEXT = ("", "nan")
_MOST_NAMED_LABELS = 10


def read_features(path: Path, names: Sequence[str], what: str) -> Array:
    """Read columns of a table in an order of names, whatever other columns there are.

    Parameters
    ----------
    path
        A CSV or Parquet file.
    names
        Of the features.
    what
        The table's part in errors, such as ``"a table of cases"``.

    Returns
    -------
    NDArray[np.float64]
        Shape (rows, features).

    Raises
    ------
    DataError
        If the table lacks a feature, or a cell is no finite number.
    """
    table, rows = read_table(path)
    if missing := [name for name in names if name not in table.columns]:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise DataError(
            f"{what} must have the {len(names)} features, got one without "
            f"{', '.join(map(repr, missing[:5]))}{more}"
        )
    return np.column_stack([numbers(table[name], rows) for name in names])


def numbers(column: pl.Series, rows: RowNumbers) -> Array:
    """Read a column as finite numbers.

    Parameters
    ----------
    column
        Numbers, or text that spells them.
    rows
        Where its cells are in the file, for errors.

    Returns
    -------
    NDArray[np.float64]
        Shape (rows,).

    Raises
    ------
    DataError
        If a value is missing (null, empty or NaN), not a number or infinite. The message
        names the column, the count and the first row.
    """
    name = column.name
    if column.dtype == pl.String:
        text = column.str.strip_chars()
        missing = _is_missing_text(text)
        values = text.cast(pl.Float64, strict=False)
        _refuse(column, "be numeric", values.is_null() & ~missing, "cell{s} of text", rows)
    elif column.dtype.is_numeric() or column.dtype == pl.Null:
        values = column.cast(pl.Float64)
        missing = values.is_null() | values.is_nan().fill_null(value=False)
    else:
        raise DataError(
            f"column {name!r} must be numeric, got type {column.dtype}", setting="drop", column=name
        )
    _refuse(column, "have no missing values", missing, "missing cell{s}", rows)
    _refuse(column, "be finite", values.is_infinite(), "infinite cell{s}", rows)
    return values.to_numpy()


def class_labels(column: pl.Series, positive: str, rows: RowNumbers) -> Array:
    """Read a column of class names as 1.0 for the positive class and 0.0 for the other.

    Parameters
    ----------
    column
        Class names; other types are compared as the text that polars writes for them
        (``1``, ``1.0``, ``true``).
    positive
        The class that counts as 1. Blanks around it and around the names are ignored.
    rows
        Where the cells are in the file, for errors.

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
    text = _names(column, rows)
    counts = text.value_counts()
    classes = sorted(counts[column.name].to_list())
    named = len(classes) <= _MOST_NAMED_LABELS and bool((counts["count"] > 1).all())
    shown = f": {', '.join(map(repr, classes))}" if named else ""
    if len(classes) > 2:
        raise DataError(
            f"target {column.name!r} must have two classes, got {len(classes)}{shown}",
            setting="target",
        )
    label = positive.strip()
    if len(classes) == 2 and label not in classes:
        raise DataError(
            f"positive must be one of the two classes of target {column.name!r}{shown}, "
            f"got {label!r}",
            setting="positive",
        )
    return (text == label).cast(pl.Float64).to_numpy()


def levels(column: pl.Series) -> tuple[str, ...]:
    """Return the different class names of a column, sorted, without blanks around them."""
    return tuple(sorted(column.cast(pl.String).str.strip_chars().unique().to_list()))


def class_numbers(column: pl.Series, classes: Sequence[str], rows: RowNumbers) -> Array:
    """Read a column of class names as each one's place among the classes, from 0.0.

    Parameters
    ----------
    column
        Class names; other types are compared as the text that polars writes for them.
    classes
        All that there may be, at least 3. Blanks around them and around the cells are ignored.
    rows
        Where the cells are in the file, for errors.

    Raises
    ------
    DataError
        If a name is missing or is none of the classes.
    """
    text = _names(column, rows)
    names = [name.strip() for name in classes]
    other = ~text.is_in(names)
    if other.any():
        raise DataError(
            f"target {column.name!r} must hold the classes {', '.join(map(repr, names))} only, "
            f"got {_found(other, 'other{s}', rows)}",
            setting="classes",
        )
    return text.replace_strict(names, list(range(len(names))), return_dtype=pl.Float64).to_numpy()


def _names(column: pl.Series, rows: RowNumbers) -> pl.Series:
    """Read a column of class names as text without blanks around it."""
    try:
        text = column.cast(pl.String).str.strip_chars()
    except pl.exceptions.PolarsError:
        raise DataError(
            f"target {column.name!r} must hold class names, got type {column.dtype}"
        ) from None
    _refuse(column, "have no missing values", _is_missing_text(text), "missing cell{s}", rows)
    return text


def _is_missing_text(text: pl.Series) -> pl.Series:
    return text.is_null() | text.str.to_lowercase().is_in(_MISSING_TEXT).fill_null(value=False)


def _refuse(column: pl.Series, rule: str, wrong: pl.Series, what: str, rows: RowNumbers) -> None:
    """Refuse a column if a mask of its wrong cells has any; see `_found` for what they are."""
    if wrong.any():
        raise DataError(
            f"column {column.name!r} must {rule}, got {_found(wrong, what, rows)}",
            setting="drop",
            column=column.name,
        )


def _found(wrong: pl.Series, what: str, rows: RowNumbers) -> str:
    """Count the wrong cells and say where the first is: ``{s}`` in what they are makes a plural."""
    count = int(wrong.sum())
    if count == 1:
        return f"1 {what.format(s='')} in {rows.first(wrong)}"
    return f"{count} {what.format(s='s')}, the first in {rows.first(wrong)}"
