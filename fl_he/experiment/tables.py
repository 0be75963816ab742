"""The table that a configuration names."""

from __future__ import annotations

import warnings

import numpy as np

from fl_he.config.command_line import did_you_mean, override
from fl_he.config.groups import BUILT_IN, DataConfig
from fl_he.learning.errors import DataError, DataWarning
from fl_he.learning.tables.built_in import load_built_in
from fl_he.learning.tables.data import Dataset, load_table

_POSITIVE = "data.positive=LABEL or data.threshold=NUMBER says what counts as 1"
_DROP = "data.drop=[COLUMN,...]"
#: As many columns as are named in an error.
_MOST_LISTED = 20
#: What may help, by the setting that a DataError names.
_REMEDIES = {
    "path": "; data.path=FILE names it",
    "target": f"; data.target=COLUMN names it, and {_POSITIVE}",
    "positive": f"; {_POSITIVE}",
    "meaning": f"; {_POSITIVE}, and data.classes=[LABEL,...] names more than two labels",
    "classes": "; data.classes=[LABEL,...] names them",
    "drop": f"; {_DROP} names them",
}


def whole_table(data: DataConfig) -> Dataset:
    """Return all of the data, in the units of the table; raises DataError."""
    if data.name in BUILT_IN:
        return load_built_in(data.name)
    try:
        dataset = load_table(
            path=data.path or "",
            target=data.target or "",
            positive=data.positive,
            threshold=data.threshold,
            classes=data.classes,
            drop=data.drop,
            hint=data.source or "give the place of the table with data.path=...",
        )
    except DataError as error:
        raise DataError(f"{error}{_remedy(error, data)}") from None
    for note in dataset.notes:
        warnings.warn(note, DataWarning, stacklevel=2)
    if dataset.labels.min() == dataset.labels.max() and not dataset.classes:
        count = "all" if dataset.labels[0] else "none"
        raise DataError(
            f"data.target {data.target!r} must hold both classes, got {count} of "
            f"{dataset.examples} rows with {dataset.positive!r}{_REMEDIES['positive']}"
        )
    counts = np.bincount(dataset.labels.astype(np.intp), minlength=dataset.class_count)
    if absent := [name for name, count in zip(dataset.classes, counts, strict=False) if not count]:
        raise DataError(
            f"data.classes must name labels that data.target {data.target!r} has, got none of "
            f"{dataset.examples} rows with {', '.join(map(repr, absent))}"
        )
    return dataset


def _remedy(error: DataError, data: DataConfig) -> str:
    """Say which keys of the configuration may help."""
    droppable = [
        fault for fault in error.faults if fault.setting == "drop" and fault.column is not None
    ]
    columns = [fault.column for fault in droppable if fault.column is not None]
    settings = {fault.setting: fault for fault in error.faults if fault not in droppable}
    words = ""
    if columns:
        named = override("data.drop", [*data.drop, *columns])
        what = "the column" if len(columns) == 1 else f"the {len(columns)} columns"
        words = f"; fix the file or leave out {what}: "
        words += named if len(columns) <= _MOST_LISTED else _DROP
    for setting, fault in settings.items():
        given = getattr(data, setting) if setting and fault.known else None
        meant = did_you_mean(f"data.{setting}", given, fault.known) if given else ""
        words += meant or _REMEDIES.get(setting or "", "")
    return words
