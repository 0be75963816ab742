"""Parquet files as tables, read by pyarrow: it refuses a damaged file and does not end the process.

Importing this module imports pyarrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import SEEK_END
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.columns import FIRST_ROUNDED
from fl_he.learning.tables.table_file import Block, Cells, TableFile, Unreadable, some

_ROWS = 1 << 16
#: Of the largest table. A file's size says little of its cells: equal ones are there once.
MOST_ROWS, MOST_CELLS, MOST_TEXT = 10_000_000, 1 << 30, 1 << 30
_MAGIC = b"PAR1"
_MOST_NAMED = 10
#: Kinds of cells that are no numbers, by pyarrow's names of their types; see columns.py.
_KINDS = {
    "date{s}": ("date",),
    "date{s} with a time": ("timestamp",),
    "time{s} of day": ("time",),
    "duration{s}": ("duration", "interval"),
    "list{s}": ("list", "large_list", "fixed_size_list", "list_view", "large_list_view", "map"),
    "record{s}": ("struct", "union"),
    "cell{s} of bytes": ("binary", "large_binary", "fixed_size_binary", "binary_view"),
}
#: What pyarrow raises for files that are damaged, or beyond it. Its own errors derive from these.
_REFUSALS = (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError)


class ParquetFile(TableFile):
    """See TableFile. Rows are numbered from 1."""

    # The file has nulls, so NA is a label. The others are pandas' words for a missing cell.
    missing_labels = frozenset(("", "nan", "<na>"))

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        refusal: DataError | None = None
        try:
            schema = pq.ParquetFile(path).schema_arrow
            self._columns, self._kinds = list(schema.names), list(schema.types)
            # How wide a category's number is depends on how many categories there are.
            self.types = [
                str(kind.value_type if pa.types.is_dictionary(kind) else kind)
                for kind in schema.types
            ]
        except _REFUSALS as error:  # it may hold cells, so nothing is raised from it
            refusal = self._refusal(error)
        if refusal is not None:
            raise refusal
        self.names = [name.strip() for name in self._columns]

    def blocks(self, columns: Sequence[int], labels: int | None = None) -> Iterator[Block]:
        """See TableFile."""
        names, row, text = [self._columns[column] for column in columns], 1, 0
        # Equal cells of text are in memory once, and counted before they are Python's.
        texts = [self._columns[column] for column in columns if _is_text(self._kinds[column])]
        refusal: DataError | None = None
        try:
            file = pq.ParquetFile(self.path, read_dictionary=texts, page_checksum_verification=True)
            refusal = _too_large(file.metadata, len(columns))
            # One thread: to start a task for each of many columns costs more than it gains.
            batches = file.iter_batches(_ROWS, columns=names, use_threads=False)
            for batch in batches if refusal is None else ():
                text += sum(_text_bytes(batch.column(name)) for name in texts)
                if text > MOST_TEXT:
                    refusal = _beyond("bytes of text", MOST_TEXT, text)
                    break
                cells = [
                    _cells(batch.column(name), as_text=column == labels)
                    for name, column in zip(names, columns, strict=True)
                ]
                yield Block(np.arange(row, row + len(batch)), cells)
                row += len(batch)
        except _REFUSALS as error:
            refusal = self._refusal(error)
        if refusal is not None:
            raise refusal

    def _refusal(self, error: Exception) -> DataError:
        if isinstance(error, pa.ArrowNotImplementedError) and (wide := self._wide()):
            return DataError(
                "integers must be of at most 64 bits; they are longer in column "
                f"{wide}: save them as Int64 or Float64"
            )
        if isinstance(error, pa.ArrowInvalid) and not self._is_whole():
            return DataError(
                f"data file must be a whole Parquet file, got {str(self.path.absolute())!r}, which "
                "begins or ends otherwise: copy it again, or name a CSV file .csv"
            )
        return DataError(
            f"data file must be a readable table, got {str(self.path.absolute())!r}, which cannot "
            f"be read ({type(error).__name__})"
        )

    def _is_whole(self) -> bool:
        """Return whether the file begins and ends as a Parquet file does."""
        with self.path.open("rb") as file:
            begin, size = file.read(len(_MAGIC)), file.seek(0, SEEK_END)
            file.seek(max(0, size - len(_MAGIC)))
            return begin == _MAGIC == file.read()

    def _wide(self) -> str:
        """Name the columns that may be what pyarrow cannot read: integers of 128 bits."""
        try:
            with self.path.open("rb") as file:
                file.seek(-8, SEEK_END)
                length = int.from_bytes(file.read(4), "little")
                file.seek(-8 - length, SEEK_END)
                # Without the types that polars gave them, pyarrow takes these columns for bytes.
                footer = file.read().replace(b"ARROW:schema", b"other:schema")
            schema = pq.read_metadata(pa.BufferReader(_MAGIC + footer)).schema
        except _REFUSALS:
            return ""
        columns = [schema.column(place) for place in range(len(schema))]
        wide = [
            column.path
            for column in columns
            if column.physical_type == "FIXED_LEN_BYTE_ARRAY" and column.logical_type.type == "NONE"
        ]
        return some(wide, _MOST_NAMED)


def _too_large(footer: Any, columns: int) -> DataError | None:
    """Return the refusal of a table of which too many columns are read, by its footer."""
    groups = [footer.row_group(place) for place in range(footer.num_row_groups)]
    chunks = (group.column(place) for group in groups for place in range(group.num_columns))
    text = sum(
        chunk.total_uncompressed_size for chunk in chunks if chunk.physical_type == "BYTE_ARRAY"
    )
    for what, most, found in (
        ("rows", MOST_ROWS, footer.num_rows),
        ("cells", MOST_CELLS, footer.num_rows * columns),
        ("bytes of text", MOST_TEXT, text),
    ):
        if found > most:
            return _beyond(what, most, found)
    return None


def _beyond(what: str, most: int, found: int) -> DataError:
    return DataError(f"data file must have at most {most} {what}, got {found}: save fewer in it")


def _is_text(kind: Any) -> bool:
    is_ = pa.types
    return bool(is_.is_string(kind) or is_.is_large_string(kind) or is_.is_string_view(kind))


def _text_bytes(array: Any) -> int:
    """Return the size of a dictionary array's cells of text, each counted as often as it is."""
    array.validate(full=True)  # else nobody has checked the places in the dictionary
    lengths = [len(word or "") for word in array.dictionary.to_pylist()]
    return sum(
        lengths[value["values"]] * value["counts"]
        for value in array.indices.drop_null().value_counts().to_pylist()
    )


def _texts(array: Any) -> list[str]:
    """Return cells as text, empty where one is missing; equal cells are one object."""
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    words = ["" if word is None else str(word) for word in encoded.dictionary.to_pylist()]
    return ["" if place is None else words[place] for place in encoded.indices.to_pylist()]


def _cells(array: Any, *, as_text: bool) -> Cells:
    """Return the cells of an Arrow array."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        if as_text or _is_text(array.type.value_type):
            return _texts(array)
        array = array.dictionary_decode()
    kind, is_ = array.type, pa.types
    number = is_.is_integer(kind) or is_.is_floating(kind) or is_.is_decimal(kind)
    if _is_text(kind) or (as_text and (number or is_.is_boolean(kind))):
        return _texts(array)
    if is_.is_boolean(kind):
        array = array.cast(pa.uint8())
    if number or is_.is_boolean(kind) or is_.is_null(kind):
        spelt = array
        if kind != pa.float64():
            array = array.cast(pa.float64(), safe=False)
        values = _numbers_in(array)
        # As text, integers that may be rounded are counted as a CSV file's are.
        exact = is_.is_floating(kind) or not (np.abs(values) >= FIRST_ROUNDED).any()
        return values if exact else _texts(spelt)
    if is_.is_date(kind) or (is_.is_timestamp(kind) and kind.tz is None):
        days = _numbers_in(array.cast(pa.date32(), safe=False).cast(pa.int32()).cast(pa.float64()))
        return Unreadable("date{s}" if is_.is_date(kind) else "date{s} with a time", days)
    for words, types in _KINDS.items():
        if any(getattr(is_, f"is_{name}")(kind) for name in types):
            return Unreadable(words)
    return Unreadable("cell{s} of an unknown type")


def _numbers_in(array: Any) -> Array:
    """Return an Arrow array of float64, NaN where a cell is missing."""
    # Not by to_numpy or fill_null, which import pandas where there is one.
    if not array.null_count:
        return np.asarray(np.from_dlpack(array), dtype=np.float64)
    present = np.from_dlpack(array.is_valid().cast(pa.uint8())).astype(bool)
    values = np.full(len(array), np.nan)
    values[present] = np.from_dlpack(array.drop_null())
    return values
