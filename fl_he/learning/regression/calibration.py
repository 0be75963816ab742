"""Calibration of a model of a number: expected and observed outcomes in bins of the expected one.

Bins divide the margins of the rows, on the scale of the link. Their borders follow from the model
alone, so hospitals use the same bins and their sums add up to those of the pooled rows. The bins
are fine, so company X alone opens the sums, and gives out tenths of the rows: neighbouring bins are
merged until each holds a tenth, or ten times ``min_cell`` rows, and has no small cell. The two
cells of a bin are the rows whose outcome is 0, and all others: the sum of a few counts above 0
would say nearly as much as the counts. Sums are given out as means, rounded by the bin's own rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.regression import likelihood
from fl_he.learning.regression.disclosure import (
    CalibrationBin,
    Figures,
    merged,
    require_enough,
    rounded,
    small_cells,
)
from fl_he.learning.regression.evaluation import BINS
from fl_he.learning.regression.family import Family
from fl_he.learning.regression.glm import GlmFamily
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import Limbs

#: Borders of bins in lengths of the coefficients from the intercept, about which the margins of
#: scaled features are. Bins have one width up to 3, and then each border is a tenth farther out.
_NEAR, _FAR = np.linspace(-3.0, 3.0, 121), 3.0 * 1.1 ** np.arange(1, 51)
_BY_LENGTH = np.concatenate([-_FAR[::-1], _NEAR, _FAR])
#: Further borders, for margins with an exposure or of features that are not scaled: a tenth wide,
#: so by a factor of 1.1 of the mean, where the mean is the exponential of the margin.
_BY_TENTHS = np.linspace(-12.0, 12.0, 241)
#: How many fine bins there are.
OUTCOME_BINS = len(_BY_LENGTH) + len(_BY_TENTHS) + 1
#: Most bins that are given out, and how many times ``min_cell`` rows each holds: the mean of fewer
#: rows has too few digits.
_TENTHS, _ENOUGH = 10, 10


@dataclass(frozen=True, slots=True, eq=False)
class OutcomeSums:
    """Sums over rows by bins of the margin.

    Attributes
    ----------
    cells
        Shape (2, OUTCOME_BINS): rows whose outcome is 0, and other rows.
    sums
        Shape (2, OUTCOME_BINS): of expected and of observed outcomes.
    """

    cells: Array
    sums: Array

    @property
    def examples(self) -> int:
        """Number of rows."""
        return round(float(self.cells.sum()))

    def to_vector(self, limbs: Limbs) -> Array:
        """Return counts and the digits of sums; raises DataError if a sum is not finite."""
        return np.concatenate([self.cells.ravel(), limbs.split(self.sums.ravel()).ravel()])

    @staticmethod
    def length(limbs: Limbs) -> int:
        """Return the length of the vector."""
        return 2 * OUTCOME_BINS * (1 + limbs.count)

    @classmethod
    def of_vector(cls, values: Array, limbs: Limbs) -> OutcomeSums:
        """Read what `to_vector` returned, or a sum of such.

        Raises
        ------
        DataError
            If these are no counts and sums of bins. The message shows none of them.
        """
        if len(values) != cls.length(limbs):
            raise DataError("counts must be of the bins of a model, and they are not")
        counts, digits = np.split(values, [2 * OUTCOME_BINS])
        cells = np.rint(counts.reshape(2, OUTCOME_BINS))
        sums = limbs.join(digits.reshape(limbs.count, -1)).reshape(2, OUTCOME_BINS)
        if cells.min() < 0.0 or not np.isfinite(sums).all() or sums[:, ~cells.any(axis=0)].any():
            raise DataError("counts must be of the bins of a model, and they are not")
        return cls(cells, sums)

    @classmethod
    def of_nobody(cls) -> OutcomeSums:
        """Return the sums over no rows."""
        return cls(np.zeros((2, OUTCOME_BINS)), np.zeros((2, OUTCOME_BINS)))


def fine_bins(family: Family) -> int:
    """Return how many bins the evaluation of a family's models has, 0 if there is none."""
    if not isinstance(family, GlmFamily):
        return BINS
    return OUTCOME_BINS if family.has_intercept else 0


def outcome_sums(dataset: Dataset, theta: Array) -> OutcomeSums:
    """Add up expected and observed outcomes of rows that a model was not trained on.

    Parameters
    ----------
    dataset
        In the units of the model.
    theta
        Of one row of coefficients, its intercept last.

    Raises
    ------
    DataError
        If the model is of other features.
    """
    examples, labels = likelihood.examples_of(dataset, theta), dataset.labels
    length = float(np.linalg.norm(theta[:-1])) or 1.0
    borders = np.sort(np.concatenate([length * _BY_LENGTH, _BY_TENTHS]))
    place = np.searchsorted(borders, examples.margins[:, 0] - theta[-1])

    def by_bin(values: Array) -> Array:
        return np.bincount(place, values, minlength=OUTCOME_BINS).astype(np.float64)

    zeros = (labels == 0.0).astype(np.float64)
    cells = np.array([by_bin(zeros), by_bin(1.0 - zeros)])
    return OutcomeSums(cells, np.array([by_bin(examples.means[:, 0]), by_bin(labels)]))


def calibration_figures(found: OutcomeSums, min_cell: int = 1) -> Figures:
    """Return the calibration by tenths of the rows or larger parts, without small cells.

    Parameters
    ----------
    found
        Of any number of hospitals.
    min_cell
        Fewest rows of a cell that has any; 1 withholds nothing.

    Returns
    -------
    Figures
        With ``calibration`` alone, whose bins have no borders; all other figures are of classes.

    Raises
    ------
    DataError
        If there are fewer rows than ``min_cell``.
    """
    require_enough(found.examples, min_cell)
    rows = found.cells.sum(axis=0)
    parts = min(_TENTHS, max(1, found.examples // (_ENOUGH * min_cell)))
    part = parts * (np.cumsum(rows) - rows / 2.0) // found.examples
    cells, sums = _joined(found, np.flatnonzero(np.append(True, np.diff(part) > 0.0)))
    groups, table = merged(cells, min_cell), None
    if groups is not None:
        cells, sums = _joined(OutcomeSums(cells, sums), [start for start, _ in groups])
        table = _table(cells.sum(axis=0), sums, min_cell)
    return Figures(
        examples=found.examples,
        min_cell=min_cell,
        accuracy=None,
        balanced_accuracy=None,
        roc_auc=None,
        log_loss=None,
        brier_score=None,
        calibration_error=None,
        confusion=None,
        by_class=(),
        calibration=table,
        withheld={} if table else {"calibration": small_cells(min_cell)},
    )


def _joined(found: OutcomeSums, starts: Sequence[int] | NDArray[np.intp]) -> tuple[Array, Array]:
    """Return cells and sums of runs of neighbouring bins, by the bin with which each begins."""
    cells, sums = (np.add.reduceat(one, starts, axis=1) for one in (found.cells, found.sums))
    return cells, sums


def _table(rows: Array, sums: Array, min_cell: int) -> tuple[CalibrationBin, ...]:
    means, largest = sums / rows, float(np.abs(sums / rows).max())
    return tuple(
        CalibrationBin(
            None, None, int(count), *(rounded(mean, int(count), min_cell, largest) for mean in pair)
        )
        for count, pair in zip(rows, means.T.tolist(), strict=True)
    )
