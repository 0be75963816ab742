from __future__ import annotations

import math

import numpy as np
import pytest

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.incomplete import Columns, Incomplete, federated_means

NAN = math.nan
TABLE = {"a": np.array([1.0, NAN, 3.0]), "b": np.array([4.0, 5.0, NAN]), "c": np.arange(3.0)}


def doubled(columns: Columns) -> Array:
    return 2 * np.column_stack([*columns.values()])


def test_features_are_computed_once_the_means_are_known() -> None:
    waiting = Incomplete(("a", "b"), TABLE, doubled)
    data = Dataset(np.zeros((3, 3)), np.array([0, 1, 1]), ("x", "y", "z"), incomplete=waiting)
    features = [[2, 8, 0], [40, 10, 2], [6, 60, 4]]
    whole = data.completed((20.0, 30.0))
    assert whole.features.tolist() == features
    assert whole.incomplete is None
    assert whole.completed(()) is whole
    part = data.take(np.array([2, 0])).completed((20.0, 30.0))
    assert part.features.tolist() == [features[2], features[0]]
    assert np.isnan(waiting.cells).tolist() == [[False, False], [True, False], [False, True]]
    pair = Incomplete.joined([waiting, waiting.take(np.array([1]))])
    assert pair.features((20.0, 30.0)).tolist() == [*features, features[1]]
    assert pair.means(1) == (2.0, 14 / 3)
    with pytest.raises(ValueError, match="zip"):
        waiting.features((20.0,))
    assert "3.0" not in repr(waiting)


def means(present: float, examples: int, min_cell: int) -> tuple[float, ...]:
    sums, counts = np.array([60.0, 8.0]), np.array([20.0, present])
    return federated_means(["age", "crp"], sums, counts, examples, min_cell)


def test_means_are_sums_by_present_cells() -> None:
    assert means(16, 25, 4) == (3.0, 0.5)
    assert means(20, 20, 5) == (3.0, 0.4)
    assert means(1, 21, 1) == (3.0, 8.0)


@pytest.mark.parametrize(("present", "examples"), [(4, 30), (1, 30), (21, 25), (24, 25)])
def test_fewer_cells_than_the_minimum_are_refused(present: float, examples: int) -> None:
    with pytest.raises(DataError, match=r"^a column .* at least 5 cells .* in column 'crp': decl"):
        means(present, examples, 5)


def test_a_column_of_missing_cells_alone_is_refused() -> None:
    for min_cell in (1, 5):
        with pytest.raises(DataError, match=r"no hospital's table has a cell in column 'crp'"):
            means(0, 25, min_cell)


@pytest.mark.parametrize("present", [-1.0, 26.0, NAN])
def test_numbers_of_cells_that_no_table_has_are_refused(present: float) -> None:
    with pytest.raises(DataError, match="must be 0 to the number of rows, 25"):
        means(present, 25, 1)


def test_sums_of_other_columns_are_refused() -> None:
    with pytest.raises(DataError, match="must be of 1 columns, got 2"):
        federated_means(["age"], np.zeros(2), np.ones(2), 5, 1)
