"""Profile likelihood bounds beside the package firthmodels and a search by scipy."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from firthmodels import FirthLogisticRegression
from penalised_fits import TABLES, estimate_of, evaluate, fit, hospitals, search, table
from scipy.optimize import minimize

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers import profile
from fl_he.learning.optimizers.profile import Bound


@pytest.mark.parametrize("name", TABLES)
def test_penalised_bounds_are_those_of_firthmodels(name: str) -> None:
    features, labels = table(name)
    datasets = hospitals(features, labels)
    estimate = estimate_of(fit(datasets, penalty=True)[0])
    columns = range(features.shape[1])
    bounds = search(datasets, estimate, columns, penalty=True)
    other = FirthLogisticRegression(max_iter=500, xtol=1e-9, gtol=1e-8, max_halfstep=50)
    other.fit(features, labels)
    expected = other.conf_int(method="pl", tol=1e-9, max_iter=500)[:-1]
    assert [bound.state for bound in bounds] == ["found"] * len(bounds)
    found = np.array([bound.theta[bound.column] for bound in bounds]).reshape(-1, 2)
    errors = np.array([estimate.error(column) for column in columns])
    np.testing.assert_allclose((found - expected) / errors[:, None], 0.0, atol=1e-6)


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


def test_bounds_go_on_from_what_they_remembered() -> None:
    datasets = hospitals(*table("separated"))
    estimate = estimate_of(fit(datasets, penalty=True)[0])
    bounds = estimate.bounds([0, 1])
    for _ in range(3):
        points = [evaluate(datasets, bound.theta, penalty=True) for bound in bounds]
        profile.advance(bounds, points, estimate, 1e-7)
        members = json.loads(json.dumps([bound.to_members() for bound in bounds]))
        bounds = [Bound.from_members(one) for one in members]
        assert [bound.to_members() for bound in bounds] == members


@pytest.mark.parametrize("change", [{"state": "else"}, {"theta": None}, {"side": True}])
def test_a_damaged_bound_is_refused(change: dict[str, object]) -> None:
    datasets = hospitals(*table("quasi"))
    (bound, _) = estimate_of(fit(datasets, penalty=True)[0]).bounds([0])
    with pytest.raises(DataError):
        Bound.from_members({**bound.to_members(), **change})


def test_likelihoods_of_other_examples_are_refused() -> None:
    datasets = hospitals(*table("quasi"))
    estimate = estimate_of(fit(datasets, penalty=True)[0])
    bounds = estimate.bounds([0])
    points = [evaluate(datasets[:2], bound.theta, penalty=True) for bound in bounds]
    with pytest.raises(DataError, match="of the 50 examples"):
        profile.advance(bounds, points, estimate, 1e-7)


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


def test_a_bound_that_is_very_far_away_is_taken_to_be_infinite() -> None:
    """The likelihood is flat to the right: there its model allows any step."""
    datasets = hospitals(*table("overlapping"))
    estimate = estimate_of(fit(datasets, penalty=False)[0])
    _, upper = estimate.bounds([0])
    point = evaluate(datasets, upper.theta, penalty=False)
    assert point.hessian is not None
    flat = replace(point, gradient=0 * point.gradient, hessian=1e-6 * point.hessian)
    upper.advance(flat, estimate, 1e-7)
    assert upper.state == "none"
