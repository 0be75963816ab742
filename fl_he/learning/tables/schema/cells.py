"""Columns of a table, read block by block as their schema declares them.

Wrong cells are counted by kind, with the first rows; no cell is shown.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import date
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import Fault
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.columns import FIRST_ROUNDED, MISSING, TRUTH, Rows, as_number, kind_of
from fl_he.learning.tables.faulty_rows import MOST_TOLD, FaultyRows
from fl_he.learning.tables.schema.description import Column, Reading, other_policies
from fl_he.learning.tables.table_file import Cells, Unreadable, shown

#: Rows that a fault names.
_MOST_ROWS = 5
#: Different cells of a column whose numbers are remembered.
_MOST_KNOWN = 10_000
_EPOCH = date(1970, 1, 1).toordinal()
#: Further texts of truth values, in small letters; as an outcome they need ``positive``.
YES_NO = {"yes": 1.0, "no": 0.0}
_TRUTH = TRUTH | YES_NO
_UNKNOWN, _INFINITE = "cell{s} without a declared level", "infinite cell{s}"
_NOT_TRUTH = "cell{s} other than 0, 1, true, false, yes and no"
_FRACTION, POINT = "number{s} not whole", "cell{s} with a point"
_ROUNDED = "number{s} of 2**53 or more"
_CORRECT, _MISSING_TEXT = "correct the cells", "declare their text as na_values in {place}"
#: What helps in a table or in its reading, and what in a schema, by the kind of cells.
_REMEDIES = {
    _UNKNOWN: (_CORRECT, "add levels to the schema"),
    _FRACTION: (_CORRECT, "declare type: number"),
    _ROUNDED: ("", "declare type: number, or type: drop for an identifier"),
    POINT: ("write decimal commas and no thousands separators, or declare decimal in {place}", ""),
    "decimal comma{s}": ('write decimal points, or declare decimal: "," in {place}', ""),
}
_DATES: Mapping[str, tuple[re.Pattern[str], tuple[int, int, int]]] = {
    "YYYY-MM-DD": (re.compile(r"(\d{4})-(\d\d?)-(\d\d?)", re.ASCII), (1, 2, 3)),
    "DD.MM.YYYY": (re.compile(r"(\d\d?)\.(\d\d?)\.(\d{4})", re.ASCII), (3, 2, 1)),
    "DD/MM/YYYY": (re.compile(r"(\d\d?)/(\d\d?)/(\d{4})", re.ASCII), (3, 2, 1)),
    "MM/DD/YYYY": (re.compile(r"(\d\d?)/(\d\d?)/(\d{4})", re.ASCII), (3, 1, 2)),
}


class Missing:
    """Texts of missing cells.

    Parameters
    ----------
    folded
        In small letters; cells are compared without regard to case.
    exact
        As they are written; a number stands for every spelling of it, as ``999`` for ``999.0``.
    decimal
        Decimal mark of the numbers.
    """

    def __init__(self, folded: Iterable[str], exact: Iterable[str], decimal: str = ".") -> None:
        self.folded, self.exact = frozenset(folded), frozenset(exact)
        numbers = (as_number(text.replace(decimal, ".")) for text in self.exact)
        self._numbers = frozenset(number for number in numbers if number is not None)
        #: Nearly all spellings, for a look-up of a cell as it is.
        self.spelt = {form(text) for text in folded for form in (str, str.upper)} | self.exact

    def __contains__(self, cell: object) -> bool:
        """Return whether a cell without blanks around it is missing."""
        text = str(cell)
        if text in self.exact or text.lower() in self.folded:
            return True
        return bool(self._numbers) and as_number(text) in self._numbers

    def left_out(self, cells: Array) -> Array:
        """Return numbers with NaN in the place of those that stand for missing cells."""
        if not self._numbers:
            return cells
        return np.where(np.isin(cells, [*self._numbers]), np.nan, cells)


#: Numbers of cells, NaN where one is missing; and the places of those that are wrong.
_Read = tuple[Array, NDArray[np.bool_]]


class ColumnReader(ABC):
    """A column in the making.

    Parameters
    ----------
    name
        By which the schema knows it.
    column
        Its description.
    missing
        Texts of missing cells.
    reading
        How the file is written.
    """

    def __init__(self, name: str, column: Column, missing: Missing, reading: Reading) -> None:
        self.name, self.column = name, column
        self._missing, self._decimal, self._place = missing, reading.decimal, reading.place
        self._blocks: list[Array] = []
        self._rows = 0
        self._found: dict[str, tuple[int, list[int]]] = {}
        self._known: dict[str, float] = {}
        low, high = column.limits
        unit = f" {column.unit}" if column.unit else ""
        shown_limits = column.bounds or ("", "")
        self._limits = low, high
        self._outside = f"cell{{s}} outside {shown_limits[0]} to {shown_limits[1]}{unit}"

    def add(self, rows: Rows, cells: Cells) -> None:
        """Add rows with their cells."""
        self._rows += len(rows)
        if isinstance(cells, Unreadable):
            values, wrong = self._other(rows, cells)
        elif isinstance(cells, np.ndarray):
            values, wrong = self._numbers(rows, cells)
        else:
            values, wrong = self._texts(rows, cells)
        blank = np.isnan(values)
        if blank.any():
            self._count(MISSING, rows, blank & ~wrong)
        low, high = self._limits
        if low > -math.inf or high < math.inf:
            outside = ((values < low) | (values > high)) & ~wrong
            self._count(self._outside, rows, outside)
            wrong = wrong | outside
        self._blocks.append(np.where(wrong, np.inf, values))

    @cached_property
    def values(self) -> Array:
        """Numbers, or the codes of levels, shape (m,), NaN where a cell is missing, inf if wrong.

        A missing cell that is a level of a category has that level's code. No rows may follow.
        """
        values = np.concatenate([np.empty(0), *self._blocks])
        self._blocks.clear()
        if self.column.missing == "level":
            values[np.isnan(values)] = len(self.column.coded) - 1
        return values

    @property
    def missing(self) -> int:
        """The number of missing cells."""
        return self._found.get(MISSING, (0, []))[0]

    def faults(self, *, drop: bool, fixed: bool) -> Iterator[Fault]:
        """Yield a fault for each kind of cells that the column must not have.

        ``drop``: rows can be left out, as ``missing: drop-row`` asks; ``fixed``: the schema must
        stay as it is.
        """
        for kind, (count, rows) in self._found.items():
            if kind != MISSING or self._refuses(drop=drop):
                remedy = self._remedy(kind, drop=drop, fixed=fixed)
                yield cell_fault(self.name, kind, count, rows, remedy)

    def _refuses(self, *, drop: bool) -> bool:
        """Return whether no cell may be missing."""
        policy = self.column.missing
        return policy == "refuse" or (policy == "drop-row" and not drop)

    def pass_over(self, faulty: FaultyRows) -> None:
        """Add the rows with cells that the column must not have in a table to predict."""
        refuses = self._refuses(drop=False)
        faulty.add(np.isinf(self.values) | (np.isnan(self.values) & refuses))
        for kind, (_, rows) in self._found.items():
            if kind != MISSING or refuses:
                faulty.tell(self.name, kind, rows)

    @abstractmethod
    def _texts(self, rows: Rows, cells: Sequence[str]) -> _Read:
        """Read cells of text."""

    def _numbers(self, rows: Rows, cells: Array) -> _Read:
        """Read cells that are numbers in the file."""
        del rows
        return cells, np.zeros(len(cells), dtype=bool)

    def _other(self, rows: Rows, cells: Unreadable) -> _Read:
        """Read cells of another type."""
        wrong = np.ones(len(rows), dtype=bool)
        self._count(cells.kind, rows, wrong)
        return np.zeros(len(rows)), wrong

    def _count(self, kind: str, rows: Rows, places: NDArray[np.bool_]) -> None:
        """Count cells of a kind, of which there may be none."""
        if places.any():
            count, known = self._found.get(kind, (0, []))
            known += rows[places][: MOST_TOLD - len(known)].tolist()
            self._found[kind] = (count + int(places.sum()), known)

    def _each(self, rows: Rows, cells: Sequence[str], read: Callable[[str], float | str]) -> _Read:
        """Read cells by a function of a cell without blanks around it: a number, or a kind."""
        values, wrong = np.zeros(len(cells)), np.zeros(len(cells), dtype=bool)
        known = self._known
        with suppress(KeyError):  # most cells are like earlier ones
            return np.array([known[cell] for cell in cells]), wrong
        of_kind = dict[str, list[int]]()
        for place, cell in enumerate(cells):
            bare = cell.strip()
            found = math.nan if bare in self._missing else read(bare)
            if isinstance(found, str):
                of_kind.setdefault(found, []).append(place)
                wrong[place] = True
            else:
                values[place] = found
                if len(known) < _MOST_KNOWN:
                    known[cell] = found
        for kind, places in of_kind.items():
            self._count(kind, rows[places], np.ones(len(places), dtype=bool))
        return values, wrong

    def _remedy(self, kind: str, *, drop: bool, fixed: bool) -> str:
        count, _ = self._found[kind]
        more = ""
        if kind == MISSING:
            own, of_schema = "fill them in", f"declare missing: {other_policies(self.column.type)}"
            if not drop:
                return f"{own}: a row with missing cells has no prediction"
        elif kind == self._outside:
            own, of_schema = _CORRECT, "bounds in the schema"
        else:
            is_date = self.column.type == "date"
            usual = f"{_CORRECT}, or {_MISSING_TEXT}", "correct format in the schema" * is_date
            own, of_schema = _REMEDIES.get(kind, usual)
            if not is_date and 1 < count == self._rows - self.missing:  # it is of another type
                more = "correct type in the schema"
        if fixed:
            # A text that is no level may be the table's own for a missing cell.
            of_schema, more = _MISSING_TEXT * (kind == _UNKNOWN), ""
            own = own or _CORRECT
        return ", or ".join(filter(None, (own, of_schema, more))).format(place=self._place)


class NumberReader(ColumnReader):
    """Numbers, whole ones for the type integer."""

    def _texts(self, rows: Rows, cells: Sequence[str]) -> _Read:
        spelt, text = self._missing.spelt, "".join(cells)
        comma = self._decimal == ","
        # See as_number; where commas are decimal marks, a point may separate thousands.
        if text.isascii() and "_" not in text and not (comma and "." in text):
            read = [cell.replace(",", ".") for cell in cells] if comma else cells
            with suppress(ValueError):
                found = [
                    math.nan if cell in spelt else float(number)
                    for cell, number in zip(cells, read, strict=True)
                ]
                return self._numbers(rows, np.array(found))
        values, wrong = self._each(rows, cells, self._spelt)
        checked, other = self._numbers(rows, values)
        return checked, wrong | other

    def _numbers(self, rows: Rows, cells: Array) -> _Read:
        cells = self._missing.left_out(cells)
        wrong = np.isinf(cells)
        self._count(_INFINITE, rows, wrong)
        if self.column.type == "integer":
            fraction = ~wrong & ~np.isnan(cells) & (cells != np.rint(cells))
            self._count(_FRACTION, rows, fraction)
            rounded = ~wrong & (np.abs(cells) >= FIRST_ROUNDED)
            self._count(_ROUNDED, rows, rounded)
            wrong = wrong | fraction | rounded
        return cells, wrong

    def _spelt(self, cell: str) -> float | str:
        if self._decimal == ",":
            if has_point(cell):
                return POINT
            cell = cell.replace(",", ".")
        number = as_number(cell)
        return kind_of(cell) if number is None else number


class BooleanReader(ColumnReader):
    """Truth values, as 1 and 0."""

    def _texts(self, rows: Rows, cells: Sequence[str]) -> _Read:
        return self._each(rows, cells, self._spelt)

    def _numbers(self, rows: Rows, cells: Array) -> _Read:
        cells = self._missing.left_out(cells)
        wrong = ~np.isnan(cells) & (cells != 0.0) & (cells != 1.0)
        self._count(_NOT_TRUTH, rows, wrong)
        return cells, wrong

    @staticmethod
    def _spelt(cell: str) -> float | str:
        number = _TRUTH.get(cell.lower(), as_number(cell))
        return number if number in (0.0, 1.0) and number is not None else _NOT_TRUTH


class CategoryReader(ColumnReader):
    """Codes of levels, the reference 0; NaN where a cell is missing."""

    def __init__(self, name: str, column: Column, missing: Missing, reading: Reading) -> None:
        # A declared level is no missing cell.
        folded = missing.folded - {level.lower() for level in column.levels}
        numbers = {as_number(level) for level in column.levels} - {None}
        exact = [
            text
            for text in missing.exact
            if text not in column.levels and as_number(text) not in numbers
        ]
        super().__init__(name, column, Missing(folded, exact), reading)
        self._codes = {level: float(code) for code, level in enumerate(column.coded)}
        if column.missing == "level":
            del self._codes[column.coded[-1]]

    def _texts(self, rows: Rows, cells: Sequence[str]) -> _Read:
        codes = self._codes
        with suppress(KeyError):
            return np.array([codes[cell] for cell in cells]), np.zeros(len(cells), dtype=bool)
        return self._each(rows, cells, lambda cell: codes.get(cell, _UNKNOWN))

    def _numbers(self, rows: Rows, cells: Array) -> _Read:
        texts = [
            "" if math.isnan(cell) else repr(cell).removesuffix(".0") for cell in cells.tolist()
        ]
        return self._texts(rows, texts)


class DateReader(ColumnReader):
    """Days since the day that counts as 0."""

    def __init__(self, name: str, column: Column, missing: Missing, reading: Reading) -> None:
        super().__init__(name, column, missing, reading)
        self._pattern, self._order = _DATES[column.format]
        self._day_zero = column.day_zero
        self._no_date = f"cell{{s}} not written {column.format}"
        self._no_day = f"cell{{s}} written {column.format} with a day that does not exist"

    def _texts(self, rows: Rows, cells: Sequence[str]) -> _Read:
        return self._each(rows, cells, self._spelt)

    def _numbers(self, rows: Rows, cells: Array) -> _Read:
        if np.isnan(cells).all():  # such as a column of Parquet's type null
            return super()._numbers(rows, cells)
        return self._other(rows, Unreadable("number{s}"))

    def _other(self, rows: Rows, cells: Unreadable) -> _Read:
        if cells.days is None:
            return super()._other(rows, cells)
        return cells.days - self._day_zero, np.zeros(len(rows), dtype=bool)

    def _spelt(self, cell: str) -> float | str:
        if found := self._pattern.fullmatch(cell):
            with suppress(ValueError):
                day = date(*(int(found[place]) for place in self._order))
                return float(day.toordinal() - _EPOCH - self._day_zero)
            return self._no_day
        return self._no_date


def date_formats(text: str) -> Iterator[str]:
    """Yield the formats in which a text may be a date."""
    for name, (pattern, order) in _DATES.items():
        if found := pattern.fullmatch(text):
            with suppress(ValueError):
                date(*(int(found[place]) for place in order))
                yield name


_READERS: Mapping[str, type[ColumnReader]] = {
    "number": NumberReader,
    "integer": NumberReader,
    "boolean": BooleanReader,
    "category": CategoryReader,
    "date": DateReader,
}


def reader_of(name: str, column: Column, missing: Missing, reading: Reading) -> ColumnReader:
    """Return the reader of a column of any type but ``drop``."""
    return _READERS[column.type](name, column, missing, reading)


def has_point(cell: str) -> bool:
    """Tell whether a number has a point, which separates thousands where commas are decimal marks.

    Examples
    --------
    >>> [has_point(cell) for cell in ("1.234", "1.234,5", "1,5", "N.A.")]
    [True, True, False, False]
    """
    return "." in cell and as_number(cell.replace(".", "").replace(",", ".")) is not None


def point_fault(name: str, count: int, rows: Sequence[int], place: str) -> Fault:
    """Return the fault of cells with a point; ``place``: where the file's form is declared."""
    return cell_fault(name, POINT, count, rows, _REMEDIES[POINT][0].format(place=place))


def cell_fault(name: str, kind: str, count: int, rows: Sequence[int], remedy: str) -> Fault:
    """Return the fault of this many cells of a column, the first of which are in these rows."""
    words = kind.replace("{s}", "" if count == 1 else "s")  # names in it may have braces
    rows = rows[:_MOST_ROWS]
    first = "the first " if count > len(rows) else ""
    places = f"row{'s' if len(rows) > 1 else ''} {', '.join(map(str, rows))}"
    return Fault(
        f"column {shown(name)}: {count} {words}, {first}in {places}: {remedy}", column=name
    )
