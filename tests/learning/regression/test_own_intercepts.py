"""The likelihood of the coefficients at each site's best intercept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fl_he.learning.errors import DataError
from fl_he.learning.regression.family import Family
from fl_he.learning.regression.likelihood import (
    derivative_parts,
    examples_of,
    hessian_sum,
    mean_gradient,
)
from fl_he.learning.regression.negative_binomial import told_alpha
from fl_he.learning.regression.own_intercepts import (
    informs,
    profiled,
    sides,
    with_own_intercept,
    without_features,
    without_intercept,
)
from fl_he.learning.regression.registry import WITH_SITES, family_of
from fl_he.learning.tables.data import Dataset

by_family = pytest.mark.parametrize("family", WITH_SITES)


def dataset(family: str, rows: int = 60, spread: float = 1.0) -> Dataset:
    rng = np.random.default_rng(3)
    X = rng.normal(5.0, spread, (rows, 2))
    labels = {
        "logistic": rng.integers(0, 2, rows),
        "gaussian": rng.normal(3.0, 2.0, rows),
        "poisson": rng.poisson(2.0, rows),
        "negative_binomial": rng.poisson(2.0, rows),
        "gamma": rng.gamma(2.0, 1.0, rows),
    }[family]
    name = "" if family == "logistic" else family
    return Dataset(X, labels.astype(np.float64), ("a", "b"), family=name)


def fitted_family(data: Dataset, log_alpha: float = -0.3) -> Family:
    """Return the dataset's family, with an alpha if it has one."""
    family = family_of(data)
    return told_alpha(family, (log_alpha, 0.0, 0.0) if family.has_alpha else ())


@by_family
@pytest.mark.parametrize("size", [0.3, 20.0, 300.0])
def test_the_intercept_is_the_best_for_the_rows(family: str, size: float) -> None:
    data, theta = dataset(family), np.array([size, -size, 9.0])
    own = with_own_intercept(data, theta, fitted_family(data))
    assert own is not None
    assert own[:2].tolist() == [size, -size]
    examples = examples_of(data, own, family=fitted_family(data))
    slope = mean_gradient(examples)[-1]
    assert abs(slope) <= 1e-12 * max(1.0, float(np.abs(examples.residuals).max()))


@by_family
def test_derivatives_are_the_schur_complement_of_the_intercept(family: str) -> None:
    data, theta = dataset(family), np.array([0.2, -0.4, 0.0])
    fitted = fitted_family(data)
    own = with_own_intercept(data, theta, fitted)
    assert own is not None
    whole = hessian_sum(examples_of(data, own, family=fitted))
    wanted = whole[:2, :2] - np.outer(whole[:2, 2], whole[2, :2]) / whole[2, 2]
    examples = profiled(data, theta, fitted)
    found = hessian_sum(examples)
    assert_allclose(found[:2, :2], wanted, rtol=1e-11)
    assert_allclose(found[2, :2], 0.0, atol=1e-11)
    step = 1e-5

    def loss(at: np.ndarray) -> float:
        return float(np.sum(profiled(data, at, fitted).losses))

    moved = [loss(theta + step * one) - loss(theta - step * one) for one in np.eye(3)]
    slopes = np.array(moved) / (2 * step)
    assert_allclose(len(data.labels) * mean_gradient(examples), slopes, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("alone", [False, True])
def test_derivatives_by_alpha_are_those_of_the_least_loss(alone: bool) -> None:
    data, theta, step = dataset("negative_binomial"), np.array([0.2, -0.4, 0.0]), 1e-5
    data = replace(data, exposure=np.linspace(0.5, 3.0, 60))
    size = 1 if alone else 3

    def parts(log_alpha: float) -> np.ndarray:
        examples = profiled(data, theta, fitted_family(data, log_alpha))
        if alone:
            examples = without_features(data, (9.0, 9.0, log_alpha))
        return np.asarray(without_intercept(derivative_parts(examples), size)[0])

    found, by_alpha = parts(-0.3), -size - 2
    slopes = (parts(-0.3 + step) - parts(-0.3 - step)) / (2 * step)
    assert found[by_alpha] == pytest.approx(slopes[0], rel=1e-6)
    assert found[by_alpha + 1] == pytest.approx(slopes[by_alpha], rel=1e-6)
    assert_allclose(found[-size:-1], slopes[1:size], rtol=1e-6)
    assert found[-1] == 0.0


@pytest.mark.parametrize("family", ["logistic", "poisson", "negative_binomial"])
def test_a_site_without_a_finite_intercept_contributes_zeros(family: str) -> None:
    data = dataset(family)
    silent = Dataset(data.features, np.zeros(60), data.feature_names, family=data.family)
    theta = np.array([0.2, -0.4, 0.0])
    assert informs(data)
    assert not informs(silent)
    assert with_own_intercept(silent, theta) is None
    fitted = fitted_family(data)
    assert not derivative_parts(profiled(silent, theta, fitted)).any()
    assert derivative_parts(profiled(silent, theta, fitted)).shape == (
        derivative_parts(profiled(data, theta, fitted)).shape
    )
    if fitted.has_alpha:
        assert not derivative_parts(without_features(silent, (0.0, 0.0, 0.0))).any()
    assert sides(silent, theta).tolist() == [0.0, 0.0]


def test_more_than_two_classes_have_no_such_intercepts() -> None:
    data = Dataset(np.ones((3, 1)), np.arange(3.0), ("a",), classes=("x", "y", "z"))
    with pytest.raises(DataError, match="family softmax must be without intercepts of sites"):
        informs(data)


@pytest.mark.parametrize(
    ("family", "labels", "wanted"),
    [
        ("", [0, 0, 1, 1], [0, 0]),
        ("", [0, 1, 0, 1], [2, 0]),
        ("poisson", [0, 0, 2, 0], [1, 1]),
        ("poisson", [0, 0, 0, 2], [0, 1]),
        ("poisson", [0, 0, 2, 1], [2, 0]),
    ],
)
def test_sides_are_counted_at_the_best_border(
    family: str, labels: list[int], wanted: list[int]
) -> None:
    X = np.array([[10.0], [11.0], [12.0], [13.0]])
    data = Dataset(X, np.array(labels, dtype=float), ("a",), family=family)
    assert sides(data, np.array([1.0, 0.0])).tolist() == wanted
