"""A querying party's own files: the cases that it wants labels for, and those that it has."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from fl_he.atomic import replace_file
from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.table import read_features

#: The column of labels; it is empty where a case got no answer.
LABEL = "label"
_TABLE = "a table of cases"


def _columns(path: Path, features: Sequence[str]) -> Array:
    return read_features(path, features, _TABLE)[0]


def open_cases(
    cases: Path,
    labelled: Path,
    features: Sequence[str],
    read: Callable[[Path, Sequence[str]], Array] = _columns,
) -> Array:
    """Return the cases without a label in their order, shape (m, d), each once.

    Parameters
    ----------
    cases : Path
        A table, by default with the features among its columns.
    labelled : Path
        What `note_labels` wrote; need not exist.
    features : sequence of str
        Names in their order.
    read : callable
        Returns the features, shape (m, d), of the table of cases.

    Raises
    ------
    DataError
        If a table cannot be used. It shows no cell.
    """
    if LABEL in features:
        raise DataError(f"a feature must not be called {LABEL!r}")
    done = {_key(row) for row in _columns(labelled, features)} if labelled.exists() else set()
    rows = []
    for row in read(cases, features):
        if _key(row) not in done:
            done.add(_key(row))
            rows.append(row)
    return np.array(rows).reshape(len(rows), len(features))


def note_labels(
    labelled: Path,
    features: Sequence[str],
    cases: Array,
    labels: Sequence[str | None],
) -> None:
    """Add cases with their labels to a CSV file of mode 0600, all of them or none.

    Parameters
    ----------
    labelled : Path
        Made if it does not exist, in a folder that does.
    features : sequence of str
    cases : ndarray, shape (m, d)
    labels : sequence of str or None
        None for a case that got no answer.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if not labelled.exists():
        writer.writerow([*features, LABEL])
    for case, label in zip(cases.tolist(), labels, strict=True):
        writer.writerow([*map(repr, case), label or ""])
    earlier = labelled.read_bytes() if labelled.exists() else b""
    replace_file(labelled, earlier + text.getvalue().encode(), 0o600)


def _key(row: Array) -> bytes:
    return (row + 0.0).tobytes()  # there is one zero
