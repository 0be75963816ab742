"""Tables in files as features and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fl_he.learning.errors import DataError, Fault
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.columns import Numbers
from fl_he.learning.tables.csv_file import COMPRESSIONS, CsvFile, CsvForm
from fl_he.learning.tables.faulty_rows import FaultyRows
from fl_he.learning.tables.labels import RATE, Labels
from fl_he.learning.tables.table_file import RowNumbers, TableFile, Unreadable, shown, some

_MOST_NAMED = 10
_PARQUET, _SAVE, _GZIP = "a Parquet file", "save the table as CSV UTF-8", "a gzip file"
#: Files by the bytes that they begin with, and what to do about their names or them.
_BEGINNINGS = {
    b"PAR1": (_PARQUET, "name it .parquet"),
    b"PK\x03\x04": ("an Excel workbook or another zip file", _SAVE),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", _SAVE),
    b"\x1f\x8b": (_GZIP, "unpack it"),
    b"ARROW1": ("an Arrow file", "save the table as Parquet"),
}


def open_table(path: str | Path, hint: str | None = None, form: CsvForm | None = None) -> TableFile:
    """Open a table.

    Parameters
    ----------
    path
        A file whose name ends in ``.csv`` or ``.parquet``.
    hint
        Where such a file comes from, for the user whose file is absent.
    form
        How a CSV file is written, if somebody has declared it; its name may then end otherwise. A
        compression of ``auto`` is as its name ends.

    Raises
    ------
    DataError
        If the file is absent or unreadable, or has no names.
    """
    try:
        path = Path(path).expanduser()
    except RuntimeError:
        raise DataError(
            f"data file must exist, got {str(path)!r}, and nobody here has that home",
            setting="path",
        ) from None
    place = repr(str(path.absolute()))
    if path.is_dir():
        raise DataError(f"data file must be a file, got the folder {place}", setting="path")
    suffix, endings = path.suffix.lower(), [".csv", ".parquet"]
    if form is not None:
        if form.compression == "auto":
            form = replace(form, compression=COMPRESSIONS.get(suffix, "none"))
        if form.compression != "none" and suffix in COMPRESSIONS:
            suffix = Path(path.stem).suffix.lower()
        endings[1:1] = [".tsv", ".txt"]
    if suffix not in endings:
        what = f", which is {other}" if (other := _other_kind(path, suffix, form)) else ""
        known = f"{', '.join(endings[:-1])} or {endings[-1]}"
        words = f"data file must be a {known} file, got {place}{what}"
        raise DataError(words, setting="path")
    if not path.is_file():
        missing = f"data file must exist, got {place}, which was not found"
        raise DataError(f"{missing}: {hint}") if hint else DataError(missing, setting="path")
    packed = form is not None and form.compression != "none"
    if not packed and (other := _other_kind(path, suffix, form)):
        raise DataError(f"data file must be what its name ends in, got {place}, which is {other}")
    if suffix != ".parquet":
        return CsvFile(path, form)
    from fl_he.learning.tables.parquet_file import ParquetFile  # noqa: PLC0415 - lazy: pyarrow

    return ParquetFile(path)


def _other_kind(path: Path, suffix: str, form: CsvForm | None) -> str:
    """Say what a file is, by its first bytes, if it is something else than its name says."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        start = file.read(8)
    for beginning, (kind, advice) in _BEGINNINGS.items():
        if start.startswith(beginning) and (kind != _PARQUET or suffix != ".parquet"):
            if form is None or kind != _GZIP:
                return f"{kind}: {advice}"
            return f"{kind}: {form.remedy('compression', advice)}"
    return ""


def read_features(
    path: Path, names: Sequence[str], what: str, faulty: FaultyRows | None = None
) -> tuple[Array, RowNumbers]:
    """Read columns of a table in an order of names; other columns are passed over.

    Parameters
    ----------
    path
        A CSV or Parquet file.
    names
        Of the features.
    what
        The table's part in errors, such as ``"a table of cases"``.
    faulty
        Takes the rows with wrong cells, unless that are all rows; ``None``: they are refused.

    Returns
    -------
    features : NDArray[np.float64]
        Shape (rows, features); NaN or infinite where a cell is wrong.
    rows : RowNumbers

    Raises
    ------
    DataError
        If the table lacks a feature, or a cell is no finite number.
    """
    table = open_table(path)
    known, faults = set(table.names), list(table.name_faults(unnamed=False))
    if missing := [name for name in names if name not in known]:
        faults.append(
            Fault(f"{what} must have the {len(names)} features; missing: {some(missing, 5)}")
        )
    numbers = Numbers([name for name in names if name in known])
    rows = read_columns(table, numbers)
    wrong = list(numbers.faults())
    if faulty is not None:
        of_columns = list(numbers.pass_over(faulty))
        wrong = wrong if faulty.wrong.all() else of_columns
    refuse(rows, [*faults, *table.empty_faults(), *table.faults, *wrong])
    return numbers.values, rows


def read_labels(
    path: str | Path, name: str, form: CsvForm | None = None
) -> tuple[list[str], RowNumbers, tuple[str, ...]]:
    """Read a column of labels, such as names of sites; none may be missing.

    Parameters
    ----------
    path
        A CSV or Parquet file.
    name
        Of the column.
    form
        See `open_table`.

    Returns
    -------
    texts : list of str
    rows : RowNumbers
    notes : tuple of str
        See `Labels.notes`.

    Raises
    ------
    DataError
        If there is no such column, or a label is missing.
    """
    table = open_table(path, form=form)
    labels, rows = _column(table, name)
    texts = labels.texts()
    refuse(rows, [*table.faults, *labels.faults])
    return texts, rows, labels.notes


def read_texts(path: Path, name: str, form: CsvForm | None = None) -> tuple[list[str], RowNumbers]:
    """Read the cells of a column as they stand, of any type.

    Parameters
    ----------
    path, name, form
        See `read_labels`.

    Returns
    -------
    texts : list of str
        Empty where a cell is.
    rows : RowNumbers

    Raises
    ------
    DataError
        If there is no such column.
    """
    table = open_table(path, form=form)
    place = _place_of(table, name)
    texts, rows = list[str](), [np.empty(0, dtype=np.intp)]
    for block in table.blocks([place], place):
        (cells,) = block.cells
        if isinstance(cells, Unreadable):
            kind = cells.kind.replace("{s}", "s")
            raise DataError(f"column {shown(name)} must hold text or numbers, got {kind}")
        texts += map(str, cells)
        rows.append(block.rows)
    return texts, RowNumbers(np.concatenate(rows), table.header)


def read_exposure(path: Path, name: str, faulty: FaultyRows | None = None) -> Array:
    """Read the column of exposures of a table to predict.

    Parameters
    ----------
    path
        A CSV or Parquet file.
    name
        Of the column.
    faulty
        See `read_features`.

    Returns
    -------
    NDArray[np.float64]
        Shape (rows,).

    Raises
    ------
    DataError
        If there is no such column, or a cell is no number above 0.
    """
    table = open_table(path)
    labels, rows = _column(table, name, f"; {RATE}")
    found = labels.exposures(faulty)
    refuse(rows, [*table.faults, *labels.faults])
    return found


def _column(table: TableFile, name: str, advice: str = "") -> tuple[Labels, RowNumbers]:
    """Read a column that must be there once; ``advice``: where it is not."""
    _place_of(table, name, advice)
    labels = Labels(name, missing=table.missing_labels)
    return labels, read_columns(table, Numbers([]), labels)


def _place_of(table: TableFile, name: str, advice: str = "") -> int:
    """Return where a column is that must be there once; ``advice``: where it is not."""
    if table.names.count(name) != 1:
        has = "several" if name in table.names else f"only {some(table.names, _MOST_NAMED)}"
        words = f"data file must have one column {shown(name)}; it has {has}{advice}"
        raise DataError.of([Fault(words, known=tuple(table.names))])
    return table.names.index(name)


def read_columns(
    table: TableFile, numbers: Numbers, *labels: Labels, most: int | None = None
) -> RowNumbers:
    """Read columns of a table, of names that it has; raises DataError, also beyond `most` rows.

    A name that several columns have is passed over: it is one of the table's faults.
    """
    counts = Counter(table.names)
    numbers.names = [name for name in numbers.names if counts[name] == 1]
    names = [*numbers.names, *(one.name for one in labels)]
    places = {name: place for place, name in enumerate(table.names)}
    columns = [places[name] for name in names]
    rows = []
    text = columns[len(numbers.names)] if labels else None
    for block in table.blocks(columns, text):
        rows.append(block.rows)
        if most is not None and sum(map(len, rows)) > most:
            raise DataError(f"data file has more than {most} rows")
        numbers.add(block.rows, block.cells[: len(numbers.names)])
        for one, cells in zip(labels, block.cells[len(numbers.names) :], strict=True):
            one.add(block.rows, cells)
    if not rows:
        none = f"data file has no rows: {str(table.path.absolute())!r}"
        raise DataError.of([*table.faults, Fault(none)])
    return RowNumbers(np.concatenate(rows), table.header)


def refuse(rows: RowNumbers, faults: Sequence[Fault]) -> None:
    """Raise DataError of all faults of a table, if there are any."""
    last = int(rows.numbers[-1])
    if len(faults) > 1 and all(fault.row == last for fault in faults):  # such as a row of totals
        words = [Fault(fault.words, row=last) for fault in faults]
        raise DataError.of(words, f"{rows.note}; correct row {last}, the last, or leave it out")
    if faults:
        named = any(" row " in fault.words for fault in faults)
        raise DataError.of(faults, f"{rows.note if named else ''}{_remedies(faults)}")


def _remedies(faults: Sequence[Fault]) -> str:
    """Say what to do about the columns with these faults."""
    columns = dict[str, list[str]]()
    for fault in faults:
        for remedy in fault.remedies:
            columns.setdefault(remedy, []).append(fault.column or "")
    return "".join(f"; {remedy} ({some(names, _MOST_NAMED)})" for remedy, names in columns.items())
