"""Rows of a table to predict that have no prediction, and why."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fl_he.errors import visible
from fl_he.learning.tables.table_file import RowNumbers, shown

#: Rows that are told, each with all of its faults.
MOST_TOLD = 20


class FaultyRows:
    """Rows with a wrong cell; no cell is shown.

    Attributes
    ----------
    wrong : NDArray[np.bool_]
        Which rows of the table they are, shape (rows,); empty before the first column is added.
    """

    def __init__(self) -> None:
        self.wrong: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self._faults = dict[int, list[str]]()

    def add(self, wrong: NDArray[np.bool_]) -> None:
        """Add rows of the table, shape (rows,)."""
        self.wrong = self.wrong | wrong if self.wrong.size else wrong

    def tell(self, column: str, kind: str, rows: Sequence[int]) -> None:
        """Tell why rows are wrong.

        Parameters
        ----------
        column
            Its name.
        kind
            Of the cells, such as ``"missing cell{s}"``.
        rows
            The first `MOST_TOLD` rows with such a cell, by their numbers in the file, or all.
        """
        fault = f"column {shown(column)}: {kind.replace('{s}', '')}"
        for row in rows:
            self._faults.setdefault(row, []).append(fault)

    def lines(self, rows: RowNumbers, ids: Sequence[str] = ()) -> list[str]:
        """Return a line for each of the first wrong rows, and one about the others.

        Parameters
        ----------
        rows
            Where all rows of the table are in their file.
        ids
            What names each row to the owner of the table; empty: nothing.
        """
        places = np.flatnonzero(self.wrong).tolist()
        lines = []
        for place in places[:MOST_TOLD]:
            row = int(rows.numbers[place])
            name = f" ({shown(ids[place])})" if ids else ""
            line = visible(f"row {row}{name}: {'; '.join(self._faults[row])}")
            lines.append(line.replace("\n", " "))
        if (others := len(places) - MOST_TOLD) > 0:
            lines.append(f"and {others} more row{'s' * (others > 1)}")
        return lines
