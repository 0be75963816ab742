"""Profile likelihood bounds against the package firthmodels and a search by scipy."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from firthmodels import FirthLogisticRegression
from penalised_fits import (
    SEPARATED_UPPER,
    TABLES,
    estimate_of,
    evaluate,
    fit,
    hard_table,
    highest,
    hospitals,
    intervals,
    search,
    table,
)
from quick import release, slow_but
from scipy.optimize import minimize

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.profile import DROP, Bound, Search
from fl_he.learning.optimizers.task import most_models


@pytest.mark.parametrize("name", slow_but(TABLES, "separated", "quasi"))
def test_penalised_bounds_are_those_of_firthmodels(name: str) -> None:
    features, labels = table(name)
    datasets = hospitals(features, labels)
    estimate = estimate_of(fit(datasets, penalty=True)[0])
    columns = range(features.shape[1])
    bounds = search(datasets, estimate, columns, penalty=True)
    other = FirthLogisticRegression(max_iter=500, xtol=1e-9, gtol=1e-8, max_halfstep=50)
    other.fit(features, labels)
    expected = intervals(other, name)
    assert [bound.state for bound in bounds] == ["found"] * len(bounds)
    found = np.array([bound.theta[bound.column] for bound in bounds]).reshape(-1, 2)
    errors = np.array([estimate.error(column) for column in columns])
    np.testing.assert_allclose((found - expected) / errors[:, None], 0.0, atol=1e-6)


def test_firthmodels_misses_the_higher_of_two_maxima() -> None:
    features, labels = table("separated")
    estimate = estimate_of(fit(hospitals(features, labels), penalty=True)[0])
    level, near = estimate.log_likelihood - DROP, 4.0 * estimate.theta
    found = highest(features, labels, 0, SEPARATED_UPPER, near)
    assert found == pytest.approx(level, abs=1e-6)
    assert highest(features, labels, 0, 27.276772, near) == pytest.approx(level + 0.005, abs=1e-3)


#: Bounds of the first and the highest maximum over the other parameters, by seed and place.
HIGHER = {(8, 2): (-21.657, -51.151), (16, 1): (6.142, 38.058), (19, 7): (10.849, 27.387)}


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "place"), [(16, 1), *release((8, 2), (19, 7))])
def test_a_bound_is_where_the_highest_of_several_maxima_has_dropped(seed: int, place: int) -> None:
    features, labels = hard_table(seed)
    datasets = hospitals(features, labels)
    estimate = estimate_of(fit(datasets, penalty=True)[0])
    column = place // 2
    bound = search(datasets, estimate, [column], penalty=True)[place % 2]
    lower, higher = HIGHER[seed, place]
    assert bound.state == "found"
    assert bound.theta[column] == pytest.approx(higher, abs=1e-3)
    level = estimate.log_likelihood - DROP
    at_bound, at_first = (
        highest(features, labels, column, value, bound.theta) for value in (higher, lower)
    )
    assert at_bound == pytest.approx(level, abs=1e-4)
    assert at_first > level + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("columns", [[1], *release(([0, 1, 2, 3],))])
def test_a_search_goes_on_from_what_it_remembered_and_divides_what_is_too_much(
    columns: list[int],
) -> None:
    datasets = hospitals(*hard_table(14))
    estimate = estimate_of(fit(datasets, penalty=True)[0])
    whole, again = (Search(estimate.bounds(columns)) for _ in range(2))
    asked = set()
    while whole.goes_on:
        points = [evaluate(datasets, theta, penalty=True) for theta in whole.models]
        for one in (whole, again):
            one.take(points, estimate, 1e-9)
        members = json.loads(json.dumps(again.to_members()))
        again = Search.from_members(members)
        assert again.to_members() == members == whole.to_members()
        asked.add(len(points))
    assert [bound.state for bound in again.bounds] == ["found"] * 2 * len(columns)
    assert not again.rivals
    assert 8 < max(asked) <= most_models(5)


def test_a_rival_that_passes_the_largest_coefficient_ends() -> None:
    datasets = hospitals(*hard_table(16))
    estimate = estimate_of(fit(datasets, penalty=True)[0])
    search = Search(estimate.bounds([0]))
    most = 40.0
    while search.goes_on:
        points = [evaluate(datasets, theta, penalty=True) for theta in search.models]
        search.take(points, estimate, 1e-9, most)
        climbing = [rival.theta for rival in search.rivals if not rival.ended]
        assert not climbing or np.abs(np.array(climbing)[:, :-1]).max() <= most
    assert [bound.state for bound in search.bounds] == ["found"] * 2


def test_questions_are_of_two_models_a_parameter_or_twenty_thousand_values() -> None:
    assert [most_models(size) for size in (2, 5, 40, 200)] == [3333, 952, 80, 400]


def profiled(x: np.ndarray, labels: np.ndarray, at: np.ndarray, column: int) -> float:
    """Return the log likelihood at the column's value, maximised over the other parameters."""
    design = np.column_stack([x, np.ones(len(x))])
    free = np.arange(design.shape[1]) != column

    def loss(others: np.ndarray) -> tuple[float, np.ndarray]:
        theta = at.copy()
        theta[free] = others
        margins = design @ theta
        slope = design.T @ (1 / (1 + np.exp(-margins)) - labels)
        return float(np.logaddexp(0.0, (1 - 2 * labels) * margins).sum()), slope[free]

    return -float(minimize(loss, at[free], jac=True, method="BFGS", options={"gtol": 1e-9}).fun)


@pytest.mark.parametrize("seed", range(8))
def test_bounds_without_a_penalty_are_where_the_profiled_likelihood_has_dropped(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.exp(rng.normal(size=(80, 3)) * rng.choice([0.5, 1.5]))
    risk = x @ rng.normal(size=3) - rng.choice([0.0, 2.0])
    labels = (rng.random(80) < 1 / (1 + np.exp(-0.5 * risk))).astype(float)
    datasets = hospitals(x, labels)
    estimate = estimate_of(fit(datasets, penalty=False)[0])
    for bound in search(datasets, estimate, range(3), penalty=False):
        assert bound.state == "found"
        dropped = estimate.log_likelihood - profiled(x, labels, bound.theta, bound.column)
        assert dropped == pytest.approx(1.959963984540054**2 / 2, abs=1e-7)
        assert bound.side * (bound.theta[bound.column] - estimate.theta[bound.column]) > 0


@pytest.mark.slow
def test_units_change_nothing_but_the_unit() -> None:
    features, labels = table("quasi")
    scale = np.array([1e9, 1e-9])
    found = []
    for factor in (np.ones(2), scale):
        datasets = hospitals(features * factor, labels)
        estimate = estimate_of(fit(datasets, penalty=True)[0])
        bounds = search(datasets, estimate, range(2), penalty=True)
        found.append([bound.theta[bound.column] * factor[bound.column] for bound in bounds])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


@pytest.mark.parametrize("change", [{"state": "else"}, {"theta": None}, {"side": True}])
def test_a_damaged_bound_is_refused(change: dict[str, object]) -> None:
    datasets = hospitals(*table("quasi"))
    (bound, _) = estimate_of(fit(datasets, penalty=True)[0]).bounds([0])
    with pytest.raises(DataError):
        Bound.from_members({**bound.to_members(), **change})


@pytest.mark.parametrize(
    "change", [{"column": 2}, {"column": 1}, {"bound": 2}, {"ended": 0}, {"optimizer": []}]
)
def test_a_damaged_rival_is_refused(change: dict[str, object]) -> None:
    datasets = hospitals(*table("quasi"))
    estimate = estimate_of(fit(datasets, penalty=True)[0])
    search = Search(estimate.bounds([0]))
    while not search.rivals:
        points = [evaluate(datasets, theta, penalty=True) for theta in search.models]
        search.take(points, estimate, 1e-7)
    members = search.to_members()
    Search.from_members(members)
    members["rivals"][0] |= change
    with pytest.raises(DataError):
        Search.from_members(members)


def test_likelihoods_of_other_examples_are_refused() -> None:
    datasets = hospitals(*table("quasi"))
    estimate = estimate_of(fit(datasets, penalty=True)[0])
    search = Search(estimate.bounds([0]))
    points = [evaluate(datasets[:2], theta, penalty=True) for theta in search.models]
    with pytest.raises(DataError, match="of the 50 examples"):
        search.take(points, estimate, 1e-7)


def test_a_step_to_where_there_is_no_information_is_halved_and_given_up_in_the_end() -> None:
    datasets = hospitals(*table("quasi"))
    estimate = estimate_of(fit(datasets, penalty=True)[0])
    _, upper = estimate.bounds([0])
    point = evaluate(datasets, upper.theta, penalty=True)
    first = upper.theta
    for _ in range(13):
        upper.advance(replace(point, loss=np.inf), estimate, 1e-7)
    assert upper.state == "lost"
    np.testing.assert_allclose(upper.theta - estimate.theta, (first - estimate.theta) / 2**13)


def test_a_bound_is_beyond_the_furthest_only_where_the_likelihood_is_too_high_there() -> None:
    """The likelihood is flat to the right: there its model allows any step."""
    datasets = hospitals(*table("overlapping"))
    estimate = estimate_of(fit(datasets, penalty=False)[0])
    _, upper = estimate.bounds([0])
    point = evaluate(datasets, upper.theta, penalty=False)
    assert point.hessian is not None
    flat = replace(point, gradient=0 * point.gradient, hessian=1e-6 * point.hessian)
    high = -(estimate.log_likelihood - 0.5) / point.examples
    upper.advance(replace(flat, loss=high), estimate, 1e-7)
    assert upper.state == "open", "the step was not evaluated"
    furthest = estimate.theta[0] + 100 * estimate.error(0)
    np.testing.assert_allclose(upper.theta[0], furthest, rtol=1e-12)
    low = deepcopy(upper)
    low.advance(evaluate(datasets, low.theta, penalty=False), estimate, 1e-7)
    assert low.state == "open", "the likelihood is below the cut at the furthest"
    assert low.theta[0] < furthest
    upper.advance(replace(flat, theta=upper.theta, loss=high), estimate, 1e-7)
    assert upper.state == "none"
