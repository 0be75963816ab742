"""Counts and sums of a hospital's rows, by group: what a table is computed from.

Each row is in one group, and in each column in one cell, so the cells of all hospitals add up. Sums
of numbers and of their squares are exact: squares are split into products that float64 has (Dekker
1971, "A floating-point technique for extending the available precision"), and both are written as
`Limbs`, with what the rounding of a sum leaves out. So the variance from one pass loses no digit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.describing.form import MOMENTS, TableForm, described_table, groups_of
from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.described import Facts
from fl_he.learning.tables.moments import Limbs
from fl_he.learning.tables.table_file import shown

#: Splits a float64 into two halves of 26 bits.
_SPLITTER = 2.0**27 + 1.0
_NONE = slice(0, 0)


@dataclass(frozen=True, slots=True)
class Bounded:
    """Sums of numbers that are mapped by their bounds to -1 to 1, as one digit each.

    Parameters
    ----------
    fraction_bits
        Each row's part is a multiple of ``2**-fraction_bits``.
    """

    fraction_bits: int
    count: ClassVar[int] = 1

    def of_values(self, values: Array, facts: Facts) -> Array:
        """Return the sums of mapped values and of their squares."""
        if facts.low is None or facts.high is None:
            raise DataError(f"column {shown(facts.name)} must have bounds")
        half = (facts.high - facts.low) / 2.0
        mapped = np.clip((values - facts.low) / half - 1.0, -1.0, 1.0)
        steps = np.rint(np.ldexp([mapped, np.square(mapped)], self.fraction_bits))
        sums: Array = np.ldexp(steps.sum(axis=1), -self.fraction_bits)
        return sums


Sums = Limbs | Bounded


@dataclass(frozen=True, slots=True)
class Places:
    """Places of one column's cells in the row of a group.

    Attributes
    ----------
    present, digits, bins
        Of a column of numbers.
    levels
        Of a category.
    """

    present: int
    digits: slice
    bins: slice
    levels: slice


def places(form: TableForm, sums: Sums) -> tuple[list[Places], slice, int]:
    """Return the places of the columns, that of the times, and the width of a group's row.

    The first cell is the number of the group's rows. Of the times, events at each time of the grid
    come first, then rows that are withdrawn at it, then rows with a time later than the grid's.

    Raises
    ------
    DataError
        If the rows of all groups have too many cells.
    """
    form.require_size(sums.count)
    found, start = list[Places](), 1
    for facts in form.columns:
        if facts.levels:
            stop = start + len(facts.levels)
            found.append(Places(0, _NONE, _NONE, slice(start, stop)))
        else:
            digits = start + 1 + MOMENTS * sums.count
            stop = digits + max(0, len(form.edges(facts)) - 1)
            found.append(Places(start, slice(start + 1, digits), slice(digits, stop), _NONE))
        start = stop
    times = slice(start, start + form.time_cells)
    return found, times, times.stop


def count_cells(dataset: Dataset, form: TableForm, sums: Sums) -> Array:
    """Return the cells of a dataset's rows.

    Parameters
    ----------
    dataset
        Of the form's columns.
    form
    sums
        How sums are written.

    Returns
    -------
    NDArray[np.float64]
        Shape (groups, width).

    Raises
    ------
    DataError
        If numbers of a column are too large, or differ by too little, for their sums.
    """
    groups, table = groups_of(dataset, form), described_table(dataset)
    columns, times, width = places(form, sums)
    cells = np.zeros((form.parts, width))
    on_grid = _on_grid(dataset.labels, form.times) if form.times else None
    for group, row in enumerate(cells):
        own = groups == group
        row[0] = np.count_nonzero(own)
        for facts, place in zip(form.columns, columns, strict=True):
            values = table.values[facts.name][own]
            values = values[~np.isnan(values)]
            if facts.levels:
                row[place.levels] = np.bincount(values.astype(np.intp), minlength=len(facts.levels))
                continue
            row[place.present] = len(values)
            if isinstance(sums, Limbs):
                row[place.digits] = _digits(values, facts, sums).ravel()
            else:
                row[place.digits] = sums.of_values(values, facts)
            edges = form.edges(facts)
            if len(edges):
                bins = np.searchsorted(edges[1:-1], values, side="left")
                row[place.bins] = np.bincount(bins, minlength=len(edges) - 1)
        if on_grid is not None:
            row[times] = np.bincount(on_grid[own], minlength=form.time_cells)
    return cells


def _on_grid(labels: Array, times: tuple[float, ...]) -> NDArray[np.intp]:
    """Return each row's place among events, withdrawals and later rows: see `places`.

    A time counts as the first one of the grid that is not earlier.
    """
    at = np.searchsorted(np.array(times), np.abs(labels), side="left")
    withdrawn = np.signbit(labels) | (at == len(times))
    found: NDArray[np.intp] = at + len(times) * withdrawn
    return found


def _digits(values: Array, facts: Facts, limbs: Limbs) -> Array:
    if (np.abs(values) >= math.sqrt(limbs.limit)).any():
        raise DataError(
            f"numbers of column {shown(facts.name)} must be below {math.sqrt(limbs.limit):.0e} in "
            "size; some are larger: save them in a larger unit, or leave the column out"
        )
    sums = [_exact(iter(values.tolist())), _exact(_products(values))]
    if len(values) > 1 and values.min() < values.max():
        spread = float(np.square(values - values.mean()).sum())
        if spread < limbs.least:
            raise DataError(
                f"numbers of column {shown(facts.name)} must have squares about their mean of "
                f"{limbs.least:.0e} or more in sum: save them in a smaller unit, or leave the "
                "column out"
            )
    found, rest = np.array(sums).T
    if (np.abs(found) >= limbs.limit).any():
        raise DataError(
            f"sums of column {shown(facts.name)} must be below {limbs.limit:.0e}: save the column "
            "in a larger unit, or leave it out"
        )
    return limbs.split(found, rest)


def _exact(terms: Iterator[float]) -> tuple[float, float]:
    """Return a correctly rounded sum, and the rest."""
    listed = list(terms)
    total = math.fsum(listed)
    return total, math.fsum([*listed, -total])


def _products(values: Array) -> Iterator[float]:
    """Yield terms that add up to the squares exactly."""
    scaled = values * _SPLITTER
    high = scaled - (scaled - values)
    low = values - high
    for part in (high * high, 2.0 * high * low, low * low):
        yield from part.tolist()
