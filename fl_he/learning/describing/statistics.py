"""Figures of a table from the cells of all hospitals, without small counts.

Standardised differences of two groups: Austin 2009, "Balance diagnostics for comparing the
distribution of baseline covariates between treatment groups in propensity-score matched samples";
of categories Yang, Dalton 2012, "A unified approach to measuring the effect size between two groups
using SAS".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from fl_he.learning.describing.cells import Places, places
from fl_he.learning.describing.form import MOMENTS, SOLVABLE, TableForm, few_values
from fl_he.learning.describing.suppression import effective, fits, merged_levels
from fl_he.learning.describing.survival import Survival, by_time, survival
from fl_he.learning.errors import DataError
from fl_he.learning.regression.disclosure import merged
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.described import Facts
from fl_he.learning.tables.moments import Limbs

#: Shares of the rows below the quartiles.
QUARTILES = (Fraction(1, 4), Fraction(1, 2), Fraction(3, 4))
_TWO_GROUPS = 2
#: Rows outside the two fullest neighbouring bins from which counts of many whole numbers cannot be
#: solved for; three small counts if that is more.
_OUTSIDE = 15


@dataclass(frozen=True, slots=True)
class Summary:
    """Figures of one column in one group.

    Attributes
    ----------
    present, missing
        How many cells there are.
    mean, sd
        Of numbers, the deviation with the denominator n - 1; ``None`` where withheld or undefined.
    quartiles
        Lower and upper border of the bin in which each is; empty without bounds.
    counts
        Of the levels that are given out.
    """

    present: int
    missing: int
    mean: float | None
    sd: float | None
    quartiles: tuple[tuple[float, float], ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """One column of the table.

    Attributes
    ----------
    name, unit
    kind
        ``number`` or ``category``.
    levels
        That are given out, each with the declared levels that it stands for: several, if they were
        merged.
    summaries
        Of all rows, then of each group; of all rows alone where the groups are withheld; none if
        all is.
    difference
        Standardised, of two groups.
    withheld
        Why figures are missing; empty if none is.
    """

    name: str
    unit: str
    kind: str
    levels: tuple[tuple[str, ...], ...]
    summaries: tuple[Summary, ...]
    difference: float | None
    withheld: str


@dataclass(frozen=True, slots=True)
class Table:
    """Descriptive statistics of all hospitals' rows.

    Attributes
    ----------
    rows, min_cell
    by
        Column of the groups; empty without.
    groups
        Names of those that are given out.
    sizes
        Rows of each.
    variables
    survival
        ``None`` without times, or where it is withheld.
    withheld
        Why groups or survival are missing, by their name.
    noise
        Standard deviation of the noise on a count, ``None`` without privacy.
    """

    rows: int
    min_cell: int
    by: str
    groups: tuple[str, ...]
    sizes: tuple[int, ...]
    variables: tuple[Variable, ...]
    survival: Survival | None
    withheld: dict[str, str]
    noise: float | None = None


@dataclass(frozen=True, slots=True)
class _Rules:
    form: TableForm
    limbs: Limbs
    min_cell: int


def table_of(total: Array, form: TableForm, examples: int, limbs: Limbs, min_cell: int) -> Table:
    """Return what company X gives out of a total.

    Parameters
    ----------
    total
        Shape (groups, width), of `count_cells` of all hospitals.
    form
    examples
        Rows of all hospitals.
    limbs
        How sums are written.
    min_cell
        No count of 1 to ``min_cell`` - 1 can be solved for from the table; 2 counts as 3.

    Raises
    ------
    DataError
        If the total is of no rows, or of fewer than ``min_cell`` in all.
    """
    min_cell = effective(min_cell)
    columns, times, width = places(form, limbs)
    if total.shape != (form.parts, width):
        raise DataError(f"cells of a table must have shape {(form.parts, width)}")
    _check(total, form, columns, times, examples)
    if examples < min_cell:
        raise DataError(f"the table has fewer than {min_cell} rows")
    sizes, withheld = total[:, 0], dict[str, str]()
    cells = total
    if form.groups and not fits(sizes, min_cell):
        withheld["groups"] = f"a group has {_few(min_cell)}"
        cells = total.sum(axis=0, keepdims=True)
    grouped = form.groups if form.groups and not withheld else ()
    curves, rules = None, _Rules(form, limbs, min_cell)
    if form.times:
        counts = by_time(cells[:, times])
        curves = survival(counts, form.times, min_cell)
        if curves is None or (grouped and len(curves.curves) == 1):
            withheld["survival"] = f"of a group, events or withdrawals are {_few(min_cell)}"
    return Table(
        examples,
        min_cell,
        form.by,
        grouped,
        tuple(map(int, sizes.tolist())) if grouped else (),
        tuple(
            _variable(cells, facts, place, rules)
            for facts, place in zip(form.columns, columns, strict=True)
        ),
        curves,
        withheld,
    )


def _few(min_cell: int) -> str:
    return f"1 to {min_cell - 1} rows (min_cell={min_cell})"


def _check(
    total: Array, form: TableForm, columns: list[Places], times: slice, examples: int
) -> None:
    """Refuse cells that no rows have."""
    sizes = total[:, 0]
    counts = [total[:, place.levels].sum(axis=1) for place in columns]
    present = [total[:, place.present] for place in columns if place.present]
    numbers = [total[:, [0]], total[:, times]]
    for place in columns:
        numbers += [total[:, place.levels], total[:, place.bins]]
        numbers += [total[:, [place.present]]] if place.present else []
    whole = np.column_stack(numbers)
    right = (whole >= 0).all() and (whole == np.rint(whole)).all() and sizes.sum() == examples
    right &= all((one <= sizes).all() for one in (*counts, *present))
    for place in columns:
        if place.bins.stop > place.bins.start:
            right &= (total[:, place.bins].sum(axis=1) == total[:, place.present]).all()
    if form.times:
        right &= (total[:, times].sum(axis=1) == sizes).all()
    if not right:
        raise DataError("cells of a table must be counts of rows that add up, and they are not")


def _variable(cells: Array, facts: Facts, place: Places, rules: _Rules) -> Variable:
    """Return a column by groups; if a number of missing cells is small, of all rows alone."""
    sizes, min_cell = cells[:, 0], rules.min_cell
    present = cells[:, place.levels].sum(axis=1) if facts.levels else cells[:, place.present]
    named = facts.name, facts.unit, "category" if facts.levels else "number"
    if not (fits(present, min_cell) and fits(sizes - present, min_cell)):
        if len(cells) == 1:
            words = f"the missing cells, or the present ones, are {_few(min_cell)}"
            return Variable(*named, (), (), None, words)
        pooled = _variable(cells.sum(axis=0, keepdims=True), facts, place, rules)
        why = f"the missing cells of a group, or the present ones, are {_few(min_cell)}"
        return replace(pooled, withheld=pooled.withheld or why)
    if facts.levels:
        levels, summaries, difference, reason = _category(cells, facts, place, min_cell)
    else:
        levels, summaries, difference, reason = _number(cells, facts, place, rules)
    return Variable(*named, levels, summaries, difference, reason)


_Found = tuple[tuple[tuple[str, ...], ...], tuple[Summary, ...], float | None, str]


def _category(rows: Array, facts: Facts, place: Places, min_cell: int) -> _Found:
    counts = rows[:, place.levels]
    ranges = merged_levels(counts, min_cell)
    levels = tuple(facts.levels[start:stop] for start, stop in ranges)
    given = np.column_stack([counts[:, start:stop].sum(axis=1) for start, stop in ranges])
    present, sizes = counts.sum(axis=1), rows[:, 0]
    summaries = [
        Summary(int(n), int(size - n), None, None, (), tuple(map(int, one.tolist())))
        for n, size, one in _with_all(present, sizes, given)
    ]
    difference = difference_of_categories(given) if len(rows) == _TWO_GROUPS else None
    merged_some = len(ranges) < len(facts.levels)
    reason = f"levels are merged, as one has {_few(min_cell)} in a group" if merged_some else ""
    return levels, tuple(summaries), difference, reason


def _with_all(*columns: Array) -> list[tuple[Array, ...]]:
    """Return the rows of arrays, those of all groups together first where there are groups."""
    rows = list(zip(*columns, strict=True))
    if len(rows) == 1:
        return rows
    return [tuple(one.sum(axis=0) for one in columns), *rows]


def _number(rows: Array, facts: Facts, place: Places, rules: _Rules) -> _Found:
    form, limbs, min_cell = rules.form, rules.limbs, rules.min_cell
    present, sizes = rows[:, place.present], rows[:, 0]
    sums = [_sums(row[place.digits], limbs) for row in rows]
    edges, reason = form.edges(facts), ""
    bins, groups = rows[:, place.bins], list[tuple[int, int]]()
    values = few_values(facts, form.bins)
    if len(edges):
        found = merged(bins, min_cell)
        groups = [] if found is None else found
    # Counts of a few values follow from their mean and deviation, as those of 0 and 1 do.
    ones = [
        [total, n - total]
        for n, (total, squares) in zip(present, sums, strict=True)
        if total == squares
    ]
    inside = 0.0 if values is None else 0.5
    solvable = values is not None and len(values) <= SOLVABLE
    exact = fits(bins, min_cell) if solvable else fits(np.array(ones, dtype=float), min_cell)
    if not exact:
        reason = f"mean and SD would tell that a value has {_few(min_cell)}"
    by_rows = _with_all(present, sizes, bins)
    told = [exact] * len(by_rows)
    if exact and facts.whole and len(edges) and not solvable:
        told = [_is_spread(held, min_cell) for _, _, held in by_rows]
        if not all(told):
            told[1:] = [False] * (len(told) - 1)
            reason = (
                "mean and SD of whole numbers need half of the rows, and at least "
                f"{_outside(min_cell)}, outside the two fullest neighbouring bins"
            )
    pooled = Fraction(0), Fraction(0)
    for total, squares in sums:
        pooled = pooled[0] + total, pooled[1] + squares
    of_rows = [pooled, *sums] if len(rows) > 1 else sums
    summaries = list[Summary]()
    for (n, size, held), moments, exact in zip(by_rows, of_rows, told, strict=True):
        mean, sd = _mean_and_sd(int(n), *moments) if exact else (None, None)
        quartiles = quartile_bins(held, groups, edges, inside) if n else ()
        summaries.append(Summary(int(n), int(size - n), mean, sd, quartiles, ()))
    difference = None
    if len(rows) == _TWO_GROUPS:
        difference = difference_of_numbers(summaries[1], summaries[2])
    return (), tuple(summaries), difference, reason


def _is_spread(counts: Array, min_cell: int) -> bool:
    """Return whether many rows are outside any two neighbouring bins, or there are none.

    Two neighbouring whole numbers are never further apart than two neighbouring bins.
    """
    rows, ends = counts.sum(), np.append(counts, 0.0)
    outside = rows - (ends[:-1] + ends[1:]).max()
    return bool(not rows or outside >= max(_outside(min_cell), rows / 2.0))


def _outside(min_cell: int) -> int:
    return max(_OUTSIDE, 3 * min_cell)


def _sums(digits: Array, limbs: Limbs) -> tuple[Fraction, Fraction]:
    sums, rest = limbs.join_parts(digits.reshape(limbs.count, MOMENTS))
    first, second = (Fraction(a) + Fraction(b) for a, b in zip(sums, rest, strict=True))
    return first, second


def _mean_and_sd(n: int, total: Fraction, squares: Fraction) -> tuple[float | None, float | None]:
    if not n:
        return None, None
    mean = total / n
    if n == 1:
        return float(mean), None
    variance = (squares - total * mean) / (n - 1)
    return float(mean), math.sqrt(max(0.0, float(variance)))


def quartile_bins(
    counts: Array, groups: list[tuple[int, int]], edges: Array, inside: float
) -> tuple[tuple[float, float], ...]:
    """Return the merged bins of the quartiles, which are cells: no mean of two.

    ``inside``: how far the first and the last value of a bin are from its borders.
    """
    if not groups:
        return ()
    held = np.add.reduceat(counts, [start for start, _ in groups])
    below, n = np.cumsum(held), int(counts.sum())
    found = list[tuple[float, float]]()
    for share in QUARTILES:
        start, stop = groups[int(np.searchsorted(below, math.ceil(share * n), side="left"))]
        found.append((float(edges[start]) + inside, float(edges[stop]) - inside))
    return tuple(found)


def difference_of_numbers(first: Summary, second: Summary) -> float | None:
    """Return the difference of the means by the root of the mean variance."""
    if None in (first.mean, second.mean, first.sd, second.sd):
        return None
    means, deviations = (first.mean, second.mean), (first.sd, second.sd)
    spread = math.sqrt(sum((one or 0.0) ** 2 for one in deviations) / 2.0)
    if not spread:
        return None
    return abs((means[0] or 0.0) - (means[1] or 0.0)) / spread


def difference_of_categories(counts: Array) -> float | None:
    """Return the Mahalanobis distance of two rows of shares, shape (2, levels)."""
    sums = counts.sum(axis=1, keepdims=True)
    if not sums.all():
        return None
    shares = (counts / sums)[:, counts.any(axis=0)][:, 1:]
    first, second = (np.diag(one) - np.outer(one, one) for one in shares)
    covariance = (first + second) / 2.0
    if not shares.shape[1]:
        return 0.0
    if np.linalg.matrix_rank(covariance) < len(covariance):
        return None
    difference = shares[0] - shares[1]
    return math.sqrt(float(difference @ np.linalg.solve(covariance, difference)))
