"""The row rule: a table that a session may use after the tables of all earlier sessions.

Totals of two sessions whose tables differ by one row give that patient. So a hospital keeps keyed
hashes of the rows of its tables, over sessions, and asks `RowHistory.exposed` and
`RowHistory.nearest` before a session's first answer. The idea is that of `set_rule`, with rows in
the place of hospitals.

**Rule.** A row's pattern is the list of noted tables that contain it. Rows with one pattern form a
*class*. A table is refused if afterwards a class has fewer than ``min_cell`` rows, or if the
numbers of rows of two different tables differ by less than ``min_cell``. Rows in no noted
table form no class. The first table may have any size: while there is one class, it is not counted.
A first table of fewer than ``min_cell`` rows cannot change later: its rows would be a class too
small. After a larger T, T with one row more is refused, T with five rows more is not, and T with
one corrected cell is refused, since the old row and the new one are classes of one row each. T with
five corrected rows is refused until it has five rows more, too.

**Argument.** Each table is a union of classes, and a total is a sum over rows, for one question. So
everything that totals show can be computed from sums over classes, for any models, rounds
and sessions: see `set_rule`, whose argument holds word for word. Other hospitals'
rows in a total are ignored, as if the reader of totals knew them.

**Rows.** A row is known by the numbers that the node reads from it, features and label, not by its
place or by the spelling of its cells. Of equal rows the first, the second and so on are rows apart:
a table is a multiset. A change of columns that a study does not read shows nothing in its totals,
so such columns do not count.

**Parts of rows.** Some totals show a few columns alone: a model of zeros gives the sums of single
columns and products of two. If everybody's age is computed anew and one patient is new, then all
rows differ, and without the age only one does. Patterns of whole rows do not see this, numbers of
rows do. Of two tables with m and n rows, take any columns: the rows that only the second table
contains are n - m more than those that only the first contains, equal rows counted. So the
difference of their totals is never of fewer rows than n and m are apart. This holds for two tables.
Combinations of more tables are covered for whole rows alone: a hospital that adds rows and takes
the same rows out again, with corrections in between, can show a corrected row in some columns.

**Columns.** Studies of other columns see other rows of the same patients: one study of T, and
another of T with one row more, give the patient's value of each column that both read. Rows of
different columns cannot be compared by their hashes. So there is one history for each choice of
features and outcome that a session has had, and a new table is read by all of these choices, must
pass the rule in each history, and is noted in each. This costs one more reading of the table for
each further choice, at a session's start only. A table that lacks columns of a history cannot be
compared with it, and is refused. To hash all columns of the file at once would be no stricter: a
dropped column that differs in every row from export to export, such as a row number, would make
all rows new, and a new row in the middle would not be noticed.

**Training and test tables** have histories apart. Otherwise rows of one could make up for a row
that is missing in the other. A row may be in both by chance, where there are few features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Bytes of a row's hash.
HASH_BYTES = 16
#: Sorted keyed hashes, each of `HASH_BYTES`.
Hashes = NDArray[np.bytes_]
#: NumPy compares such texts as bytes: all have the same length, so the zeros at an end count.
HASH_TYPE = np.dtype(f"S{HASH_BYTES}")
_ROW, _REPEATED, _TABLE = b"fl-he row", b"fl-he equal row", b"fl-he table"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RowHistory:
    """Rows of all noted tables, by class.

    Attributes
    ----------
    rows : NDArray of bytes
        Keyed hashes in order, shape (m,).
    classes : NDArray[np.uint32]
        Number of each row's class, shape (m,): from 0 on, none left out.
    tables : mapping of str to int
        Rows of each noted table, by its `digest_of`.

    Examples
    --------
    >>> table = np.sort(np.array([b"%016d" % n for n in range(10)], HASH_TYPE))
    >>> history = RowHistory().after(table[:9])
    >>> history.after(table).exposed(5), history.after(table[:4]).exposed(5)
    (1, 4)
    >>> history.after(table[:9]).exposed(100)
    0
    >>> history.nearest(), history.after(table[:4]).nearest()
    (None, 5)
    """

    rows: Hashes = field(default_factory=lambda: np.zeros(0, HASH_TYPE))
    classes: NDArray[np.uint32] = field(default_factory=lambda: np.zeros(0, np.uint32))
    tables: Mapping[str, int] = field(default_factory=dict)

    def after(self, table: Hashes) -> RowHistory:
        """Return the history after a table is noted; this one if it was noted before.

        Parameters
        ----------
        table : NDArray of bytes
            What `keyed_hashes` returned.
        """
        digest = digest_of(table)
        if digest in self.tables:
            return self
        places = np.searchsorted(self.rows, table)
        known = places < len(self.rows)
        known[known] = self.rows[places[known]] == table[known]
        inside = np.zeros(len(self.rows), np.int64)
        inside[places[known]] = 1
        new = table[~known]
        before = int(self.classes.max(initial=0)) + 1
        patterns = np.concatenate([2 * self.classes + inside, np.full(len(new), 2 * before)])
        occurs = np.bincount(patterns) > 0
        rows = np.concatenate([self.rows, new])
        order = np.argsort(rows, kind="stable")
        classes = (np.cumsum(occurs) - 1)[patterns[order]].astype(np.uint32)
        return RowHistory(rows[order], classes, {**self.tables, digest: len(table)})

    def exposed(self, min_cell: int) -> int:
        """Return how many rows are in a class that is too small by the rule of this module."""
        sizes = np.bincount(self.classes)
        return int(sizes[sizes < min_cell].sum()) if len(sizes) > 1 else 0

    def nearest(self) -> int | None:
        """Return the least difference of two tables' numbers of rows; ``None`` for one table."""
        differences = np.diff(np.sort([*self.tables.values()]))
        return int(differences.min()) if len(differences) else None


def digest_of(table: Hashes) -> str:
    """Return what tells tables apart: 32 hexadecimal digits of a hash of all hashes."""
    return blake2b(table.tobytes(), digest_size=HASH_BYTES, person=_TABLE).hexdigest()


def keyed_hashes(blocks: Iterable[NDArray[np.float64]], key: bytes, salt: bytes) -> Hashes:
    """Return the keyed hashes of a table's rows, in order and all different.

    Parameters
    ----------
    blocks : iterable of NDArray[np.float64]
        Some rows each, shape (m, d), finite.
    key : bytes
        At most 64; secret, since rows of few values can be guessed.
    salt : bytes
        At most 16, one for each choice of columns.
    """
    digests = []
    for block in blocks:
        rows = np.ascontiguousarray(block + 0.0, "<f8")  # 0.0 turns -0.0 into 0.0
        digests.append(_digests(rows.view(f"V{rows.shape[1] * rows.itemsize}"), key, salt, _ROW))
    hashes = np.sort(np.concatenate(digests))
    starts = np.flatnonzero(np.concatenate([[True], hashes[1:] != hashes[:-1]]))
    lengths = np.diff(np.append(starts, len(hashes)))
    numbers = np.arange(len(hashes)) - np.repeat(starts, lengths)
    repeated = np.flatnonzero(numbers)
    if len(repeated):
        pairs = np.empty(len(repeated), [("hash", HASH_TYPE), ("number", "<u8")])
        pairs["hash"], pairs["number"] = hashes[repeated], numbers[repeated]
        hashes[repeated] = _digests(pairs.view(f"V{pairs.itemsize}"), key, salt, _REPEATED)
        hashes.sort()
    return hashes


def _digests(records: NDArray[Any], key: bytes, salt: bytes, person: bytes) -> Hashes:
    made = partial(blake2b, digest_size=HASH_BYTES, key=key, salt=salt, person=person)
    joined = b"".join([made(record).digest() for record in records.ravel().tolist()])
    return np.frombuffer(joined, HASH_TYPE)
