"""Score tests of proportional hazards, from sums of hospitals."""

from __future__ import annotations

import numpy as np
import pytest
from survival import FEATURES, stratified, survival_tables, trend_tests

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.scoring import information_of, point_of
from fl_he.learning.regression import hazards
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


def sums_at(parts: list[Dataset], theta: Array) -> tuple[Array, Array]:
    """Return the information of all hospitals, and their sums of trends."""
    derivatives = [derivative_parts(examples_of(part, theta)) for part in parts]
    rows = sum(part.examples for part in parts)
    point = point_of(theta, np.sum(derivatives, axis=0), rows)
    assert point.trends is not None
    return information_of(point), point.trends


@pytest.mark.parametrize("months", [3.0, 0.1])
@pytest.mark.parametrize(("family", "ties"), [("cox", "efron"), ("cox-breslow", "breslow")])
def test_tests_are_those_of_further_columns(family: str, ties: str, months: float) -> None:
    tables = survival_tables(6, months=months)
    estimates = stratified(tables, ties).fit(disp=0).params
    sums = sums_at(datasets(6, family, months), np.append(estimates, 0.0))
    found = hazards.trend_tests(*sums, FEATURES, [0, 1])
    assert found is not None
    each, together = trend_tests(tables, estimates, ties)
    assert [row["chi2"] for row in found["features"]] == pytest.approx(each, rel=1e-4, abs=1e-5)
    assert found["chi2"] == pytest.approx(together, rel=1e-4)
    assert [row["df"] for row in (*found["features"], found)] == [1, 1, 2]


def test_a_column_without_a_coefficient_is_in_no_test() -> None:
    parts = datasets(6, "cox")
    alone = [
        Dataset(part.features[:, :1], part.labels, FEATURES[:1], family="cox") for part in parts
    ]
    theta = np.array([0.03, 0.0])
    both = hazards.trend_tests(*sums_at(parts, np.array([0.03, 0.0, 0.0])), FEATURES, [0])
    one = hazards.trend_tests(*sums_at(alone, theta), FEATURES[:1], [0])
    assert both is not None
    assert one is not None
    assert both["chi2"] == pytest.approx(one["chi2"], rel=1e-9)
    assert [row["name"] for row in both["features"]] == ["age"]


def test_events_at_one_time_tell_no_trend() -> None:
    rng = np.random.default_rng(1)
    part = Dataset(rng.normal(size=(40, 2)), np.full(40, 3.0), FEATURES, family="cox")
    assert hazards.trend_tests(*sums_at([part], np.zeros(3)), FEATURES, [0, 1]) is None


def test_sums_of_other_features_are_refused() -> None:
    information, trends = sums_at(datasets(6, "cox"), np.zeros(3))
    with pytest.raises(DataError, match="sums of trends must be of 2 features, got others"):
        hazards.trend_tests(information, trends[:-1], FEATURES, [0, 1])
    with pytest.raises(DataError, match="sums of trends must be of 3 features, got others"):
        hazards.read_trends(trends.tolist(), 3)
    with pytest.raises(DataError, match="derivatives must be of 3 parameters, got others"):
        point_of(np.zeros(3), np.zeros((2, 1 + 3 + 6 + 1 + len(trends) - 1)), 9)


@pytest.mark.release
def test_proportional_hazards_are_refused_in_5_percent() -> None:
    found = []
    for seed in range(400):
        tables = survival_tables(1000 + seed, months=20.0)
        estimates = stratified(tables).fit(disp=0).params
        sums = sums_at(datasets(1000 + seed, "cox", 20.0), np.append(estimates, 0.0))
        tests = hazards.trend_tests(*sums, FEATURES, [0, 1])
        assert tests is not None
        found.append([row["p_value"] < 0.05 for row in (*tests["features"], tests)])
    shares = np.mean(found, axis=0)
    assert (np.abs(shares - 0.05) <= 0.025).all(), shares
