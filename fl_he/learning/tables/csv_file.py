"""CSV files as tables: a header, commas and UTF-8 text."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from fl_he.learning.errors import DataError, Fault
from fl_he.learning.tables.columns import as_number
from fl_he.learning.tables.table_file import Block, TableFile

#: What other programs put between cells instead of a comma.
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
#: A block is about so many cells, but at least so many rows.
_CELLS, _ROWS = 20_000, 32
#: A cell may be of any length. Python's limit, 131,072, is one for the process; 2**31 - 1 is the
#: most that it takes everywhere.
_LONGEST_CELL = 2**31 - 1

_Row = tuple[int, list[str]]


class CsvFile(TableFile):
    """See TableFile. A row without any value, such as a blank line, is left out."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        for number, names in self._rows():
            self.header, self.names = number, [name.strip() for name in names]
            break
        else:
            raise DataError(
                f"data file must have a header and rows, got an empty file {str(path.absolute())!r}"
            )
        self.types = ["string"] * len(self.names)
        found = names[0] if len(names) == 1 else ""
        if others := [name for mark, name in _OTHER_SEPARATORS.items() if mark in found]:
            raise DataError(
                "cells must be separated by commas, got a header of one cell with "
                f"{others[0]}: save the table with commas and decimal points"
            )
        if spelt := sum(as_number(name) is not None for name in self.names):
            # A record taken for names would reach the coordinator as the schema.
            raise DataError(
                f"data file must have a header of names, got {spelt} names that are numbers: "
                "put a row with the names of the columns first"
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
        width, refusal = 0, ""
        others, first = Counter[bool](), dict[bool, str]()
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            try:
                for number, record in enumerate(reader, start=1):
                    if not any(record):
                        continue
                    width = width or len(record)
                    if len(record) != width:
                        short = len(record) < width
                        others[short] += 1
                        first.setdefault(short, f"{len(record)} in line {reader.line_num}")
                        if short:
                            continue
                        del record[width:]
                    yield number, record
            except UnicodeDecodeError:  # it holds cells, so nothing is raised from it
                refusal = (
                    "data file must be UTF-8 text, got another encoding: save the table as CSV "
                    "UTF-8"
                )
            except csv.Error:
                refusal = (
                    "quotes must enclose whole cells and be closed, got others in or before "
                    f"line {reader.line_num}"
                )
        if refusal:
            raise DataError(refusal)
        for short, count in others.items():
            more = f", the first of {count} such lines" if count > 1 else ""
            self.faults.append(
                Fault(
                    f"every row must have {width} cells as the header has, got {first[short]}{more}"
                )
            )
