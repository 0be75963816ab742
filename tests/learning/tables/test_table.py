from __future__ import annotations

import datetime

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.tables import table
from fl_he.learning.tables.table_file import RowNumbers


def rows_of(column: pl.Series) -> RowNumbers:
    """Say that the cells are in rows 2, 4, 6, ... of a file with a header."""
    return RowNumbers(pl.Series(range(2, 2 * len(column) + 2, 2)), header=True)


def numbers(column: pl.Series) -> NDArray[np.float64]:
    return table.numbers(column, rows_of(column))


def class_labels(column: pl.Series, positive: str) -> NDArray[np.float64]:
    return table.class_labels(column, positive, rows_of(column))


def text(*cells: str | None) -> pl.Series:
    return pl.Series("age", cells, dtype=pl.String)


def test_text_and_numbers_are_read_as_numbers() -> None:
    np.testing.assert_array_equal(numbers(text("1", " 2.5", "-3e2 ")), [1.0, 2.5, -300.0])
    np.testing.assert_array_equal(numbers(pl.Series("age", [1, 2], dtype=pl.UInt8)), [1.0, 2.0])
    assert numbers(text("1")).dtype == np.float64


MISSING = (
    r"^column 'age' must have no missing values, got 3 missing cells, the first in row {} "
    r"\(the header is row 1\)$"
)


@pytest.mark.parametrize(
    ("column", "row"),
    [
        (text("1", "", None, "  ", "2"), 4),
        (text("1", "NaN", "nan", " NAN", "2"), 4),
        (pl.Series("age", [1.0, 1.0, None, float("nan"), None, 2.0]), 6),
        (pl.Series("age", [None, None, None], dtype=pl.Null), 2),
    ],
)
def test_missing_numbers_are_counted(column: pl.Series, row: int) -> None:
    with pytest.raises(DataError, match=MISSING.format(row)) as caught:
        numbers(column)
    assert (caught.value.setting, caught.value.column) == ("drop", "age")


def test_text_among_numbers_is_counted_and_not_shown() -> None:
    message = r"^column 'age' must be numeric, got 2 cells of text, the first in row 6 "
    with pytest.raises(DataError, match=message) as caught:
        numbers(text("1", None, "SECRET", "2,5"))
    assert "SECRET" not in str(caught.value)
    assert (caught.value.setting, caught.value.column) == ("drop", "age")


@pytest.mark.parametrize("column", [text("1", "inf"), pl.Series("age", [1.0, float("-inf")])])
def test_infinite_numbers_are_refused(column: pl.Series) -> None:
    with pytest.raises(DataError, match=r"must be finite, got 1 infinite cell in row 4 "):
        numbers(column)


@pytest.mark.parametrize("cell", [True, datetime.date(1999, 12, 31), [1.0]])
def test_columns_of_other_types_are_not_numeric(cell: object) -> None:
    with pytest.raises(DataError, match=r"^column 'age' must be numeric, got type "):
        numbers(pl.Series("age", [cell]))


def test_the_positive_class_is_one() -> None:
    np.testing.assert_array_equal(class_labels(text("M", " B", "M "), " M"), [1.0, 0.0, 1.0])
    np.testing.assert_array_equal(class_labels(pl.Series("age", [2, 4, 4]), "4"), [0.0, 1.0, 1.0])
    np.testing.assert_array_equal(class_labels(pl.Series("age", [True, False]), "true"), [1.0, 0.0])


@pytest.mark.parametrize(("positive", "expected"), [("B", [1.0, 1.0]), ("M", [0.0, 0.0])])
def test_one_class_only_is_welcome(positive: str, expected: list[float]) -> None:
    np.testing.assert_array_equal(class_labels(text("B", "B"), positive), expected)


@pytest.mark.parametrize(
    "column", [text("M", "", None, "nan"), pl.Series("age", [1.0, float("nan"), None, None])]
)
def test_missing_labels_are_counted(column: pl.Series) -> None:
    with pytest.raises(DataError, match=MISSING.format(4)):
        class_labels(column, "M")


def test_more_than_two_classes_are_named_if_each_has_several_rows() -> None:
    with pytest.raises(DataError) as caught:
        class_labels(text("M", "B", "C", "M", "B", "C"), "M")
    assert caught.value.setting == "target"
    assert str(caught.value) == "target 'age' must have two classes, got 3: 'B', 'C', 'M'"


@pytest.mark.parametrize(
    "cells",
    [
        ["M", "M", "Ada Lovelace"] * 2 + ["Alan Turing"],
        [f"Ada {index}" for index in range(11)] * 2,
    ],
)
def test_values_that_may_be_persons_are_not_named(cells: list[str]) -> None:
    with pytest.raises(DataError, match=r"must have two classes, got (3|11)$") as caught:
        class_labels(text(*cells), "M")
    assert "Ada" not in str(caught.value)


def test_a_positive_label_that_is_not_there_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        class_labels(text("M", "B", "M", "B"), "malignant")
    assert caught.value.setting == "positive"
    assert str(caught.value) == (
        "positive must be one of the two classes of target 'age': 'B', 'M', got 'malignant'"
    )


def test_class_names_must_be_writable_as_text() -> None:
    with pytest.raises(DataError, match=r"^target 'age' must hold class names, got type Object$"):
        class_labels(pl.Series("age", [object()], dtype=pl.Object), "M")


def test_rows_without_a_header_are_counted_alone() -> None:
    column = pl.Series("age", [1.0, None])
    with pytest.raises(DataError, match=r"got 1 missing cell in row 2$"):
        table.numbers(column, RowNumbers(pl.Series([1, 2]), header=False))
