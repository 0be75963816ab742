"""No small count can be solved for from a table: all tables that give the same are enumerated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fl_he.learning.describing.cells import count_cells, places
from fl_he.learning.describing.form import TableForm
from fl_he.learning.describing.statistics import Variable, table_of
from fl_he.learning.describing.suppression import merged_levels
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.described import Described, Facts
from fl_he.learning.tables.moments import Limbs

LIMBS = Limbs(24, 24)
Counts = NDArray[np.float64]


def shares(rows: int, cells: int) -> Iterator[tuple[int, ...]]:
    """Yield all ways to divide rows among cells."""
    for bars in combinations(range(rows + cells - 1), cells - 1):
        ends = (-1, *bars, rows + cells - 1)
        yield tuple(b - a - 1 for a, b in pairwise(ends))


def tables(sizes: Sequence[int], cells: int) -> Iterator[Counts]:
    """Yield all tables of groups of these sizes, shape (groups, cells)."""
    for rows in product(*(list(shares(size, cells)) for size in sizes)):
        yield np.array(rows, dtype=np.float64)


def require_unsolvable(
    sizes: Sequence[int], cells: int, min_cell: int, given: Callable[[Counts], Any]
) -> None:
    """Require that no sum of cells is the same small number in all tables that look the same."""
    require_none_solved(tables(sizes, cells), min_cell, given)


def require_none_solved(
    every: Iterable[Counts], min_cell: int, given: Callable[[Counts], Any]
) -> None:
    looks: dict[str, list[Counts]] = {}
    for table in every:
        looks.setdefault(repr(given(table)), []).append(table.ravel())
    groups, cells = table.shape
    subsets = np.array(list(product((0.0, 1.0), repeat=groups * cells)))
    solved = 0
    for same in looks.values():
        sums = np.array(same) @ subsets.T
        told = (sums == sums[0]).all(axis=0)
        small = (sums[0] > 0) & (sums[0] < min_cell)
        assert not (told & small).any(), same[0].reshape(groups, -1)
        solved += int(told.sum())
    assert len(looks) > 1
    assert solved > len(looks)  # some sums are given out: those of all rows, and large cells


def cells_of(form: TableForm, counts: Counts, fill: Callable[[Counts, Counts], None]) -> Counts:
    width = places(form, LIMBS)[2]
    total = np.zeros((len(counts), width))
    total[:, 0] = counts.sum(axis=1)
    for row, own in zip(total, counts, strict=True):
        fill(row, own)
    return total


def groups(count: int) -> dict[str, Any]:
    return {"by": "g" if count > 1 else "", "groups": ("a", "b", "c")[:count] if count > 1 else ()}


@pytest.mark.parametrize(
    ("sizes", "min_cell"),
    [((4,), 2), ((6,), 3), ((9,), 4), ((3, 4), 2), ((4, 5), 3), ((3, 3, 3), 2)],
)
def test_no_small_count_of_a_category_is_told(sizes: tuple[int, ...], min_cell: int) -> None:
    levels = 3 if len(sizes) < 3 else 2
    require_unsolvable(sizes, levels + 1, min_cell, of_category(levels, len(sizes), min_cell))


def of_category(levels: int, count: int, min_cell: int) -> Callable[[Counts], object]:
    """Return a function that gives out a category; the last cells are the missing ones."""
    facts = Facts("x", levels=("k", "l", "m")[:levels], missing=True)
    form = TableForm((facts,), bins=1, times=(), **groups(count))

    def given(counts: Counts) -> object:
        def fill(row: Counts, own: Counts) -> None:
            row[1:] = own[:levels]

        total = cells_of(form, counts, fill)
        return table_of(total, form, int(counts.sum()), LIMBS, min_cell)

    return given


@pytest.mark.parametrize(("rows", "min_cell"), [(6, 3), (7, 3), (6, 2)])
def test_no_small_group_is_told(rows: int, min_cell: int) -> None:
    sizes = [(first, rows - first) for first in range(rows + 1)]
    every = (table for pair in sizes for table in tables(pair, 3))
    require_none_solved(every, min_cell, of_category(2, 2, min_cell))


@pytest.mark.parametrize(
    ("sizes", "min_cell", "bins"),
    [((4,), 2, 5), ((7,), 3, 5), ((7,), 3, 2), ((4, 5), 3, 5), ((3, 4), 2, 1)],
)
def test_no_small_count_of_whole_numbers_is_told(
    sizes: tuple[int, ...], min_cell: int, bins: int
) -> None:
    facts = Facts("x", low=0.0, high=2.0, whole=True, missing=True)
    form = TableForm((facts,), bins=bins, times=(), **groups(len(sizes)))
    ((place,), _, _) = places(form, LIMBS)
    values = np.arange(3.0)

    def given(counts: Counts) -> object:
        def fill(row: Counts, own: Counts) -> None:
            row[place.present], row[place.bins] = own[:3].sum(), own[:3]
            sums = np.array([own[:3] @ values, own[:3] @ values**2])
            row[place.digits] = LIMBS.split(sums).ravel()

        total = cells_of(form, counts, fill)
        return table_of(total, form, int(counts.sum()), LIMBS, min_cell)

    require_unsolvable(sizes, 4, min_cell, given)


def of_many_whole_numbers(
    groups_: Sequence[dict[int, int]], bins: int, min_cell: int, largest: int = 20
) -> Variable:
    """Return a column of whole numbers from 0 up, of rows by value, in each group."""
    facts = Facts("x", low=0.0, high=float(largest), whole=True)
    rows = [[value for value, count in one.items() for _ in range(count)] for one in groups_]
    values = np.array([value for one in rows for value in one], dtype=float)
    group = np.repeat(np.arange(len(rows), dtype=float), [len(one) for one in rows])
    by = Facts("g", levels=("a", "b", "c")[: len(rows)])
    own = Dataset(
        *(values[:, None], np.zeros(len(values)), ("x",)),
        described=Described((facts, by), {"x": values, "g": group}),
    )
    form = TableForm((facts,), bins=bins, times=(), **groups(len(rows)))
    table = table_of(count_cells(own, form, LIMBS), form, len(values), LIMBS, min_cell)
    return table.variables[0]


EVEN = dict.fromkeys(range(21), 2)


@pytest.mark.parametrize("bins", [1, 2, 20, 21, 1000])
@pytest.mark.parametrize("rows", [{0: 996, 1: 1, 2: 2, 7: 1}, {4: 300, 5: 300, 17: 8, 19: 7}])
def test_many_whole_numbers_of_few_values_have_no_mean(rows: dict[int, int], bins: int) -> None:
    found = of_many_whole_numbers([rows], bins, 5)
    assert [(one.mean, one.sd) for one in found.summaries] == [(None, None)]
    assert "need half of the rows, and at least 15, outside the two fullest" in found.withheld


def test_a_group_of_few_whole_numbers_has_no_mean_and_all_rows_have_one() -> None:
    found = of_many_whole_numbers([EVEN, {3: 9, 4: 1}], 21, 5)
    assert [one.mean for one in found.summaries] == [(10 * 42 + 31) / 52, None, None]
    assert (found.difference, found.withheld != "") == (None, True)
    assert all(one.quartiles for one in found.summaries)
    sparse = of_many_whole_numbers([{0: 40}, {3: 9, 4: 1}], 21, 5)
    assert [one.mean for one in sparse.summaries] == [None, None, None]


def test_whole_numbers_that_are_spread_have_mean_and_deviation() -> None:
    values = np.repeat(np.arange(21.0), 2)
    for bins in (10, 20, 21):
        found = of_many_whole_numbers([EVEN], bins, 5)
        assert (found.summaries[0].mean, found.withheld) == (10.0, "")
        assert found.summaries[0].sd == pytest.approx(values.std(ddof=1))
    few = {0: 2, 3: 2, 6: 3, 9: 3, 12: 3, 15: 3, 18: 2}  # 18 rows, 15 of them outside
    assert of_many_whole_numbers([few], 21, 5).withheld == ""
    assert "at least 18," in of_many_whole_numbers([few], 21, 6).withheld


@pytest.mark.parametrize(("values", "told"), [(10, False), (11, True)])
def test_up_to_ten_whole_numbers_need_full_bins(values: int, told: bool) -> None:
    found = of_many_whole_numbers([dict.fromkeys(range(values), 3)], 11, 5, largest=values - 1)
    assert (found.summaries[0].mean is not None) is told
    assert ("would tell that a value has" in found.withheld) is not told


@pytest.mark.parametrize(("sizes", "min_cell"), [((6,), 3), ((5, 4), 3)])
def test_no_small_count_of_zeros_and_ones_is_told(sizes: tuple[int, ...], min_cell: int) -> None:
    form = TableForm((Facts("x", missing=True),), bins=1, times=(), **groups(len(sizes)))
    ((place,), _, _) = places(form, LIMBS)

    def given(counts: Counts) -> object:
        def fill(row: Counts, own: Counts) -> None:
            row[place.present] = own[:2].sum()
            row[place.digits] = LIMBS.split(np.full(2, own[1])).ravel()

        total = cells_of(form, counts, fill)
        return table_of(total, form, int(counts.sum()), LIMBS, min_cell)

    require_unsolvable(sizes, 3, min_cell, given)


@pytest.mark.parametrize(
    ("sizes", "times", "min_cell"), [((6,), 3, 3), ((5,), 3, 2), ((4, 4), 2, 3), ((3, 4), 2, 2)]
)
def test_no_small_count_of_events_is_told(
    sizes: tuple[int, ...], times: int, min_cell: int
) -> None:
    grid = tuple(float(time) for time in range(1, times))  # and later
    form = TableForm((), bins=1, times=grid, **groups(len(sizes)))

    def given(counts: Counts) -> object:
        def fill(row: Counts, own: Counts) -> None:
            row[1:] = own

        total = cells_of(form, counts, fill)
        return table_of(total, form, int(counts.sum()), LIMBS, min_cell)

    require_unsolvable(sizes, 2 * times - 1, min_cell, given)


def test_a_group_of_few_rows_is_given_out_with_the_others() -> None:
    form = TableForm((Facts("x", levels=("k", "l")),), bins=1, times=(), **groups(2))
    total = np.array([[3.0, 1.0, 2.0], [20.0, 9.0, 11.0]])
    table = table_of(total, form, 23, LIMBS, 5)
    assert (table.groups, table.sizes) == ((), ())
    assert table.withheld == {"groups": "a group has 1 to 4 rows (min_cell=5)"}
    assert [one.counts for one in table.variables[0].summaries] == [(10, 13)]
    assert table_of(total, form, 23, LIMBS, 3).sizes == (3, 20)


def test_neighbouring_levels_are_merged() -> None:
    assert merged_levels(np.array([[20.0, 2.0, 9.0, 30.0]]), 5) == [(0, 1), (1, 3), (3, 4)]
    assert merged_levels(np.array([[20.0, 2.0, 0.0, 30.0]]), 5) == [(0, 1), (1, 4)]
    assert merged_levels(np.array([[20.0, 5.0], [0.0, 7.0]]), 5) == [(0, 1), (1, 2)]
    assert merged_levels(np.array([[5.0, 0.0, 9.0]]), 5) == [(0, 1), (1, 2), (2, 3)]
    assert merged_levels(np.array([[3.0, 3.0], [9.0, 9.0]]), 5) == [(0, 2)]


def test_forms_are_not_changed_by_replacing_facts() -> None:
    facts = Facts("x", low=0.0, high=1.0)
    assert TableForm((replace(facts),), "", (), 4, ()).edges(facts).tolist() == [
        0.0,
        0.25,
        0.5,
        0.75,
        1.0,
    ]
