"""The table that a configuration names: one, or one for each site that it names."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import numpy as np

from fl_he.config.command_line import did_you_mean, override
from fl_he.config.groups import BUILT_IN, DataConfig
from fl_he.config.run import Config
from fl_he.learning.errors import DataError, DataWarning, Fault
from fl_he.learning.tables.built_in import load_built_in
from fl_he.learning.tables.columns import BY_HAND
from fl_he.learning.tables.data import Dataset, first_schema_difference, load_table
from fl_he.learning.tables.described import Described
from fl_he.learning.tables.incomplete import Incomplete
from fl_he.learning.tables.labels import family_with_ties
from fl_he.learning.tables.table import read_labels
from fl_he.learning.tables.table_file import some

if TYPE_CHECKING:
    from fl_he.learning.tables.schema.description import Schema

_POSITIVE = "data.positive=LABEL or data.threshold=NUMBER says what counts as 1"
_DROP = "data.drop=[COLUMN,...]"
#: As many columns as are named in an error.
_MOST_LISTED = 20
#: Files whose faults an error tells.
_MOST_FILES = 10
#: Of a file's name, which is no part of a hospital's.
_ENDING = re.compile(r"\.(parquet|[ct]sv|txt)(\.\w+)?$", re.IGNORECASE)
#: Characters of a hospital's name.
_LONGEST_SITE = 64
#: What may help, by the setting that a DataError names.
_REMEDIES = {
    "path": "; data.path=FILE names it",
    "target": f"; data.target=COLUMN names it, and {_POSITIVE}",
    "positive": f"; {_POSITIVE}",
    "meaning": f"; {_POSITIVE}, and data.classes=[LABEL,...] names more than two labels",
    "classes": "; data.classes=[LABEL,...] names them",
    "drop": f"; {_DROP} names them",
    "event": "; data.event=COLUMN names it",
    "exposure": "; data.exposure=COLUMN names it",
}


def whole_table(data: DataConfig) -> Dataset:
    """Return all of the data, in the units of the table; raises DataError."""
    if data.name in BUILT_IN:
        return load_built_in(data.name)
    dataset = joined(_read_all(data))
    _require_classes(dataset, with_outcome(data))
    return dataset


def site_tables(config: Config) -> dict[str, Dataset]:
    """Return the table of each site that files or a column name, by the site's name.

    Sites of files are in the order of the files, those of a column sorted. A site's rows may all be
    of one class.

    Raises
    ------
    DataError
        If a table cannot be used, tables differ in their columns, or a site has no name that a
        folder can have.
    """
    data, column = config.data, config.partition.column
    if column is None:
        names = _names_of(data.files)
        tables = dict(zip(names, _read_all(data), strict=True))
        first, *others = names
        differences = {name: _difference(tables[first], tables[name]) for name in others}
        if faults := [
            Fault(f"the table of {name} must be as that of {first}: {difference}")
            for name, difference in differences.items()
            if difference
        ]:
            raise DataError.of(faults)
    else:
        tables = _tables_of_sites(data, column.strip())
    _require_classes(joined(list(tables.values())), with_outcome(data))
    return tables


def with_outcome(data: DataConfig) -> DataConfig:
    """Return the settings of a table with the outcome that its schema describes, if it has one."""
    if data.schema is None:
        return data
    outcome = schema_of_tables(data.schema).outcome
    return replace(
        data,
        target=outcome.column,
        positive=outcome.positive,
        threshold=outcome.threshold,
        classes=list(outcome.classes),
        family=outcome.family,
        event=outcome.event,
        ties=outcome.ties,
        exposure=outcome.exposure,
    )


def with_unit(outcome: str | None, data: DataConfig) -> str | None:
    """Return the name of a number with the unit that the schema declares for the number, if any."""
    if outcome is None or data.schema is None:
        return outcome
    described = schema_of_tables(data.schema).outcome
    if described.unit is None or described.transform is not None:
        return outcome
    return f"{outcome} ({described.unit})"


def schema_of_tables(path: str, reading: str = "") -> Schema:
    """Read the schema that ``data.schema`` names, for files of another form if there is one.

    Raises
    ------
    DataError
        If a file cannot be read or is none of the kind.
    """
    from fl_he.learning.tables.schema.description import (  # noqa: PLC0415 - lazy: pydantic
        read_reading,
        read_schema,
    )

    setting = f"data.schema={path}"
    try:
        schema = read_schema(Path(path), place="a reading file (data.reading)")
        if not reading:
            return schema
        setting = f"data.reading={reading}"
        return schema.read_as(read_reading(Path(reading)))
    except DataError as error:
        raise DataError(f"{setting}: {error}") from None


def joined(tables: Sequence[Dataset]) -> Dataset:
    """Return the rows of tables with the same columns as one dataset."""
    if len(tables) == 1:
        return tables[0]
    incomplete = [table.incomplete for table in tables if table.incomplete is not None]
    described = [table.described for table in tables if table.described is not None]
    exposed = tables[0].exposure is not None
    return replace(
        tables[0],
        features=np.concatenate([table.features for table in tables]),
        labels=np.concatenate([table.labels for table in tables]),
        exposure=np.concatenate([table.exposed for table in tables]) if exposed else None,
        levels=tuple(sorted({level for table in tables for level in table.levels})),
        rows=None,
        incomplete=Incomplete.joined(incomplete) if incomplete else None,
        described=Described.joined(described) if described else None,
        left_out=sum(table.left_out for table in tables),
    )


def _tables_of_sites(data: DataConfig, column: str) -> dict[str, Dataset]:
    (path,) = data.files
    schema = _schema(data, path)
    form = None if schema is None else schema.reading.form
    if schema is not None and column in schema.read_names:
        raise DataError(
            f"partition.column must be no column of the schema's terms or outcome, got {column!r}: "
            "leave the column out of terms; without terms, declare type: drop"
        )
    sites, rows, notes = read_labels(path, column, form)
    for note in notes:
        warnings.warn(note, DataWarning, stacklevel=2)
    of_row = dict(zip(rows.numbers.tolist(), sites, strict=True))
    (table,) = _read_all(data, [column])
    numbers = [] if table.rows is None else table.rows.numbers.tolist()
    of_rows = np.array([of_row[row] for row in numbers])
    names = sorted(set(of_row.values()))
    for name in names:
        if problem := _unfit(name):
            row = next(row for row, site in of_row.items() if site == name)
            raise DataError(
                f"partition.column {column!r} must hold names of hospitals: the name in "
                f"row {row} {problem}{rows.note}"
            )
    places = {name: np.flatnonzero(of_rows == name) for name in names}
    if empty := [name for name, rows in places.items() if not len(rows)]:
        raise DataError(
            f"each site of partition.column {column!r} must have rows without missing cells; "
            f"sites without: {some(empty, _MOST_LISTED)}. Fill cells in, or leave such a site's "
            "rows out of the file"
        )
    counts = Counter(sites)
    return {
        name: replace(table.take(rows), left_out=counts[name] - len(rows))
        for name, rows in places.items()
    }


def _names_of(files: Sequence[str]) -> list[str]:
    names = [_ENDING.sub("", Path(path).name) for path in files]
    for path, name in zip(files, names, strict=True):
        if problem := _unfit(name):
            raise DataError(
                f"data.path must hold files whose names hospitals can have, got {path!r}: its name "
                f"{problem}"
            )
    if again := [name for name, count in Counter(names).items() if count > 1]:
        raise DataError(
            f"data.path must hold files of different names, got several called {again[0]!r}: each "
            "is a hospital of that name"
        )
    return names


def _unfit(name: str) -> str:
    """Say why a hospital's folder cannot have a name; nothing if it can."""
    if not name:
        return "is empty"
    if len(name) > _LONGEST_SITE:
        return f"has more than {_LONGEST_SITE} characters"
    if not name.isprintable():
        return "has characters that nobody can see"
    if set(name) & set("/\\:") or name in (".", ".."):
        return "cannot be the name of a folder"
    return "is company X's" if name.casefold() == "company x" else ""


def _difference(first: Dataset, other: Dataset) -> str | None:
    if difference := first_schema_difference(first.feature_names, other.feature_names):
        return difference
    if first.positive != other.positive:
        return f"the positive class must be {first.positive!r}, got {other.positive!r}"
    return None


def _schema(data: DataConfig, path: str) -> Schema | None:
    """Return the schema by which a file is read, if there is one."""
    if data.schema is None:
        return None
    readings = dict(zip(data.files, data.reading, strict=False))
    return schema_of_tables(data.schema, readings.get(path, ""))


def _read_all(data: DataConfig, without: Sequence[str] = ()) -> Sequence[Dataset]:
    """Return the tables of all files without more columns; raises DataError of all faulty ones."""
    schemas = [_schema(data, path) for path in data.files]
    tables, errors = list[Dataset](), dict[str, DataError]()
    for path, schema in zip(data.files, schemas, strict=True):
        try:
            tables.append(_read(data, path, schema, without))
        except DataError as error:
            errors[path] = error
    if not errors:
        return tables
    same = {str(error) for error in errors.values()}
    if len(errors) == len(data.files) and len(same) == 1 and " row " not in (words := same.pop()):
        told, more = [words], ""  # a fault of settings
    else:
        told = [f"{_of_file(data, path)}{error}" for path, error in errors.items()][:_MOST_FILES]
        others = len(errors) - len(told)
        more = f"; and faults in {others} more files" if others else ""
    faults = [fault for error in errors.values() for fault in error.faults]
    remedy = "" if data.schema is not None else _draft(faults, data) + _remedy(faults, data)
    raise DataError(f"{'; '.join(told)}{more}{remedy}")


def _of_file(data: DataConfig, path: str) -> str:
    """Return the words before what is said of a file, which is one of several."""
    return f"{path}: " if len(data.files) > 1 else ""


def _read(data: DataConfig, path: str, schema: Schema | None, without: Sequence[str]) -> Dataset:
    hint = data.source or "give the place of the table with data.path=..."
    if schema is not None:
        dataset = _by_schema(path, schema, hint, without)
    else:
        dataset = load_table(
            path=path,
            target=data.target or "",
            positive=data.positive,
            threshold=data.threshold,
            classes=data.classes,
            family=family_with_ties(data.family, data.ties),
            event=data.event,
            exposure=data.exposure,
            drop=[*data.drop, *without],
            hint=hint,
        )
    for note in dataset.notes:
        warnings.warn(f"{_of_file(data, path)}{note}", DataWarning, stacklevel=2)
    return dataset


def _by_schema(path: str, schema: Schema, hint: str, elsewhere: Sequence[str]) -> Dataset:
    from fl_he.learning.tables.schema.application import (  # noqa: PLC0415 - lazy: pydantic
        load_by_schema,
    )

    return load_by_schema(path, schema, hint, elsewhere=elsewhere)


def _require_classes(dataset: Dataset, data: DataConfig) -> None:
    if dataset.family:
        return
    by_schema = data.schema is not None
    target = f"{'the outcome' if by_schema else 'data.target'} {data.target!r}"
    if dataset.labels.min() == dataset.labels.max() and not dataset.classes:
        count = "all" if dataset.labels[0] else "none"
        remedy = "; correct outcome in the schema" if by_schema else _REMEDIES["positive"]
        raise DataError(
            f"{target} must hold both classes; {count} of "
            f"{dataset.examples} rows have {dataset.positive!r}{remedy}"
        )
    counts = np.bincount(dataset.labels.astype(np.intp), minlength=dataset.class_count)
    if absent := [name for name, count in zip(dataset.classes, counts, strict=False) if not count]:
        raise DataError(
            f"{'' if by_schema else 'data.'}classes must name labels that {target} has; none "
            f"of {dataset.examples} rows has {', '.join(map(repr, absent))}"
        )


def _draft(faults: Sequence[Fault], data: DataConfig) -> str:
    """Return the command that drafts a schema, where cells need one."""
    features = [fault for fault in faults if fault.setting == "drop"]
    if not any(set(BY_HAND).intersection(fault.remedies) for fault in features):
        return ""
    target = f" --target {quote(data.target)}" if data.target else ""
    return (
        "; or describe text, dates and missing cells by a schema, which "
        f"fl-he schema {quote(data.files[0])}{target} drafts"
    )


def _remedy(faults: Sequence[Fault], data: DataConfig) -> str:
    """Say which keys of the configuration may help."""
    droppable = [fault for fault in faults if fault.setting == "drop" and fault.column is not None]
    columns = {fault.column: None for fault in droppable if fault.column is not None}
    settings = {fault.setting: fault for fault in faults if fault not in droppable}
    words = ""
    if columns:
        named = override("data.drop", [*data.drop, *columns])
        what = "the column" if len(columns) == 1 else f"the {len(columns)} columns"
        words = f"; fix the file or leave out {what}: "
        words += named if len(columns) <= _MOST_LISTED else _DROP
    for setting, fault in settings.items():
        given = getattr(data, setting) if setting and fault.known else None
        several = len(data.files) > 1 and setting in ("positive", "classes")
        if several and fault.known:
            words += "; write the labels of all files in one way"
            continue
        meant = did_you_mean(f"data.{setting}", given, fault.known) if given else ""
        words += meant or _REMEDIES.get(setting or "", "")
    return words
