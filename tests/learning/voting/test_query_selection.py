from __future__ import annotations

import numpy as np
import pytest

from fl_he.learning.errors import DataError
from fl_he.learning.voting.query_selection import SELECTIONS, select_queries

RNG = np.random.default_rng(0)
POOL = RNG.normal(size=(30, 2))
CHANCES = RNG.dirichlet([1.0, 1.0, 1.0], size=30)
LABELLED = RNG.normal(size=(4, 2))


def select(selection: str, count: int, seed: int = 1) -> list[int]:
    rows = select_queries(selection, POOL, CHANCES, LABELLED, count=count, seed=seed)
    return [int(row) for row in rows]


@pytest.mark.parametrize("selection", SELECTIONS)
def test_so_many_different_rows_are_chosen_alike_for_one_seed(selection: str) -> None:
    rows = select(selection, 12)
    assert len(set(rows)) == 12
    assert rows == select(selection, 12)
    assert sorted(select(selection, 30)) == list(range(30))


def test_random_rows_differ_between_seeds() -> None:
    assert select("random", 12) != select("random", 12, seed=2)


def test_the_most_uncertain_rows_are_chosen() -> None:
    entropy = -(CHANCES * np.log(CHANCES)).sum(axis=1)
    assert select("entropy", 5) == np.argsort(-entropy)[:5].tolist()
    ordered = np.sort(CHANCES, axis=1)
    assert select("margin", 5) == np.argsort(ordered[:, 2] - ordered[:, 1])[:5].tolist()


def test_k_center_takes_the_row_farthest_from_all_others() -> None:
    known = list(LABELLED)
    for row in select("k_center", 6):
        distances = [min(np.linalg.norm(case - one) for one in known) for case in POOL]
        assert row == int(np.argmax(distances))
        known.append(POOL[row])


def test_k_center_takes_no_row_twice_where_squares_of_distances_overflow() -> None:
    pool = np.array([[0.0], [1e200], [-1e200], [3e200]])
    with np.errstate(over="ignore"):
        rows = select_queries("k_center", pool, CHANCES[:4], pool[:0], count=4, seed=1)
    assert sorted(rows.tolist()) == [0, 1, 2, 3]


def test_what_cannot_be_chosen_is_refused() -> None:
    for count in (0, 31):
        with pytest.raises(DataError, match="queries must be from 1 to 30"):
            select("random", count)
    with pytest.raises(DataError, match="selection must be one of"):
        select("best", 3)
