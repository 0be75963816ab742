"""Cells that are merged or withheld so that no count of 1 to ``min_cell`` - 1 can be solved for.

Whoever knows the rules can also reason from what was merged. So cells are merged with neighbours in
their declared order, and cells without rows are merged along: a merged cell then has the same look
for several counts of its parts. ``tests/learning/describing/test_suppression.py`` enumerates all
small tables that look the same.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fl_he.learning.regression.disclosure import merged
from fl_he.learning.tables.arrays import Array

#: Two rows in two cells would be told by the fact that they were merged.
_LEAST = 3


def effective(min_cell: int) -> int:
    """Return the smallest count that is given out: ``min_cell``, but 3 for 2."""
    return min_cell if min_cell == 1 else max(min_cell, _LEAST)


def fits(cells: ArrayLike, min_cell: int) -> bool:
    """Tell whether every count is 0 or at least ``min_cell``."""
    counts = np.asarray(cells)
    return not ((counts > 0) & (counts < min_cell)).any()


def merged_levels(counts: Array, min_cell: int) -> list[tuple[int, int]]:
    """Return ranges of neighbouring levels whose sums are given out.

    Parameters
    ----------
    counts
        Shape (groups, levels). Each row's sum is 0 or at least ``min_cell``.
    min_cell
        At least 1.

    Returns
    -------
    list of (start, stop)
        Each level alone if no count is small; else as many ranges as there can be.

    Examples
    --------
    >>> merged_levels(np.array([[20, 3, 9, 30]]), 5)
    [(0, 1), (1, 3), (3, 4)]
    """
    levels = counts.shape[1]
    if fits(counts, min_cell):
        return [(level, level + 1) for level in range(levels)]
    return merged(counts, min_cell) or [(0, levels)]
