"""Tables of hospitals by their schema: all faults at once, or the columns of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from fl_he.learning.errors import DataError, Fault
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.described import Described, Facts
from fl_he.learning.tables.faulty_rows import FaultyRows
from fl_he.learning.tables.incomplete import Incomplete
from fl_he.learning.tables.schema.description import Column, Outcome, Reading, Schema
from fl_he.learning.tables.schema.table import MOST_NAMED, SchemaTable, design_of
from fl_he.learning.tables.table_file import (
    RowNumbers,
    some,
)


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
    table = SchemaTable(path, schema, [*schema.columns], labelled=True)
    return Checked(len(table.kept), tuple(table.faults()), table.notes)


def load_by_schema(
    path: str | Path,
    schema: Schema,
    hint: str | None = None,
    *,
    fixed: bool = False,
    elsewhere: Sequence[str] = (),
) -> Dataset:
    """Load a table; its features are the columns of the schema's model.

    ``fixed``: all have agreed on the schema, so no error advises to change it. ``elsewhere``:
    columns that the caller reads, so no note says that they are not read.

    Raises
    ------
    DataError
        Of all that is wrong with the table.
    """
    table = SchemaTable(
        path, schema, schema.used, labelled=True, hint=hint, fixed=fixed, elsewhere=elsewhere
    )
    columns, design = table.columns(), design_of(schema)
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
        left_out=table.left_out,
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
    table = SchemaTable(path, schema, read, labelled=True, fixed=True)
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
    path: str | Path,
    schema: Schema,
    means: Mapping[str, float] | None = None,
    faulty: FaultyRows | None = None,
) -> tuple[Array, tuple[str, ...], RowNumbers]:
    """Read the columns of the schema's model from a table to predict, which needs no outcome.

    Each row gets a prediction, so a missing cell of a column with ``missing: drop-row`` is refused,
    and a row without any value.

    Parameters
    ----------
    path, schema
    means
        Of the columns with ``missing: mean``, from training; ``None`` if there are none.
    faulty
        See `SchemaTable`.

    Returns
    -------
    features : NDArray[np.float64]
        Shape (rows, features); NaN in faulty rows.
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
        wanted, got = (some(sorted(names), MOST_NAMED) for names in (schema.imputed, means))
        raise DataError(
            f"means must be those of the columns with missing: mean, {wanted or 'none'}, got "
            f"{got or 'none'}"
        )
    table = SchemaTable(path, schema, schema.used, labelled=False, fixed=True, faulty=faulty)
    design = design_of(schema)
    incomplete = Incomplete(schema.imputed, table.columns(), design)
    features = np.full((len(table.rows), len(design.names)), np.nan)
    features[table.kept] = incomplete.features([means[name] for name in incomplete.names])
    return features, design.names, RowNumbers(table.rows, table.header)


def exposure_by_schema(
    path: str | Path, schema: Schema, faulty: FaultyRows | None = None
) -> Array | None:
    """Read the exposures of a table to predict, shape (rows,); ``None`` if the outcome has none.

    ``faulty``: see `SchemaTable`.

    Raises
    ------
    DataError
        If there is no such column, or a cell is no number above 0.
    """
    table = SchemaTable(path, schema, (), labelled=False, exposed=True, fixed=True, faulty=faulty)
    table.refuse()
    return table.exposure


def outcomes_by_schema(path: str | Path, schema: Schema) -> tuple[Array, RowNumbers]:
    """Read the outcomes of a table to predict, shape (rows,); NaN where a row has none.

    Raises
    ------
    DataError
        If there are no such columns, or a cell is no outcome.
    """
    outcome = schema.outcome.model_copy(update={"missing": "drop-row", "exposure": None})
    schema = schema.model_copy(update={"outcome": outcome})
    table = SchemaTable(path, schema, (), labelled=True, fixed=True)
    table.refuse()
    outcomes = np.full(len(table.rows), np.nan)
    outcomes[table.kept], _ = table.labels()
    return outcomes, RowNumbers(table.rows, table.header)


def schema_of_outcome(**outcome: Any) -> Schema:
    """Return the schema of an outcome alone; raises DataError if it cannot be one."""
    try:
        described = Outcome(**outcome)
    except ValidationError as error:
        words = {str(one["ctx"]["error"]) for one in error.errors()}
        raise DataError(f"the outcome cannot be read: {'; '.join(sorted(words))}") from None
    # Not checked, as a schema has columns.
    return Schema.model_construct(columns={}, outcome=described, terms=None, reading=Reading())
