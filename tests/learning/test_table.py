from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fl_he.learning.errors import DataError
from fl_he.learning.table import at_least, class_labels, numbers, read_table


def written(folder: Path, content: str | bytes, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def text(*cells: str | None) -> pl.Series:
    return pl.Series("age", cells, dtype=pl.String)


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,x\n2,y\n",
        " a ,b \r\n1,x\r\n2,y",
        "\ufeffa,b\n1,x\n\n2,y\n\n,\n",
        'a,"b"\n"1",x\n2,"y"\n',
    ],
)
def test_a_csv_file_is_read_as_text_with_stripped_names(tmp_path: Path, content: str) -> None:
    table = read_table(written(tmp_path, content))
    assert table.to_dict(as_series=False) == {"a": ["1", "2"], "b": ["x", "y"]}


def test_a_parquet_file_keeps_its_types(tmp_path: Path) -> None:
    path = tmp_path / "table.PARQUET"
    pl.DataFrame({"a ": [1, 2], " b": ["x", "y"]}).write_parquet(path)
    table = read_table(path)
    assert table.schema == {"a": pl.Int64, "b": pl.String}
    assert table["a"].to_list() == [1, 2]


def test_a_name_with_wildcards_is_one_file(tmp_path: Path) -> None:
    written(tmp_path, "a,b\n1,2\n", "one.csv")
    with pytest.raises(DataError, match="which was not found"):
        read_table(tmp_path / "*.csv")
    assert read_table(written(tmp_path, "a,b\n3,4\n", "[on]*.csv")).row(0) == ("3", "4")


def test_an_absent_file_says_where_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "absent.csv"
    with pytest.raises(DataError) as caught:
        read_table(path, hint="it is on the shelf")
    assert str(caught.value) == (
        f"data file must exist, got {str(path)!r}, which was not found: it is on the shelf"
    )
    with pytest.raises(DataError, match=r"which was not found$"):
        read_table(path)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be a \.csv or \.parquet file, got '.*\.xlsx'"):
        read_table(written(tmp_path, "a\n1\n", "table.xlsx"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("table.csv", b""),
        ("table.csv", b"a,b\n1,SECRET,3\n"),
        ("table.csv", b'a,b\n1,"SECRET\n3,4'),
        ("table.csv", b"a,b\n1,\xff\xfe\n"),
        ("table.parquet", b"SECRET"),
    ],
)
def test_a_damaged_file_is_refused_without_its_content(
    tmp_path: Path, name: str, content: bytes
) -> None:
    with pytest.raises(DataError, match="must be a readable table, got") as caught:
        read_table(written(tmp_path, content, name))
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must have rows, got none"):
        read_table(written(tmp_path, "a,b\n\n"))


@pytest.mark.parametrize("header", ["a,b,a", "a,b,a ", " b,b,c"])
def test_columns_of_one_name_are_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(DataError, match=r"column names must differ, got '[ab]' more than once"):
        read_table(written(tmp_path, f"{header}\n1,2,3\n"))


def test_a_column_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must name every column, got 2 without a name"):
        read_table(written(tmp_path, "a,, \n1,2,3\n"))


def test_a_file_without_a_header_is_refused_without_its_first_record(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_table(written(tmp_path, "Ada Lovelace,36,1.61\nAlan Turing,41,1.78\n"))
    assert str(caught.value) == (
        "data file must have a header of names, got 2 names that are numbers"
    )


def test_text_and_numbers_are_read_as_numbers() -> None:
    np.testing.assert_array_equal(numbers(text("1", " 2.5", "-3e2 ")), [1.0, 2.5, -300.0])
    np.testing.assert_array_equal(numbers(pl.Series("age", [1, 2], dtype=pl.UInt8)), [1.0, 2.0])
    assert numbers(text("1")).dtype == np.float64


@pytest.mark.parametrize(
    "column",
    [
        text("1", "", None, "  ", "2"),
        text("1", "NaN", "nan", " NAN", "2"),
        pl.Series("age", [1.0, None, float("nan"), None, 2.0]),
        pl.Series("age", [None, None, None], dtype=pl.Null),
    ],
)
def test_missing_numbers_are_counted(column: pl.Series) -> None:
    with pytest.raises(DataError, match=r"^column 'age' must have no missing values, got 3$"):
        numbers(column)


def test_text_among_numbers_is_counted_and_not_shown() -> None:
    with pytest.raises(DataError, match=r"^column 'age' must be numeric, got 2 values of text$"):
        numbers(text("1", "SECRET", None, "2,5"))


@pytest.mark.parametrize("column", [text("1", "inf"), pl.Series("age", [1.0, float("-inf")])])
def test_infinite_numbers_are_refused(column: pl.Series) -> None:
    with pytest.raises(DataError, match=r"^column 'age' must be finite, got 1 infinite values$"):
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
    with pytest.raises(DataError, match=r"^column 'age' must have no missing values, got 3$"):
        class_labels(column, "M")


def test_more_than_two_classes_are_named_if_each_has_several_rows() -> None:
    with pytest.raises(DataError) as caught:
        class_labels(text("M", "B", "C", "M", "B", "C"), "M")
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
    assert str(caught.value) == (
        "positive must be one of the two classes of target 'age': 'B', 'M', got 'malignant'"
    )


def test_class_names_must_be_writable_as_text() -> None:
    with pytest.raises(DataError, match=r"^target 'age' must hold class names, got type Object$"):
        class_labels(pl.Series("age", [object()], dtype=pl.Object), "M")


def test_a_threshold_counts_equal_values_as_one() -> None:
    np.testing.assert_array_equal(at_least(text("0.69", "0.7", "0.71"), 0.7), [0.0, 1.0, 1.0])


@pytest.mark.parametrize("threshold", [float("nan"), float("inf")])
def test_a_threshold_is_finite(threshold: float) -> None:
    with pytest.raises(DataError, match="threshold must be a finite number, got"):
        at_least(text("1"), threshold)
