"""CSV and Parquet files as tables of named columns.

No error here shows a cell: polars quotes cells in its messages, so these are dropped.
"""

from __future__ import annotations

import csv
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from fl_he.learning.errors import DataError

#: What other programs put between cells instead of a comma.
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True, slots=True)
class RowNumbers:
    """Where the rows of a table are in its file.

    Attributes
    ----------
    numbers : pl.Series
        Shape (rows,), from 1. The header of a CSV file is row 1, and blank lines count.
    header : bool
        Whether the file has a row of names.
    """

    numbers: pl.Series
    header: bool

    def first(self, of: pl.Series) -> str:
        """Say which is the first row where a mask of shape (rows,) is true."""
        number = self.numbers.filter(of.fill_null(value=False))[0]
        return f"row {number}{' (the header is row 1)' if self.header else ''}"


def read_table(path: Path, hint: str | None = None) -> tuple[pl.DataFrame, RowNumbers]:
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
    tuple[pl.DataFrame, RowNumbers]
        At least one row; column names are unique and not empty.

    Raises
    ------
    DataError
        If the file is absent or unreadable, or its columns cannot be told apart.
    """
    place = repr(str(path.absolute()))
    if path.is_dir():
        raise DataError(f"data file must be a file, got the folder {place}", setting="path")
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise DataError(f"data file must be a .csv or .parquet file, got {place}", setting="path")
    if not path.is_file():
        missing = f"data file must exist, got {place}, which was not found"
        raise DataError(f"{missing}: {hint}") if hint else DataError(missing, setting="path")
    try:
        columns, table, rows = _read_csv(path) if suffix == ".csv" else _read_parquet(path)
    # A damaged file makes polars panic, which is no Exception.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        kind = type(error).__name__
        raise DataError(
            f"data file must be a readable table, got {place}, which cannot be read ({kind})"
        ) from None
    names = [name.strip() for name in columns]
    if not all(names):
        raise DataError(
            f"data file must name every column, got {names.count('')} without a name, "
            f"the first is column {names.index('') + 1} of {len(names)}"
        )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(
            f"column names must differ, got {repeated[0]!r} more than once: rename one in the file"
        )
    table.columns = names
    if table.height == 0:
        raise DataError(f"data file must have rows, got none in {place}")
    return table, rows


def _read_csv(path: Path) -> tuple[list[str], pl.DataFrame, RowNumbers]:
    _refuse_other_formats(path)
    # The header is read as a row: polars would rename repeated columns, and a second target
    # would become a feature. Text keeps a label's spelling; numbers() converts the rest.
    rows = pl.read_csv(path, has_header=False, infer_schema=False, glob=False)
    names = [name or "" for name in rows.row(0)]
    text = pl.Series(names, dtype=pl.String).str.strip_chars()
    spelt = int(text.cast(pl.Float64, strict=False).is_not_null().sum())
    if spelt:
        # A record taken for names would reach the coordinator as the schema.
        raise DataError(
            f"data file must have a header of names, got {spelt} names that are numbers: "
            "put a row with the names of the columns first"
        )
    filled = ~rows.select(pl.all_horizontal(pl.all().is_null())).to_series()
    filled[0] = False
    numbers = pl.int_range(1, rows.height + 1, eager=True)
    return names, rows.filter(filled), RowNumbers(numbers.filter(filled), header=True)


def _refuse_other_formats(path: Path) -> None:
    """Refuse text that polars would refuse without saying where, or read as one column."""
    cells: int | None = None
    with suppress(UnicodeDecodeError):  # it holds cells, so nothing is raised from it
        cells = _check_rows(path)
    if cells is None:
        raise DataError("data file must be UTF-8 text, got another encoding")
    if not cells:
        raise DataError(
            f"data file must have a header and rows, got an empty file {str(path.absolute())!r}"
        )


def _check_rows(path: Path) -> int:
    """Return how many cells a row has, 0 without rows."""
    cells = 0
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            for record in reader:
                if not cells:
                    cells = len(record)
                    found = record[0] if cells == 1 else ""
                    others = [name for mark, name in _OTHER_SEPARATORS.items() if mark in found]
                    if others:
                        raise DataError(
                            "cells must be separated by commas, got a header of one cell with "
                            f"{others[0]}: save the table with commas and decimal points"
                        )
                elif len(record) > cells:
                    raise DataError(
                        f"every row must have {cells} cells as the header has, "
                        f"got {len(record)} in line {reader.line_num}"
                    )
        except csv.Error:
            raise DataError(
                "quotes must enclose whole cells and be closed, got others in or before "
                f"line {reader.line_num}"
            ) from None
    return cells


def _read_parquet(path: Path) -> tuple[list[str], pl.DataFrame, RowNumbers]:
    table = pl.read_parquet(path, glob=False)
    numbers = pl.int_range(1, table.height + 1, eager=True)
    return table.columns, table, RowNumbers(numbers, header=False)
