"""The row rule against sets of rows, counted one by one, and all that totals can be combined to."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_he.clients.row_rule import Hashes, RowHistory, keyed_hashes

KEY, SALT = secrets.token_bytes(32), bytes(16)
Table = Sequence[tuple[int, int]]
#: Few different rows, so that many are equal; most tables are small changes of one.
ROW = st.tuples(st.integers(0, 3), st.integers(0, 1))
TABLES = st.lists(ROW, min_size=1, max_size=14)


def hashes(table: Table) -> Hashes:
    return keyed_hashes([np.array(table, np.float64)], KEY, SALT)


def numbered(table: Table) -> set[tuple[tuple[int, int], int]]:
    """Return the rows of a table, equal ones with their numbers."""
    return {(row, place) for row, count in Counter(table).items() for place in range(count)}


def small_classes(tables: Sequence[Table], min_cell: int) -> int:
    """Return how many rows are in a class that is too small, by the definition."""
    sets = [numbered(table) for table in tables]
    rows = set[tuple[tuple[int, int], int]]().union(*sets)
    patterns = Counter(tuple(row in one for one in sets) for row in rows)
    if len(patterns) == 1:  # all tables are the first one
        return 0
    return sum(count for count in patterns.values() if count < min_cell)


@st.composite
def histories(draw: st.DrawFn) -> list[list[tuple[int, int]]]:
    """Return tables of which each is another one with some rows added and some left out."""
    tables = [draw(TABLES)]
    for _ in range(draw(st.integers(1, 5))):
        table = list(draw(st.sampled_from(tables)))
        table += draw(st.lists(ROW, max_size=5))
        for _ in range(draw(st.integers(0, min(5, len(table) - 1)))):
            table.pop(draw(st.integers(0, len(table) - 1)))
        tables.append(draw(st.permutations(table)))
    return tables


@settings(max_examples=1500, deadline=None)
@given(histories(), st.integers(2, 4))
def test_a_table_is_refused_exactly_if_a_class_would_be_too_small(
    tables: list[list[tuple[int, int]]], min_cell: int
) -> None:
    history, accepted = RowHistory(), list[Table]()
    for table in tables:
        after = history.after(hashes(table))
        exposed = after.exposed(min_cell)
        assert exposed == small_classes([*accepted, table], min_cell)
        if not exposed:
            history = after
            accepted.append(table)
            assert history.after(hashes(table)) is history, "the same table again changes nothing"


@settings(max_examples=300, deadline=None)
@given(histories(), st.integers(2, 3))
def test_no_combination_of_totals_is_of_a_few_rows(
    tables: list[list[tuple[int, int]]], min_cell: int
) -> None:
    """For any weights of the totals, the rows of equal weight are none or at least `min_cell`."""
    history, accepted = RowHistory(), list[Table]()
    for table in tables:
        after = history.after(hashes(table))
        if not after.exposed(min_cell) and len(accepted) < 4:
            history = after
            accepted.append(table)
    if len(accepted[0]) < min_cell:  # its rows are known to be few from the first
        assert all(numbered(table) == numbered(accepted[0]) for table in accepted)
        return
    rows = set[tuple[tuple[int, int], int]]().union(*map(numbered, accepted))
    inside = {row: [row in numbered(table) for table in accepted] for row in rows}
    for weights in product((-2, -1, 0, 1, 3), repeat=len(accepted)):
        sums = (sum(w * i for w, i in zip(weights, of, strict=True)) for of in inside.values())
        involved = sum(total != 0 for total in sums)
        assert involved == 0 or involved >= min_cell


@settings(max_examples=300, deadline=None)
@given(histories(), st.integers(2, 4))
def test_two_tables_differ_in_enough_rows_by_any_columns(
    tables: list[list[tuple[int, int]]], min_cell: int
) -> None:
    """Accepted tables, read by the first column alone, the second or none, hide a patient, too."""
    history, accepted = RowHistory(), list[Table]()
    for table in tables:
        after = history.after(hashes(table))
        sizes = [len(one) for one in accepted if Counter(one) != Counter(table)]
        distances = [abs(len(table) - size) for size in sizes]
        nearest = after.nearest()
        assert (nearest is not None and nearest < min_cell) == any(d < min_cell for d in distances)
        if not any(d < min_cell for d in distances):
            history = after
            accepted.append(table)
    for one, other in product(accepted, repeat=2):
        for columns in ([0], [1], []):
            parts = [
                Counter(tuple(row[k] for k in columns) for row in rows) for rows in (one, other)
            ]
            apart = max((parts[0] - parts[1]).total(), (parts[1] - parts[0]).total())
            assert Counter(one) == Counter(other) or apart >= min_cell


def test_the_same_table_is_known_from_one_with_the_same_classes() -> None:
    """T without its first five rows, and T without its last five, are of the same classes."""
    history = RowHistory().after(hashes(T)).after(hashes(T[5:]))
    assert history.nearest() == 5
    assert history.after(hashes(T[:5])).exposed(5) == 0
    third = RowHistory().after(hashes(T)).after(hashes(T[:10])).after(hashes(T[10:]))
    assert (third.exposed(5), third.nearest()) == (0, 0)
    assert third.after(hashes(T[:10][::-1])) is third


T = [(n, n % 2) for n in range(20)]
MORE = [(n, 0) for n in range(100, 105)]


@pytest.mark.parametrize(
    ("tables", "rows"),
    [
        ([T, T], 0),
        ([T, T[::-1]], 0),
        ([T, [*T, (50, 0)]], 1),
        ([T, [*T, T[0]]], 1),
        ([T, T[1:]], 1),
        ([T, [*T, *MORE[1:]]], 4),
        ([T, [*T, *MORE]], 0),
        ([T, T[5:]], 0),
        ([T, [*T, *5 * MORE[:1]]], 0),
        ([T, [(99, 0), *T[1:]]], 2),
        ([T, [*T, *MORE], [*T, MORE[0]]], 5),
        ([T, [*T, *MORE], T], 0),
        ([T, MORE], 0),
        ([T[:3], T[:3]], 0),
        ([T[:3], T[:4]], 4),
        ([T[:3], T[:2]], 3),
        ([T[:3], T[:8]], 3),
        ([T[:3], MORE], 3),
        ([T[:5], T[:10], T[5:10]], 0),
    ],
    ids=[
        *("same", "other order", "one more", "one equal row more", "one less", "four more"),
        *("five more", "five less", "five equal rows", "a corrected cell", "then one of five"),
        *("back", "all others", "a small first table", "and one more", "and one less"),
        *("and five more", "and five others", "a first table of five, then the rest"),
    ],
)
def test_rows_of_a_class_that_is_too_small(tables: list[Table], rows: int) -> None:
    history = RowHistory()
    for table in tables:
        assert history.exposed(5) == 0
        history = history.after(hashes(table))
    assert history.exposed(5) == rows


def test_a_first_table_of_one_row_is_never_the_difference_of_two_tables() -> None:
    """{p}, then p and five more, then the five alone: the difference would be p."""
    history = RowHistory().after(hashes(T[:1]))
    second = history.after(hashes([*T[:1], *MORE]))
    assert (history.exposed(5), second.exposed(5), second.after(hashes(MORE)).exposed(5)) == (
        *(0, 1, 1),
    )


def test_rows_are_known_by_their_numbers_alone() -> None:
    table = np.array([[0.0, 1.5], [-0.0, 1.5], [2.0, 1e-300]])
    same = keyed_hashes([table], KEY, SALT)
    np.testing.assert_array_equal(same, keyed_hashes([table[2:], table[:2]], KEY, SALT))
    np.testing.assert_array_equal(same, keyed_hashes([table + 0.0], KEY, SALT))
    assert len(set(same.tolist())) == 3
    for key, salt in ((bytes(32), SALT), (KEY, b"another choice..")):
        assert not set(same.tolist()) & set(keyed_hashes([table], key, salt).tolist())


@pytest.mark.parametrize("value", [np.nextafter(1.5, 2), 0.0])
def test_the_smallest_change_makes_another_row(value: float) -> None:
    table = np.full((1, 3), 1.5)
    before = keyed_hashes([table], KEY, SALT)
    for column in range(3):
        changed = table.copy()
        changed[0, column] = value
        assert keyed_hashes([changed], KEY, SALT) != before


def test_a_history_shows_no_hash() -> None:
    history = RowHistory().after(hashes(T))
    assert "rows=" not in repr(history)
