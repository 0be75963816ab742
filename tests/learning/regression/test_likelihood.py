"""Loss, gradient and Hessian of any number of classes, against numerical derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from sklearn.metrics import log_loss

from fl_he.learning.errors import DataError
from fl_he.learning.regression import likelihood, parameters
from fl_he.learning.regression.registry import family_for
from fl_he.learning.tables.data import Dataset

RNG = np.random.default_rng(7)
FEATURES = RNG.standard_normal((60, 3))
NAMES = ("a", "b", "c")
TWO = Dataset(FEATURES, RNG.integers(0, 2, 60).astype(float), NAMES)
FOUR = Dataset(FEATURES, RNG.integers(0, 4, 60).astype(float), NAMES, classes=("p", "q", "r", "s"))


def weights_of(data: Dataset) -> np.ndarray:
    return np.linspace(0.5, 2.0, data.class_count)


@pytest.mark.parametrize("data", [TWO, FOUR], ids=["two", "four"])
@pytest.mark.parametrize("weighted", [False, True])
def test_derivatives_are_the_numerical_ones(data: Dataset, weighted: bool) -> None:
    weights = weights_of(data) if weighted else None
    theta = RNG.standard_normal(family_for(data.class_count).count(3, data.class_count))

    def loss(at: np.ndarray) -> float:
        coefficients, intercepts = parameters.split(at, 3)
        margins = FEATURES @ coefficients.T + intercepts
        if data.class_count == 2:
            margins = np.column_stack([np.zeros(60), margins])
        p = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
        sample_weight = None if weights is None else weights[data.labels.astype(int)]
        mean = log_loss(
            data.labels, p, labels=np.arange(data.class_count), sample_weight=sample_weight
        )
        return float(mean if sample_weight is None else mean * sample_weight.mean())

    def gradient(at: np.ndarray) -> np.ndarray:
        return likelihood.mean_gradient(likelihood.examples_of(data, at, weights))

    examples = likelihood.examples_of(data, theta, weights)
    assert np.mean(examples.losses) == pytest.approx(loss(theta))
    np.testing.assert_allclose(gradient(theta), approx_fprime(theta, loss), atol=1e-6)
    hessian = likelihood.hessian_sum(examples) / 60
    numerical = approx_fprime(theta, gradient)
    np.testing.assert_allclose(hessian, numerical, atol=1e-6)
    triangle = likelihood.upper_triangle(hessian)
    assert len(triangle) == len(theta) * (len(theta) + 1) // 2
    np.testing.assert_allclose(likelihood.from_upper_triangle(triangle, len(theta)), hessian)
    sums = likelihood.derivative_parts(examples)[0]
    mean, slope, curvature = likelihood.mean_derivatives(sums, len(theta), 60)
    assert mean == pytest.approx(loss(theta))
    np.testing.assert_allclose(slope, gradient(theta), atol=1e-15)
    np.testing.assert_allclose(curvature, hessian)


@pytest.mark.parametrize("data", [TWO, FOUR], ids=["two", "four"])
def test_an_examples_own_gradient_is_the_product_of_its_rows(data: Dataset) -> None:
    theta = RNG.standard_normal(family_for(data.class_count).count(3, data.class_count))
    examples = likelihood.examples_of(data, theta)
    each = likelihood.example_gradients(examples)
    np.testing.assert_allclose(each.mean(axis=0), likelihood.mean_gradient(examples))
    for i in (0, 17):
        alone = likelihood.examples_of(data.take(np.array([i])), theta)
        by_class = np.outer(examples.residuals[i], examples.design[i])
        own = parameters.join(by_class[:, :-1], by_class[:, -1])
        np.testing.assert_allclose(own, likelihood.mean_gradient(alone))
        np.testing.assert_allclose(own, each[i])


def test_large_margins_overflow_nothing() -> None:
    theta = 1e4 * RNG.standard_normal(family_for(4).count(3, 4))
    examples = likelihood.examples_of(FOUR, theta)
    assert np.isfinite(examples.losses).all()
    assert np.isfinite(likelihood.hessian_sum(examples)).all()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="must have 16 parameters, got 4"):
        likelihood.examples_of(FOUR, np.zeros(4))
    with pytest.raises(DataError, match="one for each of 2 classes, got 3"):
        likelihood.examples_of(TWO, np.zeros(4), np.ones(3))
    with pytest.raises(DataError, match="must have 10 values, got 9"):
        likelihood.from_upper_triangle(np.zeros(9), 4)
    with pytest.raises(DataError, match="for each row of a model, got 7"):
        parameters.split(np.zeros(7), 3)
