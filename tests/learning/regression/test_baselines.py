from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from fl_he.learning.errors import DataError
from fl_he.learning.regression import logistic
from fl_he.learning.regression.baselines import Figures, figures, fit_alone
from fl_he.learning.tables.data import Dataset, load_breast_cancer
from fl_he.learning.tables.partition import partition
from fl_he.learning.tables.scaling import standardise

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def cancer() -> Dataset:
    return standardise(load_breast_cancer())[0]


def gradient_size(dataset: Dataset, fit: tuple[Array, float], C: float) -> float:
    slope, by_intercept = logistic.gradient(dataset.features, dataset.labels, *fit)
    slope = slope + logistic.penalty_gradient(fit[0], C, dataset.examples)
    return max(float(np.abs(slope).max()), abs(by_intercept))


@pytest.mark.parametrize("C", [0.1, 1.0, 10.0])
def test_the_fit_converges_without_warnings(cancer: Dataset, C: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fit_alone(cancer, C)
    assert gradient_size(cancer, fit, C) < 1e-7
    assert fit[0].shape == (30,)
    assert isinstance(fit[1], float)


@pytest.mark.parametrize("C", [None, math.inf])
def test_no_penalty_is_fitted_with_the_default_of_scikit_learn(
    cancer: Dataset, C: float | None
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = fit_alone(cancer, C)
    assert gradient_size(cancer, fit, LogisticRegression().C) < 1e-7


def test_small_separable_hospitals_are_fitted_without_warnings(cancer: Dataset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for part in partition(cancer.labels, 40, "uneven", 0.5, seed=1):
            coefficients, intercept = fit_alone(cancer.take(part), None)
            assert np.isfinite(coefficients).all()
            assert math.isfinite(intercept)


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("examples", [1, 20])
def test_one_class_gives_the_constant_model(cancer: Dataset, label: float, examples: int) -> None:
    rows = np.flatnonzero(cancer.labels == label)[:examples]
    coefficients, intercept = fit_alone(cancer.take(rows), 1.0)
    np.testing.assert_array_equal(coefficients, np.zeros(30))
    predicted = logistic.probabilities(cancer.features, coefficients, intercept)
    succession = (examples + 1) / (examples + 2)
    np.testing.assert_allclose(predicted, succession if label == 1.0 else 1 - succession)
    assert figures(predicted, cancer.labels).accuracy == np.mean(cancer.labels == label)


@pytest.mark.parametrize("C", [0.0, -1.0, math.nan])
@pytest.mark.parametrize("rows", [[0, 1], [0, 19]])
def test_the_strength_is_positive(cancer: Dataset, C: float, rows: list[int]) -> None:
    with pytest.raises(ValueError, match="C must be greater than 0, got"):
        fit_alone(cancer.take(np.array(rows)), C)


def test_figures_are_those_counted_by_hand() -> None:
    labels = np.array([1.0, 1.0, 1.0, 0.0, 0.0])
    probabilities = np.array([0.9, 0.8, 0.3, 0.6, 0.5])
    result = figures(probabilities, labels)
    # Predicted: 1 1 0 1 0. Of the six pairs of a 1 and a 0, four have the 1 higher.
    assert result.accuracy == pytest.approx(3 / 5)
    assert result.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert result.roc_auc == pytest.approx(4 / 6)
    assert result.log_loss == pytest.approx(-np.log([0.9, 0.8, 0.3, 0.4, 0.5]).mean())


def test_figures_agree_with_the_training_loss(cancer: Dataset) -> None:
    coefficients, intercept = np.full(30, -0.05), 0.2
    result = figures(
        logistic.probabilities(cancer.features, coefficients, intercept), cancer.labels
    )
    arguments = (cancer.features, cancer.labels, coefficients, intercept)
    assert result.accuracy == logistic.accuracy(*arguments)
    assert result.log_loss == pytest.approx(logistic.log_loss(*arguments))


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_figures_of_one_class_have_no_roc_and_no_warnings(label: float) -> None:
    probabilities = np.array([0.9, 0.2, 0.8, 0.7])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = figures(probabilities, np.full(4, label))
    share = 0.75 if label == 1.0 else 0.25
    loss = -np.log(probabilities if label == 1.0 else 1 - probabilities).mean()
    assert result.accuracy == result.balanced_accuracy == share
    assert math.isnan(result.roc_auc)
    assert result.log_loss == pytest.approx(loss)


def test_certain_and_wrong_probabilities_have_a_finite_loss() -> None:
    result = figures(np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    assert result == Figures(0.0, 0.0, 0.0, result.log_loss)
    assert 30.0 < result.log_loss < math.inf


@pytest.mark.parametrize(
    ("probabilities", "labels"),
    [(np.ones(2), np.ones(3)), (np.ones((2, 1)), np.ones((2, 1))), (np.ones(0), np.ones(0))],
)
def test_figures_need_one_shape(probabilities: Array, labels: Array) -> None:
    with pytest.raises(DataError, match=r"must have one shape \(m,\), m > 0, got"):
        figures(probabilities, labels)
