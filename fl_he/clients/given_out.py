"""The part of a total that leaves company X: means of metrics, figures of counts, or two bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.optimizers.between import FEWEST_CLUSTERS
from fl_he.learning.regression.calibration import OutcomeSums, calibration_figures
from fl_he.learning.regression.disclosure import Figures, figures
from fl_he.learning.regression.evaluation import Counts
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.encrypted_sum import Purpose
from fl_he.wire.records import ProtocolError, refused_as
from fl_he.wire.update_layout import (
    CONTRIBUTORS,
    EXAMPLES,
    FIRST_VALUE,
    METRIC_SLOTS,
    UpdateLayout,
)


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


def figures_of(total: NDArray[np.float64], packing: Packing, min_cell: int) -> Figures:
    """Return what may leave of a total of hospitals' counts, by company X's ``min_cell``.

    Counts of classes and of numbers differ in their length.

    Raises
    ------
    ProtocolError
        If the total is no counts, or of fewer patients than ``min_cell``.
    """
    values, limbs = total[FIRST_VALUE:], Limbs(packing.fraction_bits, packing.integer_bits)
    with refused_as("the hospitals'"):
        if len(values) == OutcomeSums.length(limbs):
            sums = OutcomeSums.of_vector(values, limbs)
            _require_all(total, sums.examples)
            return calibration_figures(sums, min_cell)
        counts = Counts.of_vector(values)
        _require_all(total, counts.examples)
        return figures(counts, min_cell)


def _require_all(total: NDArray[np.float64], examples: int) -> None:
    if total[EXAMPLES] != examples:
        raise ProtocolError("counts must be of all held-out examples, and they are not")


def given_out(
    purpose: Purpose, total: NDArray[np.float64], layout: UpdateLayout, minimum: int
) -> NDArray[np.float64]:
    """Return what may leave of a total of a training; see `some_or_none` and `of_sites`."""
    if purpose == "separation":
        return some_or_none(total)
    return of_sites(total, layout, minimum) if purpose == "sites" else total


def of_sites(total: NDArray[np.float64], layout: UpdateLayout, minimum: int) -> NDArray[np.float64]:
    """Return a comparison of hospitals without sums of too few of them.

    If fewer hospitals than `minimum` have a fit of their own, nothing of these fits leaves, and if
    any has, not their number, in whose place stands -1. Of fewer than `FEWEST_CLUSTERS` hospitals
    no product of gradients leaves.
    """
    kept = total.copy()
    kept[CONTRIBUTORS] = contributors = abs(total[CONTRIBUTORS])
    places, start = dict[str, slice](), FIRST_VALUE
    for slot in layout.arrays:
        places[slot.name] = slice(start, start + slot.size)
        start += slot.size
    number = places["counts"].start
    fits = float(np.rint(kept[number]))
    if not fits >= minimum:
        kept[places["own"]] = 0.0
        kept[number] = -1.0 if fits else 0.0
    if contributors < FEWEST_CLUSTERS:
        kept[places["scores"]] = 0.0
    return kept


def some_or_none(total: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what may leave of a total of counts: 1 for each that is not 0."""
    some = np.rint(total[FIRST_VALUE:]) != 0.0
    return np.array([-total[CONTRIBUTORS], total[EXAMPLES], *some], dtype=np.float64)
