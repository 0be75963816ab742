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
from fl_he.learning.optimizers.base import Point, penalised
from fl_he.learning.regression.likelihood import examples_of, mean_gradient
from fl_he.learning.regression.logistic import LOGISTIC
from fl_he.learning.tables.built_in import load_built_in
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.scaling import standardise

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def cancer() -> Dataset:
    return standardise(load_built_in("breast_cancer"))[0]


def random_problem(seed: int = 7) -> tuple[Dataset, Array]:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(40, 5))
    labels = (rng.random(40) < 0.4).astype(np.float64)
    return Dataset(features, labels, tuple("abcde")), np.append(rng.normal(size=5), 0.3)


def log_loss(data: Dataset, theta: Array) -> float:
    return float(np.mean(examples_of(data, theta).losses))


def gradient(data: Dataset, theta: Array) -> Array:
    return mean_gradient(examples_of(data, theta))


def test_loss_and_accuracy_are_those_of_scikit_learn() -> None:
    data, theta = random_problem()
    model = LogisticRegression()
    model.classes_ = np.array([0.0, 1.0])
    model.coef_ = theta[None, :-1]
    model.intercept_ = theta[-1:]
    expected = model.predict_proba(data.features)[:, 1]
    margins = LOGISTIC.margins(data.features, theta)
    np.testing.assert_allclose(LOGISTIC.means(margins)[:, 0], expected, rtol=1e-12)
    assert log_loss(data, theta) == pytest.approx(metrics.log_loss(data.labels, expected))
    assert np.mean(examples_of(data, theta).hits) == model.score(data.features, data.labels)


def test_the_gradient_is_that_of_finite_differences() -> None:
    data, theta = random_problem()
    numeric = approx_fprime(theta, lambda point: log_loss(data, point), 1e-6)
    np.testing.assert_allclose(gradient(data, theta), numeric, atol=1e-6)


def test_the_weighted_mean_of_gradients_is_the_gradient_of_the_pooled_data() -> None:
    data, theta = random_problem()
    parts = [np.arange(0, 3), np.arange(3, 17), np.arange(17, 40)]
    weights = [3, 14, 23]
    results = [gradient(data.take(part), theta) for part in parts]
    np.testing.assert_allclose(np.average(results, axis=0, weights=weights), gradient(data, theta))


@pytest.mark.parametrize("margin", [1e-300, 30.0, 50.0, 700.0, 800.0, 1e300])
@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_no_margin_overflows_or_loses_precision(margin: float, label: float, sign: float) -> None:
    data, theta = (
        Dataset(np.array([[1.0]]), np.array([label]), ("a",)),
        np.array([sign * margin, 0.0]),
    )
    exponent = -sign * margin if label == 1.0 else sign * margin
    if abs(exponent) < 1e3:
        with localcontext() as context:
            context.prec = 400
            exact = float((1 + Decimal(exponent).exp()).ln())
    else:
        exact = max(exponent, 0.0)
    with np.errstate(over="raise", invalid="raise"):
        loss = log_loss(data, theta)
        slope = gradient(data, theta)
    assert loss == pytest.approx(exact, rel=1e-12, abs=0.0)
    assert math.isfinite(slope[0])


def test_ties_are_predicted_as_zero() -> None:
    data = Dataset(np.ones((4, 2)), np.array([0.0, 0.0, 0.0, 1.0]), ("a", "b"))
    assert np.mean(examples_of(data, np.zeros(3)).hits) == 0.75


@pytest.mark.parametrize("C", [0.01, 1.0, 50.0])
def test_the_optimum_of_scikit_learn_has_no_gradient(cancer: Dataset, C: float) -> None:
    fit = LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(cancer.features, cancer.labels)
    theta = np.append(fit.coef_[0], fit.intercept_)
    slope = gradient(cancer, theta)
    point = penalised(Point(theta, 0.0, slope, cancer.examples), 30, C)
    np.testing.assert_allclose(point.gradient, 0.0, atol=1e-7)
    assert np.abs(slope[:-1]).max() > 1e-4


def test_loss_and_penalty_are_the_objective_of_scikit_learn() -> None:
    data, theta = random_problem()
    margins = data.features @ theta[:-1] + theta[-1]
    losses = np.where(data.labels == 1.0, np.log1p(np.exp(-margins)), np.log1p(np.exp(margins)))
    objective = 0.5 * np.sum(theta[:-1] ** 2) + 3.0 * np.sum(losses)
    point = penalised(Point(theta, log_loss(data, theta), np.zeros(6), 40), 5, 3.0)
    assert point.loss == pytest.approx(objective / (3.0 * 40))


@pytest.mark.parametrize(
    ("features", "labels", "theta", "message"),
    [
        (np.ones((3, 2)), np.ones((3, 1)), np.ones(3), "labels must have 1 axes"),
        (np.ones((3, 2)), np.ones(1), np.ones(3), "labels"),
        (np.ones((3, 2)), np.ones(3), np.ones(4), "must have 3 parameters, got 4"),
        (np.ones((3, 2)), np.ones(3), np.ones((3, 1)), "must have 3 parameters"),
        (np.ones((0, 2)), np.ones(0), np.ones(3), "features"),
        (np.ones(2), np.ones(2), np.ones(3), "features must have 2 axes"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    features: Array, labels: Array, theta: Array, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        examples_of(Dataset(features, labels, ("a", "b")), theta)


@pytest.mark.parametrize(
    ("features", "theta", "message"),
    [
        (np.ones((3, 2)), np.ones(4), "3 for each row of a model, got 4"),
        (np.ones((0, 2)), np.ones(3), "features must have rows"),
        (np.ones(2), np.ones(3), "features must have rows"),
    ],
)
def test_margins_of_shapes_that_do_not_fit_are_refused(
    features: Array, theta: Array, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        LOGISTIC.margins(features, theta)
