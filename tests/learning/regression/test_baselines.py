from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.base import Point, penalised
from fl_he.learning.regression.baselines import figures, fit, fit_pooled
from fl_he.learning.regression.likelihood import examples_of, mean_gradient
from fl_he.learning.regression.registry import class_probabilities
from fl_he.learning.tables.built_in import load_built_in
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.partition import partition
from fl_he.learning.tables.scaling import standardise

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def cancer() -> Dataset:
    return standardise(load_built_in("breast_cancer"))[0]


def gradient_size(dataset: Dataset, theta: Array, C: float) -> float:
    slope = mean_gradient(examples_of(dataset, theta))
    point = penalised(Point(theta, 0.0, slope, dataset.examples), len(theta) - 1, C)
    return float(np.abs(point.gradient).max())


def test_without_a_penalty_the_pooled_fit_is_the_maximum_of_the_likelihood(
    cancer: Dataset,
) -> None:
    three = replace(cancer, features=cancer.features[:, :3], feature_names=("a", "b", "c"))
    theta, C = fit_pooled(three, None, balanced=False)
    assert C is None
    assert float(np.abs(mean_gradient(examples_of(three, theta))).max()) < 1e-7


def test_separable_data_are_fitted_with_the_default_penalty(cancer: Dataset) -> None:
    for dataset in (cancer, replace(cancer, labels=(cancer.features[:, 0] > 0).astype(float))):
        theta, C = fit_pooled(dataset, None, balanced=False)
        assert C == LogisticRegression().C
        np.testing.assert_array_equal(theta, fit(dataset, 1.0))


@pytest.mark.parametrize("balanced", [True, False])
def test_an_optimum_with_large_margins_is_the_pooled_fit(*, balanced: bool) -> None:
    rng = np.random.default_rng(1)
    heavy = rng.standard_cauchy(200)
    labels = (rng.random(200) < 1 / (1 + np.exp(-0.2 * np.clip(heavy, -10, 10)))).astype(float)
    dataset = standardise(Dataset(heavy[:, None], labels, ("x",)))[0]
    theta, C = fit_pooled(dataset, None, balanced=balanced)
    assert C is None
    assert np.abs(dataset.features @ theta[:1] + theta[1]).max() > 30


@pytest.mark.parametrize(
    ("columns", "events", "intercept"),
    [
        pytest.param([[0, 1] * 8, [1, 1, 2, 2] * 4], [0] * 8 + [1] * 8, 0.0, id="starts there"),
        pytest.param(
            [[60] * 120, [1] * 120], [1] * 45 + [0] * 75, math.log(45 / 75), id="constant"
        ),
    ],
)
@pytest.mark.parametrize("classes", [2, 3])
def test_an_optimum_that_a_solver_warns_at_is_the_pooled_fit(
    columns: list[list[float]], events: list[float], intercept: float, classes: int
) -> None:
    """Each value of each feature has the same odds: the maximum is their logarithm, and zeros.

    As many events of a third class leave the log odds of the other two the same.
    """
    features, labels = np.array(columns, dtype=float).T, np.array(events, dtype=float)
    if classes == 3:
        features = np.vstack([features, features[labels == 1.0]])
        labels = np.append(labels, np.full(np.count_nonzero(labels), 2.0))
    names = ("a", "b", "c") if classes == 3 else ()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theta, C = fit_pooled(
            Dataset(features, labels, ("x", "z"), classes=names), None, balanced=False
        )
    assert C is None
    slopes, ends = (theta[:2], theta[2:]) if classes == 2 else (theta[:6], theta[6:])
    np.testing.assert_allclose(slopes, 0.0, atol=1e-7)
    assert ends[-1] - (ends[0] if classes == 3 else 0.0) == pytest.approx(intercept, abs=1e-7)


def test_another_solver_is_tried_where_the_first_one_is_not_exact() -> None:
    rng = np.random.default_rng(136)
    heavy = rng.standard_t(0.6, size=(100, 3))
    labels = np.where(rng.random(100) < 0.3, 2.0, rng.random(100) < 0.3)
    dataset = standardise(Dataset(heavy, labels, ("x", "y", "z"), classes=("a", "b", "c")))[0]
    theta, C = fit_pooled(dataset, None, balanced=False)
    assert C is None
    independent = sm.MNLogit(labels, np.column_stack([dataset.features, np.ones(100)])).fit(
        method="newton", maxiter=1000, tol=1e-12, disp=False
    )
    found = -float(examples_of(dataset, theta).losses.sum())
    assert found == pytest.approx(independent.llf, abs=1e-8)


def test_a_solver_that_ends_far_out_on_separated_data_is_not_at_an_optimum() -> None:
    """All patients with the code are of one class; the other column has heavy tails."""
    rng = np.random.default_rng(48)
    heavy, code = rng.standard_t(0.6, size=60), (rng.random(60) < 0.2).astype(float)
    labels = np.maximum(code, rng.random(60) < 0.4)
    dataset = Dataset(np.column_stack([code, heavy]), labels, ("code", "heavy"))
    assert fit_pooled(dataset, None, balanced=False)[1] == LogisticRegression().C


def test_quasi_separated_data_have_no_unpenalised_pooled_fit() -> None:
    rng = np.random.default_rng(1)
    code, other = (rng.random(200) < 0.2).astype(float), rng.normal(size=200)
    labels = np.maximum(code, rng.random(200) < 0.4)
    dataset = standardise(Dataset(np.column_stack([code, other]), labels, ("code", "other")))[0]
    assert fit_pooled(dataset, None, balanced=False)[1] == LogisticRegression().C


@pytest.mark.parametrize("C", [0.1, 1.0, 10.0])
def test_the_fit_converges_without_warnings(cancer: Dataset, C: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theta = fit(cancer, C)
    assert gradient_size(cancer, theta, C) < 1e-7
    assert theta.shape == (31,)


@pytest.mark.parametrize("family", ["gaussian", "poisson", "gamma"])
@pytest.mark.parametrize("C", [0.03, 2.0])
def test_a_fit_to_numbers_has_the_penalty_of_the_training(family: str, C: float) -> None:
    """The penalty is by the sum of the losses, however large the exposures are."""
    rng = np.random.default_rng(4)
    features, exposure = rng.normal(size=(120, 2)), rng.uniform(0.1, 30.0, 120)
    means = exposure * np.exp(features @ [0.4, -0.3] - 1.0)
    labels = rng.poisson(means) if family == "poisson" else means * rng.gamma(2.0, 0.5, 120)
    exposed = None if family == "gaussian" else exposure
    dataset = Dataset(features, labels.astype(float), ("a", "b"), family=family, exposure=exposed)
    assert gradient_size(dataset, fit(dataset, C), C) < 1e-6


@pytest.mark.parametrize("C", [None, math.inf])
def test_no_penalty_is_fitted_with_the_default_of_scikit_learn(
    cancer: Dataset, C: float | None
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theta = fit(cancer, C)
    assert gradient_size(cancer, theta, LogisticRegression().C) < 1e-7


def test_small_separable_hospitals_are_fitted_without_warnings(cancer: Dataset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for part in partition(cancer.labels, 40, "uneven", 0.5, seed=1):
            assert np.isfinite(fit(cancer.take(part), None)).all()


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("examples", [1, 20])
def test_one_class_gives_the_constant_model(cancer: Dataset, label: float, examples: int) -> None:
    rows = np.flatnonzero(cancer.labels == label)[:examples]
    theta = fit(cancer.take(rows), 1.0)
    np.testing.assert_array_equal(theta[:-1], np.zeros(30))
    predicted = class_probabilities(cancer, theta)
    succession = (examples + 1) / (examples + 2)
    np.testing.assert_allclose(predicted[:, 1], succession if label == 1.0 else 1 - succession)
    assert figures(predicted, cancer.labels)["accuracy"] == np.mean(cancer.labels == label)


@pytest.mark.parametrize("C", [0.0, -1.0, math.nan])
@pytest.mark.parametrize("rows", [[0, 1], [0, 19]])
def test_the_strength_is_positive(cancer: Dataset, C: float, rows: list[int]) -> None:
    with pytest.raises(ValueError, match="C must be greater than 0, got"):
        fit(cancer.take(np.array(rows)), C)


def both(probability: Array) -> Array:
    return np.column_stack([1.0 - probability, probability])


def test_figures_are_those_counted_by_hand() -> None:
    labels = np.array([1.0, 1.0, 1.0, 0.0, 0.0])
    probabilities = np.array([0.9, 0.8, 0.3, 0.6, 0.5])
    result = figures(both(probabilities), labels)
    # Predicted: 1 1 0 1 0. Of the six pairs of a 1 and a 0, four have the 1 higher.
    assert result["accuracy"] == pytest.approx(3 / 5)
    assert result["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert result["roc_auc"] == pytest.approx(4 / 6)
    assert result["log_loss"] == pytest.approx(-np.log([0.9, 0.8, 0.3, 0.4, 0.5]).mean())


def test_figures_agree_with_the_training_loss(cancer: Dataset) -> None:
    theta = np.append(np.full(30, -0.05), 0.2)
    result = figures(class_probabilities(cancer, theta), cancer.labels)
    examples = examples_of(cancer, theta)
    assert result["accuracy"] == np.mean(examples.hits)
    assert result["log_loss"] == pytest.approx(np.mean(examples.losses))


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_figures_of_one_class_have_no_roc_and_no_warnings(label: float) -> None:
    probabilities = np.array([0.9, 0.2, 0.8, 0.7])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = figures(both(probabilities), np.full(4, label))
    share = 0.75 if label == 1.0 else 0.25
    loss = -np.log(probabilities if label == 1.0 else 1 - probabilities).mean()
    assert result["accuracy"] == result["balanced_accuracy"] == share
    assert math.isnan(result["roc_auc"])
    assert result["log_loss"] == pytest.approx(loss)


def test_certain_and_wrong_probabilities_have_a_finite_loss() -> None:
    result = figures(both(np.array([0.0, 1.0])), np.array([1.0, 0.0]))
    assert list(result.values()) == [0.0, 0.0, 0.0, result["log_loss"]]
    assert 30.0 < result["log_loss"] < math.inf


@pytest.mark.parametrize(
    ("probabilities", "labels"),
    [
        (np.ones((2, 2)), np.ones(3)),
        (np.ones((2, 2)), np.ones((2, 1))),
        (np.ones(2), np.ones(2)),
        (np.ones((0, 2)), np.ones(0)),
    ],
)
def test_figures_need_one_shape(probabilities: Array, labels: Array) -> None:
    with pytest.raises(DataError, match="must have a row for each label, got"):
        figures(probabilities, labels)
