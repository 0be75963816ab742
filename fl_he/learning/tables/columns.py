"""Columns of a table, read block by block: features as numbers, a target as labels.

Whatever is wrong with cells is counted by kind, with the row of the first one; no cell is shown.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError, Fault
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.table_file import MISSING_TEXTS, Cells, RowNumbers, Unreadable, shown

_TRUTH = {"true": 1.0, "false": 0.0}
#: Kinds of cells; ``{s}`` makes a plural.
_TEXT, _MISSING, _INFINITE = "cell{s} of text", "missing cell{s}", "infinite cell{s}"
_TOO_LARGE, _DATE = "cell{s} too large", "date{s}"
_COMMA, _THOUSANDS = "decimal comma{s}", "cell{s} with thousands separators"
_EITHER = "cell{s} with a decimal comma or a thousands separator"
# Apart from _THOUSANDS: beside these a comma is no separator of thousands.
_GROUPED = "cell{s} with thousands separators (blanks, points or apostrophes)"
_RULES = {
    _MISSING: "have no missing values",
    _INFINITE: "be finite",
    _TOO_LARGE: "be of numbers that can be computed with",
}
#: What to do about the cells of a column, beside leaving it out.
_REMEDIES = {
    _TEXT: "correct the cells of text",
    _MISSING: "fill missing values in, or leave their rows out",
    _COMMA: "write decimal points",
    _THOUSANDS: "leave thousands separators out",
    _GROUPED: "leave thousands separators out",
    # Whichever is done to all cells without a look at them may change numbers by 1000.
    _EITHER: "write decimal commas as points, and leave thousands separators out",
    _DATE: "write dates as numbers, such as years or days",
}
_CODE = "code categories as columns of 0 and 1"
#: A column of more different texts is free text; one of a few is not, though no rows share them.
_MOST_CATEGORIES, _FEW_CATEGORIES = 50, 10
_LABEL = "fill missing labels in, or leave their rows out"
_CASE = "write labels that differ in case or blanks alone in one way"
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
_MOST_NAMED_LABELS = 10
_MOST_DESCRIBED = 10

_Rows = NDArray[np.intp]


def as_number(cell: str) -> float | None:
    """Return the number that a cell without blanks around it spells; None if it spells none."""
    # Python also reads 1_000, and digits of other scripts.
    if cell.isascii() and "_" not in cell:
        with suppress(ValueError):
            return float(cell)
    return None


class ColumnFacts:
    """Counts of a column's cells by kind, and the row of the first cell of each kind."""

    def __init__(self) -> None:
        self.found: dict[str, tuple[int, int]] = {}

    def add(self, kind: str, count: int, first: int) -> None:
        """Count cells of a kind, of which there may be none; ``first`` is the row of the first."""
        if count:
            known, row = self.found.get(kind, (0, first))
            self.found[kind] = (known + count, min(row, first))

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
        return " and ".join(_counted(kind, *of) for kind, of in sorted(self.found.items()))


def _counted(kind: str, count: int, first: int) -> str:
    if count == 1:
        return f"1 {kind.format(s='')} in row {first}"
    return f"{count} {kind.format(s='s')}, the first in row {first}"


def cells(
    names: Sequence[str],
    wrong: NDArray[np.bool_],
    kind: str = _TOO_LARGE,
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
    return f"{', '.join(said[:_MOST_DESCRIBED])}{f' and {more} more columns' if more > 0 else ''}"


def too_large(
    names: Sequence[str], wrong: NDArray[np.bool_], rows: RowNumbers | None = None
) -> DataError:
    """Return the error of finite cells with which a computation overflows: see `cells`."""
    found = cells(names, wrong, _TOO_LARGE, rows)
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
        self._texts: dict[int, set[str]] = {}

    def add(self, rows: _Rows, cells: Sequence[Cells]) -> None:
        """Add rows, with the cells of each column."""
        values = np.empty((len(rows), len(self.names)))
        for column, found in enumerate(cells):
            if isinstance(found, np.ndarray):
                values[:, column] = found
            elif isinstance(found, Unreadable):
                values[:, column] = 0.0
                self._of(column).add(found.kind, len(rows), int(rows[0]))
            else:
                values[:, column] = self._spelt(column, found, rows)
        for column in np.flatnonzero(~np.isfinite(values).all(axis=0)).tolist():
            of = values[:, column]
            for kind, wrong in ((_MISSING, np.isnan(of)), (_INFINITE, np.isinf(of))):
                self._of(column).add(kind, int(wrong.sum()), int(rows[wrong.argmax()]))
        self._blocks.append(values)

    def faults(self) -> Iterator[Fault]:
        """Yield a fault for each column that holds anything but finite numbers."""
        total = sum(map(len, self._blocks))
        for column, truth in self._truth.items():
            facts = self._of(column)
            count, first = truth.found[_TEXT]
            if count + facts.found.get(_MISSING, (0, 0))[0] < total:
                facts.add(_TEXT, count, first)
        for column, facts in sorted(self._facts.items()):
            if facts.found:
                facts.settle(points=self._has_fractions(column))
                fault, counts = facts.fault(self.names[column]), facts.found
                if sum(counts[kind][0] for kind in (_TEXT, _MISSING) if kind in counts) == total:
                    code = [] if self._is_free_text(column) else [_CODE]
                    by_text = [[one] if one != _REMEDIES[_TEXT] else code for one in fault.remedies]
                    fault = replace(fault, remedies=tuple(chain.from_iterable(by_text)))
                yield fault

    @property
    def values(self) -> Array:
        """The numbers, shape (m, d); only of use without faults."""
        return np.concatenate(self._blocks)

    def _has_fractions(self, column: int) -> bool:
        found = (block[:, column] for block in self._blocks)
        return any(bool((np.modf(of[np.isfinite(of)])[0] != 0).any()) for of in found)

    def _is_free_text(self, column: int) -> bool:
        """Return whether a column's texts are too many to be categories."""
        texts, (cells, _) = self._texts.get(column, ()), self._of(column).found.get(_TEXT, (0, 0))
        return len(texts) > max(_FEW_CATEGORIES, min(_MOST_CATEGORIES, cells // 2))

    def _of(self, column: int) -> ColumnFacts:
        return self._facts.setdefault(column, ColumnFacts())

    def _spelt(self, column: int, cells: Sequence[str], rows: _Rows) -> Array:
        """Return the numbers that cells spell, NaN for a missing one and any for another text."""
        text = "".join(cells)
        if text.isascii() and "_" not in text:  # see as_number
            with suppress(ValueError):
                return np.array(list(map(float, cells)))
        values = np.zeros(len(cells))
        for place, cell in enumerate(map(str.strip, cells)):
            number = math.nan if cell.lower() in MISSING_TEXTS else as_number(cell)
            if number is not None:
                values[place] = number
            elif (truth := _TRUTH.get(cell.lower())) is not None:
                values[place] = truth
                self._truth.setdefault(column, ColumnFacts()).add(_TEXT, 1, int(rows[place]))
            else:
                self._of(column).add(_kind_of(cell), 1, int(rows[place]))
                if len(texts := self._texts.setdefault(column, set())) <= _MOST_CATEGORIES:
                    texts.add(cell)
        return values


def _kind_of(text: str) -> str:
    """Return the kind of a cell that spells no number."""
    return next((kind for kind, spelt in _SPELT.items() if spelt.fullmatch(text)), _TEXT)


class Labels:
    """A column of labels: text, without the blanks around it.

    Parameters
    ----------
    name
        Of the column.
    named
        Labels that the table's description names: none of them is a missing cell.
    missing
        Texts of a missing cell, in small letters.

    Attributes
    ----------
    faults : list of Fault
        Reading labels as numbers adds those that it finds.
    """

    def __init__(
        self, name: str, named: Sequence[str] = (), missing: Set[str] = MISSING_TEXTS
    ) -> None:
        self.name = name
        self._named_before = {label.strip() for label in named} - {""}
        self._missing_texts, self._read_as_missing = missing, dict[str, None]()
        self.faults: list[Fault] = []
        self._labels: list[str] = []
        self._rows: list[int] = []
        self._missing, self._trimmed = ColumnFacts(), ColumnFacts()
        self._total = 0

    def add(self, rows: _Rows, cells: Cells) -> None:
        """Add rows with their cells."""
        if isinstance(cells, Unreadable):
            words = f"target {shown(self.name)} must hold labels, got {cells.kind.format(s='s')}"
            self.faults = [Fault(words)]
            return
        for row, cell in zip(rows.tolist(), map(str, cells), strict=True):
            label = cell.strip()
            if label.lower() in self._missing_texts and label not in self._named_before:
                self._missing.add(_MISSING, 1, row)
                self._read_as_missing[label] = None
                label = ""
            self._labels.append(label)
            self._rows.append(row)
            if label and label != cell:
                self._trimmed.add("label{s}", 1, row)

    @property
    def notes(self) -> tuple[str, ...]:
        """Words about labels that are not read as they stand."""
        return tuple(
            f"column {shown(self.name)} had blanks around {_counted(kind, *found)}: they are left "
            "off"
            for kind, found in self._trimmed.found.items()
        )

    @property
    def levels(self) -> tuple[str, ...]:
        """The different labels, sorted."""
        return tuple(sorted(self._counts()))

    def is_zero_or_one(self) -> tuple[Array, str]:
        """Return the labels 0 and 1, or true and false, as numbers; and what 1 was called."""
        numbers = {label: _zero_or_one(label) for label in self._counts()}
        other = [label for label, number in numbers.items() if number is None]
        if other:
            row = self._lone(other)
            alone = "" if len(other) == 1 else ", one of them only"
            where = "" if row is None else f"{alone} in row {row}"
            self.faults.append(
                Fault(
                    f"target {shown(self.name)} must hold 0 and 1, or true and false, where no "
                    f"positive label is named, got {len(other)} other "
                    f"label{'s' if len(other) > 1 else ''}{where}{self._named(other)}",
                    "meaning",
                    self.name,
                    remedies=self._case(other),
                    row=row if len(other) == 1 else None,
                )
            )
        truth = bool(numbers) and all(label.lower() in _TRUTH for label in numbers)
        return self._as([numbers.get(label) or 0.0 for label in self._labels]), (
            "true" if truth else "1"
        )

    def meant(self, positive: str) -> str:
        """Return the label that is written as ``positive`` is, or else spells the same.

        That is the only one of the same number, or of the same truth value.
        """
        return _spelt_alike(positive.strip(), self.levels)

    def is_class(self, positive: str) -> Array:
        """Return 1.0 for the positive class and 0.0 for the other, of which there is one at most.

        See `meant` for labels that are written in another way.
        """
        classes, positive = self.levels, self.meant(positive)
        if len(classes) > 2:
            case, row = self._case(classes), self._lone(classes)
            where = "" if row is None else f", one of them only in row {row}"
            self.faults.append(
                Fault(
                    f"target {shown(self.name)} must have two classes, got {len(classes)}"
                    f"{where}{self._named(classes)}",
                    None if case else "target",
                    self.name,
                    remedies=case,
                    row=row if len(classes) == 3 else None,
                )
            )
        if len(classes) == 2 and positive not in classes:
            self.faults.append(
                Fault(
                    f"positive must be one of the two classes of target {shown(self.name)}"
                    f"{self._named(classes)}, got {positive!r}",
                    "positive",
                    known=classes if self._named(classes) else (),
                )
            )
        return self._as([float(label == positive) for label in self._labels])

    def is_at_least(self, threshold: float) -> Array:
        """Return 1.0 where a number is at least the threshold, else 0.0."""
        numbers = Numbers([self.name])
        numbers.add(np.array(self._rows, dtype=np.intp), [self._labels])
        self._trimmed = ColumnFacts()  # blanks around a number say nothing else
        self.faults += [Fault(fault.words, "positive") for fault in numbers.faults()]
        return (numbers.values[:, 0] >= threshold).astype(np.float64)

    def place_among(self, classes: Sequence[str]) -> Array:
        """Return each label's place among the classes, from 0.0.

        Where no class is written as a label is, one that spells the same number is meant.
        """
        places = {name.strip(): float(place) for place, name in enumerate(classes)}
        others = ColumnFacts()
        meant = {label: _spelt_alike(label, list(places)) for label in self._counts()}
        unknown = {label for label, name in meant.items() if name not in places}
        for row, label in zip(self._rows, self._labels, strict=True):
            if label in unknown:
                others.add("other{s}", 1, row)
        for kind, found in others.found.items():
            self.faults.append(
                Fault(
                    f"target {shown(self.name)} must hold the classes "
                    f"{', '.join(map(shown, places))} only, got {_counted(kind, *found)}"
                    f"{self._named(sorted(unknown))}",
                    "classes",
                    self.name,
                    remedies=self._case([*places, *unknown]),
                    row=found[1] if found[0] == 1 else None,
                )
            )
        return self._as([places.get(meant.get(label, ""), 0.0) for label in self._labels])

    def _counts(self) -> Counter[str]:
        return Counter(label for label in self._labels if label)

    def _named(self, labels: Sequence[str]) -> str:
        """Name labels only if they are few and each has several rows: else one may be a person's.

        Labels are only shown where the column has no more of them. Rows whose labels differ in case
        or blanks alone are rows of one label.
        """
        counts, rows = self._counts(), Counter(map(_folded, self._labels))
        if len(counts) > _MOST_NAMED_LABELS or min(rows[_folded(label)] for label in counts) < 2:
            return ""
        return f": {', '.join(map(shown, sorted(labels)))}"

    def _lone(self, labels: Sequence[str]) -> int | None:
        """Return the row of the only label that one row has, such as a row of totals."""
        counts = self._counts()
        rows = [self._rows[self._labels.index(label)] for label in labels if counts[label] == 1]
        return rows[0] if len(rows) == 1 else None

    def _case(self, labels: Iterable[str]) -> tuple[str, ...]:
        """Return the remedy of labels that differ in case or blanks alone from others."""
        labels = list(labels)
        return (_CASE,) if len(set(map(_folded, labels))) < len(labels) else ()

    def _as(self, numbers: Sequence[float]) -> Array:
        if self._missing.found:
            fault, spelt = self._missing.fault(self.name), list(self._read_as_missing)
            rename = tuple(
                f"rename the label {text!r}, which is read as missing" for text in spelt if text
            )
            remedies = (*rename, *((_LABEL,) if "" in spelt or not rename else ()))
            self.faults.insert(0, replace(fault, setting=None, remedies=remedies))
        return np.array(numbers)


def _spelt_alike(name: str, others: Sequence[str]) -> str:
    """Return the name itself, or the only other one that spells the same number, true or false."""
    if name in others:
        return name
    number, truth = as_number(name), _TRUTH.get(name.lower())
    alike = [
        other
        for other in others
        if (number is not None and as_number(other) == number)
        or (truth is not None and _TRUTH.get(other.lower()) == truth)
    ]
    return alike[0] if len(alike) == 1 else name


def _folded(label: str) -> str:
    """Return a label in small letters, its blanks as single ones."""
    return " ".join(label.split()).casefold()


def _zero_or_one(label: str) -> float | None:
    number = _TRUTH.get(label.lower(), as_number(label))
    return number if number in (0.0, 1.0) else None
