"""Score tests of proportional hazards, from sums of hospitals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from survival import FEATURES, stratified, survival_tables, trend_tests

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.base import Point
from fl_he.learning.optimizers.scoring import information_of, point_of
from fl_he.learning.regression import hazards
from fl_he.learning.regression.firth import whitening
from fl_he.learning.regression.likelihood import derivative_parts, examples_of
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset


def datasets(seed: int, family: str, months: float = 3.0) -> list[Dataset]:
    return [
        Dataset(
            table[[*FEATURES]].to_numpy(dtype=float) - [62.0, 0.5],
            np.copysign(table["months"], table["event"] - 0.5),
            FEATURES,
            family=family,
        )
        for table in survival_tables(seed, months=months)
    ]


def point_at(parts: list[Dataset], theta: Array) -> Point:
    """Return the mean loss of all hospitals with its derivatives, and their sums of trends."""
    derivatives = [derivative_parts(examples_of(part, theta)) for part in parts]
    rows = sum(part.examples for part in parts)
    return point_of(theta, np.sum(derivatives, axis=0), rows)


def found_at(point: Point, features: tuple[str, ...], kept: list[int]) -> dict[str, Any]:
    """Return the tests of features by the sums at a point."""
    assert point.trends is not None
    return hazards.trend_tests(
        *(information_of(point), point.trends, features, kept),
        examples=point.examples,
        rest=point.rest,
    )


@pytest.mark.parametrize("months", [3.0, 0.1])
@pytest.mark.parametrize(("family", "ties"), [("cox", "efron"), ("cox-breslow", "breslow")])
def test_tests_are_those_of_further_columns(family: str, ties: str, months: float) -> None:
    tables = survival_tables(6, months=months)
    estimates = stratified(tables, ties).fit(disp=0).params
    point = point_at(datasets(6, family, months), np.append(estimates, 0.0))
    found = found_at(point, FEATURES, [0, 1])
    each, together = trend_tests(tables, estimates, ties)
    assert [row["chi2"] for row in found["features"]] == pytest.approx(each, rel=1e-4, abs=1e-5)
    assert found["chi2"] == pytest.approx(together, rel=1e-4)
    assert [row["df"] for row in (*found["features"], found)] == [1, 1, 2]


@pytest.mark.parametrize("kept", [0, 1])
def test_a_column_without_a_coefficient_is_in_no_test(kept: int) -> None:
    parts, name = datasets(6, "cox"), FEATURES[kept]
    alone = [
        Dataset(part.features[:, [kept]], part.labels, (name,), family="cox") for part in parts
    ]
    theta = np.zeros(3)
    theta[kept] = 0.03
    both = found_at(point_at(parts, theta), FEATURES, [kept])
    one = found_at(point_at(alone, theta[[kept, 2]]), (name,), [0])
    assert both["chi2"] == pytest.approx(one["chi2"], rel=1e-9)
    assert [row["name"] for row in both["features"]] == [name]


def test_events_at_one_time_tell_no_trend() -> None:
    rng = np.random.default_rng(1)
    part = Dataset(rng.normal(size=(40, 2)), np.full(40, 3.0), FEATURES, family="cox")
    found = found_at(point_at([part], np.zeros(3)), FEATURES, [0, 1])
    assert found == hazards.without_tests(hazards.NO_TREND)


def nearly_equal(noise: float) -> list[dict[str, Any]]:
    """Return tests of three columns, and of the same with a difference in place of the last."""
    rng, parts = np.random.default_rng(3), list[tuple[Array, Array]]()
    for rows in (300, 200, 40):
        first, between = rng.normal(size=(rows, 2)), rng.normal(size=rows)
        early = rng.exponential(5.0 * np.exp(-between))
        late = 5.0 + rng.exponential(20.0 * np.exp(between))
        times, end = np.where(early < 5.0, early, late), rng.uniform(1.0, 60.0, rows)
        labels = np.copysign(np.minimum(times, end), np.where(times <= end, 1.0, -1.0))
        parts.append((np.column_stack([first, between]), labels))
    found, names = [], ("age", "bmi", "near")
    for mix in (np.eye(3), np.array([[1.0, 0, 0], [0, 1, 0], [0, 1, noise]]).T):
        sets = [Dataset(columns @ mix, labels, names, family="cox") for columns, labels in parts]
        theta = np.zeros(4)
        for _ in range(8):
            point = point_at(sets, theta)
            white, _ = whitening(information_of(point), theta, point.rest)
            theta = theta - white @ (white.T @ (point.gradient * point.examples))
        found.append(found_at(point_at(sets, theta), names, [0, 1, 2]))
    return found


@pytest.mark.parametrize("noise", [1e-2, 5e-4, 3e-5])
def test_nearly_equal_columns_have_the_joint_test_of_their_difference(noise: float) -> None:
    apart, near = nearly_equal(noise)
    assert apart["chi2"] > 100.0
    assert near["chi2"] == pytest.approx(apart["chi2"], rel=1e-4)
    for ours, theirs in zip(near["features"][:2], apart["features"][:2], strict=True):
        assert ours["chi2"] == pytest.approx(theirs["chi2"], rel=1e-7)
    assert near["withheld"] is apart["withheld"] is None


def test_a_joint_test_beyond_the_digits_is_withheld_and_single_ones_are_not() -> None:
    apart, near = nearly_equal(3e-6)
    assert (near["chi2"], near["df"], near["p_value"]) == (None, 3, None)
    assert near["withheld"] == hazards.NO_TREND
    ours, theirs = (found["features"][1]["chi2"] for found in (near, apart))
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_a_column_without_a_trend_to_test_withholds_its_own_test_and_the_joint_one() -> None:
    """The first column varies in a hospital whose events have one time, the other elsewhere."""
    rng, zeros = np.random.default_rng(2), np.zeros(60)
    one_time = np.where(rng.random(60) < 0.5, 4.0, -9.0)
    times = rng.exponential(5.0, 60)
    parts = [
        Dataset(np.column_stack(columns), labels, FEATURES, family="cox")
        for columns, labels in (
            ([rng.normal(size=60), zeros], one_time),
            ([zeros, rng.normal(size=60)], times),
        )
    ]
    found = found_at(point_at(parts, np.zeros(3)), FEATURES, [0, 1])
    first, second = found["features"]
    assert (first["chi2"], first["p_value"], found["chi2"], found["df"]) == (None, None, None, 2)
    alone = Dataset(parts[1].features[:, 1:], times, FEATURES[1:], family="cox")
    theirs = found_at(point_at([alone], np.zeros(2)), FEATURES[1:], [0])
    assert second["chi2"] == pytest.approx(theirs["chi2"], rel=1e-9)
    assert found["withheld"] == hazards.NO_TREND


def test_sums_of_other_features_are_refused() -> None:
    point = point_at(datasets(6, "cox"), np.zeros(3))
    trends = point.trends
    assert trends is not None
    with pytest.raises(DataError, match="the trends' length is not that of 2 features"):
        found_at(replace(point, trends=trends[:-1]), FEATURES, [0, 1])
    with pytest.raises(DataError, match="the trends' length is not that of 3 features"):
        hazards.read_trends(trends.tolist(), 3)
    with pytest.raises(DataError, match="the derivatives' length is not that of 3 parameters"):
        point_of(np.zeros(3), np.zeros((2, 1 + 3 + 6 + 1 + len(trends) - 1)), 9)


@pytest.mark.release
def test_proportional_hazards_are_refused_in_5_percent() -> None:
    found = []
    for seed in range(400):
        tables = survival_tables(1000 + seed, months=20.0)
        estimates = stratified(tables).fit(disp=0).params
        point = point_at(datasets(1000 + seed, "cox", 20.0), np.append(estimates, 0.0))
        tests = found_at(point, FEATURES, [0, 1])
        found.append([row["p_value"] < 0.05 for row in (*tests["features"], tests)])
    shares = np.mean(found, axis=0)
    assert (np.abs(shares - 0.05) <= 0.025).all(), shares
