"""Columns of a table, read block by block as numbers.

Faults of cells are counted by kind, with the row of the first one; no cell is shown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError, Fault
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.faulty_rows import MOST_TOLD, FaultyRows
from fl_he.learning.tables.table_file import MISSING_TEXTS, Cells, RowNumbers, Unreadable, shown

#: Texts of truth values, in small letters.
TRUTH = {"true": 1.0, "false": 0.0}
#: Kinds of cells; ``{s}`` makes a plural.
_TEXT, MISSING, _INFINITE = "cell{s} of text", "missing cell{s}", "infinite cell{s}"
TOO_LARGE, _DATE = "cell{s} too large", "date{s}"
_COMMA, _THOUSANDS = "decimal comma{s}", "cell{s} with thousands separators"
_EITHER = "cell{s} with a decimal comma or a thousands separator"
# Apart from _THOUSANDS: next to these a comma is no separator of thousands.
_GROUPED = "cell{s} with thousands separators (blanks, points or apostrophes)"
_RULES = {
    MISSING: "have no missing values",
    _INFINITE: "be finite",
    TOO_LARGE: "be of numbers that can be computed with",
}
#: Remedies for the cells of a column, other than leaving it out.
_REMEDIES = {
    _TEXT: "correct the cells of text",
    MISSING: "fill missing values in, or leave their rows out",
    _INFINITE: "correct infinite cells, or leave their rows out",
    _COMMA: "write decimal points",
    _THOUSANDS: "leave thousands separators out",
    _GROUPED: "leave thousands separators out",
    # Whichever is done to all cells without a look at them may change numbers by 1000.
    _EITHER: "write decimal commas as points, and leave thousands separators out",
    _DATE: "write dates as numbers, such as years or days",
}
_CODE = "code categories as columns of 0 and 1"
_SAME = "leave out a column that does not vary"
#: What to do about the cells of features, and of no target.
OF_FEATURES = (_CODE, _SAME)
#: What to do by hand about cells that a schema could describe.
BY_HAND = (_CODE, _REMEDIES[MISSING], _REMEDIES[_COMMA], _REMEDIES[_DATE])
#: A column of more different texts is free text; one of a few is not, though no rows share them.
_MOST_CATEGORIES, _FEW_CATEGORIES = 50, 10
#: Texts that are a known kind of number; the first that fits.
_SPELT = {
    _GROUPED: re.compile(
        r"[-+]?[1-9]\d{0,2}"
        r"(([\s'\u2019]\d{3})+([.,]\d*)?|(\.\d{3}){2,}(,\d*)?|\.\d{3},\d*)"
    ),
    _EITHER: re.compile(r"[-+]?[1-9]\d{0,2},\d{3}"),
    _THOUSANDS: re.compile(r"[-+]?[1-9]\d{0,2}((,\d{3})+\.\d*|(,\d{3}){2,})"),
    _COMMA: re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?"),
    _DATE: re.compile(r"\d{4}-\d\d?-\d\d?([T ].*)?|\d\d?([./-])\d\d?\2(\d{4}|\d\d)([T ].*)?"),
}
_MOST_DESCRIBED = 10
#: All smaller integers are float64 numbers.
FIRST_ROUNDED = 2.0**53
_INTEGER = re.compile(r"[-+]?(\d+)(\.0*)?")

Rows = NDArray[np.intp]


def as_number(cell: str) -> float | None:
    """Return the number that a cell without blanks around it spells; None if it spells none."""
    # Python also reads 1_000, and digits of other scripts.
    if cell.isascii() and "_" not in cell:
        with suppress(ValueError):
            return float(cell)
    return None


class ColumnFacts:
    """Counts of a column's cells by kind, and the row of the first cell of each kind.

    Attributes
    ----------
    found : dict of str to (count, first)
    rows : dict of str to list of int
        The first rows, of cells that were added by `add_rows`.
    """

    def __init__(self) -> None:
        self.found: dict[str, tuple[int, int]] = {}
        self.rows: dict[str, list[int]] = {}

    def add(self, kind: str, count: int, first: int) -> None:
        """Count cells of a kind, of which there may be none; ``first`` is the row of the first."""
        if count:
            known, row = self.found.get(kind, (0, first))
            self.found[kind] = (known + count, min(row, first))

    def add_rows(self, kind: str, rows: Rows) -> None:
        """Count cells of a kind in these rows, of which there may be none."""
        if len(rows):
            self.add(kind, len(rows), int(rows[0]))
            told = self.rows.setdefault(kind, [])
            told += rows[: MOST_TOLD - len(told)].tolist()

    def settle(self, *, points: bool) -> None:
        """Count cells with one comma as what the column's other cells show that they are.

        ``points``: the column has numbers with a decimal point.
        """
        kinds = {kind for kind in (_COMMA, _THOUSANDS) if kind in self.found}
        if points:
            kinds.add(_THOUSANDS)
        if _EITHER in self.found and len(kinds) == 1:
            self.add(kinds.pop(), *self.found.pop(_EITHER))

    def fault(self, name: str) -> Fault:
        """Return the fault of a column that has a cell of these kinds."""
        rules = {_RULES.get(kind, "be numeric") for kind in self.found}
        rule = rules.pop() if len(rules) == 1 else "hold finite numbers only"
        kinds = [_DATE if kind.startswith("date") else kind for kind in sorted(self.found)]
        remedies = tuple(dict.fromkeys(_REMEDIES[kind] for kind in kinds if kind in _REMEDIES))
        words = f"column {shown(name)} must {rule}, got {self.words}"
        cells = [first for count, first in self.found.values() for _ in range(min(count, 2))]
        row = cells[0] if len(cells) == 1 else None
        return Fault(words, "drop", name, remedies=remedies, row=row)

    @property
    def words(self) -> str:
        """Counts and rows, such as ``2 missing cells, the first in row 3``."""
        return " and ".join(counted(kind, *of) for kind, of in sorted(self.found.items()))


def counted(kind: str, count: int, first: int) -> str:
    """Return the words for this many cells of a kind, the first of which is in a row."""
    if count == 1:
        return f"1 {kind.format(s='')} in row {first}"
    return f"{count} {kind.format(s='s')}, the first in row {first}"


def cells(
    names: Sequence[str],
    wrong: NDArray[np.bool_],
    kind: str = TOO_LARGE,
    rows: RowNumbers | None = None,
) -> dict[str, ColumnFacts]:
    """Return how many cells of a kind each column has, and where the first one is.

    Parameters
    ----------
    names
        Of the d features.
    wrong
        Which cells they are, shape (m, d).
    kind
        Such as ``"cell{s} of text"``.
    rows
        Where the rows are in their file; ``None``: numbered from 1.

    Returns
    -------
    dict of str to ColumnFacts
        By the names of the columns that have such cells.
    """
    rows = rows or RowNumbers(np.arange(1, len(wrong) + 1))
    found = {}
    for column in np.flatnonzero(wrong.any(axis=0)).tolist():
        facts, of = ColumnFacts(), wrong[:, column]
        facts.add(kind, int(of.sum()), int(rows.numbers[of].min()))
        found[names[column]] = facts
    return found


def described(causes: Mapping[str, str]) -> str:
    """Name columns, of which there may be thousands, each with what is said of it.

    Examples
    --------
    >>> described({"crp": "2 cells of text, the first in row 3"})
    "column 'crp' (2 cells of text, the first in row 3)"
    """
    said = [f"column {shown(name)} ({cause})" for name, cause in causes.items()]
    more = len(said) - _MOST_DESCRIBED
    others = f" and {more} more column{'s' if more > 1 else ''}" if more > 0 else ""
    return f"{', '.join(said[:_MOST_DESCRIBED])}{others}"


def too_large(
    names: Sequence[str], wrong: NDArray[np.bool_], rows: RowNumbers | None = None
) -> DataError:
    """Return the error of finite cells with which a computation overflows: see `cells`."""
    found = cells(names, wrong, TOO_LARGE, rows)
    faults = [facts.fault(name) for name, facts in found.items()]
    return DataError.of(faults, rows.note if rows else "")


class Numbers:
    """Columns of numbers.

    A cell is a number or spells one. In a column of truth values true is 1 and false is 0.

    Parameters
    ----------
    names
        Of the d columns.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._blocks: list[Array] = []
        self._facts: dict[int, ColumnFacts] = {}
        self._truth: dict[int, ColumnFacts] = {}
        self._rounded: dict[int, ColumnFacts] = {}
        self._texts: dict[int, set[str]] = {}

    def add(self, rows: Rows, cells: Sequence[Cells]) -> None:
        """Add rows, with the cells of each column."""
        values = np.empty((len(rows), len(self.names)))
        unread = np.zeros(values.shape, dtype=bool)
        for column, found in enumerate(cells):
            if isinstance(found, np.ndarray):
                values[:, column] = found
            elif isinstance(found, Unreadable):
                values[:, column], unread[:, column] = 0.0, True
                self._of(column).add_rows(found.kind, rows)
            else:
                values[:, column] = self._spelt(column, found, rows, unread[:, column])
        for column in np.flatnonzero((np.abs(values) >= FIRST_ROUNDED).any(axis=0)).tolist():
            if not isinstance(found := cells[column], np.ndarray | Unreadable):
                self._note_rounded(column, found, rows, values[:, column])
        for column in np.flatnonzero(~np.isfinite(values).all(axis=0)).tolist():
            of = values[:, column]
            for kind, wrong in ((MISSING, np.isnan(of)), (_INFINITE, np.isinf(of))):
                self._of(column).add_rows(kind, rows[wrong])
        self._blocks.append(np.where(unread, np.nan, values))

    def faults(self) -> Iterator[Fault]:
        """Yield a fault for each column that holds anything but finite numbers."""
        total = sum(map(len, self._blocks))
        for column, truth in self._truth.items():
            facts = self._of(column)
            count, first = truth.found[_TEXT]
            if count + facts.found.get(MISSING, (0, 0))[0] < total:
                facts.add(_TEXT, count, first)
        for column, facts in sorted(self._facts.items()):
            if facts.found:
                facts.settle(points=self._has_fractions(column))
                fault, counts = facts.fault(self.names[column]), facts.found
                if sum(counts[kind][0] for kind in (_TEXT, MISSING) if kind in counts) == total:
                    code = [] if self._is_free_text(column) else [_CODE]
                    by_text = [[one] if one != _REMEDIES[_TEXT] else code for one in fault.remedies]
                    fault = replace(fault, remedies=tuple(chain.from_iterable(by_text)))
                if self._is_one_text(column, total):
                    fault = replace(fault, remedies=(_SAME,))
                yield fault

    @property
    def notes(self) -> tuple[str, ...]:
        """Words about columns of integers that are no float64 numbers."""
        return tuple(
            f"column {shown(self.names[column])} has {counted(kind, *found)}, of more digits than "
            "float64 has: they are rounded, and some that differ may be equal now; leave the "
            "column out if it names patients"
            for column, facts in sorted(self._rounded.items())
            for kind, found in facts.found.items()
        )

    def pass_over(self, faulty: FaultyRows) -> Iterator[Fault]:
        """Add the rows with wrong cells, and yield the faults that are of no single row."""
        wrong = ~np.isfinite(self.values)
        faulty.add(np.array(wrong.any(axis=1)))
        for column, facts in self._facts.items():
            for kind, rows in facts.rows.items():
                faulty.tell(self.names[column], kind, rows)
        for column, truth in self._truth.items():
            count, _ = truth.found[_TEXT]
            if count + np.count_nonzero(wrong[:, column]) < len(wrong):
                name = self.names[column]
                words = f"column {shown(name)} holds numbers as well as true or false"
                yield Fault(f"{words}: write only one of the two kinds", "drop", name)

    @property
    def values(self) -> Array:
        """The numbers, shape (m, d); NaN or infinite where a cell is wrong."""
        return np.concatenate(self._blocks)

    def _has_fractions(self, column: int) -> bool:
        found = (block[:, column] for block in self._blocks)
        return any(bool((np.modf(of[np.isfinite(of)])[0] != 0).any()) for of in found)

    def _is_one_text(self, column: int, rows: int) -> bool:
        """Return whether all cells, of which there are several, are one text and no number."""
        facts, texts = self._of(column).found, self._texts.get(column, ())
        counts = [count for kind, (count, _) in facts.items() if kind not in _RULES]
        return 1 < rows == sum(counts) and len(texts) == 1 and column not in self._truth

    def _is_free_text(self, column: int) -> bool:
        """Return whether a column's texts are too many to be categories."""
        texts, (cells, _) = self._texts.get(column, ()), self._of(column).found.get(_TEXT, (0, 0))
        return len(texts) > max(_FEW_CATEGORIES, min(_MOST_CATEGORIES, cells // 2))

    def _note_rounded(self, column: int, cells: Sequence[str], rows: Rows, values: Array) -> None:
        """Count integers that are spelt and no float64 numbers."""
        large = np.isfinite(values) & (np.abs(values) >= FIRST_ROUNDED)
        for place in np.flatnonzero(large).tolist():
            spelt = _INTEGER.fullmatch(cells[place].strip())
            if spelt and int(spelt[1].lstrip("0")) != abs(int(values[place])):
                facts = self._rounded.setdefault(column, ColumnFacts())
                facts.add("integer{s}", 1, int(rows[place]))

    def _of(self, column: int) -> ColumnFacts:
        return self._facts.setdefault(column, ColumnFacts())

    def _spelt(
        self, column: int, cells: Sequence[str], rows: Rows, unread: NDArray[np.bool_]
    ) -> Array:
        """Return the numbers that cells spell, NaN for a missing one and 0 for another text.

        ``unread``, shape (m,), becomes true where there is another text.
        """
        text = "".join(cells)
        if text.isascii() and "_" not in text:  # see as_number
            with suppress(ValueError):
                return np.array(list(map(float, cells)))
        values = np.zeros(len(cells))
        for place, cell in enumerate(map(str.strip, cells)):
            number = math.nan if cell.lower() in MISSING_TEXTS else as_number(cell)
            if number is not None:
                values[place] = number
            elif (truth := TRUTH.get(cell.lower())) is not None:
                values[place] = truth
                self._truth.setdefault(column, ColumnFacts()).add(_TEXT, 1, int(rows[place]))
            else:
                unread[place] = True
                self._of(column).add_rows(kind_of(cell), rows[place : place + 1])
                if len(texts := self._texts.setdefault(column, set())) <= _MOST_CATEGORIES:
                    texts.add(cell)
        return values


def kind_of(text: str) -> str:
    """Return the kind of a cell that spells no number."""
    return next((kind for kind, spelt in _SPELT.items() if spelt.fullmatch(text)), _TEXT)
