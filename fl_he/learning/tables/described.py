"""Columns of a table as they were read, with their public facts, for descriptions of the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.tables.arrays import Array


@dataclass(frozen=True, slots=True)
class Facts:
    """Public facts of a column, declared before anybody looked at its cells.

    Parameters
    ----------
    name
    levels
        Of a category, in the order of their codes from 0; empty for numbers.
    low, high
        Bounds of numbers; ``None`` where one is not declared.
    whole
        Whether the numbers are whole.
    missing
        Whether cells may be missing.
    unit
        Of the numbers; empty without.
    """

    name: str
    levels: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    whole: bool = False
    missing: bool = False
    unit: str = ""


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Described:
    """Columns of a table, with the cells as numbers.

    Parameters
    ----------
    facts
        Of each column.
    values
        By the column's name, shape (m,): numbers, or codes of levels; NaN where a cell is missing.
    """

    facts: tuple[Facts, ...]
    values: Mapping[str, Array]

    def take(self, rows: NDArray[np.intp]) -> Described:
        """Return the rows at ``rows``, in that order."""
        return replace(self, values={name: one[rows] for name, one in self.values.items()})

    @classmethod
    def joined(cls, parts: Sequence[Described]) -> Described:
        """Return the rows of tables with the same columns as one."""
        first = parts[0]
        values = {name: [part.values[name] for part in parts] for name in first.values}
        return replace(first, values={n: np.concatenate(one) for n, one in values.items()})
