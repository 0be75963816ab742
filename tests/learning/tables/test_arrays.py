from __future__ import annotations

import numpy as np
import pytest

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import finite_array


def test_the_array_is_a_read_only_copy() -> None:
    source = np.array([1.0, 2.0])
    array = finite_array(source, "values", dimensions=1)
    source[0] = 9.0
    assert array.tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 3.0


def test_integers_become_float64() -> None:
    assert finite_array([1, 2], "values", dimensions=1).dtype == np.float64


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted(bad: float) -> None:
    with pytest.raises(DataError, match=r"^values must be finite, got 2 values that are not$"):
        finite_array([bad, 1.0, bad], "values", dimensions=1)


def test_another_number_of_axes_is_refused() -> None:
    with pytest.raises(DataError, match=r"^values must have 2 axes, got 1$"):
        finite_array([1.0], "values", dimensions=2)


@pytest.mark.parametrize("bad", [["PATIENT 7"], [[1.0], [1.0, 2.0]], [10**400], [None, {}]])
def test_what_is_not_a_number_is_refused_without_showing_it(bad: list[object]) -> None:
    with pytest.raises(DataError, match=r"^values must be numbers") as caught:
        finite_array(bad, "values", dimensions=1)
    assert "PATIENT" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
