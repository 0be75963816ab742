"""Figures without small cells: merging, withholding, and the results of subtraction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fl_he.config.groups import RISKS
from fl_he.learning.errors import DataError
from fl_he.learning.regression.disclosure import Figures, figures, merged, rounded
from fl_he.learning.regression.evaluation import BINS, EDGES, HALF, SCORE_BINS, Counts, count
from fl_he.learning.tables.data import Dataset

CELLS = arrays(np.int64, st.tuples(st.just(2), st.integers(1, 30)), elements=st.integers(0, 8))


def small(count: float, least: int) -> bool:
    return 0 < count < least


@given(cells=CELLS, least=st.integers(1, 20))
def test_merged_bins_have_no_small_cell_and_lose_nothing(cells: np.ndarray, least: int) -> None:
    groups = merged(cells, least)
    if groups is None:
        assert any(small(total, least) for total in cells.sum(axis=1))
        return
    assert groups[0][0] == 0
    assert groups[-1][1] == cells.shape[1]
    assert [stop for _, stop in groups[:-1]] == [start for start, _ in groups[1:]]
    for start, stop in groups:
        assert start < stop
        assert not any(small(count, least) for count in cells[:, start:stop].sum(axis=1))


@given(cells=CELLS)
def test_nothing_is_merged_but_empty_bins_where_one_patient_is_enough(cells: np.ndarray) -> None:
    groups = merged(cells, 1) or []
    filled = int(cells.any(axis=0).sum())
    assert len(groups) == max(filled, 1)


@given(cells=arrays(np.int64, (2, 7), elements=st.integers(0, 8)), kept=st.sets(st.integers(1, 6)))
def test_as_many_kept_borders_as_there_can_be_then_as_many_bins(
    cells: np.ndarray, kept: set[int]
) -> None:
    possible = []
    for chosen in (set(c) for n in range(7) for c in combinations(range(1, 7), n)):
        sums = np.add.reduceat(cells, [0, *sorted(chosen)], axis=1)
        if sums.any(axis=0).all() and not ((sums > 0) & (sums < 5)).any():
            possible.append((len(chosen & kept), len(chosen)))
    groups = merged(cells, 5, sorted(kept))
    if cells.any() and groups is not None:
        borders = {start for start, _ in groups[1:]}
        assert (len(borders & kept), len(borders)) == max(possible)
    else:
        assert not possible


def test_bins_of_two_classes_end_at_the_public_risks() -> None:
    patients = [one for place in range(BINS) for one in many_at(place)]
    found = figures(counts_of(patients, 2), 5).calibration or ()
    assert {*RISKS} <= {round(one.lower or 0.0, 12) for one in found}


def many_at(place: int) -> list[Patient]:
    """Return three patients of each class in a fine bin: too few to stand alone."""
    return [(label, int(place >= HALF), place) for label in (0, 1)] * 3


@pytest.mark.parametrize(
    ("cells", "groups"),
    [
        ([[5, 0, 5], [0, 0, 0]], [(0, 1), (1, 3)]),
        ([[5, 0, 0], [0, 0, 5]], [(0, 1), (1, 3)]),
        ([[5, 5, 4], [0, 0, 0]], [(0, 1), (1, 3)]),
        ([[9, 9, 0], [9, 0, 4]], [(0, 3)]),
        ([[9, 9, 9], [5, 0, 4]], [(0, 3)]),
        ([[9, 9], [2, 2]], None),
        ([[0, 0], [0, 0]], [(0, 2)]),
    ],
)
def test_what_is_left_over_joins_the_bins_before_it(
    cells: list[list[int]], groups: list[tuple[int, int]] | None
) -> None:
    assert merged(np.array(cells), 5) == groups


#: Label, predicted class, and fine bin of the forecast.
Patient = tuple[int, int, int]


def counts_of(patients: Iterable[Patient], classes: int) -> Counts:
    """Return counts of patients whose probabilities do not matter."""
    several = classes > 2
    confusion, calibration = np.zeros((classes, classes)), np.zeros((3, BINS))
    rows = classes if several else 1
    scores = np.zeros((rows, 2, SCORE_BINS))
    for label, predicted, place in patients:
        confusion[label, predicted] += 1
        calibration[int(label == predicted if several else label), place] += 1
        for k in range(rows):
            scores[k, int(label == (k if several else 1)), place] += 1
    return Counts(confusion, calibration, scores, np.zeros(rows), 0.0)


@st.composite
def patients_of(draw: st.DrawFn, classes: int) -> list[Patient]:
    """Return patients in few fine bins, most of them predicted right."""
    label = st.integers(0, classes - 1)
    drawn = draw(
        st.lists(st.tuples(label, label, st.integers(0, 5), st.integers(0, 3)), max_size=60)
    )
    found = []
    for of_class, other, place, luck in drawn:
        predicted = of_class if luck else other
        # With two classes the bin determines the prediction.
        found.append((of_class, predicted, place + (HALF * predicted if classes == 2 else 90)))
    return found


def told(found: Figures, patients: list[Patient]) -> list[frozenset[int]]:
    """Return the sets of patients whose numbers can be read from figures."""
    classes = len(found.by_class)
    everybody = range(len(patients))

    def those(test: Callable[[Patient], bool]) -> frozenset[int]:
        return frozenset(i for i in everybody if test(patients[i]))

    borders = [0.0, *(1 / (1 + np.exp(-EDGES))), 1.0]
    sets = [those(lambda _: True)]
    if found.accuracy is not None:
        sets.append(those(lambda one: one[0] == one[1]))
    for k, of_class in enumerate(found.by_class):
        if of_class.examples is not None or found.roc_auc is not None:
            sets.append(those(lambda one, k=k: one[0] == k))  # type: ignore[misc]
        if of_class.accuracy is not None or found.balanced_accuracy is not None:
            sets.append(those(lambda one, k=k: one[0] == one[1] == k))  # type: ignore[misc]
        for j in range(classes) if found.confusion is not None else ():
            sets.append(those(lambda one, pair=(k, j): one[:2] == pair))  # type: ignore[misc]
    for one in found.calibration or ():
        places = range(borders.index(one.lower), borders.index(one.upper))
        cell = those(lambda patient, places=places: patient[2] in places)  # type: ignore[misc]
        came_true = those(lambda one: one[0] == one[1] if classes > 2 else one[0] == 1)
        sets += [cell & came_true, cell - came_true]
    return sets


def by_subtraction(sets: list[frozenset[int]]) -> set[frozenset[int]]:
    """Return all sets that disjoint sums and differences of nested sets give."""
    found, new = set(sets), set(sets)
    while new:
        made = {
            two
            for a in found
            for b in new
            for two in ((a | b,) if not a & b else (a - b,) if a > b else (b - a,) if b > a else ())
        }
        new = made - found
        found |= new
        assert len(found) < 3000
    return found


@settings(max_examples=60, deadline=None)
@given(data=st.data(), classes=st.sampled_from([2, 3]))
def test_no_sum_or_difference_of_what_is_given_out_is_small(
    data: st.DataObject, classes: int
) -> None:
    patients = data.draw(patients_of(classes))
    if len(patients) < 5:
        with pytest.raises(DataError, match="at least 5, too few are held out"):
            figures(counts_of(patients, classes), 5)
        return
    found = figures(counts_of(patients, classes), 5)
    for one in by_subtraction(told(found, patients)):
        assert not small(len(one), 5)
    assert sum(one.examples for one in found.calibration or ()) in (0, len(patients))


def many(label: int, predicted: int, number: int, place: int = 0) -> list[Patient]:
    return [(label, predicted, place + (HALF if predicted else 0))] * number


def test_a_confusion_matrix_of_large_cells_is_a_sum_of_the_table() -> None:
    patients = [*many(0, 0, 40), *many(0, 1, 9), *many(1, 0, 7), *many(1, 1, 30)]
    found = figures(counts_of(patients, 2), 5)
    assert found.confusion == ((40, 9), (7, 30))
    assert (found.accuracy, found.withheld) == (70 / 86, {})
    assert [round(one.examples * one.observed) for one in found.calibration or ()] == [7, 30]
    assert [one.upper for one in found.calibration or ()] == [0.5, 1.0]


def test_a_small_cell_withholds_the_matrix_and_what_would_give_it_away() -> None:
    patients = [*many(0, 0, 40), *many(0, 1, 9), *many(1, 0, 3), *many(1, 1, 30)]
    found = figures(counts_of(patients, 2), 5)
    assert (found.confusion, found.balanced_accuracy) == (None, None)
    assert [one.accuracy for one in found.by_class] == [None, None]
    assert found.accuracy == 70 / 82
    assert found.roc_auc is not None
    assert len(found.calibration or ()) == 1, "no border at a half"
    reason = "such a figure, or a difference, would count 1 to 4 patients (min_cell=5)"
    assert found.withheld == dict.fromkeys(("balanced_accuracy", "confusion"), reason)


def test_few_wrong_predictions_across_a_half_withhold_the_accuracy() -> None:
    wrong = [*many(0, 0, 20), *many(1, 0, 6), *many(0, 0, 20, 9), *many(1, 1, 20)]
    found = figures(counts_of([*wrong, *many(1, 0, 1, 9), *many(0, 1, 1)], 2), 5)
    assert (found.accuracy, found.confusion) == (None, None), "8 are wrong, 2 of them at a half"
    assert len(found.calibration or ()) == 2


def test_a_class_that_is_wrong_but_for_few_across_a_half_withholds_the_accuracy() -> None:
    others = [*many(0, 1, 6, 9), *many(1, 0, 2, 9), *many(1, 1, 5, 9)]
    found = figures(counts_of([*many(0, 0, 50), *others], 2), 5)
    assert [one.examples for one in found.calibration or ()] == [50, 13]
    assert found.accuracy is None, "8 are wrong, 6 of them of one class"


def test_right_predictions_that_are_withheld_are_no_sum_of_the_table() -> None:
    pairs = {(0, 2): 10, (1, 1): 20, (1, 2): 2, (2, 1): 20}
    patients = [(*pair, 90) for pair, number in pairs.items() for _ in range(number)]
    found = figures(counts_of(patients, 3), 5)
    assert (found.accuracy, found.calibration) == (None, None), "20 of 22 of a class are right"
    assert {"accuracy", "calibration"} <= set(found.withheld)


def test_means_have_too_few_digits_to_solve_for_counts() -> None:
    """A model of one 0/1 column has two scores: two sums of few different losses and squares."""
    rows = {(1, 1): 2, (1, 0): 1, (0, 1): 6, (0, 0): 171}
    patients = [patient for (_, y), number in rows.items() for patient in many(y, 0, number)]
    risk = {1: 0.33, 0: 0.03}
    losses = [-np.log(risk[x] if y else 1 - risk[x]) for x, y in rows]
    squares = [(y - risk[x]) ** 2 for x, y in rows]
    loss, square = np.array([losses, squares]) @ list(rows.values())
    counts = replace(counts_of(patients, 2), squares=np.array([square]), log_loss=loss)
    grid = np.meshgrid(*[np.arange(20)] * 3, indexing="ij")
    possible = np.stack([*(part.ravel() for part in grid), 180 - np.sum(grid, axis=0).ravel()])
    means = np.array([losses, squares]) @ possible / 180
    for min_cell, digits, rare in ((1, 9, {2}), (5, 2, {0, 1, 2, 3})):
        found = figures(counts, min_cell)
        told = np.array([[found.log_loss], [found.brier_score]])
        assert min_cell == 1 or (told == told.round(digits)).all()
        fit = (abs(means - told) <= 0.500001 / 10**digits).all(axis=0)
        assert set(possible[0, fit].tolist()) >= rare
        assert min_cell > 1 or fit.sum() == 1, "every digit tells all counts"


@given(
    rows=st.integers(20, 300),
    rare=st.integers(0, 20),
    common=st.floats(-2.0, 2.0),
    apart=st.floats(0.01, 1.0),
    least=st.integers(2, 20),
)
def test_a_rounded_mean_never_tells_a_small_count(
    rows: int, rare: int, common: float, apart: float, least: int
) -> None:
    """Rows with two values, whose difference is at most the span."""
    means = (common + apart * np.arange(rows + 1) / rows).tolist()
    told = [rounded(one, rows, least, 1.0) for one in means]
    fit = [number for number, one in enumerate(told) if one == told[rare]]
    assert not all(small(number, least) for number in fit)


@pytest.mark.parametrize("bin_rows", [100, 104, 400])
def test_the_mean_forecast_of_a_bin_is_rounded_by_its_own_rows(bin_rows: int) -> None:
    """Return 2,000 rows, of which three have a forecast of 0.9 in a bin of forecasts of 0.4."""

    def mean_of(rare: int) -> float:
        sizes = (2000 - bin_rows, bin_rows - rare, rare)
        features = np.repeat([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], sizes, axis=0)
        log_odds = np.log(np.array([0.1, 0.4, 0.9]) / [0.9, 0.6, 0.1])
        theta = np.array([*(log_odds[1:] - log_odds[0]), log_odds[0]])
        labels = np.resize([1.0, *[0.0] * 9], 2000)
        labels[2000 - rare :] = 0.0
        labels[2000 - min(rare, 3) :] = 1.0
        table = figures(count(Dataset(features, labels, ("II", "III")), theta), 5).calibration
        assert table
        assert table[-1].examples == bin_rows
        return table[-1].predicted

    told = [mean_of(rare) for rare in range(7)]
    for rare in range(1, 5):
        assert told[rare] in (told[0], *told[5:])


def test_a_mean_forecast_is_within_its_bin() -> None:
    counts = counts_of([one for place in range(BINS) for one in many_at(place)], 2)
    borders = np.array([0.0, *(1 / (1 + np.exp(-EDGES))), 1.0])
    forecasts = borders[:-1] + 0.9 * np.diff(borders)
    counts.calibration[2] = 6 * forecasts
    for one in figures(counts, 5).calibration or ():
        assert one.lower is not None
        assert one.upper is not None
        assert one.lower <= one.predicted <= one.upper
        own = forecasts[(forecasts > one.lower) & (forecasts < one.upper)]
        assert one.predicted == pytest.approx(
            own.mean(), abs=1.25 * 5 * (one.upper - one.lower) / one.examples
        )


def test_a_class_that_is_all_right_but_for_few_others_withholds_the_accuracy() -> None:
    """Right predictions less the second class would leave one patient."""
    patients = [*many(0, 0, 1), *many(0, 1, 5), *many(1, 1, 5)]
    found = figures(counts_of(patients, 2), 5)
    assert (found.accuracy, found.confusion) == (None, None)


def test_a_small_class_withholds_the_table_and_the_areas() -> None:
    found = figures(counts_of([*many(0, 0, 40), *many(1, 1, 4)], 2), 5)
    assert (found.calibration, found.roc_auc, found.confusion) == (None, None, None)
    assert {one.examples for one in found.by_class} == {None}
    means = {"log_loss", "brier_score", "calibration_error"}
    assert set(found.withheld) == {
        *("balanced_accuracy", "roc_auc", "confusion", "calibration", *means)
    }
    assert (found.log_loss, found.brier_score, found.calibration_error) == (None, None, None)
    assert found.accuracy == 1.0


def test_one_class_alone_has_a_table_and_no_area() -> None:
    found = figures(counts_of(many(0, 0, 40), 2), 5)
    assert (found.roc_auc, found.withheld) == (None, {})
    assert found.confusion == ((40, 0), (0, 0))


@given(cells=arrays(np.int64, st.tuples(st.just(2), st.integers(1, 9)), elements=st.integers(0, 8)))
def test_there_are_as_many_merged_bins_as_there_can_be(cells: np.ndarray) -> None:
    bins = cells.shape[1]
    possible = []
    for chosen in range(2 ** (bins - 1)):
        borders = [0, *(b for b in range(1, bins) if chosen >> (b - 1) & 1), bins]
        parts = [cells[:, a:b].sum(axis=1) for a, b in pairwise(borders)]
        if all(not small(count, 5) for part in parts for count in part):
            possible.append(sum(bool(part.any()) for part in parts))
    groups = merged(cells, 5)
    assert max(possible, default=None) == (groups and len(groups) if cells.any() else 0)
