"""Selection of the unlabelled cases that a querying party asks about.

Uncertainty: Settles 2009, "Active Learning Literature Survey", section 3.1 (entropy, margin).
Coverage: greedy k-center, Sener and Savarese 2018, "Active Learning for Convolutional Neural
Networks: A Core-Set Approach" (arXiv 1708.00489), algorithm 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array

SELECTIONS = ("random", "entropy", "margin", "k_center")


def select_queries(
    selection: str,
    pool: Array,
    chances: Array,
    labelled: Array,
    *,
    count: int,
    seed: int,
) -> NDArray[np.intp]:
    """Return the rows of the pool to ask about, no row twice.

    Parameters
    ----------
    selection : str
        One of `SELECTIONS`.
    pool : ndarray, shape (m, d)
    chances : ndarray, shape (m, classes)
        The party's own model's, for ``entropy`` and ``margin``.
    labelled : ndarray, shape (l, d)
        What the party has labels of, for ``k_center``; l may be 0.
    count : int
        From 1 to m.
    seed : int

    Raises
    ------
    DataError
        If the selection is unknown or the pool is too small.
    """
    if not 1 <= count <= len(pool):
        raise DataError(f"queries must be from 1 to {len(pool)}, the pool's size, got {count}")
    rng = np.random.default_rng(seed)
    # Equal ones come in random order.
    order = rng.permutation(len(pool))
    if selection == "random":
        return order[:count]
    if selection == "k_center":
        return _k_center(pool, labelled, count, int(order[0]))
    if selection == "entropy":
        certainty = (chances * np.log(np.clip(chances, 1e-300, None))).sum(axis=1)
    elif selection == "margin":
        certainty = np.diff(np.sort(chances, axis=1)[:, -2:])[:, 0]
    else:
        raise DataError(f"selection must be one of {', '.join(SELECTIONS)}, got {selection!r}")
    return order[np.argsort(certainty[order], kind="stable")][:count]


def _k_center(pool: Array, labelled: Array, count: int, first: int) -> NDArray[np.intp]:
    """Choose, again and again, the row farthest from all that are labelled or chosen."""
    nearest = np.full(len(pool), np.inf)
    for row in labelled:
        nearest = np.minimum(nearest, ((pool - row) ** 2).sum(axis=1))
    chosen: list[int] = []
    for _ in range(count):
        row = int(np.argmax(nearest)) if chosen or len(labelled) else first
        chosen.append(row)
        nearest = np.minimum(nearest, ((pool - pool[row]) ** 2).sum(axis=1))
        nearest[row] = -1.0
    return np.array(chosen, dtype=np.intp)
