"""Tables of descriptive statistics under differential privacy: noisy cells and their figures.

A row is in one group, and in each column in one cell. Numbers are mapped by their declared bounds
to -1 to 1, and their sum and that of their squares are cells too. Neighbouring data sets differ in
one row, which is replaced. In each of two groups a number moves its own count and its bin by 1, its
sum by u and that of squares by u^2: at most 8 in squares. Within one group it is at most 6. A
category moves two levels, and so do the row's group and its time. One release of all cells spends
the budget (:mod:`fl_he.learning.privacy.gradients`).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from fl_he.learning.describing.cells import Bounded, Places, places
from fl_he.learning.describing.form import TableForm, few_values
from fl_he.learning.describing.statistics import (
    Summary,
    Table,
    Variable,
    difference_of_categories,
    difference_of_numbers,
    quartile_bins,
)
from fl_he.learning.describing.survival import Curve, Survival, by_time, curve_of
from fl_he.learning.errors import DataError
from fl_he.learning.privacy.gradients import GaussianPrivacy, NoisySum
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.described import Facts
from fl_he.learning.tables.table_file import some

_MOST_NAMED = 10
_TWO_GROUPS = 2
#: Fewest rows that have a deviation.
_TWO_ROWS = 2


def noisy_sum(form: TableForm, sums: Bounded) -> NoisySum:
    """Return the cells of a table as a sum to which noise is added.

    Raises
    ------
    DataError
        If a column of numbers has no bounds.
    """
    numbers = [facts for facts in form.columns if not facts.levels]
    unbounded = [facts.name for facts in numbers if facts.low is None or facts.high is None]
    if unbounded:
        raise DataError(
            f"under privacy numbers need bounds in the schema; without bounds: "
            f"{some(unbounded, _MOST_NAMED)}: declare them, or leave the columns out"
        )
    others = len(form.columns) - len(numbers) + bool(form.times)
    moved = (8 if form.groups else 6) * len(numbers) + 2 * (others + bool(form.groups))
    # Half a step for the rounding of each sum in two rows; all rounded up.
    rounded = math.isqrt(4 * len(numbers)) + 1
    distance = math.isqrt(moved << 2 * sums.fraction_bits) + 1 + rounded
    return NoisySum(distance, form.parts * places(form, sums)[2])


def noise_of(form: TableForm, sums: Bounded, terms: GaussianPrivacy, hospitals: int) -> float:
    """Return the standard deviation of the noise of this many hospitals on one count."""
    variance = noisy_sum(form, sums).variance(1.0, terms)
    return math.ldexp(math.sqrt(variance * hospitals), -sums.fraction_bits)


def noisy_table(total: Array, form: TableForm, examples: int, sums: Bounded, noise: float) -> Table:
    """Return the table of cells with noise; counts below 0 are 0.

    Parameters
    ----------
    total
        Shape (groups, width).
    form
    examples
        Rows of all hospitals: public.
    sums
    noise
        Standard deviation of the noise on one count.

    Raises
    ------
    DataError
        If the total has another shape.
    """
    columns, times, width = places(form, sums)
    if total.shape != (form.parts, width):
        raise DataError(f"cells of a table must have shape {(form.parts, width)}")
    rows = np.vstack([total.sum(axis=0), total]) if form.groups else total
    sizes = _counted(rows[:, 0])
    sizes[0] = examples
    curves = None
    if form.times:
        counts = by_time(_counted(rows[:, times]))
        found = tuple(_without_error(curve_of(one, form.times)) for one in counts)
        curves = Survival(form.times, found, None)
    return Table(
        *(examples, 1, form.by, form.groups, tuple(map(int, sizes[1:].tolist()))),
        tuple(
            _variable(rows, sizes, facts, place, form)
            for facts, place in zip(form.columns, columns, strict=True)
        ),
        *(curves, {}, noise),
    )


def _counted(cells: Array) -> Array:
    counts: Array = np.maximum(np.rint(cells), 0.0)
    return counts


def _without_error(curve: Curve) -> Curve:
    """Return a curve without standard errors, which know nothing of the noise."""
    return replace(curve, standard_error=(None,) * len(curve.survival))


def _variable(rows: Array, sizes: Array, facts: Facts, place: Places, form: TableForm) -> Variable:
    if facts.levels:
        counts = _counted(rows[:, place.levels])
        summaries = [
            _summary(facts, size, one.sum(), counts=tuple(map(int, one.tolist())))
            for size, one in zip(sizes, counts, strict=True)
        ]
        levels = tuple((level,) for level in facts.levels)
        difference = difference_of_categories(counts[1:]) if len(rows) == _TWO_GROUPS + 1 else None
        return Variable(
            facts.name, facts.unit, "category", levels, tuple(summaries), difference, ""
        )
    summaries = [
        _number(size, row, facts, place, form) for size, row in zip(sizes, rows, strict=True)
    ]
    difference = None
    if len(rows) == _TWO_GROUPS + 1:
        difference = difference_of_numbers(summaries[1], summaries[2])
    return Variable(facts.name, facts.unit, "number", (), tuple(summaries), difference, "")


def _summary(
    facts: Facts,
    size: float,
    present: float,
    mean: float | None = None,
    sd: float | None = None,
    *,
    quartiles: tuple[tuple[float, float], ...] = (),
    counts: tuple[int, ...] = (),
) -> Summary:
    missing = int(max(0.0, size - present)) if facts.missing else 0  # else it is noise alone
    return Summary(int(present), missing, mean, sd, quartiles, counts)


def _number(size: float, row: Array, facts: Facts, place: Places, form: TableForm) -> Summary:
    present, low, high = float(_counted(row[[place.present]])[0]), facts.low, facts.high
    if present < _TWO_ROWS or low is None or high is None:
        return _summary(facts, size, present)
    first, second = row[place.digits] / present
    mean = min(1.0, max(-1.0, float(first)))
    variance = max(0.0, float(second) - mean**2) * present / (present - 1.0)
    half, bins = (high - low) / 2.0, _counted(row[place.bins])
    groups = [(bin_, bin_ + 1) for bin_ in range(len(bins))]
    inside = 0.0 if few_values(facts, form.bins) is None else 0.5
    quartiles = quartile_bins(bins, groups, form.edges(facts), inside) if bins.any() else ()
    middle = low + half
    return _summary(
        facts, size, present, middle + half * mean, half * math.sqrt(variance), quartiles=quartiles
    )
