"""The outcome of a table by its schema: one column, and that of its event or exposure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from shlex import quote

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import Fault
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.columns import ColumnFacts
from fl_he.learning.tables.faulty_rows import FaultyRows
from fl_he.learning.tables.labels import Labels
from fl_he.learning.tables.schema.cells import POINT, Missing, has_point, point_fault
from fl_he.learning.tables.schema.description import Outcome, Reading
from fl_he.learning.tables.table_file import Cells, Unreadable


class OutcomeLabels:
    """The outcome, read block by block; rows without one may be left out.

    Parameters
    ----------
    outcome, missing, reading
        By the schema.
    names
        Of the columns that are read: all of the outcome's, or the exposure's alone.
    """

    def __init__(
        self, outcome: Outcome, missing: Missing, reading: Reading, names: Sequence[str]
    ) -> None:
        self._outcome, self._missing = outcome, missing
        is_number = outcome.threshold is not None or bool(outcome.family)
        self._commas, self._place = reading.decimal == "," and is_number, reading.place
        self._points = {name: ColumnFacts() for name in names}
        named = [*outcome.classes, *([outcome.positive] if outcome.positive else [])]
        self._named = frozenset(named)
        texts = missing.folded | {text.lower() for text in missing.exact}
        any_case = Missing(texts, missing.exact, reading.decimal)
        self._drops = outcome.missing == "drop-row" and outcome.column in names
        self._read = {
            name: Labels(name, named if name == outcome.column else (), any_case, shown=False)
            for name in names
        }
        self._blank: list[NDArray[np.bool_]] = []

    def add(self, rows: NDArray[np.intp], columns: Sequence[Cells]) -> None:
        """Add rows with their cells in each of the outcome's columns."""
        blank = np.zeros(len(rows), dtype=bool)
        for cells in columns if self._drops else ():
            if isinstance(cells, np.ndarray):
                blank |= np.isnan(self._missing.left_out(cells))
            elif isinstance(cells, Sequence):
                bare = [cell.strip() for cell in cells]
                blank |= [one in self._missing and one not in self._named for one in bare]
        for (name, labels), cells in zip(self._read.items(), columns, strict=True):
            kept = self._kept(cells, blank)
            if self._commas and not isinstance(kept, np.ndarray | Unreadable):
                places = [self._has_point(cell) for cell in kept]
                self._points[name].add_rows(POINT, rows[~blank][np.array(places, dtype=bool)])
                kept = [cell.replace(",", ".") for cell in kept]
            labels.add(rows[~blank], kept)
        self._blank.append(blank)

    def _kept(self, cells: Cells, blank: NDArray[np.bool_]) -> Cells:
        if isinstance(cells, np.ndarray):
            return cells[~blank]
        if isinstance(cells, Sequence):
            return [cell for cell, left_out in zip(cells, blank, strict=True) if not left_out]
        return cells

    def _has_point(self, cell: str) -> bool:
        bare = cell.strip()
        return has_point(bare) and bare not in self._missing

    def read(self) -> tuple[Array, str | None]:
        """Return the labels of rows that have one, and what 1 is called."""
        outcome = self._outcome
        labels = self._read[outcome.column]
        if outcome.positive:
            return labels.is_class(outcome.positive), labels.meant(outcome.positive) or None
        if outcome.threshold is not None:
            return labels.is_at_least(outcome.threshold)
        if outcome.classes:
            return labels.place_among(outcome.classes), None
        if outcome.event:
            return labels.survival(outcome.models, self._read[outcome.event]), outcome.name
        if outcome.family:
            return labels.outcomes(outcome.family, outcome.transform), outcome.name
        return labels.is_zero_or_one()

    def exposure(self, faulty: FaultyRows | None = None) -> Array | None:
        """Return the exposures of rows that have a label; ``None`` without such a column.

        ``faulty``: see `Labels.exposures`.
        """
        found = self._read.get(self._outcome.exposure or "")
        return None if found is None else found.exposures(faulty)

    @property
    def blank(self) -> NDArray[np.bool_]:
        """Rows without a label that are left out, shape (m,)."""
        return np.concatenate([np.empty(0, dtype=bool), *self._blank])

    def faults(self, *, fixed: bool) -> Sequence[Fault]:
        """Return the faults that were found when the labels were read.

        ``fixed``: the schema must stay as it is.
        """
        found = list[Fault]()
        for labels in self._read.values():
            faults = labels.faults
            if faults and labels.missing:
                declare = "" if fixed else ", or declare missing: drop-row of outcome"
                remedy = f"fill them in{declare}"
                faults = [replace(faults[0], words=f"{faults[0].words}: {remedy}"), *faults[1:]]
            else:
                faults = [self._with_remedies(fault, fixed=fixed) for fault in faults]
            found += faults
        for name, facts in self._points.items():
            for kind, (count, _) in facts.found.items():
                found.append(point_fault(name, count, facts.rows[kind], self._place))
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """See Labels."""
        return tuple(note for labels in self._read.values() for note in labels.notes)

    @property
    def levels(self) -> tuple[str, ...]:
        """See Labels."""
        is_number = self._outcome.threshold is not None or self._outcome.family
        return () if is_number else self._read[self._outcome.column].levels

    def _with_remedies(self, fault: Fault, *, fixed: bool) -> Fault:
        """Add remedies to a fault's words; the labels themselves are never among them."""
        remedies = [*fault.remedies]
        if fault.setting == "positive" and not fixed:
            target = quote(self._outcome.column)
            drafted = f"fl-he schema TABLE --target {target} drafts it with frequent labels"
            remedies.append(f"correct positive in the schema, {drafted}")
        return replace(fault, words=": ".join(filter(None, [fault.words, "; ".join(remedies)])))
