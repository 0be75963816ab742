"""The part of a total that leaves company X: means of metrics, figures of counts, or two bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fl_he.clients.node.node import KeyHolderPolicy
from fl_he.learning.regression.disclosure import Figures, figures
from fl_he.learning.regression.evaluation import Counts
from fl_he.wire.records import ProtocolError, refused_as
from fl_he.wire.update_layout import CONTRIBUTORS, EXAMPLES, FIRST_VALUE, METRIC_SLOTS


def with_metric_means(
    total: NDArray[np.float64], metric_values: int, minimum: int, lacking: int
) -> NDArray[np.float64]:
    """Return a total with means and the weight 1 in place of its metrics' sums and weights.

    The weights would tell how many examples the hospitals have that lack a metric. A metric that
    fewer hospitals than `minimum` have gets the weight and the mean 0: its mean could be one
    hospital's. So does one that some, but fewer than `lacking`, have not: its mean and that of a
    round in which all have it would show theirs. See :mod:`fl_he.wire.update_layout`.

    Examples
    --------
    >>> total = np.array([4.0, 70.0, 4.0, 70.0, 35.0])  # 4 hospitals, 70 examples, one metric
    >>> with_metric_means(total, 1, 3, 3).tolist()
    [4.0, 70.0, 4.0, 1.0, 0.5]
    >>> with_metric_means(np.array([4.0, 70.0, 2.0, 30.0, 15.0]), 1, 3, 1).tolist()
    [4.0, 70.0, 2.0, 0.0, 0.0]
    >>> with_metric_means(np.array([4.0, 70.0, 3.0, 60.0, 30.0]), 1, 3, 3).tolist()
    [4.0, 70.0, 3.0, 0.0, 0.0]
    """
    start = len(total) - METRIC_SLOTS * metric_values
    counts, weights, sums = total[start:].reshape(METRIC_SLOTS, metric_values)
    missing = np.abs(total[CONTRIBUTORS]) - counts
    enough = (counts >= minimum) & ((missing == 0) | (missing >= lacking)) & (weights > 0)
    means = np.divide(sums, weights, out=np.zeros_like(sums), where=enough)
    return np.concatenate([total[:start], counts, enough, means])


def figures_of(total: NDArray[np.float64], policy: KeyHolderPolicy) -> Figures:
    """Return what may leave of a total of hospitals' counts, by the policy's ``min_cell``.

    Raises
    ------
    ProtocolError
        If the total is no counts, or of fewer patients than ``min_cell``.
    """
    with refused_as("the hospitals'"):
        counts = Counts.of_vector(total[FIRST_VALUE:])
        if total[EXAMPLES] != counts.examples:
            raise ProtocolError("counts must be of all held-out examples, and they are not")
        return figures(counts, policy.min_cell)


def some_or_none(total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what may leave of a total of counts: 1 for each that is not 0."""
    some = np.rint(total[FIRST_VALUE:]) != 0.0
    return np.array([-total[CONTRIBUTORS], total[EXAMPLES], *some], dtype=np.float64)
