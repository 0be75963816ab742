"""Tables with missing cells that get the federated mean: that of the cells of all hospitals.

A hospital cannot fill them in before the means are known. Until then it keeps the columns of its
table, of which the features are computed once they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.moments import column_sums
from fl_he.learning.tables.table_file import some

#: Columns of a table by their names, each of shape (m,).
Columns = Mapping[str, Array]
_MOST_NAMED = 10


def stacked(columns: Columns) -> Array:
    """Return the columns themselves as features, shape (m, d)."""
    return np.column_stack([*columns.values()])


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Incomplete:
    """Columns of a table, some of which have missing cells that wait for their means.

    Parameters
    ----------
    names
        Of the k columns that get means, whether or not this table has missing cells there.
    columns
        All that the features depend on, NaN where a cell is missing.
    design
        Returns the features of columns, shape (m, d). It must be the same for every table.
    """

    names: tuple[str, ...]
    columns: Columns
    design: Callable[[Columns], Array] = stacked

    @classmethod
    def blank(cls, names: Sequence[str]) -> Incomplete:
        """Return one row of zeros, of a table that has no patients."""
        return cls(tuple(names), {name: np.zeros(1) for name in names})

    @classmethod
    def joined(cls, parts: Sequence[Incomplete]) -> Incomplete:
        """Return the rows of tables with the same columns as one."""
        first = parts[0]
        columns = {name: [part.columns[name] for part in parts] for name in first.columns}
        return replace(first, columns={n: np.concatenate(one) for n, one in columns.items()})

    @property
    def cells(self) -> Array:
        """The columns that get means, shape (m, k), NaN where a cell is missing."""
        return np.column_stack([self.columns[name] for name in self.names])

    def take(self, rows: NDArray[np.intp]) -> Incomplete:
        """Return the rows at ``rows``, in that order."""
        return replace(self, columns={name: one[rows] for name, one in self.columns.items()})

    def means(self, min_cell: int) -> tuple[float, ...]:
        """Return the means of this table's own cells; see `federated_means`."""
        cells = self.cells
        present = ~np.isnan(cells)
        sums, counts = column_sums(np.where(present, cells, 0.0)), present.sum(axis=0)
        return federated_means(self.names, sums, counts, len(cells), min_cell)

    def features(self, means: Sequence[float]) -> Array:
        """Return the features once missing cells are filled in, shape (m, d).

        Raises
        ------
        DataError
            If a term has no value at a mean.
        """
        filled = dict[str, Any](self.columns)
        for name, mean in zip(self.names, means, strict=True):
            filled[name] = np.where(np.isnan(filled[name]), mean, filled[name])
        return self.design(filled)


def federated_means(
    names: Sequence[str], sums: Array, present: Array, examples: int, min_cell: int
) -> tuple[float, ...]:
    """Return the means of columns from sums over the cells of all hospitals.

    Parameters
    ----------
    names
        Of k columns.
    sums, present
        Shape (k,): the sum of the cells that are not missing, and how many these are.
    examples
        Number of rows.
    min_cell
        Fewest cells of a count that is given out, if it has any.

    Raises
    ------
    DataError
        If all cells of a column are missing, or fewer than ``min_cell`` are, or are not.

    Examples
    --------
    >>> federated_means(["crp"], np.array([30.0]), np.array([10.0]), 15, 5)
    (3.0,)
    """
    shape = (len(names),)
    if sums.shape != shape or present.shape != shape:
        raise DataError(f"sums of cells must be of {len(names)} columns, got {len(present)}")
    if not ((present >= 0) & (present <= examples)).all():
        raise DataError(f"numbers of cells must be 0 to the number of rows, {examples}")
    missing = examples - present
    if (empty := [name for name, count in zip(names, present, strict=True) if not count]) != []:
        raise DataError(
            f"no hospital's table has a cell in column {some(empty, _MOST_NAMED)} with missing: "
            "mean: leave it out of the schema's terms"
        )
    few = (present < min_cell) | ((missing > 0) & (missing < min_cell))
    if few.any():
        found = some([names[place] for place in np.flatnonzero(few).tolist()], _MOST_NAMED)
        raise DataError(
            f"a column with missing: mean must have at least {min_cell} cells in all tables "
            f"together, and none or at least {min_cell} missing ones; too few in column {found}: "
            "declare missing: drop-row or indicator"
        )
    return tuple((sums / present).tolist())
