"""Columns that look like identifiers of patients rather than features."""

from __future__ import annotations

import math

import numpy as np

from fl_he.learning.tables.data import Dataset

#: Fewer rows, and values may all differ by chance.
_FEWEST = 20
#: Share of the rows whose value no other row has.
_UNIQUE = 0.95
#: This many rows with distinct values are suspicious in any range of integers, and this many
#: possible values in any number of rows.
_MANY, _WIDE = 100, 100_000
#: Larger identifiers there are none: a UUID has 128 bits. A measurement as large is an integer,
#: too, once it is a float64.
_LARGEST = 2.0**128
#: Chance that measurements in a column's range all differ.
_CHANCE = 0.01


def identifiers(dataset: Dataset) -> tuple[str, ...]:
    """Return the names of features whose values are integers and almost all differ.

    Measurements with digits after the point may all differ. So may a few integers, such as 40
    platelet counts. Below 100 rows a column is named only if its range is so narrow that some
    values should be equal, as of serial numbers, or wider than that of measurements. The chance
    that m draws from r values all differ is about ``exp(-m**2 / 2r)`` (Feller 1968, "An
    Introduction to Probability Theory and Its Applications", section II.3). A common factor of all
    differences, such as 1000, is no part of the range.

    Parameters
    ----------
    dataset
        In the units of the table.
    """
    rows = dataset.examples
    if rows < _FEWEST:
        return ()
    found = []
    for name, column in zip(dataset.feature_names, dataset.features.T, strict=True):
        values = np.unique(column)
        if len(values) <= _UNIQUE * rows or (values != np.rint(values)).any():
            continue
        if np.abs(values).max() >= _LARGEST:
            continue
        steps = np.diff(values)
        # Integers of 20 digits have lost their last ones.
        unit = math.gcd(*map(int, steps.tolist())) or 1
        span = float(values[-1] - values[0]) / unit + 1
        by_chance = math.exp(-(rows**2) / (2 * span))
        if rows >= _MANY or span > _WIDE or by_chance < _CHANCE:
            found.append(name)
    return tuple(found)


def identifier_warning(names: tuple[str, ...]) -> str:
    """Say in words that columns may be identifiers."""
    listed = ", ".join(map(repr, names))
    if len(names) == 1:
        return (
            f"the column {listed} is a feature whose values are integers that almost all differ: "
            "leave it out if it names patients and measures nothing"
        )
    return (
        f"the columns {listed} are features whose values are integers that almost all differ: "
        "leave them out if they name patients and measure nothing"
    )
