"""Bounds of curves on a grid, against statsmodels on the exact times."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.duration.survfunc import SurvfuncRight

from fl_he.learning.describing.cells import count_cells
from fl_he.learning.describing.form import TableForm
from fl_he.learning.describing.survival import Curve, by_time, curve_of, survival
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import Limbs

GRID = (6.0, 12.0, 24.0, 48.0)
LIMBS = Limbs(24, 24)
Rows = list[tuple[float, bool]]


def curve(rows: Rows, min_cell: int = 1) -> tuple[tuple[float, ...], Curve]:
    labels = np.array([time if event else -time for time, event in rows])
    data = Dataset(np.zeros((len(rows), 1)), labels, ("x",), "died", family="cox")
    form = TableForm((), "", (), 1, GRID)
    found = survival(by_time(count_cells(data, form, LIMBS)[:, 1:]), GRID, min_cell)
    assert found is not None
    return found.times, found.curves[0]


exact = st.lists(st.tuples(st.floats(0.5, 80.0), st.booleans()), min_size=5, max_size=60)


@settings(max_examples=60, deadline=None)
@given(exact)
def test_the_estimate_of_exact_times_is_within_the_bounds(rows: Rows) -> None:
    times, found = curve(rows)
    time, event = map(np.array, zip(*rows, strict=True))
    theirs = SurvfuncRight(time, event)
    for place, end in enumerate(times):
        reached = theirs.surv_times <= end
        share = theirs.surv_prob[reached][-1] if reached.any() else 1.0
        assert found.least[place] - 1e-12 <= share <= found.survival[place] + 1e-12
        assert found.remaining[place] == (time > end).sum()


@pytest.mark.parametrize("first", ["events", "withdrawals"])
def test_the_bounds_are_estimates_of_some_exact_times(first: str) -> None:
    early, late = np.linspace(13.0, 15.0, 30), np.linspace(20.0, 22.0, 30)
    died, left = (early, late) if first == "events" else (late, early)
    stay = [(60.0, False)] * 40
    times, found = curve([*((t, True) for t in died), *((t, False) for t in left), *stay])
    time = np.concatenate([died, left, [60.0] * 40])
    theirs = SurvfuncRight(time, np.arange(100) < 30)
    bound = found.survival if first == "events" else found.least
    assert bound[times.index(24.0)] == pytest.approx(theirs.surv_prob[-1], abs=1e-12)
    assert found.survival[times.index(24.0)] - found.least[times.index(24.0)] > 0.1


def test_few_later_rows_are_withdrawn_at_the_last_time_and_not_counted() -> None:
    rows = [*[(5.0, True)] * 20, *[(40.0, True)] * 10, *[(30.0, False)] * 6]
    times, found = curve([*rows, *[(50.0, False)] * 3], min_cell=5)
    assert times == (6.0, 48.0)
    assert found.remaining == (19, None)
    assert found.least[-1] == 0.0
    assert curve([*rows, *[(50.0, False)] * 7], min_cell=5)[1].remaining == (23, 7)


def test_later_rows_have_a_cell_of_their_own() -> None:
    counts = by_time(np.array([[1.0, 2.0, 3.0, 4.0, 5.0]]))
    assert counts.tolist() == [[[1.0, 2.0, 0.0], [3.0, 4.0, 5.0]]]
    found = curve_of(counts[0], (1.0, 2.0))
    assert (found.at_risk, found.events, found.remaining) == ((15, 11), (1, 2), (11, 5))
    assert found.least == pytest.approx((11 / 12, 11 / 12 * 5 / 7))


def test_rows_that_are_all_later_are_alive_at_the_last_time() -> None:
    times, found = curve([(50.0, True)] * 9)
    assert (times, found.survival, found.least) == ((48.0,), (1.0,), (1.0,))
    assert (found.at_risk, found.remaining, found.median) == ((9,), (9,), None)
