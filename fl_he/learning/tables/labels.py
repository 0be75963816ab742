"""A column of labels, read block by block: the target of a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import Fault
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.columns import (
    MISSING,
    OF_FEATURES,
    TRUTH,
    ColumnFacts,
    Numbers,
    Rows,
    as_number,
    counted,
)
from fl_he.learning.tables.faulty_rows import MOST_TOLD, FaultyRows
from fl_he.learning.tables.table_file import MISSING_TEXTS, Cells, Unreadable, shown
from fl_he.run_files.metrics_contract import BRESLOW, COUNTS, EXPOSED, SURVIVAL

_LABEL = "fill missing labels in, or leave their rows out"
_CASE = "write labels that differ in case or blanks alone in one way"
_MOST_NAMED_LABELS = 10
#: Ways to treat tied events.
TIES = ("efron", "breslow")
#: Largest count of a negative binomial model, which sums over all smaller ones.
_MOST_COUNTED = 1_000_000
#: Largest size of outcomes and exposures: squares of larger ones have no digits in sums.
_LARGEST = 1e14
_EVENT = "write 1 for rows with the event and 0 for others"
_CELLS = "correct such cells, or leave their rows out"
_UNIT = "correct such cells, or save the column in a larger unit"
#: What helps where a table to predict has no column of exposures.
RATE = "--rate predicts for an exposure of 1"
_Fits = tuple[Callable[[Array], NDArray[np.bool_]], str]
#: Numbers that can be outcomes of a family of models, and words for them.
OUTCOMES: Mapping[str, _Fits] = {
    "gaussian": (np.isfinite, "numbers"),
    "poisson": (lambda y: (y >= 0.0) & (y == np.floor(y)), "whole numbers of 0 or more"),
    "negative_binomial": (
        lambda y: (y >= 0.0) & (y == np.floor(y)) & (y <= _MOST_COUNTED),
        f"whole numbers from 0 to {_MOST_COUNTED:,}",
    ),
    "gamma": (lambda y: y > 0.0, "numbers above 0"),
    **dict.fromkeys(SURVIVAL, (lambda y: y >= 0.0, "times of 0 or more")),
}
#: Numbers that can be transformed, and words for them.
_TRANSFORMED: Mapping[str, _Fits] = {
    "log": (lambda y: y > 0.0, "numbers above 0"),
    "sqrt": (lambda y: y >= 0.0, "numbers of 0 or more"),
}


def family_with_ties(family: str | None, ties: str | None) -> str:
    """Return the family that settings name; empty without one."""
    return BRESLOW if ties == "breslow" else family or ""


def event_fault(event: str | None, family: str | None) -> str:
    """Say why a family, or classes where none is named, must have a column of events, or none."""
    if family in SURVIVAL and event is None:
        return "event must be given with family cox: the column says by 0 and 1 whether it was seen"
    if event is not None and family not in SURVIVAL:
        return "event must be left out unless the family is cox"
    return ""


def exposure_fault(family: str | None) -> str:
    """Say why a family, or classes where none is named, can have no exposure; else nothing."""
    if family in EXPOSED:
        return ""
    got = f"family {family}" if family else "an outcome of classes"
    return f"exposure must come with family {' or '.join(EXPOSED)}, got {got}"


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
    shown
        Whether errors may name labels at all.

    Attributes
    ----------
    faults : list of Fault
        Reading labels as numbers adds those that it finds.
    """

    def __init__(
        self,
        name: str,
        named: Sequence[str] = (),
        missing: Container[str] = MISSING_TEXTS,
        *,
        shown: bool = True,
    ) -> None:
        self.name, self._shown = name, shown
        self._named_before = {label.strip() for label in named} - {""}
        self._missing_texts, self._read_as_missing = missing, dict[str, None]()
        self.faults: list[Fault] = []
        self._labels: list[str] = []
        self._rows: list[int] = []
        self._missing, self._trimmed = ColumnFacts(), ColumnFacts()
        self._total = 0
        self._rounded: tuple[str, ...] = ()

    def add(self, rows: Rows, cells: Cells) -> None:
        """Add rows with their cells."""
        if isinstance(cells, Unreadable):
            words = f"column {shown(self.name)} must hold labels, got {cells.kind.format(s='s')}"
            self.faults = [Fault(f"{words}: save them as text")]
            return
        for row, cell in zip(rows.tolist(), map(str, cells), strict=True):
            label = cell.strip()
            if label.lower() in self._missing_texts and label not in self._named_before:
                self._missing.add(MISSING, 1, row)
                self._read_as_missing[label] = None
                label = ""
            self._labels.append(label)
            self._rows.append(row)
            if label and label != cell:
                self._trimmed.add("label{s}", 1, row)

    @property
    def missing(self) -> int:
        """The number of missing labels."""
        return self._missing.found.get(MISSING, (0, 0))[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """Words about labels that are not read as they stand."""
        trimmed = (
            f"column {shown(self.name)} had blanks around {counted(kind, *found)}: they are left "
            "off"
            for kind, found in self._trimmed.found.items()
        )
        return (*trimmed, *self._rounded)

    @property
    def levels(self) -> tuple[str, ...]:
        """The different labels, sorted."""
        return tuple(sorted(self._counts()))

    def texts(self) -> list[str]:
        """Return the label of each row, empty where it is missing."""
        self._note_missing()
        return list(self._labels)

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
        truth = bool(numbers) and all(label.lower() in TRUTH for label in numbers)
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
            meant = "meaning" if len(classes) <= _MOST_NAMED_LABELS else "target"
            where = "" if row is None else f", one of them only in row {row}"
            self.faults.append(
                Fault(
                    f"target {shown(self.name)} must have two classes, got {len(classes)}"
                    f"{where}{self._named(classes)}",
                    None if case or row else meant,
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

    def is_at_least(self, threshold: float) -> tuple[Array, str]:
        """Return 1.0 where a number is at least the threshold, else 0.0; and what 1 is called."""
        found = (self._read_numbers("positive") >= threshold).astype(np.float64)
        return found, f"{self.name} >= {repr(threshold).removesuffix('.0')}"

    def outcomes(self, family: str, transform: str | None = None) -> Array:
        """Return the labels as numbers, which must be outcomes of a family of models.

        Parameters
        ----------
        family
            A key of `OUTCOMES`.
        transform
            ``"log"`` or ``"sqrt"``, which is applied to the numbers first; ``None``: neither.
        """
        numbers = self._read_numbers(None)
        if transform is not None and not self.faults:
            fits, words = _TRANSFORMED[transform]
            self._require(fits(numbers), f"{words} for {transform}")
            with np.errstate(divide="ignore", invalid="ignore"):
                numbers = np.log(numbers) if transform == "log" else np.sqrt(numbers)
        if not self.faults:
            fits, words = OUTCOMES[family]
            self._require(fits(numbers), f"{words} for family {family}")
        if not self.faults and family not in SURVIVAL:
            self._require_digits(numbers, "target", _CELLS if family in COUNTS else _UNIT)
        return numbers

    def survival(self, family: str, events: Labels) -> Array:
        """Return the labels as times, with a minus sign where no event was seen.

        Parameters
        ----------
        family
            One of `SURVIVAL`.
        events
            The column that says whether the event was seen, of the same rows.
        """
        seen = np.array([_zero_or_one(label) for label in events._labels], dtype=np.float64)
        known = ~np.isnan(seen) | np.array([not label for label in events._labels])
        events._note_missing()
        events._require(known, "0 and 1, or true and false", "column", _EVENT)
        times = self.outcomes(family)
        return times if self.faults or events.faults else np.copysign(times, seen - 0.5)

    def exposures(self, faulty: FaultyRows | None = None) -> Array:
        """Return the labels as numbers, which must be above 0.

        ``faulty`` takes the rows with wrong labels, unless that are all rows; ``None``: such rows
        are faults.
        """
        if faulty is not None and (found := self._passed_over(faulty)) is not None:
            return found
        numbers = self._read_numbers(None)
        spelt = [as_number(label) is not None or label.lower() in TRUTH for label in self._labels]
        self._require((numbers > 0.0) | ~np.array(spelt, dtype=bool), "numbers above 0", "exposure")
        self._require_digits(numbers, "exposure", _UNIT)
        return numbers

    def _passed_over(self, faulty: FaultyRows) -> Array | None:
        """Return exposures, NaN where one is wrong; ``None`` if all are."""
        spelt = (as_number(label) for label in self._labels)
        numbers = np.array([math.nan if number is None else number for number in spelt])
        right = (numbers > 0.0) & (numbers <= _LARGEST)
        if not right.any():
            return None
        faulty.add(~right)
        rows = np.array(self._rows)[~right][:MOST_TOLD].tolist()
        faulty.tell(self.name, f"exposure other than a number from above 0 to {_LARGEST:.0e}", rows)
        return np.where(right, numbers, np.nan)

    def _require_digits(self, numbers: Array, kind: str, remedy: str) -> None:
        """Take down a fault if finite numbers are too large to be summed up."""
        fit = ~(np.abs(numbers) > _LARGEST) | np.isinf(numbers)
        self._require(fit, f"numbers of at most {_LARGEST:.0e} in size", kind, remedy)

    def _require(
        self, fit: NDArray[np.bool_], words: str, kind: str = "target", remedy: str = _CELLS
    ) -> None:
        """Take down a fault if labels do not fit; ``kind``: of the column."""
        if fit.all():
            return
        facts = ColumnFacts()
        first = self._rows[int(np.argmin(fit))]
        facts.add("other{s}", int(np.count_nonzero(~fit)), first)
        ((other, found),) = facts.found.items()
        self.faults.append(
            Fault(
                f"{kind} {shown(self.name)} must hold {words}, got {counted(other, *found)}",
                None,
                self.name,
                remedies=(remedy,),
                row=found[1] if found[0] == 1 else None,
            )
        )

    def _read_numbers(self, instead: str | None) -> Array:
        """Return the labels as numbers; ``instead``: the setting that a column of text needs."""
        numbers = Numbers([self.name])
        numbers.add(np.array(self._rows, dtype=np.intp), [self._labels])
        self._rounded = numbers.notes
        self._trimmed = ColumnFacts()  # blanks around a number say nothing else
        spelt = any(as_number(label) is not None for label in self._counts())
        for fault in numbers.faults():
            remedies = tuple(one for one in fault.remedies if one not in OF_FEATURES)
            # Of a column of text the threshold is the fault, else the cells are.
            helps = spelt or (remedies and remedies == fault.remedies)
            setting = None if helps else instead
            self.faults.append(replace(fault, setting=setting, remedies=remedies))
        return numbers.values[:, 0]

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
                    f"{', '.join(map(shown, places))} only, got {counted(kind, *found)}"
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
        few = self._shown and len(counts) <= _MOST_NAMED_LABELS
        if not few or min(rows[_folded(label)] for label in counts) < 2:
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
        self._note_missing()
        return np.array(numbers)

    def _note_missing(self) -> None:
        if self._missing.found:
            fault, spelt = self._missing.fault(self.name), list(self._read_as_missing)
            rename = tuple(
                f"rename the label {text!r}, which is read as missing" for text in spelt if text
            )
            remedies = (*rename, *((_LABEL,) if "" in spelt or not rename else ()))
            self.faults.insert(0, replace(fault, setting=None, remedies=remedies))


def _spelt_alike(name: str, others: Sequence[str]) -> str:
    """Return the name itself, or the only other one that spells the same number, true or false."""
    if name in others:
        return name
    number, truth = as_number(name), TRUTH.get(name.lower())
    alike = [
        other
        for other in others
        if (number is not None and as_number(other) == number)
        or (truth is not None and TRUTH.get(other.lower()) == truth)
    ]
    return alike[0] if len(alike) == 1 else name


def _folded(label: str) -> str:
    """Return a label in small letters, its blanks as single ones."""
    return " ".join(label.split()).casefold()


def _zero_or_one(label: str) -> float | None:
    number = TRUTH.get(label.lower(), as_number(label))
    return number if number in (0.0, 1.0) else None
