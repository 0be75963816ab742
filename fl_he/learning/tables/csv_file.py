"""CSV files as tables: a header, then a row for each patient."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np

from fl_he.learning.errors import DataError, Fault
from fl_he.learning.tables.columns import as_number
from fl_he.learning.tables.table_file import Block, TableFile

#: Marks between cells.
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
#: Compressions by the ending of a file's name.
COMPRESSIONS = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}
_OPENERS: Mapping[str, Callable[[Path], io.BufferedIOBase]] = {
    "gzip": gzip.GzipFile,
    "bz2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
}
_BEGINNINGS = {"gzip": b"\x1f\x8b", "bz2": b"BZh", "xz": b"\xfd7zXZ\x00"}
_DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)
#: Bytes of a compressed file's table: its own size says little of it.
MOST_UNPACKED = 1 << 30
#: A block is about this many cells, but at least this many rows.
_CELLS, _ROWS = 20_000, 32
#: A cell may be of any length. Python's limit, 131,072, is one for the process; 2**31 - 1 is the
#: most that it takes everywhere.
_LONGEST_CELL = 2**31 - 1

#: As many columns are named by their places in an error.
_MOST_PLACES = 10

_Row = tuple[int, list[str]]


class _Packed(io.RawIOBase):
    """Compressed file with a limit of unpacked bytes."""

    def __init__(self, path: Path, form: CsvForm) -> None:
        self._path, self._form, self._left = path, form, MOST_UNPACKED
        self._packed = _OPENERS[form.compression](path)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override] # narrower
        refusal, found = "", b""
        try:
            found = self._packed.read(len(buffer))
        except _DAMAGED as error:  # it may hold bytes of cells, so nothing is raised from it
            refusal = self._refusal(type(error).__name__)
        if refusal:
            raise DataError(refusal)
        self._left -= len(found)
        if self._left < 0:
            raise DataError(
                f"data file has more than {MOST_UNPACKED} bytes unpacked: save fewer "
                "rows or columns in it, or Parquet"
            )
        buffer[: len(found)] = found
        return len(found)

    def _refusal(self, error: str) -> str:
        own, suffix = self._form.compression, self._path.suffix.lower()
        place = repr(str(self._path.absolute()))
        with self._path.open("rb") as file:
            is_packed = file.read(8).startswith(_BEGINNINGS[own])
        if is_packed:
            return (
                f"data file must be a whole {own} file, got {place}, which cannot be read "
                f"({error}): copy it again"
            )
        named = COMPRESSIONS.get(suffix) == own
        remedy = f"leave {suffix} out of its name" if named else "compress it"
        remedy = remedy if named else self._form.remedy("compression", remedy)
        return f"data file must be compressed by {own}, got {place}, which is not: {remedy}"

    def close(self) -> None:
        self._packed.close()
        super().close()


@dataclass(frozen=True, slots=True)
class CsvForm:
    """Form of a CSV file.

    Attributes
    ----------
    separator : str
        One of commas, semicolons, tabs and bars.
    encoding : str
        Python's name of it.
    compression : str
        ``gzip``, ``bz2``, ``xz`` or ``none``.
    place : str
        Where its owner has declared it; empty if nobody has.
    """

    separator: str = ","
    encoding: str = "utf-8"
    compression: str = "none"
    place: str = ""

    def remedy(self, setting: str, otherwise: str) -> str:
        """Say what to do about a file of another form."""
        return f"declare {setting} in {self.place}, or {otherwise}" if self.place else otherwise

    def open(self, path: Path) -> IO[str]:
        """Open a file of this form."""
        encoding = "utf-8-sig" if self.encoding == "utf-8" else self.encoding
        return io.TextIOWrapper(self.open_packed(path), encoding, newline="")

    def open_packed(self, path: Path) -> io.BufferedReader:
        """Open a file of this compression as unpacked bytes, up to a limit of them."""
        if self.compression == "none":
            return path.open("rb")
        return io.BufferedReader(_Packed(path, self))


class CsvFile(TableFile):
    """See TableFile. A row without any value, such as a blank line, is left out."""

    def __init__(self, path: Path, form: CsvForm | None = None) -> None:
        super().__init__(path)
        self._form = form or CsvForm()
        first = [(number, record) for number, _, record in islice(self._records(), 2)]
        if not first:
            raise DataError(f"data file is empty, it has no header: {str(path.absolute())!r}")
        self.header, self.names = first[0][0], [name.strip() for name in first[0][1]]
        self.types = ["string"] * len(self.names)
        own = self._form.separator
        if separator := _other_separator([record for _, record in first], own):
            points = "" if self._form.place else " and decimal points"
            save = f"save the table with {_SEPARATORS[own]}{points}"
            raise DataError(
                f"cells must be separated by {_SEPARATORS[own]}, got {separator}: "
                f"{self._form.remedy('separator', save)}"
            )
        if self.names[0].lower().startswith("sep=") or len(first[0][1]) == 1 < len(first[-1][1]):
            raise DataError(
                f"data file must begin with the names of its columns, but line {self.header} is a "
                "title, a comment or sep=: remove the lines above the names"
            )
        if spelt := _numbers_among(self.names):
            # A record taken for names would reach the coordinator as the schema.
            raise DataError(
                f"data file must have a header of names, got numbers in {spelt}: put a row with "
                "the names of the columns first, or rename such columns"
            )

    def blocks(self, columns: Sequence[int], labels: int | None = None) -> Iterator[Block]:
        """See TableFile."""
        rows = islice(self._rows(), 1, None)
        size = max(_ROWS, _CELLS // len(self.names))
        while block := list(islice(rows, size)):
            numbers, records = zip(*block, strict=True)
            cells = list(zip(*records, strict=True))
            yield Block(np.array(numbers), [cells[column] for column in columns])

    def _rows(self) -> Iterator[_Row]:
        """Yield the rows that have a value, all of the header's width, and their numbers.

        Shorter rows are counted, not filled up: a file of them may be far smaller than its table.
        """
        width, self.empty_rows = 0, (0, 0)
        others, first = Counter[bool](), dict[bool, str]()
        for number, line, record in self._records():
            width = width or len(record)
            if len(record) != width:
                short = len(record) < width
                others[short] += 1
                first.setdefault(short, f"{len(record)} in line {line}")
                if short:
                    continue
                del record[width:]
            yield number, record
        for short, count in others.items():
            more = f", the first of {count} such lines" if count > 1 else ""
            self.faults.append(
                Fault(
                    f"every row must have {width} cells as the header has, got {first[short]}{more}"
                )
            )

    def _records(self) -> Iterator[tuple[int, int, list[str]]]:
        """Yield number, line and cells of each row that has a value."""
        refusal = ""
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
        with self._form.open(self.path) as file:
            reader = csv.reader(file, strict=True, delimiter=self._form.separator)
            try:
                for number, record in enumerate(reader, start=1):
                    if any(record):
                        yield number, reader.line_num, record
                    elif len(record) > 1 and self.header is not None and number > self.header:
                        count, first = self.empty_rows
                        self.empty_rows = count + 1, first or number
            except UnicodeDecodeError:  # it holds cells, so nothing is raised from it
                own = self._form.encoding.upper()
                save = self._form.remedy("encoding", f"save the table as CSV {own}")
                refusal = f"data file is not {own} text: {save}"
            except csv.Error:
                refusal = (
                    "quotes must enclose whole cells and be closed: look at line "
                    f"{reader.line_num} and above"
                )
        if refusal:
            raise DataError(refusal)


def _other_separator(records: Sequence[Sequence[str]], own: str) -> str | None:
    """Return the name of the separator of a table's first two rows if it is another one.

    Names may have some of these marks in a table with commas, and commas in one without.
    """
    header = records[0]
    for mark, name in _SEPARATORS.items():
        if mark == own:
            continue
        count, *others = (sum(cell.count(mark) for cell in record) for record in records)
        if count and count >= len(header) - 1 and (len(header) == 1 or others == [count]):
            return name
    return None


def _numbers_among(names: Sequence[str]) -> str:
    """Say in which places numbers stand for names; ``inf`` and ``nan`` are names among others."""
    numbers = [as_number(name) for name in names]
    alone = None not in numbers
    places = [
        place
        for place, number in enumerate(numbers, start=1)
        if number is not None and (alone or math.isfinite(number))
    ]
    if not places:
        return ""
    more = f" and {len(places) - _MOST_PLACES} more" if len(places) > _MOST_PLACES else ""
    some = ", ".join(map(str, places[:_MOST_PLACES]))
    return f"column{'s' if len(places) > 1 else ''} {some}{more} of {len(names)}"
