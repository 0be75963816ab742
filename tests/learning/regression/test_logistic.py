from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import approx_fprime
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

from fl_he.learning.errors import DataError
from fl_he.learning.regression import logistic
from fl_he.learning.tables.data import Dataset, load_breast_cancer
from fl_he.learning.tables.scaling import standardise

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def cancer() -> Dataset:
    return standardise(load_breast_cancer())[0]


def random_problem(seed: int = 7) -> tuple[Array, Array, Array, float]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(40, 5))
    labels = (rng.random(40) < 0.4).astype(np.float64)
    return features, labels, rng.normal(size=5), 0.3


def test_loss_and_accuracy_are_those_of_scikit_learn() -> None:
    features, labels, coefficients, intercept = random_problem()
    model = LogisticRegression()
    model.classes_ = np.array([0.0, 1.0])
    model.coef_ = coefficients[None, :]
    model.intercept_ = np.array([intercept])
    expected = model.predict_proba(features)[:, 1]
    arguments = (features, labels, coefficients, intercept)
    np.testing.assert_allclose(
        logistic.probabilities(features, coefficients, intercept), expected, rtol=1e-12
    )
    assert logistic.log_loss(*arguments) == pytest.approx(metrics.log_loss(labels, expected))
    assert logistic.accuracy(*arguments) == model.score(features, labels)


def test_the_gradient_is_that_of_finite_differences() -> None:
    features, labels, coefficients, intercept = random_problem()

    def loss(point: Array) -> float:
        return logistic.log_loss(features, labels, point[:-1], float(point[-1]))

    numeric = approx_fprime(np.append(coefficients, intercept), loss, 1e-6)
    by_coefficients, by_intercept = logistic.gradient(features, labels, coefficients, intercept)
    np.testing.assert_allclose(by_coefficients, numeric[:-1], atol=1e-6)
    assert by_intercept == pytest.approx(numeric[-1], abs=1e-6)
    assert by_coefficients.shape == (5,)
    assert isinstance(by_intercept, float)


def test_the_weighted_mean_of_gradients_is_the_gradient_of_the_pooled_data() -> None:
    features, labels, coefficients, intercept = random_problem()
    parts = [slice(0, 3), slice(3, 17), slice(17, 40)]
    weights = [3, 14, 23]
    results = [
        logistic.gradient(features[part], labels[part], coefficients, intercept) for part in parts
    ]
    pooled = logistic.gradient(features, labels, coefficients, intercept)
    np.testing.assert_allclose(
        np.average([result[0] for result in results], axis=0, weights=weights), pooled[0]
    )
    assert np.average([result[1] for result in results], weights=weights) == pytest.approx(
        pooled[1]
    )


@pytest.mark.parametrize("margin", [1e-300, 30.0, 50.0, 700.0, 800.0, 1e300])
@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_no_margin_overflows_or_loses_precision(margin: float, label: float, sign: float) -> None:
    features, labels = np.array([[1.0]]), np.array([label])
    arguments = (features, labels, np.array([sign * margin]), 0.0)
    exponent = -sign * margin if label == 1.0 else sign * margin
    if abs(exponent) < 1e3:
        with localcontext() as context:
            context.prec = 400
            exact = float((1 + Decimal(exponent).exp()).ln())
    else:
        exact = max(exponent, 0.0)
    with np.errstate(over="raise", invalid="raise"):
        loss = logistic.log_loss(*arguments)
        slope, _ = logistic.gradient(*arguments)
    assert loss == pytest.approx(exact, rel=1e-12, abs=0.0)
    assert math.isfinite(slope[0])


def test_ties_are_predicted_as_zero() -> None:
    features = np.ones((4, 2))
    assert logistic.accuracy(features, np.array([0.0, 0.0, 0.0, 1.0]), np.zeros(2), 0.0) == 0.75


@pytest.mark.parametrize("C", [0.01, 1.0, 50.0])
def test_the_optimum_of_scikit_learn_has_no_gradient(cancer: Dataset, C: float) -> None:
    fit = LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(cancer.features, cancer.labels)
    coefficients, intercept = fit.coef_[0], float(fit.intercept_[0])
    slope, by_intercept = logistic.gradient(cancer.features, cancer.labels, coefficients, intercept)
    total = slope + logistic.penalty_gradient(coefficients, C, cancer.examples)
    np.testing.assert_allclose(total, 0.0, atol=1e-7)
    assert by_intercept == pytest.approx(0.0, abs=1e-7)
    assert np.abs(slope).max() > 1e-4


def test_loss_and_penalty_are_the_objective_of_scikit_learn() -> None:
    features, labels, coefficients, intercept = random_problem()
    margins = features @ coefficients + intercept
    losses = np.where(labels == 1.0, np.log1p(np.exp(-margins)), np.log1p(np.exp(margins)))
    objective = 0.5 * np.sum(coefficients**2) + 3.0 * np.sum(losses)
    ours = logistic.log_loss(features, labels, coefficients, intercept) + logistic.penalty(
        coefficients, 3.0, 40
    )
    assert ours == pytest.approx(objective / (3.0 * 40))


def test_the_gradient_of_the_penalty_is_that_of_finite_differences() -> None:
    coefficients = np.array([0.5, -2.0, 0.0])
    numeric = approx_fprime(coefficients, lambda w: logistic.penalty(w, 0.7, 12), 1e-6)
    np.testing.assert_allclose(logistic.penalty_gradient(coefficients, 0.7, 12), numeric, atol=1e-5)


@pytest.mark.parametrize("C", [None, math.inf])
def test_no_strength_is_no_penalty(C: float | None) -> None:
    assert logistic.penalty(np.array([1.0, 2.0]), C, 5) == 0.0
    assert logistic.penalty_gradient(np.array([1.0, 2.0]), C, 5).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("C", [0.0, -1.0, math.nan])
def test_the_strength_is_positive(C: float) -> None:
    with pytest.raises(ValueError, match="C must be greater than 0, got"):
        logistic.penalty_gradient(np.ones(2), C, 5)
    with pytest.raises(ValueError, match="C must be greater than 0, got"):
        logistic.penalty(np.ones(2), C, 5)


@pytest.mark.parametrize("C", [None, 1.0])
def test_a_penalty_needs_examples(C: float | None) -> None:
    with pytest.raises(ValueError, match="examples must be at least 1, got 0"):
        logistic.penalty_gradient(np.ones(2), C, 0)


@pytest.mark.parametrize("name", ["log_loss", "gradient", "accuracy"])
@pytest.mark.parametrize(
    ("features", "labels", "coefficients", "message"),
    [
        (np.ones((3, 2)), np.ones((3, 1)), np.ones(2), r"labels must have shape \(3,\), got"),
        (np.ones((3, 2)), np.ones(1), np.ones(2), r"labels must have shape \(3,\), got"),
        (np.ones((3, 2)), np.ones(3), np.ones(3), "one column for each coefficient"),
        (np.ones((3, 2)), np.ones(3), np.ones((2, 1)), "one column for each coefficient"),
        (np.ones((0, 2)), np.ones(0), np.ones(2), "features must have rows"),
        (np.ones(2), np.ones(2), np.ones(2), "features must have rows"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    name: str, features: Array, labels: Array, coefficients: Array, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        getattr(logistic, name)(features, labels, coefficients, 0.0)
