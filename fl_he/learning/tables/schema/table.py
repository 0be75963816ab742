"""A table as its schema reads it: columns, outcome, and their faults."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError, Fault
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.faulty_rows import MOST_TOLD, FaultyRows
from fl_he.learning.tables.labels import RATE
from fl_he.learning.tables.schema.cells import Missing, cell_fault, reader_of
from fl_he.learning.tables.schema.description import MISSING_LEVEL, Column, Outcome, Schema
from fl_he.learning.tables.schema.design import Design, evaluate
from fl_he.learning.tables.schema.formula import Factor
from fl_he.learning.tables.schema.outcome import OutcomeLabels
from fl_he.learning.tables.table import open_table
from fl_he.learning.tables.table_file import MISSING_TEXTS, RowNumbers, TableFile, shown, some

#: Columns that an error names.
MOST_NAMED = 20
#: Names that the first name that is not there is compared with; fewer for each one after it.
_MOST_TRIED = 10_000
#: Stands for a missing cell where rows are compared; no measurement is so large.
_BLANK = 1e300


def design_of(schema: Schema) -> Design:
    """Return the columns of a schema's model, computed from those of its tables."""
    described = {name: schema.columns[name] for name in schema.used}
    levels = {name: one.coded for name, one in described.items() if one.type == "category"}
    marked = [name for name, one in described.items() if one.missing == "indicator"]
    return Design(schema.model, levels, {name: f"{name}[{MISSING_LEVEL}]" for name in marked})


def _number_of(level: str) -> float:
    """Return an integer for a level that does not depend on other levels."""
    if level == MISSING_LEVEL:
        return _BLANK
    return float(int.from_bytes(sha256(level.encode()).digest()[:6]))


class SchemaTable:
    """A table as it was read.

    Parameters
    ----------
    path, schema
    names
        Columns to read.
    labelled
        Whether the outcome is read.
    exposed
        Whether the exposure alone is.
    hint
        Where such a file comes from, for the user whose file is absent.
    fixed
        Whether all have agreed on the schema, so that no error advises to change it.
    faulty
        Takes the rows of a table to predict that have wrong cells, unless that are all rows;
        ``None``: they are refused.
    elsewhere
        Columns that somebody else reads.
    """

    def __init__(
        self,
        path: str | Path,
        schema: Schema,
        names: Sequence[str],
        *,
        labelled: bool,
        exposed: bool = False,
        hint: str | None = None,
        fixed: bool = False,
        faulty: FaultyRows | None = None,
        elsewhere: Sequence[str] = (),
    ) -> None:
        reading = schema.reading
        file = open_table(path, hint, reading.form)
        self._schema, self._labelled, self._fixed = schema, labelled, fixed
        self.header = file.header
        self._extra = self._unnamed(file, elsewhere)
        self._faults = list[Fault]()
        read = {name: schema.columns[name] for name in names}
        places = self._places(file, {n: c for n, c in read.items() if c.type != "drop"})
        of_outcome = schema.outcome
        others = dict.fromkeys(of_outcome.other_columns if labelled or exposed else (), of_outcome)
        labels = {**({of_outcome.column: of_outcome} if labelled else {}), **others}
        outcome = self._places(file, labels)
        missing = Missing(file.missing_labels, reading.na_values, reading.decimal)
        blank = Missing(MISSING_TEXTS, reading.na_values, reading.decimal)
        self._readers = {
            name: reader_of(
                *(name, read[name], missing if read[name].type == "category" else blank),
                reading,
            )
            for name in places
        }
        self._labels = OutcomeLabels(of_outcome, missing, reading, [*labels])
        whole = len(outcome) == len(labels)
        self._read(file, [*places.values()], [*outcome.values()] if whole else [])
        self._faults += file.faults
        self._file_notes = file.notes
        if not labelled:
            self._faults += file.empty_faults()
        is_read = whole and self.rows.size
        self._found = self._labels.read() if is_read and labelled else None
        self._exposure = self._labels.exposure(faulty) if is_read else None
        self._passed: NDArray[np.bool_] | None = None
        if faulty is not None and self._readers and self.rows.size:
            self._pass_over(faulty)

    def _read(self, file: TableFile, places: Sequence[int], labels: Sequence[int]) -> None:
        rows = list[NDArray[np.intp]]()
        for block in file.blocks([*places, *labels], labels[0] if labels else None):
            rows.append(block.rows)
            for reader, cells in zip(self._readers.values(), block.cells, strict=False):
                reader.add(block.rows, cells)
            if labels:
                self._labels.add(block.rows, block.cells[len(places) :])
        self.rows = np.concatenate(rows) if rows else np.empty(0, dtype=np.intp)
        if not rows:
            self._faults.append(Fault("the table has no rows"))

    def _places(
        self, file: TableFile, described: Mapping[str, Column] | Mapping[str, Outcome]
    ) -> dict[str, int]:
        """Return where columns are in the file; those that are not are faults."""
        known = dict[str, list[int]]()
        for place, name in enumerate(file.names):
            known.setdefault(name, []).append(place)
        found, tried = dict[str, int](), 0
        for name, column in described.items():
            is_beside = isinstance(column, Outcome) and name != column.column
            names = dict.fromkeys((name, *(() if is_beside else column.aliases)))
            places = [place for one in names for place in known.get(one, [])]
            if len(places) == 1:
                found[name] = places[0]
                continue
            if places:
                got = some([file.names[place] for place in places], MOST_NAMED)
                words = f"must be there once, got columns {got}: rename all but one"
            else:
                tried += 1
                near = difflib.get_close_matches(name, self._extra[: _MOST_TRIED // tried], n=1)
                what = (
                    "is there: rename it if that is the column"
                    if self._fixed
                    else "may be an alias"
                )
                hint = f", but {shown(near[0])} {what}" if near else ""
                hint += f"; {RATE}" if is_beside and not self._labelled else ""
                words = f"missing{hint}"
            self._faults.append(Fault(f"column {shown(name)}: {words}", column=name))
        return found

    def _unnamed(self, file: TableFile, elsewhere: Sequence[str]) -> Sequence[str]:
        """Return the columns of the file that neither the schema nor ``elsewhere`` names."""
        schema, outcome = self._schema, self._schema.outcome
        known = {
            *elsewhere,
            outcome.column,
            *outcome.other_columns,
            *outcome.aliases,
            *schema.columns,
        }
        known.update(alias for column in schema.columns.values() for alias in column.aliases)
        return [name or "(unnamed)" for name in file.names if name not in known]

    def faults(self) -> Iterator[Fault]:
        """Yield all that is wrong with the table."""
        yield from self._faults
        told = self._passed is None
        for reader in self._readers.values() if told else ():
            yield from reader.faults(drop=self._labelled, fixed=self._fixed)
        yield from self._labels.faults(fixed=self._fixed)
        for factor, kind, wrong in self._undefined() if told else ():
            rows = self.rows[wrong].tolist()
            remedy = f"correct the cells{'' if self._fixed else ' or the terms'}"
            yield cell_fault(factor.column, kind, len(rows), rows, remedy)
        if self.rows.size and not self.kept.any():
            yield Fault(f"each of the table's {len(self.rows)} rows has a missing cell")

    def _undefined(self) -> Iterator[tuple[Factor, str, NDArray[np.bool_]]]:
        """Yield the kind and the rows of cells for which a function has no finite value."""
        for factor in design_of(self._schema).factors:
            reader = self._readers.get(factor.column)
            if not factor.functions or reader is None or not self.rows.size:
                continue
            column = reader.values
            values = np.atleast_2d(evaluate(factor, column)).T
            wrong = ~np.isfinite(values).all(axis=1) & np.isfinite(column)
            if wrong.any():
                yield factor, f"cell{{s}} for which {factor.name} has no value", wrong

    def _pass_over(self, faulty: FaultyRows) -> None:
        for reader in self._readers.values():
            reader.pass_over(faulty)
        for factor, kind, wrong in self._undefined():
            faulty.add(wrong)
            faulty.tell(factor.column, kind, self.rows[wrong][:MOST_TOLD].tolist())
        if not faulty.wrong.all():
            self._passed = faulty.wrong

    @property
    def kept(self) -> NDArray[np.bool_]:
        """The rows that are not left out, shape (m,)."""
        kept = ~self._labels.blank if self._found is not None else np.ones(len(self.rows), bool)
        for name in self._schema.used if self._labelled else ():
            reader = self._readers.get(name)
            if reader is not None and reader.column.missing == "drop-row":
                kept &= ~np.isnan(reader.values)
        return kept if self._passed is None else kept & ~self._passed

    @property
    def notes(self) -> tuple[str, ...]:
        """Words about columns and rows that are not used, and cells that are filled in."""
        notes = [*self._file_notes, *self._labels.notes]
        if self._extra:
            them, columns = ("it", "column") if len(self._extra) == 1 else ("them", "columns")
            named = some(self._extra, MOST_NAMED)
            notes.append(f"not read, as the schema does not name {them}: {columns} {named}")
        for name, reader in self._readers.items():
            policy, count = reader.column.missing, reader.missing
            if count and policy in ("indicator", "level"):
                notes.append(
                    f"column {shown(name)}: {count} missing cell{'s' if count > 1 else ''}, in "
                    f"{shown(f'{name}[{MISSING_LEVEL}]')} (missing: {policy})"
                )
            elif count and policy == "mean":
                notes.append(
                    f"column {shown(name)}: {count} missing cell{'s' if count > 1 else ''} "
                    f"get{'' if count > 1 else 's'} the mean of all hospitals (missing: mean)"
                )
        if left_out := self.left_out:
            notes.append(
                f"{left_out} of {len(self.rows)} rows are left out, as cells are missing (drop-row)"
            )
        return tuple(notes)

    @property
    def left_out(self) -> int:
        """Number of rows that are left out."""
        return int(np.count_nonzero(~self.kept))

    def refuse(self) -> None:
        """Raise DataError of all that is wrong with the table."""
        if faults := tuple(self.faults()):
            raise DataError.of(faults, RowNumbers(self.rows, self.header).note)

    def plain(self, name: str) -> Array:
        """Return a column of the rows that are kept, as numbers that no setting changes."""
        column, values = self._schema.columns[name], self._readers[name].values[self.kept]
        if column.type == "date":
            values = values + column.day_zero
        if column.type == "category":
            places = np.where(np.isnan(values), len(column.coded), values).astype(np.intp)
            return np.array([*map(_number_of, column.coded), _BLANK])[places]
        return np.where(np.isnan(values), _BLANK, values)

    def columns(self) -> dict[str, Array]:
        """Return all columns of the rows that are kept, NaN where a cell is missing.

        Raises
        ------
        DataError
            Of all that is wrong with the table.
        """
        self.refuse()
        kept = self.kept
        return {name: reader.values[kept] for name, reader in self._readers.items()}

    def labels(self) -> tuple[Array, str | None]:
        """Return the labels of the rows that are kept, and what 1 was called."""
        if self._found is None:
            raise DataError("the table has no outcome")
        labels, positive = self._found
        return labels[self.kept[~self._labels.blank]], positive

    @property
    def exposure(self) -> Array | None:
        """The exposures of the rows that are kept; ``None`` without any."""
        return None if self._exposure is None else self._exposure[self.kept[~self._labels.blank]]

    @property
    def levels(self) -> tuple[str, ...]:
        """Labels as the file spells them; none where the outcome is a number."""
        return self._labels.levels
