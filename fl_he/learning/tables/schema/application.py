"""Tables of hospitals by their schema: all faults at once, or the columns of the model."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError, Fault
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.described import Described, Facts
from fl_he.learning.tables.incomplete import Incomplete
from fl_he.learning.tables.labels import RATE
from fl_he.learning.tables.schema.cells import ColumnReader, Missing, cell_fault, reader_of
from fl_he.learning.tables.schema.description import MISSING_LEVEL, Column, Outcome, Schema
from fl_he.learning.tables.schema.design import Design, evaluate
from fl_he.learning.tables.schema.formula import Factor
from fl_he.learning.tables.schema.outcome import OutcomeLabels
from fl_he.learning.tables.table import open_table
from fl_he.learning.tables.table_file import (
    MISSING_TEXTS,
    RowNumbers,
    TableFile,
    shown,
    some,
)

_MOST_NAMED = 20
_MOST_ROWS = 5
#: Names that the first name that is not there is compared with; fewer for each one after it.
_MOST_TRIED = 10_000
#: Stands for a missing cell where rows are compared; no measurement is so large.
_BLANK = 1e300


@dataclass(frozen=True, slots=True)
class Checked:
    """A table that was compared with its schema.

    Attributes
    ----------
    rows : int
        Rows of the table.
    faults : tuple of Fault
        All that is wrong.
    notes : tuple of str
        What its owner should know.
    """

    rows: int
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]


def check_table(path: str | Path, schema: Schema) -> Checked:
    """Compare a table with all columns of its schema.

    Raises
    ------
    DataError
        If the file cannot be read as a table.
    """
    table = _Table(path, schema, [*schema.columns], labelled=True)
    return Checked(len(table.kept), tuple(table.faults()), table.notes)


def load_by_schema(
    path: str | Path, schema: Schema, hint: str | None = None, *, fixed: bool = False
) -> Dataset:
    """Load a table; its features are the columns of the schema's model.

    ``fixed``: all have agreed on the schema, so no error advises to change it.

    Raises
    ------
    DataError
        Of all that is wrong with the table.
    """
    table = _Table(path, schema, schema.used, labelled=True, hint=hint, fixed=fixed)
    columns, design = table.columns(), _design(schema)
    features, names = design(columns), design.names
    labels, positive = table.labels()
    return Dataset(
        features,
        labels,
        names,
        positive=positive,
        classes=schema.outcome.classes,
        family=schema.outcome.models,
        levels=table.levels,
        notes=table.notes,
        types=(f"schema {schema.digest[:16]}",) * len(names),
        rows=RowNumbers(table.rows[table.kept], table.header),
        schema=schema.shared_digest,
        exposure=table.exposure,
        exposure_name=schema.outcome.exposure or "",
        incomplete=Incomplete(schema.imputed, columns, design) if schema.imputed else None,
        described=_described(schema, columns),
    )


def facts_of(schema: Schema) -> tuple[Facts, ...]:
    """Return the public facts of the columns in a schema's terms."""
    return tuple(_facts(name, schema.columns[name]) for name in schema.used)


def _facts(name: str, column: Column) -> Facts:
    missing = column.missing not in ("refuse", "drop-row")
    if column.type == "boolean":
        return Facts(name, levels=("no", "yes"), missing=missing)
    if column.type == "category":
        levels = column.coded[: -1 if column.missing == "level" else None]
        return Facts(name, levels=levels, missing=missing)
    low, high = (limit if math.isfinite(limit) else None for limit in column.limits)
    unit = "days" if column.type == "date" else column.unit or ""
    whole = column.type != "number"
    return Facts(name, low=low, high=high, whole=whole, missing=missing, unit=unit)


def _described(schema: Schema, columns: Mapping[str, Array]) -> Described:
    """Return the columns in a schema's terms; a level of missing cells is no level."""
    facts, values = facts_of(schema), dict[str, Array]()
    for one in facts:
        found = columns[one.name]
        coded = one.levels and one.missing
        values[one.name] = np.where(found >= len(one.levels), np.nan, found) if coded else found
    return Described(facts, values)


def _design(schema: Schema) -> Design:
    described = {name: schema.columns[name] for name in schema.used}
    levels = {name: one.coded for name, one in described.items() if one.type == "category"}
    marked = [name for name, one in described.items() if one.missing == "indicator"]
    return Design(schema.model, levels, {name: f"{name}[{MISSING_LEVEL}]" for name in marked})


def rows_by_schema(path: str | Path, schema: Schema, names: Sequence[str]) -> Dataset | None:
    """Read columns of a table as numbers that depend on its cells alone, to compare its rows.

    The rows are those of the schema's model, without the ones that it leaves out. Neither terms,
    references nor days that count as 0 change the numbers.

    Parameters
    ----------
    path, schema
    names
        Of columns; in alphabetical order they are the features.

    Returns
    -------
    Dataset or None
        ``None`` if the schema does not describe all of the columns.

    Raises
    ------
    DataError
        Of all that is wrong with the table.
    """
    described = {name for name, column in schema.columns.items() if column.type != "drop"}
    if not described.issuperset(names):
        return None
    read = list(dict.fromkeys((*schema.used, *names)))
    table = _Table(path, schema, read, labelled=True, fixed=True)
    table.refuse()
    labels, positive = table.labels()
    return Dataset(
        np.column_stack([table.plain(name) for name in sorted(names)]),
        labels,
        tuple(sorted(names)),
        positive=positive,
        classes=schema.outcome.classes,
        family=schema.outcome.models,
        exposure=table.exposure,
        exposure_name=schema.outcome.exposure or "",
    )


def features_by_schema(
    path: str | Path, schema: Schema, means: Mapping[str, float] | None = None
) -> tuple[Array, tuple[str, ...], RowNumbers]:
    """Read the columns of the schema's model from a table to predict, which needs no outcome.

    Each row gets a prediction, so a missing cell of a column with ``missing: drop-row`` is refused,
    and a row without any value.

    Parameters
    ----------
    path, schema
    means
        Of the columns with ``missing: mean``, from training; ``None`` if there are none.

    Returns
    -------
    features : NDArray[np.float64]
        Shape (rows, features).
    names : tuple of str
        Of the features.
    rows : RowNumbers

    Raises
    ------
    DataError
        Of all that is wrong with the table.
    """
    means = means or {}
    if means.keys() != {*schema.imputed}:
        wanted, got = (some(sorted(names), _MOST_NAMED) for names in (schema.imputed, means))
        raise DataError(
            f"means must be those of the columns with missing: mean, {wanted or 'none'}, got "
            f"{got or 'none'}"
        )
    table = _Table(path, schema, schema.used, labelled=False, fixed=True)
    design = _design(schema)
    incomplete = Incomplete(schema.imputed, table.columns(), design)
    features = incomplete.features([means[name] for name in incomplete.names])
    return features, design.names, RowNumbers(table.rows, table.header)


def exposure_by_schema(path: str | Path, schema: Schema) -> Array | None:
    """Read the exposures of a table to predict, shape (rows,); ``None`` if the outcome has none.

    Raises
    ------
    DataError
        If there is no such column, or a cell is no number above 0.
    """
    table = _Table(path, schema, (), labelled=False, exposed=True, fixed=True)
    table.refuse()
    return table.exposure


def _number_of(level: str) -> float:
    """Return an integer for a level that does not depend on other levels."""
    if level == MISSING_LEVEL:
        return _BLANK
    return float(int.from_bytes(sha256(level.encode()).digest()[:6]))


class _Table:
    """A table as it was read; ``labelled``: with its outcome; ``exposed``: with an exposure alone.

    ``fixed``: see `load_by_schema`.
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
    ) -> None:
        reading = schema.reading
        file = open_table(path, hint, reading.form)
        self._schema, self._labelled, self._fixed = schema, labelled, fixed
        self.header = file.header
        self._extra = self._unnamed(file)
        self._faults = list[Fault]()
        read = {name: schema.columns[name] for name in names}
        places = self._places(file, {n: c for n, c in read.items() if c.type != "drop"})
        of_outcome = schema.outcome
        others = dict.fromkeys(of_outcome.other_columns if labelled or exposed else (), of_outcome)
        labels = {**({of_outcome.column: of_outcome} if labelled else {}), **others}
        outcome = self._places(file, labels)
        missing = Missing(tuple(file.missing_labels), reading.na_values)
        blank = Missing(tuple(MISSING_TEXTS), reading.na_values)
        self._readers = {
            name: reader_of(
                *(name, read[name], missing if read[name].type == "category" else blank),
                reading,
            )
            for name in places
        }
        self._labels = OutcomeLabels(of_outcome, missing, reading.decimal, [*labels])
        whole = len(outcome) == len(labels)
        self._read(file, [*places.values()], [*outcome.values()] if whole else [])
        self._faults += file.faults
        self._file_notes = file.notes
        if not labelled:
            self._faults += file.empty_faults()
        is_read = whole and self.rows.size
        self._found = self._labels.read() if is_read and labelled else None
        self._exposure = self._labels.exposure() if is_read else None

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
            self._faults.append(Fault("a table must have rows, got none"))

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
                got = some([file.names[place] for place in places], _MOST_NAMED)
                words = f"must be there once, got columns {got}: rename all but one"
            else:
                tried += 1
                near = difflib.get_close_matches(name, self._extra[: _MOST_TRIED // tried], n=1)
                what = (
                    ": rename it if that is the column"
                    if self._fixed
                    else ", which may be an alias"
                )
                hint = f", but {shown(near[0])}{what}" if near else ""
                hint += f"; {RATE}" if is_beside and not self._labelled else ""
                words = f"must be there, got none of that name{hint}"
            self._faults.append(Fault(f"column {shown(name)}: {words}", column=name))
        return found

    def _unnamed(self, file: TableFile) -> Sequence[str]:
        """Return the columns of the file that the schema does not name."""
        schema, outcome = self._schema, self._schema.outcome
        known = {outcome.column, *outcome.other_columns, *outcome.aliases, *schema.columns}
        known.update(alias for column in schema.columns.values() for alias in column.aliases)
        return [name or "(unnamed)" for name in file.names if name not in known]

    def faults(self) -> Iterator[Fault]:
        """Yield all that is wrong with the table."""
        yield from self._faults
        for reader in self._readers.values():
            yield from reader.faults(drop=self._labelled, fixed=self._fixed)
        yield from self._labels.faults(fixed=self._fixed)
        for factor in _design(self._schema).factors:
            read = self._readers.get(factor.column)
            if factor.functions and read is not None and self.rows.size:
                yield from self._undefined(factor, read)
        if self.rows.size and not self.kept.any():
            words = f"got none among {len(self.rows)} rows"
            yield Fault(f"a table must have rows without missing cells, {words}")

    def _undefined(self, factor: Factor, reader: ColumnReader) -> Iterator[Fault]:
        """Yield the fault of cells for which a function has no finite value."""
        column = reader.values
        values = np.atleast_2d(evaluate(factor, column)).T
        wrong = ~np.isfinite(values).all(axis=1) & np.isfinite(column)
        if wrong.any():
            kind = f"cell{{s}} for which {factor.name} has no value"
            first = self.rows[wrong][:_MOST_ROWS].tolist()
            remedy = f"correct the cells{'' if self._fixed else ' or the terms'}"
            yield cell_fault(factor.column, kind, int(wrong.sum()), first, remedy)

    @property
    def kept(self) -> NDArray[np.bool_]:
        """The rows that are not left out, shape (m,)."""
        kept = ~self._labels.blank if self._found is not None else np.ones(len(self.rows), bool)
        for name in self._schema.used if self._labelled else ():
            reader = self._readers.get(name)
            if reader is not None and reader.column.missing == "drop-row":
                kept &= ~np.isnan(reader.values)
        return kept

    @property
    def notes(self) -> tuple[str, ...]:
        """Words about columns and rows that are not used, and cells that are filled in."""
        notes = [*self._file_notes, *self._labels.notes]
        if self._extra:
            them, columns = ("it", "column") if len(self._extra) == 1 else ("them", "columns")
            named = some(self._extra, _MOST_NAMED)
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
        kept = self.kept
        if left_out := len(kept) - int(kept.sum()):
            notes.append(
                f"{left_out} of {len(kept)} rows are left out, as cells are missing (drop-row)"
            )
        return tuple(notes)

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
            raise DataError("a table must have its outcome, got none")
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
