"""Estimates, tests and fit from derivatives, against statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm

from fl_he.learning.optimizers.base import Point
from fl_he.learning.optimizers.damped import Newton
from fl_he.learning.regression import inference, likelihood
from fl_he.learning.regression.products import product
from fl_he.learning.regression.registry import family_for
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.scaling import Scaling, standardise

RNG = np.random.default_rng(12)
RAW = Dataset(
    RNG.normal([1.0, 50.0, 0.0], [1.0, 9.0, 2.0], (300, 3)),
    RNG.integers(0, 2, 300).astype(float),
    ("a", "b", "c"),
)


def point_of(data: Dataset, theta: np.ndarray) -> Point:
    sums = likelihood.derivative_parts(likelihood.examples_of(data, theta))[0]
    loss, gradient, hessian = likelihood.mean_derivatives(sums, len(theta), data.examples)
    return Point(theta, loss, gradient, data.examples, hessian)


def fitted(data: Dataset) -> Point:
    """Return the point at which Newton's method has converged."""
    family, newton = family_for(data.class_count), Newton()
    theta = family.zeros(data.features.shape[1], data.class_count)
    for _ in range(30):
        point = point_of(data, theta)
        if newton.distance(point) < 1e-9:
            return point
        theta = newton.step(point)
    raise AssertionError("Newton's method must converge")


def estimates(point: Point, scaling: Scaling, **more: object) -> inference.Estimates:
    return inference.estimates_of(
        point.theta,
        RAW.feature_names,
        scaling,
        hessian=point.hessian,
        examples=point.examples,
        **more,  # type: ignore[arg-type]
    )


def test_a_column_that_is_left_out_has_no_figures_and_changes_none() -> None:
    """Like R with a column that it cannot estimate: the others have the figures without it."""
    scaled, scaling = standardise(RAW)
    kept = [0, 2]
    without = Dataset(scaled.features[:, kept], scaled.labels, ("a", "c"))
    short = fitted(without)
    theta = np.array([short.theta[0], 0.0, short.theta[1], short.theta[2]])
    point = point_of(scaled, theta)
    found = estimates(point, scaling, left_out={"b": "constant"})
    fit = sm.Logit(RAW.labels, sm.add_constant(RAW.features[:, kept])).fit(disp=False, tol=1e-12)
    rows = found.rows()
    assert rows[1] == {
        **dict.fromkeys(rows[1]),
        "name": "b",
        "left_out": "constant",
    }
    shown = [rows[0], rows[2], rows[3]]
    for key, values in (("estimate", fit.params), ("standard_error", fit.bse)):
        np.testing.assert_allclose([row[key] for row in shown], values[[1, 2, 0]], rtol=1e-7)
    assert found.wald_test(["a", "b"])["df"] == 1
    expected = fit.wald_test(np.eye(3)[[1]], use_f=False, scalar=True)
    assert found.wald_test(["a", "b"])["chi2"] == pytest.approx(expected.statistic)
    assert found.wald_test(["b"]) == {"chi2": None, "df": 0, "p_value": None}
    counts = np.bincount(RAW.labels.astype(int)).astype(float)
    whole = inference.goodness_of_fit(
        -point.loss * 300, inference.null_log_likelihood(counts), found
    )
    assert whole["aic"] == pytest.approx(fit.aic)
    assert whole["likelihood_ratio"]["df"] == 2


def test_a_singular_information_gives_no_standard_errors() -> None:
    twice = Dataset(RAW.features[:, [0, 1, 1]], RAW.labels, RAW.feature_names)
    scaled, scaling = standardise(twice)
    found = estimates(fitted(scaled), scaling)
    assert found.covariance is None
    assert {row["standard_error"] for row in found.rows()} == {None}
    assert found.wald_test(["a"])["p_value"] is None


def test_units_do_not_make_an_information_singular() -> None:
    root, units = RNG.normal(size=(4, 4)), np.array([1e-9, 1.0, 1e9, 1e-4])
    matrix = root.T @ root
    inverse = inference.inverse_of(matrix * np.outer(units, units))
    assert inverse is not None
    np.testing.assert_allclose(inverse * np.outer(units, units) @ matrix, np.eye(4), atol=1e-10)
    assert inference.inverse_of(np.diag([1.0, 0.0])) is None


@pytest.mark.parametrize("noise", [1e-3, 3.3e-5])
def test_the_rest_of_the_information_keeps_the_digits_of_nearly_equal_columns(noise: float) -> None:
    """Compare with a QR decomposition of the rows, which does not square their condition."""
    rng = np.random.default_rng(5)
    first = rng.standard_normal(400)
    design = np.column_stack([first, first + noise * rng.standard_normal(400), np.ones(400)])
    information, rest = product(design, design)
    triangle = np.linalg.inv(np.linalg.qr(design, mode="r"))
    variances = np.square(triangle).sum(axis=1)

    def error(inverse: Array | None) -> float:
        assert inverse is not None
        return float(np.abs(np.diag(inverse) / variances - 1.0).max())

    assert error(inference.inverse_of(information, rest)) < 1e-9
    if noise < 1e-4:
        assert error(inference.inverse_of(information)) > 1e-9, "it is the rest that has them"
    else:
        assert inference.inverse_of(information, -2.0 * information) is None


@pytest.mark.parametrize("classes", [2, 4])
def test_the_first_total_tells_the_sizes_of_the_classes(classes: int) -> None:
    labels = RNG.integers(0, classes, 90).astype(float)
    names = tuple("pqrs") if classes > 2 else ()
    data = Dataset(RAW.features[:90], labels, RAW.feature_names, classes=names)
    family = family_for(classes)
    theta = family.zeros(3, classes)
    theta[-family.rows(classes) :] = 0.25
    gradient = point_of(data, theta).gradient
    counts = inference.class_counts(family, theta, gradient, 90, 3)
    assert counts is not None
    assert counts.tolist() == np.bincount(labels.astype(int), minlength=classes).tolist()
    assert inference.class_counts(family, theta + 0.1, gradient, 90, 3) is None


def test_without_the_sizes_of_both_classes_there_is_no_null_model() -> None:
    found = estimates(fitted(standardise(RAW)[0]), standardise(RAW)[1])
    assert inference.null_log_likelihood(np.array([90.0, 0.0])) is None
    whole = inference.goodness_of_fit(-50.0, None, found)
    assert whole["null_log_likelihood"] is None
    assert whole["likelihood_ratio"] is None
    assert whole["mcfadden_r2"] is None
    assert whole["aic"] == 108.0


def test_odds_ratios_beyond_float64_are_none() -> None:
    point = fitted(standardise(RAW)[0])
    tiny = Scaling(np.zeros(3), np.full(3, 1e-9))
    moved = Point(point.theta + 1.0, point.loss, point.gradient, 300, point.hessian)
    row = estimates(moved, tiny).rows()[0]
    assert row["odds_ratio"] is None
    assert math.isfinite(row["odds_ratio_sd"])


def test_standard_errors_have_settled_once_a_round_hardly_changes_them() -> None:
    now = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]])
    assert inference.have_settled(now * (1 + 9e-5), now, 1)
    assert not inference.have_settled(now * (1 + 2e-4), now, 1)
    assert not inference.have_settled(np.zeros((3, 3)), now, 1)
    # Softmax's information is singular: only differences of rows are determined.
    of_rows = np.array([[2.0, -1.0, -1.0], [-1.0, 2.0, -1.0], [-1.0, -1.0, 2.0]])
    rows = np.kron(of_rows, now)
    order = np.array([0, 1, 3, 4, 6, 7, 2, 5, 8])
    rows = rows[np.ix_(order, order)]
    assert inference.have_settled(rows * (1 + 9e-5), rows, 3)
    assert not inference.have_settled(rows * (1 + 2e-4), rows, 3)
