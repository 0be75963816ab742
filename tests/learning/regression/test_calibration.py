"""Calibration of models of numbers, from sums in fine bins."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fl_he.learning.errors import DataError
from fl_he.learning.regression.calibration import (
    OUTCOME_BINS,
    OutcomeSums,
    calibration_figures,
    fine_bins,
    outcome_sums,
)
from fl_he.learning.regression.disclosure import rounded
from fl_he.learning.regression.evaluation import BINS, Counts
from fl_he.learning.regression.registry import FAMILIES
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import Limbs

LIMBS, THETA = Limbs(24, 24), np.array([0.3, -0.2, 0.5])
GLMS = ["gaussian", "poisson", "negative_binomial", "gamma"]


def patients(family: str, rows: int = 700, seed: int = 1) -> Dataset:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 2))
    means = np.exp(features @ THETA[:2] + THETA[2])
    labels = {
        "poisson": rng.poisson(means).astype(float),
        "negative_binomial": rng.poisson(means * rng.gamma(2.0, 0.5, rows)).astype(float),
        "gamma": rng.gamma(2.0, means / 2.0),
        "gaussian": rng.normal(np.log(means), 1.0),
    }[family]
    return Dataset(features, labels, ("a", "b"), family=family)


def of_hospitals(pooled: Dataset) -> OutcomeSums:
    """Return the sums of three hospitals as they travel, added up."""
    parts = [pooled.take(np.arange(start, pooled.examples, 3)) for start in range(3)]
    with np.errstate(invalid="ignore"):  # losses of an unknown alpha, which no bin has
        vectors = [outcome_sums(part, THETA).to_vector(LIMBS) for part in parts]
    return OutcomeSums.of_vector(np.sum(vectors, axis=0), LIMBS)


def expected_of(pooled: Dataset) -> Array:
    margins = pooled.features @ THETA[:2] + THETA[2]
    return np.asarray(margins if pooled.family == "gaussian" else np.exp(margins))


@pytest.mark.parametrize("family", GLMS)
@pytest.mark.parametrize("min_cell", [1, 5, 20])
def test_tenths_of_the_pooled_rows_have_their_means(family: str, min_cell: int) -> None:
    pooled = patients(family)
    found = calibration_figures(of_hospitals(pooled), min_cell)
    expected, bins = expected_of(pooled), found.calibration or ()
    order, start = np.argsort(expected), 0
    for one in bins:
        rows = order[start : start + one.examples]
        zeros = int((pooled.labels[rows] == 0.0).sum())
        assert not 0 < zeros < min_cell
        assert not 0 < one.examples - zeros < min_cell
        part = (
            min_cell
            * max(labels.mean() for labels in np.array_split(pooled.labels[order], 5))
            / len(rows)
        )
        grain = 0.0 if min_cell == 1 else 4 * part / 2
        assert one.predicted == pytest.approx(expected[rows].mean(), rel=1e-9, abs=grain)
        assert one.observed == pytest.approx(pooled.labels[rows].mean(), rel=1e-9, abs=grain)
        start += one.examples
    assert start == pooled.examples == found.examples
    if family in ("gaussian", "gamma") or min_cell == 1:
        parts = {1: 10, 5: 10, 20: 3}[min_cell]
        assert len(bins) == parts
        assert all(0.7 < one.examples * parts / 700 < 1.3 for one in bins)


@pytest.mark.parametrize(("min_cell", "unit"), [(2, 0.05), (5, 0.1)])
def test_means_are_rounded_to_the_share_of_few_rows_of_the_bin(min_cell: int, unit: float) -> None:
    pooled = patients("gamma", 1000)
    largest = max(
        value
        for one in calibration_figures(of_hospitals(pooled)).calibration or ()
        for value in (one.predicted, one.observed)
    )
    for one in calibration_figures(of_hospitals(pooled), min_cell).calibration or ():
        assert unit <= min_cell * largest / one.examples < 5 * unit
        for mean in (one.predicted, one.observed):
            assert mean == pytest.approx(unit * round(mean / unit), abs=1e-12)
    larger = Dataset(pooled.features, 1e6 * pooled.labels, ("a", "b"), family="gamma")
    table = calibration_figures(of_hospitals(larger), 5).calibration or ()
    assert all(one.observed % 1e5 == 0.0 for one in table)


@pytest.mark.parametrize("bin_rows", [100, 104, 400])
def test_the_mean_of_a_bin_does_not_tell_how_many_rows_expect_the_most(bin_rows: int) -> None:
    """Return 1,000 rows, of which few expect 1.0 in a bin whose others expect 0.5."""

    def mean_of(rare: int) -> float:
        sizes = (1000 - bin_rows, bin_rows - rare, rare)
        features = np.repeat([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], sizes, axis=0)
        labels = np.repeat(np.resize([0.0, 1.0], 500), 2)
        data = Dataset(features, labels, ("II", "III"), family="poisson")
        theta = np.log([2.5, 5.0, 0.2])
        table = calibration_figures(outcome_sums(data, theta), 5).calibration or ()
        assert table[-1].examples == bin_rows
        return table[-1].predicted

    told = [mean_of(rare) for rare in range(7)]
    for rare in range(1, 5):
        assert told[rare] in (told[0], *told[5:])


def test_bins_of_outcomes_without_zeros_do_not_tell_how_many_have_a_second_event() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        labels = 1.0 + (rng.random(1000) < 0.03).astype(float)
        data = Dataset(rng.normal(size=(1000, 1)), labels, ("x",), family="poisson")
        sums = outcome_sums(data, np.array([0.02, np.log(1.03)]))
        whole = calibration_figures(sums).calibration or ()
        largest = max(max(one.predicted, one.observed) for one in whole)
        for one in calibration_figures(sums, 5).calibration or ():
            means = [1.0 + number / one.examples for number in range(50)]
            told = [rounded(mean, one.examples, 5, largest) for mean in means]
            fit = [number for number, mean in enumerate(told) if mean == one.observed]
            assert fit[0] == 0 or fit[-1] > 4


def test_few_zeros_are_joined_with_others_or_withhold_the_table() -> None:
    rng = np.random.default_rng(4)
    features = np.sort(rng.normal(size=300))[:, None] * np.array([1.0, 0.0])
    labels = np.full(300, 2.0)
    labels[[95, 100, 104, 120, 130, 170, 175]] = 0.0
    few = Dataset(features, labels, ("a", "b"), family="poisson")
    theta = np.array([1.0, 0.0, 0.0])
    table = calibration_figures(outcome_sums(few, theta), 5).calibration or ()
    ends = np.cumsum([one.examples for one in table])
    zeros = [int((part == 0.0).sum()) for part in np.split(labels, ends)[:-1]]
    assert len(zeros) > 1
    assert not {*zeros} & {1, 2, 3, 4}
    assert sum(zeros) == 7
    labels[[95, 100, 104, 120]] = 2.0
    few = Dataset(features, labels, ("a", "b"), family="poisson")
    found = calibration_figures(outcome_sums(few, theta), 5)
    assert found.calibration is None
    assert found.withheld == {
        "calibration": "such a figure, or a difference, would count 1 to 4 patients (min_cell=5)"
    }
    with pytest.raises(DataError, match="examples must be at least 5, too few are held out"):
        calibration_figures(outcome_sums(few.take(np.arange(4)), theta), 5)


def test_exposures_and_features_in_any_unit_have_tenths() -> None:
    pooled, theta = patients("poisson"), np.array([0.03, -0.02, -5.0])
    days = np.random.default_rng(2).integers(30, 3000, pooled.examples).astype(float)
    exposed = replace(pooled, exposure=days)
    table = calibration_figures(outcome_sums(exposed, theta)).calibration or ()
    means = np.exp(pooled.features @ theta[:2] + theta[2]) * days
    order = np.argsort(means)
    assert len(table) == 10
    ends = np.cumsum([one.examples for one in table])
    for one, rows in zip(table, np.split(order, ends), strict=False):
        assert 40 <= one.examples <= 120
        assert one.predicted == pytest.approx(means[rows].mean(), rel=1e-9)
    other = replace(pooled, features=pooled.features * [1.0, 0.01])
    theta = np.array([0.3, -20.0, 0.5])
    assert len(calibration_figures(outcome_sums(other, theta)).calibration or ()) >= 8


def test_rows_far_from_others_and_models_without_effects_have_bins() -> None:
    pooled = patients("gaussian")
    flat = outcome_sums(pooled, np.array([0.0, 0.0, 0.5]))
    assert np.flatnonzero(flat.cells.sum(axis=0)).size == 1
    assert len(calibration_figures(flat, 5).calibration or ()) == 1
    far = outcome_sums(pooled, np.array([1.0, 0.0, 1e12]))
    assert far.examples == pooled.examples
    assert far.sums[0].sum() == pytest.approx(7e14, rel=1e-6)


@pytest.mark.parametrize("change", ["negative", "longer", "a sum without rows"])
def test_what_is_no_sums_is_refused(change: str) -> None:
    vector = outcome_sums(patients("poisson"), THETA).to_vector(LIMBS)
    if change == "negative":
        vector[0] = -1.0
    elif change == "longer":
        vector = np.append(vector, 0.0)
    else:
        vector[2 * OUTCOME_BINS] = 2.0**-24
    with pytest.raises(DataError, match="counts must be of the bins of a model, and they are not"):
        OutcomeSums.of_vector(vector, LIMBS)


def test_sums_of_numbers_pass_for_no_counts_of_classes() -> None:
    lengths = [OutcomeSums.length(Limbs(24, bits)) for bits in range(8, 64)]
    of_classes = {len(Counts.of_nobody(classes).to_vector()) for classes in range(2, 40)}
    assert of_classes.isdisjoint(lengths)


def test_a_time_to_an_event_has_no_bins() -> None:
    found = {name: fine_bins(family) for name, family in FAMILIES.items()}
    assert {found["logistic"], found["softmax"]} == {BINS}
    assert {found[name] for name in GLMS} == {OUTCOME_BINS}
    assert {found["cox"], found["cox-breslow"]} == {0}
