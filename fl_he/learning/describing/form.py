"""Form of a table of descriptive statistics: public, and the same for all hospitals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.described import Described, Facts
from fl_he.learning.tables.table_file import shown, some
from fl_he.run_files.metrics_contract import SURVIVAL

#: Name of the outcome's classes, as a column and as groups.
OUTCOME = "outcome"
#: Group of the rows whose category is missing.
MISSING_GROUP = "missing"
#: Most groups, bins of a column, and times of a grid.
MOST_GROUPS, MOST_BINS, MOST_TIMES = 50, 1_000, 1_000
#: Declared whole numbers that have a bin each with any number of bins: the counts of this many
#: could be solved for from mean and deviation.
SOLVABLE = 10
#: Most numbers of a total: a megabyte or so of ciphertexts.
_MOST_CELLS = 200_000
#: Sums of a column of numbers: of the numbers and of their squares.
MOMENTS = 2
_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class TableForm:
    """Columns, groups, bins and times of one table.

    Parameters
    ----------
    columns
        In the order of the table.
    by
        A column of ``columns`` or `OUTCOME`; empty: no groups.
    groups
        Names of the groups; empty without.
    bins
        Of equal width between the bounds of each column of numbers.
    times
        Grid of times to an event, ascending; empty: none.

    Raises
    ------
    DataError
        If one of these cannot be.
    """

    columns: tuple[Facts, ...]
    by: str
    groups: tuple[str, ...]
    bins: int
    times: tuple[float, ...]

    def __post_init__(self) -> None:
        names = [facts.name for facts in self.columns]
        if len(set(names)) < len(names) or not (names or self.times):
            raise DataError("a table must be of different columns, or of times to an event")
        if bool(self.by) is not bool(self.groups) or len(self.groups) > MOST_GROUPS:
            raise DataError(f"a table must have groups by a column, at most {MOST_GROUPS}")
        if not 1 <= self.bins <= MOST_BINS or len(self.times) > MOST_TIMES:
            raise DataError(
                f"a table must have 1 to {MOST_BINS} bins and at most {MOST_TIMES} times"
            )
        if not all(0.0 < time < math.inf for time in self.times) or any(
            later <= time for time, later in pairwise(self.times)
        ):
            raise DataError("times of a grid must be above 0 and ascend")
        for facts in self.columns:
            low, high = facts.low, facts.high
            if low is not None and high is not None and not 0.0 < high - low < math.inf:
                raise DataError("bounds of a column must be the lower one, then the higher one")
        self.require_size(1)

    @property
    def parts(self) -> int:
        """Number of groups, 1 without."""
        return max(1, len(self.groups))

    @property
    def time_cells(self) -> int:
        """Number of a group's cells for times: two for each time, and one for later ones."""
        return 2 * len(self.times) + 1 if self.times else 0

    def require_size(self, digits: int) -> None:
        """Refuse a total of too many numbers, of which each sum has this many digits."""
        width = 1 + self.time_cells
        for facts in self.columns:
            bins = max(0, len(self.edges(facts)) - 1)
            width += len(facts.levels) or 1 + MOMENTS * digits + bins
        if self.parts * width > _MOST_CELLS:
            raise DataError(
                f"a table must have at most {_MOST_CELLS} numbers in its total, got "
                f"{self.parts * width}: take fewer columns, groups, bins or times"
            )

    def edges(self, facts: Facts) -> Array:
        """Return the borders of a column's bins, shape (bins + 1,); empty without bounds.

        Whole numbers have a bin each if they are at most the bins, or at most `SOLVABLE`.
        """
        if facts.levels or facts.low is None or facts.high is None:
            return np.empty(0)
        if (values := few_values(facts, self.bins)) is not None:
            return np.append(values - 0.5, values[-1] + 0.5)
        return np.linspace(facts.low, facts.high, self.bins + 1)


def few_values(facts: Facts, bins: int) -> Array | None:
    """Return all values that a column of whole numbers can have, if each has a bin."""
    if not facts.whole or facts.low is None or facts.high is None:
        return None
    low, high = math.ceil(facts.low), math.floor(facts.high)
    return np.arange(low, high + 1.0) if 0 <= high - low < max(bins, SOLVABLE) else None


def described_table(dataset: Dataset) -> Described:
    """Return the columns of a dataset: as its schema describes them, or its features.

    An outcome of classes is one more, `OUTCOME`.
    """
    found = dataset.described
    if found is None:
        names, features = dataset.feature_names, dataset.features
        found = Described(tuple(map(Facts, names)), dict(zip(names, features.T, strict=True)))
    if dataset.family or OUTCOME in found.values:
        return found
    positive = dataset.positive or "1"
    facts = Facts(OUTCOME, levels=dataset.classes or (f"not {positive}", positive))
    return Described((*found.facts, facts), {**found.values, OUTCOME: dataset.labels})


def table_form(
    dataset: Dataset,
    columns: Sequence[str] = (),
    by: str = "",
    bins: int = 20,
    times: Sequence[float] = (),
) -> TableForm:
    """Return the form of a table of a dataset; it depends on the dataset's public facts alone.

    Parameters
    ----------
    dataset
    columns
        Names; empty: all.
    by
        A category, or `OUTCOME`; empty: no groups.
    bins, times
        See `TableForm`.

    Raises
    ------
    DataError
        If the dataset has no such columns.
    """
    known = {facts.name: facts for facts in described_table(dataset).facts}
    if absent := [name for name in columns if name not in known]:
        raise DataError(
            f"columns of a table must be among {some([*known], _MOST_NAMED)}, got "
            f"{some(absent, _MOST_NAMED)}"
        )
    is_time = dataset.family in SURVIVAL
    if times and not is_time:
        raise DataError("a grid of times must be of an outcome of family cox")
    chosen = tuple(known[name] for name in columns or known if name != by)
    return TableForm(chosen, by, _groups(known, by), bins, tuple(map(float, times)))


def _groups(known: Mapping[str, Facts], by: str) -> tuple[str, ...]:
    if not by:
        return ()
    facts = known.get(by)
    if by == OUTCOME and facts is None:
        raise DataError("groups by outcome must be of an outcome of classes")
    if facts is None:
        raise DataError(
            f"groups must be by a column of the schema's terms, {some([*known], _MOST_NAMED)}, "
            f"got {shown(by)}: add the column to terms, as category or boolean"
        )
    if not facts.levels:
        raise DataError(
            f"groups must be by {OUTCOME} or by a column that the schema declares as category or "
            f"boolean, got {shown(by)}, a column of numbers"
        )
    return (*facts.levels, *([MISSING_GROUP] if facts.missing else []))


def groups_of(dataset: Dataset, form: TableForm) -> NDArray[np.intp]:
    """Return the number of each row's group, shape (m,)."""
    if not form.groups:
        return np.zeros(dataset.examples, dtype=np.intp)
    codes = described_table(dataset).values[form.by]
    return np.where(np.isnan(codes), len(form.groups) - 1, codes).astype(np.intp)
