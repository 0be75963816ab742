"""Figures of an evaluation without small cells: no count of 1 to ``min_cell`` - 1 patients.

Company X sees every fine bin, and gives out the result of `figures`. Counts that are given out are
sums of the cells of one table, each of which has 0 or at least ``min_cell`` patients. So has every
difference of two such sums of which one holds the other: subtraction gives no small cell.

- Two classes: the table's cells are neighbouring bins of the score, merged, by class, so that as
  many as can be end at one of the public `RISKS`. Where the
  confusion matrix has no small cell, no merged bin reaches across a half, so that the matrix is a
  sum of the table's cells. Else matrix and balanced accuracy are withheld, and so is accuracy if
  right or wrong predictions are few, or differ by few from a class that holds them or that they
  hold: of all patients, and within the bin across a half.
- More classes: the table's cells are neighbouring bins of the predicted class's probability,
  merged, by whether the prediction was right. A table of each class would not do: probabilities add
  up to 1, so patients of one table's bins may lie within another's, and the difference be small.
  Sizes of classes and the confusion matrix divide the same patients in other ways, each given out
  as a whole or withheld. Accuracy is as with two classes, and the table, of which it is a sum, is
  withheld with it.

An area under a ROC curve has the sizes of two classes in its denominator: without them it is
withheld, and so are log loss, Brier score and calibration error. Where a model has few different
scores, counts could be solved for from a mean with all its digits. Means over all patients are
rounded to a grain of at least what one patient adds to a share, means of a bin to one of at least
what ``min_cell`` of its patients add, and areas to two decimals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.regression.evaluation import (
    AT_RISKS,
    EDGES,
    HALF,
    Counts,
    calibration_error,
    roc_auc,
)
from fl_he.learning.tables.arrays import Array

#: Fewest patients of a cell that is given out, if it has any.
MIN_CELL = 5
#: Figures that say how large the classes are.
_OF_SIZES = ("roc_auc", "log_loss", "brier_score", "calibration_error")


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """One merged bin: probabilities above ``lower``, up to ``upper``.

    Attributes
    ----------
    lower, upper
        Borders; ``None`` in bins of expected outcomes that are numbers.
    examples
        How many have a forecast within them.
    predicted, observed
        Mean forecast, and the share of forecasts that came true, or the mean outcome.
    """

    lower: float | None
    upper: float | None
    examples: int
    predicted: float
    observed: float


@dataclass(frozen=True, slots=True)
class ClassFigures:
    """Figures of one class against the others; ``accuracy`` is the share of the class found."""

    examples: int | None
    accuracy: float | None
    roc_auc: float | None
    brier_score: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one evaluation.

    Attributes
    ----------
    examples
        How many patients were held out.
    min_cell
        Fewest patients of a cell that has any.
    accuracy, balanced_accuracy, roc_auc
        ``None`` where withheld or undefined; of more than two classes ``roc_auc`` is the mean of
        each that is there against the others.
    log_loss, brier_score, calibration_error
        Means over all patients; see `fl_he.learning.regression.evaluation`. The Brier score of more
        than two classes adds up the squares of all of them. Rounded, as areas and means of bins
        are, unless ``min_cell`` is 1; ``None`` where withheld.
    confusion
        Rows: labels.
    by_class
        One entry for each class.
    calibration
        Merged bins that are not empty, in ascending order.
    withheld
        Reasons, by the figure's name.
    """

    examples: int
    min_cell: int
    accuracy: float | None
    balanced_accuracy: float | None
    roc_auc: float | None
    log_loss: float | None
    brier_score: float | None
    calibration_error: float | None
    confusion: tuple[tuple[int, ...], ...] | None
    by_class: tuple[ClassFigures, ...]
    calibration: tuple[CalibrationBin, ...] | None
    withheld: Mapping[str, str]


def figures(counts: Counts, min_cell: int = 1) -> Figures:
    """Return what is known of a model from counts, without small cells.

    Parameters
    ----------
    counts
        Of any number of hospitals.
    min_cell
        1 withholds nothing: for a hospital's figures of its own patients.

    Raises
    ------
    DataError
        If there are fewer examples than ``min_cell``.
    """
    examples, confusion, table = counts.examples, counts.confusion, counts.calibration[:2]
    require_enough(examples, min_cell)
    two, sizes, right = len(confusion) == 2, confusion.sum(axis=1), np.diag(confusion)
    groups = merged(table, min_cell)
    if two:
        groups = _groups(table, min_cell, split=_fits(confusion, min_cell))
    total = [right.sum(), examples - right.sum()]
    given = {
        "accuracy": _fits(total, min_cell),
        "balanced_accuracy": _fits([*right, *(sizes - right)], min_cell),
        **dict.fromkeys(_OF_SIZES, _fits(sizes, min_cell)),
        "confusion": _fits(confusion, min_cell),
        "calibration": groups is not None,
    }
    if given["roc_auc"]:  # the sizes of the classes are given out
        given["accuracy"] &= _fits(_right_and_wrong(sizes, right), min_cell)
    if two and groups:
        given["accuracy"] &= _fits(_across_a_half(table, groups), min_cell)
    if not two:  # right predictions are the sum of a row of the table
        given["calibration"] &= given["accuracy"]
    digits = None if min_cell == 1 else int(np.log10(examples))
    area_digits = None if min_cell == 1 else 2
    # Of two classes each has the other's area and squares.
    areas = [roc_auc(row) for row in counts.scores]
    areas, squares = areas * (2 if two else 1), counts.squares / examples
    squares = np.broadcast_to(squares, len(sizes))
    known = [area for area in areas if area is not None]
    found = [float(hits / size) if size else None for hits, size in zip(right, sizes, strict=True)]

    def shown(name: str, value: Any, digits: int | None) -> float | None:
        if not given[name]:
            return None
        return float(value) if digits is None else round(float(value), digits)

    reason = small_cells(min_cell)
    return Figures(
        examples=examples,
        min_cell=min_cell,
        accuracy=float(total[0] / examples) if given["accuracy"] else None,
        balanced_accuracy=(
            float(np.mean([share for share in found if share is not None]))
            if given["balanced_accuracy"]
            else None
        ),
        roc_auc=shown("roc_auc", np.mean(known), area_digits) if known else None,
        log_loss=shown("log_loss", counts.log_loss / examples, digits),
        brier_score=shown("brier_score", counts.squares.sum() / examples, digits),
        calibration_error=shown("calibration_error", calibration_error(counts.calibration), digits),
        confusion=(
            tuple(tuple(map(int, row)) for row in confusion) if given["confusion"] else None
        ),
        by_class=tuple(
            ClassFigures(
                int(size) if given["roc_auc"] else None,
                share if given["balanced_accuracy"] else None,
                None if area is None else shown("roc_auc", area, area_digits),
                shown("brier_score", square, digits),
            )
            for size, share, area, square in zip(sizes, found, areas, squares, strict=True)
        ),
        calibration=(
            _table(counts.calibration, groups, min_cell)
            if groups and given["calibration"]
            else None
        ),
        withheld={name: reason for name, fits in given.items() if not fits},
    )


def require_enough(examples: int, min_cell: int) -> None:
    """Refuse figures of too few patients; raises DataError."""
    if examples < min_cell:
        raise DataError(f"examples must be at least {min_cell}, too few are held out")


def small_cells(min_cell: int) -> str:
    """Say why a figure is withheld."""
    small = f"1 to {min_cell - 1} patients (min_cell={min_cell})"
    return f"such a figure, or a difference, would count {small}"


def rounded(mean: float, rows: int, min_cell: int, span: float) -> float:
    """Round the mean of a bin so that few of its rows do not show.

    The grain is 1, 2 or 5 times a power of ten, and more than the part that ``min_cell`` rows have
    in the mean. So if rows have two values, of which one is rare, at least ``min_cell`` consecutive
    counts of it fit the rounded mean: never only such as are small and not 0.

    Parameters
    ----------
    mean
        Over the bin.
    rows
        Of the bin, not of all bins.
    min_cell
        1 rounds nothing.
    span
        How far the values of two rows are apart, at most.

    Examples
    --------
    >>> [rounded(0.4037, rows, 5, 1.0) for rows in (9, 100, 400, 5000)]
    [0.0, 0.4, 0.4, 0.404]
    >>> rounded(0.4037, 100, 5, 0.09), rounded(0.4037, 100, 20, 2.0), rounded(0.4037, 100, 1, 2.0)
    (0.405, 0.5, 0.4037)
    """
    part = min_cell * span / rows
    if min_cell == 1 or part == 0.0:
        return mean
    power = math.floor(math.log10(part))
    grain = next(grain for step in (1, 2, 5, 10) if (grain := step * 10.0**power) > part)
    return round(round(mean / grain) * grain, -power)


def merged(
    cells: Array, min_cell: int, kept: Sequence[int] | NDArray[np.intp] = ()
) -> list[tuple[int, int]] | None:
    """Merge neighbouring bins until every count of each is 0 or at least ``min_cell``.

    Parameters
    ----------
    cells
        Shape (kinds, bins): whole numbers.
    min_cell
        At least 1.
    kept
        Numbers of bins before which a range starts if it can: as many of them as there can be.

    Returns
    -------
    list of (start, stop) or None
        All bins in their order, as ranges that follow each other: as many as there can be, without
        empty ones. ``None`` if not even all of them together are large enough.

    Examples
    --------
    >>> merged(np.array([[3, 2, 9, 0], [0, 0, 5, 9]]), 5)
    [(0, 2), (2, 3), (3, 4)]
    """
    bins = cells.shape[1]
    sums = np.concatenate([np.zeros((len(cells), 1)), np.cumsum(cells, axis=1)], axis=1)
    end = int(np.flatnonzero(cells.any(axis=0)).max(initial=-1)) + 1
    # The most merged bins up to each stop, and where the last of these starts.
    most, starts = np.full(bins + 1, -np.inf), np.zeros(bins + 1, dtype=np.intp)
    worth = np.ones(bins + 1)
    worth[np.asarray(kept, dtype=np.intp)] += bins  # more than all ranges
    most[0] = 0
    for stop in range(1, end + 1):
        held = sums[:, [stop]] - sums[:, :stop]
        large = ((held == 0) | (held >= min_cell)).all(axis=0) & held.any(axis=0)
        ending_here = np.where(large, most[:stop] + worth[stop], -np.inf)
        starts[stop] = ending_here.argmax()
        most[stop] = ending_here.max()
    if most[end] < 0:
        return None
    borders = [bins]
    while (end := int(starts[end])) > 0:
        borders.append(end)
    return list(pairwise([0, *reversed(borders)]))


def _groups(cells: Array, min_cell: int, *, split: bool) -> list[tuple[int, int]] | None:
    """Merge the bins of two classes, on request those below and above a half on their own."""
    if not split:
        return merged(cells, min_cell, AT_RISKS)
    low = merged(cells[:, :HALF], min_cell, AT_RISKS[AT_RISKS < HALF])
    high = merged(cells[:, HALF:], min_cell, AT_RISKS[AT_RISKS > HALF] - HALF)
    if low is None or high is None:
        return None
    return [*low, *((start + HALF, stop + HALF) for start, stop in high)]


def _across_a_half(cells: Array, groups: list[tuple[int, int]]) -> list[float]:
    """Count right and wrong predictions in the merged bin that reaches across a half."""
    for start, stop in groups:
        if start < HALF < stop:
            right = [cells[0, start:HALF].sum(), cells[1, HALF:stop].sum()]
            return _right_and_wrong(cells[:, start:stop].sum(axis=1), np.array(right))
    return []


def _right_and_wrong(sizes: Array, right: Array) -> list[float]:
    """Count them, and what they and a class differ by, where one holds the other."""
    all_right, all_wrong = right.sum(), (sizes - right).sum()
    found = [all_right, all_wrong]
    for size, hits in zip(sizes, right, strict=True):
        for of_class, of_all in ((hits, all_right), (size - hits, all_wrong)):
            if of_class in (size, of_all):
                found.append(abs(of_all - size))
    return found


def _fits(cells: Array | list[float], min_cell: int) -> bool:
    cells = np.asarray(cells)
    return not ((cells > 0) & (cells < min_cell)).any()


def _table(
    calibration: Array, groups: list[tuple[int, int]], min_cell: int
) -> tuple[CalibrationBin, ...]:
    borders = [0.0, *(1 / (1 + np.exp(-EDGES))), 1.0]
    bins = []
    for start, stop in groups:
        against, right, predicted = calibration[:, start:stop].sum(axis=1)
        if examples := against + right:
            lower, upper = float(borders[start]), float(borders[stop])
            mean = rounded(float(predicted / examples), int(examples), min_cell, upper - lower)
            within = min(max(mean, lower), upper)  # tells no more, as the borders are given out
            bins.append(
                CalibrationBin(lower, upper, int(examples), within, float(right / examples))
            )
    return tuple(bins)
