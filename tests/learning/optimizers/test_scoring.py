"""Firth's penalty against the package firthmodels and numerical derivatives."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from firthmodels import FirthLogisticRegression
from penalised_fits import TABLES, evaluate, fit, hard_table, hospitals, table
from scipy.optimize import approx_fprime, minimize, minimize_scalar
from scipy.special import expit
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import scale

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.scoring import Curvature, FisherScoring, information_of
from fl_he.learning.regression import firth
from fl_he.learning.regression.likelihood import examples_of
from fl_he.learning.tables.data import Dataset


def reference(features: np.ndarray, labels: np.ndarray) -> FirthLogisticRegression:
    chosen = FirthLogisticRegression(max_iter=500, xtol=1e-9, gtol=1e-8, max_halfstep=50)
    return chosen.fit(features, labels)


@pytest.mark.parametrize("name", TABLES)
def test_the_fit_is_that_of_firthmodels(name: str) -> None:
    features, labels = table(name)
    point, iterations = fit(hospitals(features, labels), penalty=True)
    other = reference(features, labels)
    errors = np.sqrt(np.diag(firth.inverse(information_of(point), point.theta)))
    expected = np.append(other.coef_, other.intercept_)
    np.testing.assert_allclose((point.theta - expected) / errors, 0.0, atol=1e-6)
    design = np.column_stack([features, np.ones(len(features))])
    p = other.predict_proba(features)[:, 1]
    information = (design * (p * (1 - p))[:, None]).T @ design
    pooled = np.sqrt(np.diag(np.linalg.inv(information)))
    np.testing.assert_allclose(errors, pooled, rtol=1e-6)
    # firthmodels counts an example 1 + h times, so that its standard errors are a bit smaller.
    assert (other.bse_ < errors).all()
    assert -point.examples * point.loss == pytest.approx(other.loglik_, abs=1e-8)
    assert np.abs(point.theta).max() < 30
    assert iterations <= 20


def test_the_gradient_is_the_numerical_one() -> None:
    datasets, theta = hospitals(*table("overlapping")), np.array([0.3, -0.2, 1.0, 0.5])
    point = evaluate(datasets, theta, penalty=True)
    plain = evaluate(datasets, theta, penalty=False)

    def loss(at: np.ndarray) -> float:
        return evaluate(datasets, at, penalty=True).loss

    np.testing.assert_allclose(point.gradient, approx_fprime(theta, loss, 1e-7), atol=1e-6)
    assert point.penalty_gradient is not None
    np.testing.assert_allclose(point.gradient - plain.gradient, point.penalty_gradient)


@pytest.mark.parametrize("unit", [1e-9, 1e9])
def test_units_change_nothing_but_the_unit(unit: float) -> None:
    features, labels = table("separated")
    units = np.array([unit, 1.0])
    (one, steps), (other, same) = (
        fit(hospitals(features * factor, labels), penalty=True) for factor in (1.0, units)
    )
    np.testing.assert_allclose(other.theta * np.append(units, 1.0), one.theta, rtol=1e-7)
    assert same == pytest.approx(steps, abs=1)


@pytest.mark.slow
def test_what_the_steps_tell_of_the_penalty_saves_most_iterations() -> None:
    """Fisher scoring alone takes ten times as many."""
    features, labels = load_breast_cancer(return_X_y=True)
    _, iterations = fit(hospitals(scale(features), labels.astype(float)), penalty=True)
    assert iterations <= 40


def test_the_best_model_of_zeros_has_the_penalty_of_all_columns() -> None:
    """The value of R's logistf, found here by a search along the intercept."""
    features, labels = table("quasi")
    datasets = hospitals(features, labels)

    def loss(intercept: float) -> float:
        theta = np.array([0.0, 0.0, intercept])
        return evaluate(datasets, theta, penalty=True).loss

    best = minimize_scalar(loss, bounds=(-5.0, 5.0), method="bounded", options={"xatol": 1e-9})
    start = evaluate(datasets, np.zeros(3), penalty=False)
    counts = np.array([50 - labels.sum(), labels.sum()])
    null = firth.null_log_likelihood(information_of(start), counts)
    assert null == pytest.approx(-50 * best.fun, abs=1e-9)


def test_a_column_of_zeros_is_in_none_of_it() -> None:
    features, labels = table("quasi")
    wider = np.column_stack([features[:, 0], np.zeros(50), features[:, 1]])
    point, _ = fit(hospitals(wider, labels), penalty=True)
    other, _ = fit(hospitals(features, labels), penalty=True)
    np.testing.assert_allclose(np.delete(point.theta, 1), other.theta, atol=1e-9)
    assert point.theta[1] == 0.0
    assert point.loss == pytest.approx(other.loss, abs=1e-12)
    assert not firth.inverse(information_of(point), point.theta)[1].any()


def test_columns_that_are_combinations_of_others_are_refused() -> None:
    features, labels = table("quasi")
    datasets = hospitals(np.column_stack([features, features.sum(axis=1)]), labels)
    point = evaluate(datasets, np.zeros(4), penalty=True)
    assert point.loss == np.inf
    with pytest.raises(DataError, match="linear combinations"):
        FisherScoring().step(point)


def test_a_step_to_where_there_is_no_information_is_halved() -> None:
    datasets, optimizer = hospitals(*table("separated")), FisherScoring()
    start = evaluate(datasets, np.zeros(3), penalty=True)
    step = optimizer.step(start)
    far = evaluate(datasets, 1e4 * step, penalty=True)
    assert far.loss == np.inf
    np.testing.assert_allclose(optimizer.step(replace(far, theta=step)), step / 2)


def test_scoring_goes_on_from_what_it_remembered() -> None:
    datasets, optimizer = hospitals(*table("rare")), FisherScoring()
    assert json.loads(json.dumps(optimizer.to_members())) == optimizer.to_members()
    theta = np.zeros(3)
    for _ in range(4):
        theta = optimizer.step(evaluate(datasets, theta, penalty=True))
    other = FisherScoring()
    other.restore(json.loads(json.dumps(optimizer.to_members())))
    point = evaluate(datasets, theta, penalty=True)
    np.testing.assert_array_equal(other.step(point), optimizer.step(point))


def test_other_hospitals_make_another_penalty() -> None:
    datasets, optimizer = hospitals(*table("overlapping")), FisherScoring()
    theta = optimizer.step(evaluate(datasets, np.zeros(4), penalty=True))
    optimizer.step(evaluate(datasets, theta, penalty=True))
    fewer = evaluate(datasets[:2], theta, penalty=True)
    expected = FisherScoring()
    np.testing.assert_allclose(optimizer.step(fewer), expected.step(fewer), rtol=1e-12)


def test_a_dataset_of_one_class_has_an_estimate() -> None:
    features, _ = table("overlapping")
    names = ("x0", "x1", "x2")
    point, _ = fit([Dataset(features, np.zeros(90), names)], penalty=True)
    assert np.isfinite(point.theta).all()


@pytest.mark.parametrize("theta", [[3.0, 1e5, 0.0], [0.0, 0.0, 1e5]])
def test_a_column_whose_information_has_vanished_is_no_column_of_zeros(theta: list[float]) -> None:
    point = evaluate(hospitals(*table("quasi")), np.array(theta), penalty=True)
    assert point.loss == np.inf


def test_a_root_that_rounding_made_too_large_makes_no_leverage_above_one() -> None:
    """Otherwise the sum would be too large to encrypt, and the hospital would be left out."""
    features, labels = table("overlapping")
    (dataset, *_) = hospitals(features, labels)
    examples = examples_of(dataset, np.array([0.5, 0.1, 1.0, 0.2]))
    found = firth.adjustment_sum(examples, 1e20 * np.eye(4))
    assert (np.abs(found) <= np.abs(examples.design).sum(axis=0) / 2).all()


def collinear(seed: int, noise: float, copies: int) -> tuple[np.ndarray, np.ndarray]:
    """Return standardised columns, some of which are equal but for noise, and labels."""
    rng = np.random.default_rng(seed)
    rows = int(rng.choice([40, 100, 400]))
    base = rng.normal(size=rows)
    equal = [base + noise * rng.normal(size=rows) for _ in range(copies)]
    features = scale(np.column_stack([*equal, rng.normal(size=rows)]))
    risk = features[:, 0] if seed % 2 else 1e9 * (features[:, 0] - 0.4)
    return features, (rng.random(rows) < 1 / (1 + np.exp(-np.clip(risk, -40, 40)))).astype(float)


def in_orthogonal_columns(
    features: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return Firth's estimates, standard errors and penalised log likelihood.

    All is computed in orthogonal columns, which lose no digits, by QR of their weighted rows.
    """
    rows, upper = np.linalg.qr(np.column_stack([features, np.ones(len(features))]))
    beta = np.zeros(len(upper))
    for _ in range(3000):
        p = 1 / (1 + np.exp(-rows @ beta))
        q, r = np.linalg.qr(rows * np.sqrt(p * (1 - p))[:, None])
        score = rows.T @ (labels - p + np.square(q).sum(axis=1) * (0.5 - p))
        beta = beta + (step := np.linalg.solve(r.T @ r, score))
        if np.abs(step).max() < 1e-13:
            break
    errors = np.linalg.norm(np.linalg.inv(r @ upper), axis=1)
    likelihood = -np.logaddexp(0, (1 - 2 * labels) * (rows @ beta)).sum()
    penalty = np.log(np.abs(np.diag(r @ upper))).sum()
    return np.linalg.solve(upper, beta), errors, float(likelihood + penalty)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("noise", "copies"), [(3.35e-5, 3), (3.35e-5, 4), (1e-5, 2), (1e-3, 4)])
def test_columns_that_are_equal_but_for_noise_have_their_estimates(
    seed: int, noise: float, copies: int
) -> None:
    features, labels = collinear(seed, noise, copies)
    point, iterations = fit(hospitals(features, labels), penalty=True)
    estimates, errors, log_likelihood = in_orthogonal_columns(features, labels)
    np.testing.assert_allclose(point.theta / errors, estimates / errors, rtol=0, atol=1e-7)
    found = np.sqrt(np.diag(firth.inverse(information_of(point), point.theta)))
    np.testing.assert_allclose(found, errors, rtol=1e-5 if noise < 3e-5 else 1e-6)
    assert -point.examples * point.loss == pytest.approx(log_likelihood, abs=1e-8)
    assert iterations <= 40


def skewed(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return standardised columns with values far out, and labels of which some overlap."""
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(20, 200)), int(rng.integers(2, 5))
    features = scale(np.exp(2 * rng.normal(size=(rows, columns))))
    risk = features @ rng.normal(size=columns)
    risk = [1.0, 10.0, 1e6][seed % 3] * (risk - np.quantile(risk, 0.6))
    return features, (rng.random(rows) < expit(risk)).astype(float)


def highest_of_all(features: np.ndarray, labels: np.ndarray) -> float:
    """Return the largest penalised log likelihood of climbs by scipy from several models."""
    design = np.column_stack([features, np.ones(len(features))])
    rows, upper = np.linalg.qr(design)
    rng, units = np.random.default_rng(0), np.sqrt(len(rows))

    def lost(beta: np.ndarray) -> float:
        margins = rows @ beta
        spread = np.linalg.qr(rows * np.sqrt(expit(margins) * expit(-margins))[:, None])[1]
        with np.errstate(divide="ignore"):
            penalty = np.log(np.abs(np.diag(spread @ upper))).sum()
        return float(np.logaddexp(0, (1 - 2 * labels) * margins).sum() - penalty)

    begun = [units * size * rng.normal(size=len(upper)) for size in (0, 3, 10) for _ in range(4)]
    return -float(min(minimize(lost, one, method="Nelder-Mead").fun for one in begun))


@pytest.mark.parametrize(
    ("name", "seed", "lower"),
    [
        *(("hard", 33, True), ("hard", 63, True), ("skewed", 31, True), ("skewed", 103, True)),
        ("overlapping", 0, False),
    ],
)
def test_estimates_at_a_lower_maximum_are_far_from_the_likelihoods(
    name: str, seed: int, *, lower: bool
) -> None:
    made = {"hard": hard_table, "skewed": skewed}
    features, labels = made[name](seed) if name in made else table(name)
    point, _ = fit(hospitals(features, labels), penalty=True)
    found = highest_of_all(features, labels) + point.examples * point.loss
    assert bool(found > 0.5) is lower
    curvature, information = Curvature(), information_of(point)
    assert curvature.shift(information, point.rest) is None
    assert point.penalty_gradient is not None
    curvature.learn(point.theta, point.examples * point.penalty_gradient, information)
    shift = curvature.shift(information, point.rest)
    assert shift is not None
    assert (shift > 0.5) is lower
