"""Keyed hashes of the rows of a hospital's tables, in a file on its own disk.

The file holds a history for each choice of columns: see `fl_he.clients.row_rule`. It begins with a
line of JSON, then come the hashes and the classes of each history, and at the end a keyed checksum.
The key is the node's own, in a file apart. So a damaged file is refused, and so is one whose key
was lost: its rows could not be compared, and all rows would seem new.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import starmap
from typing import Annotated

import numpy as np

from fl_he.clients.ledger_file import FileBytes
from fl_he.clients.row_rule import HASH_BYTES, HASH_TYPE, Hashes, RowHistory, keyed_hashes
from fl_he.clients.stores import LedgerError, ledger_document
from fl_he.crypto.encoding.fields import Natural, constant, kind_of, matching
from fl_he.crypto.encoding.strict_json import Document
from fl_he.learning.tables.data import Dataset
from fl_he.wire.study_plan import Outcome

#: Longest line of JSON: room for the names of a hundred thousand columns.
_LONGEST_LINE = 1 << 24
#: This many rows are copied at a time.
_ROWS = 4096
_KEY_BYTES = _CHECKSUM_BYTES = 32
_CHECKSUM = b"fl-he row file"
_CLASS = np.dtype("<u4")


@dataclass(frozen=True, slots=True)
class Columns:
    """A choice of columns of a table.

    Attributes
    ----------
    table : str
        The setting that names the table.
    features : tuple of str
        In alphabetical order: their order in the file does not matter.
    outcome : Outcome
    """

    table: str
    features: tuple[str, ...]
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class _Table:
    digest: Annotated[str, matching("[0-9a-f]{32}", "32 hexadecimal digits")]
    rows: Natural


@dataclass(frozen=True, slots=True)
class _History:
    columns: Columns
    rows: Natural
    tables: tuple[_Table, ...]


_LINE = Document(
    "the first line of noted rows",
    {"format": constant("fl-he rows 3"), "histories": kind_of(tuple[_History, ...])},
    _LONGEST_LINE,
    LedgerError,
)
_SALT = ledger_document(Columns, _LONGEST_LINE)


class RowMemory:
    """Histories of a hospital's rows, by the rule of `fl_he.clients.row_rule`.

    Parameters
    ----------
    file, key_file : FileBytes
    """

    def __init__(self, file: FileBytes, key_file: FileBytes) -> None:
        self._file, self._key_file = file, key_file

    def note(
        self,
        columns: Columns,
        dataset: Dataset,
        other: Callable[[Columns], Dataset | None],
        min_cell: int | None,
    ) -> str | None:
        """Note a table in all histories of tables of this setting, or say why none may follow.

        Parameters
        ----------
        columns : Columns
            With which the table was read.
        dataset : Dataset
            What was read.
        other : callable
            Returns the same table, read with the columns of an earlier session; ``None`` if the
            table lacks them.
        min_cell : int or None
            Fewest rows of a class; ``None``: any number.

        Returns
        -------
        str or None
            Words that hold numbers of rows alone; nothing was noted then.

        Raises
        ------
        LedgerError
            If a file cannot be trusted.
        ProtocolError
            If a file cannot be written.
        """
        with self._file.exclusively(), self._key_file.exclusively():
            content = self._file.read_bytes()
            key = self._key(is_new=content is None)
            kept = {} if content is None else parse(self._checked(content, key))
            noted = {columns: RowHistory(), **kept}
            for choice, history in noted.items():
                if choice.table != columns.table:
                    continue
                read = dataset if choice == columns else other(choice)
                if read is None and min_cell is not None:
                    return "it lacks columns of an earlier session, so rows cannot be compared"
                if read is None:
                    continue
                noted[choice] = history.after(_hashes(read, choice, key))
                if min_cell is not None and (count := noted[choice].exposed(min_cell)):
                    rows = "1 row differs" if count == 1 else f"{count} rows differ"
                    return f"{rows} from those of earlier sessions"
                nearest = noted[choice].nearest()
                if min_cell is not None and nearest is not None and nearest < min_cell:
                    few = (
                        f"only {nearest} more or fewer rows than" if nearest else "as many rows as"
                    )
                    return f"it has other rows, and {few} a table of an earlier session"
            if any(kept.get(choice) is not history for choice, history in noted.items()):
                text = unparse(noted)
                self._file.write_bytes(text + _checksum(text, key))
        return None

    def _key(self, *, is_new: bool) -> bytes:
        key = self._key_file.read_bytes()
        if key is None and is_new:
            key = secrets.token_bytes(_KEY_BYTES)
            self._key_file.write_bytes(key)
        if key is None or len(key) != _KEY_BYTES:
            raise LedgerError(
                f"the key of the noted rows must have {_KEY_BYTES} bytes: put {self._key_file.path}"
                f" back, or delete it and {self._file.path} to forget the rows"
            )
        return key

    def _checked(self, content: bytes, key: bytes) -> bytes:
        """Return the content before its checksum."""
        text, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
        if not hmac.compare_digest(checksum, _checksum(text, key)):
            raise LedgerError(
                f"the noted rows must be as this node wrote them, with its key: put "
                f"{self._file.path} and {self._key_file.path} back, or delete them to forget the "
                "rows"
            )
        return text


def parse(text: bytes) -> dict[Columns, RowHistory]:
    """Read what `unparse` wrote; raises LedgerError for anything else."""
    line, _, rest = text.partition(b"\n")
    histories: tuple[_History, ...] = _LINE.loads(line.decode("utf-8", "replace"), tuple)
    found: dict[Columns, RowHistory] = {}
    for one in histories:
        ends = one.rows * HASH_BYTES, one.rows * (HASH_BYTES + _CLASS.itemsize)
        if one.columns in found or len(rest) < ends[1]:
            raise LedgerError("noted rows must be those that their first line says")
        rows = np.frombuffer(rest[: ends[0]], HASH_TYPE)
        classes = np.frombuffer(rest[ends[0] : ends[1]], _CLASS)
        if not (rows[1:] > rows[:-1]).all() or classes.max() >= one.rows:
            raise LedgerError("noted rows must be in order, each with its class")
        tables = {table.digest: table.rows for table in one.tables}
        if len(tables) != len(one.tables) or max(tables.values(), default=0) > one.rows:
            raise LedgerError("noted rows must be of tables that their first line tells apart")
        found[one.columns] = RowHistory(rows, classes, tables)
        rest = rest[ends[1] :]
    if rest:
        raise LedgerError("noted rows must be those that their first line says")
    return found


def unparse(histories: Mapping[Columns, RowHistory]) -> bytes:
    """Return the file's text for histories, which have rows."""
    lines = tuple(
        _History(key, len(one.rows), tuple(starmap(_Table, one.tables.items())))
        for key, one in histories.items()
    )
    arrays = (
        one.rows.tobytes() + one.classes.astype(_CLASS).tobytes() for one in histories.values()
    )
    line = _LINE.dumps(None, histories=lines).encode()
    return b"\n".join([line, b"".join(arrays)])


def _hashes(dataset: Dataset, columns: Columns, key: bytes) -> Hashes:
    places = [dataset.feature_names.index(name) for name in columns.features]
    salt = blake2b(_SALT.dumps(columns).encode(), digest_size=HASH_BYTES).digest()
    blocks = (slice(start, start + _ROWS) for start in range(0, dataset.examples, _ROWS))
    others = [dataset.labels, *([] if dataset.exposure is None else [dataset.exposure])]
    values = (
        np.column_stack([dataset.features[block][:, places], *(one[block] for one in others)])
        for block in blocks
    )
    return keyed_hashes(values, key, salt)


def _checksum(text: bytes, key: bytes) -> bytes:
    return blake2b(text, digest_size=_CHECKSUM_BYTES, key=key, person=_CHECKSUM).digest()
