"""Tables with which a hospital's sessions began, so that none changes under a run.

A table is known by its columns, types, labels and number of rows. The first message of a Flower
run, and of company X's session, notes the table; each later one must meet the same. The first of a
session, and each one after a cell has changed, may be refused for the rows that the hospital's
tables had before: see `row_memory`. So a session that was begun before a patient was replaced does
not answer afterwards. A run that is resumed is another Flower run in the same session. All of it is
in a file on the hospital's own disk, not in Flower's context, which the coordinator can reset. It
finds mistakes: without a manifest a coordinator may name a session that does not exist. A run has
one session, and at most `MOST_SESSIONS` are noted of it, so that the file stays small.

A message whose session is not known to be company X's, such as the question for a description,
notes nothing for a session, and no rows are compared: the coordinator could ask as often as it
likes, also while the table is being prepared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

import numpy as np

from fl_he.clients.stores import Lines, Store, ledger_document
from fl_he.crypto.encoding.fields import Fingerprint, Key, Natural
from fl_he.learning.tables.data import Dataset, first_schema_difference
from fl_he.wire.records import ProtocolError

#: Sessions of one Flower run, the one without a name included.
MOST_SESSIONS = 100
#: Longest line, its end included: room for the names of a hundred thousand columns.
LONGEST_LINE = 1 << 24
#: In the place of the cells' digest where a message names no session.
_UNNAMED = "0" * 64


@dataclass(frozen=True, slots=True)
class _Schema:
    """Columns of the features with their types, and the labels; no cell of a feature."""

    columns: tuple[str, ...]
    types: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A table was met in a Flower run and in a session, empty if none was named."""

    run: str
    session: str
    table: str
    schema: Annotated[str, Key("digest"), Fingerprint]
    rows: Natural
    cells: Fingerprint


_SCHEMAS, _SEEN = ledger_document(_Schema, LONGEST_LINE), ledger_document(_Seen)


class TableMemory:
    """Tables by run and session, by the rules of this module.

    Parameters
    ----------
    store : Store
        Takes lines of `LONGEST_LINE`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def change(
        self,
        run_id: int,
        session: str,
        table: str,
        dataset: Dataset,
        begin: Callable[[], None] | None = lambda: None,
    ) -> str | None:
        """Note a table at its first message; say how it has changed since then.

        Parameters
        ----------
        run_id : int
            Of the Flower run.
        session : str
            Company X's, or empty where the message names none.
        table : str
            The setting that names the table.
        dataset : Dataset
            What was read from it.
        begin : callable or None
            Is called before a named session has a table with other cells than before, and may
            refuse it. ``None`` if the session is not known to be company X's: then the table is
            noted for the run alone.

        Returns
        -------
        str or None
            Words that name columns and labels: for the hospital's own people.

        Raises
        ------
        LedgerError
            If the file cannot be trusted.
        ProtocolError
            If the run names more sessions than it can have.
        """
        kind = filter(None, (dataset.family, dataset.exposure_name))
        labels = (dataset.positive or "", *dataset.classes, *dataset.levels, *kind)
        schema = _Schema(dataset.feature_names, dataset.types, labels)
        text = _SCHEMAS.dumps(schema)
        known = session if begin is not None else ""
        cells = _cells(dataset) if known else _UNNAMED
        now = _Seen(str(run_id), known, table, _digest(text), dataset.examples, cells)
        with self._store.exclusively() as lines:
            schemas, earlier = _read(lines, now, session)
            for seen in earlier:
                if (seen.schema, seen.rows) != (now.schema, now.rows):
                    return _difference(schemas.get(seen.schema), schema, seen.rows, now.rows)
            if now not in earlier:
                if sum(seen.run == now.run for seen in earlier) >= MOST_SESSIONS:
                    raise ProtocolError(f"a run must have at most {MOST_SESSIONS} sessions")
                noted = ((seen.session, seen.cells) for seen in earlier)
                if begin is not None and known and (known, now.cells) not in noted:
                    begin()
                if now.schema not in schemas:
                    lines.append(text)
                lines.append(_SEEN.dumps(now))
        return None


def _read(lines: Lines, now: _Seen, session: str) -> tuple[dict[str, str], list[_Seen]]:
    """Return all schemas by their digests, and what was seen of the table in run and session."""
    schemas, earlier = {}, []
    for line in lines:
        if line is None:
            continue  # its writing was cut off, so its message was not answered
        if line.startswith('{"columns":'):
            schemas[_digest(line)] = line
            continue
        seen = _SEEN.loads(line, _Seen)
        same = seen.run == now.run or (session and seen.session == session)
        if same and seen.table == now.table:
            earlier.append(seen)
    return schemas, earlier


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _cells(dataset: Dataset) -> str:
    """Return the digest of all numbers that were read, row by row."""
    digest = sha256()
    waiting = None if dataset.incomplete is None else np.isnan(dataset.incomplete.cells)
    of_rows = (dataset.features, dataset.labels, dataset.exposure, waiting)
    for values in (one for one in of_rows if one is not None):
        digest.update(np.ascontiguousarray(values, "<f8").data)
    return digest.hexdigest()


def _difference(began_with: str | None, schema: _Schema, rows_then: int, rows: int) -> str:
    """Say what differs between the table of the session's start and that of now."""
    found = []
    if began_with is None:
        found.append("its columns, types or labels are others")
    else:
        then = _SCHEMAS.loads(began_with, _Schema)
        if (columns := first_schema_difference(then.columns, schema.columns)) is not None:
            found.append(columns)
        elif then.types != schema.types:
            pairs = zip(schema.columns, then.types, schema.types, strict=True)
            name, wanted, got = next(pair for pair in pairs if pair[1] != pair[2])
            found.append(f"type of column {name!r} must be {wanted}, got {got}")
        if then.labels != schema.labels:
            found.append(f"labels must be {list(then.labels)}, got {list(schema.labels)}")
    if rows_then != rows:
        found.append(f"number of rows must be {rows_then}, got {rows}")
    return "; ".join(found)
