"""Files of tables: named columns, read block by block; no error here shows a cell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import Fault
from fl_he.learning.tables.arrays import Array

#: Name of a model's constant term, which stands among the names of columns.
INTERCEPT = "(intercept)"
#: Texts of a missing cell, in small letters: those of pandas, but for None, which may be a label.
MISSING_TEXTS = frozenset(
    (
        *("", "nan", "-nan", "na", "n/a", "<na>", "#na", "#n/a", "#n/a n/a", "null"),
        *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
    )
)
#: Of a name that is shown.
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Cells of a type that is neither text nor numbers.

    Attributes
    ----------
    kind : str
        Such as ``"date{s}"``.
    days : NDArray[np.float64] or None
        Of dates: days since 1970-01-01, NaN where a cell is empty.
    """

    kind: str
    days: Array | None = field(default=None, repr=False)


#: The cells of a column in a block: text, empty where a cell is; or numbers, NaN where one is.
Cells = Sequence[str] | Array | Unreadable


@dataclass(frozen=True, slots=True)
class Block:
    """Some rows of a table.

    Attributes
    ----------
    rows : NDArray[np.intp]
        Where they are in the file, from 1. Blank lines of a CSV file count.
    cells : list
        Of each column that was asked for.
    """

    rows: NDArray[np.intp]
    cells: Sequence[Cells]


@dataclass(frozen=True, slots=True)
class RowNumbers:
    """Positions of a table's rows in its file.

    Attributes
    ----------
    numbers : NDArray[np.intp]
        Shape (rows,), from 1.
    header : int or None
        Where the row of names is, if the file has one.
    """

    numbers: NDArray[np.intp]
    header: int | None = None

    @property
    def note(self) -> str:
        """Words behind an error that names rows."""
        return "" if self.header is None else f" (the header is row {self.header})"


class TableFile(ABC):
    """A file with a table.

    Parameters
    ----------
    path
        An existing file.

    Attributes
    ----------
    names : list of str
        Of the columns, stripped of blanks.
    types : list of str
        Of the columns, as the file declares them.
    header : int or None
        See RowNumbers.
    missing_labels : frozenset of str
        Texts of a missing label, in small letters.
    faults : list of Fault
        Faults of the rows that were read, without those of cells.
    empty_rows : tuple of int
        How many rows with cells have no value, so that they are left out, and which is the first.

    Raises
    ------
    DataError
        If the file is not of this kind, or its names are not such.
    """

    names: Sequence[str]
    types: Sequence[str]
    header: int | None = None
    missing_labels = MISSING_TEXTS

    def __init__(self, path: Path) -> None:
        self.path = path
        self.faults: list[Fault] = []
        self.empty_rows = 0, 0

    @abstractmethod
    def blocks(self, columns: Sequence[int], labels: int | None = None) -> Iterator[Block]:
        """Read the file from its beginning; raises DataError if it cannot be read.

        Parameters
        ----------
        columns
            Places of the columns to read.
        labels
            The column of them whose cells are wanted as text, of any type.
        """

    @property
    def notes(self) -> tuple[str, ...]:
        """Words about rows that were left out, for the owner of the table."""
        count, first = self.empty_rows
        if not count:
            return ()
        which = f"the first is row {first}" if count > 1 else f"row {first}"
        return (f"not read, as without any value: {count} row{'s' * (count > 1)}, {which}",)

    def empty_faults(self) -> Iterator[Fault]:
        """Yield the fault of rows without any value, where each row needs a prediction."""
        count, first = self.empty_rows
        if count:
            first_of = f", the first of {count} such rows" if count > 1 else ""
            yield Fault(f"row {first} has no values{first_of}: fill them in, or remove such rows")

    def name_faults(self, *, unnamed: bool = True) -> Iterator[Fault]:
        """Yield the faults of names by which columns cannot be told apart.

        ``unnamed``: a column without a name is such a fault.
        """
        if (count := self.names.count("")) and unnamed:
            first = self.names.index("") + 1
            index = ": an index, as pandas and R write it" if first == count == 1 else ""
            yield Fault(
                f"data file must name every column, got {count} without a name, "
                f"the first is column {first} of {len(self.names)}{index}",
                "drop",
                "",
            )
        repeated = [name for name, count in Counter(self.names).items() if name and count > 1]
        if repeated:
            yield Fault(
                f"column names must differ, got several columns called {some(repeated, 5)}: rename "
                "them in the file"
            )


def shown(name: str) -> str:
    """Quote a column's name, which may be long."""
    return repr(name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}...")


def some(names: Sequence[str], most: int) -> str:
    """Quote the first names of columns, of which there may be thousands."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(map(shown, names[:most]))}{more}"
