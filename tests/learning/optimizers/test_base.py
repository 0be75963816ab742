"""Steps by themselves: on functions whose optimum is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from fl_he.config import groups
from fl_he.learning import optimizers
from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.base import GradientDescent, Nesterov, Optimizer, Point, penalised
from fl_he.learning.optimizers.damped import LBFGS, Newton

MATRIX = np.diag([1.0, 10.0, 40.0])
OPTIMUM = np.array([1.0, -2.0, 0.5])

OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "gd": lambda: GradientDescent(0.02),
    "nesterov": lambda: Nesterov(0.02),
    "newton": Newton,
    "lbfgs": LBFGS,
}


def quadratic(theta: np.ndarray, examples: int = 10) -> Point:
    off = theta - OPTIMUM
    return Point(theta, float(off @ MATRIX @ off / 2), MATRIX @ off, examples, MATRIX)


def steep(theta: np.ndarray) -> Point:
    """Return log cosh, on which a full Newton step from afar overshoots without end."""
    curvature = np.diag(1 / np.cosh(theta) ** 2)
    return Point(theta, float(np.log(np.cosh(theta)).sum()), np.tanh(theta), 10, curvature)


def rounds_to(optimizer: Optimizer, point_of: Callable[[np.ndarray], Point], start: Any) -> int:
    theta = np.array(start, dtype=float)
    for rounds in range(1, 500):
        point = point_of(theta)
        if point.gradient_norm < 1e-8:
            return rounds
        theta = optimizer.step(point)
    return 500


def test_how_many_rounds_a_quadratic_takes() -> None:
    taken = {n: rounds_to(make(), quadratic, np.zeros(3)) for n, make in OPTIMIZERS.items()}
    assert taken["newton"] == 2
    assert taken["lbfgs"] < taken["nesterov"] < taken["gd"] == 500


def test_newton_is_damped_where_the_loss_would_rise() -> None:
    theta = np.array([2.0, -1.5])
    point = steep(theta)
    undamped = theta - np.linalg.solve(np.asarray(point.hessian), point.gradient)
    assert steep(undamped).loss > 5 * point.loss, "it must need damping"
    assert rounds_to(Newton(), steep, theta) < 20


def test_a_step_that_was_too_long_is_halved_from_where_it_began() -> None:
    newton, start = Newton(), np.array([2.0])
    first = newton.step(steep(start))
    assert steep(first).loss > steep(start).loss
    second = newton.step(steep(first))
    np.testing.assert_allclose(second - start, (first - start) / 2)


def test_other_examples_losses_are_not_compared() -> None:
    newton, start = Newton(), np.array([2.0])
    first = newton.step(steep(start))
    worse = steep(first)
    other = Point(worse.theta, worse.loss, worse.gradient, 9, worse.hessian)
    expected = first - np.linalg.solve(np.asarray(worse.hessian), worse.gradient)
    np.testing.assert_allclose(newton.step(other), expected)


def test_a_singular_hessian_gives_the_shortest_step() -> None:
    hessian, gradient = np.ones((2, 2)), np.array([1.0, 1.0])
    step = Newton().step(Point(np.zeros(2), 1.0, gradient, 5, hessian))
    np.testing.assert_allclose(step, [-0.5, -0.5])


def test_newton_needs_a_hessian() -> None:
    with pytest.raises(DataError, match="must be given a Hessian"):
        Newton().step(Point(np.zeros(2), 1.0, np.ones(2), 5))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_remembered_gives_the_optimizer_back(name: str) -> None:
    unbroken, theta = OPTIMIZERS[name](), np.array([2.0, -1.5])
    for _ in range(4):
        theta = unbroken.step(steep(theta))
    restored = OPTIMIZERS[name]()
    restored.restore(json.loads(json.dumps(unbroken.to_members())))
    for _ in range(3):
        expected = unbroken.step(steep(theta))
        np.testing.assert_array_equal(restored.step(steep(theta)), expected)
        theta = expected


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("nesterov", {"before": "x", "steps": 1}),
        ("nesterov", {"before": [[1.0]], "steps": 1}),
        ("nesterov", {"before": [1.0], "steps": None}),
        ("nesterov", {"before": [1.0], "steps": 10**400}),
        ("nesterov", {"before": [10**400], "steps": 1}),
        ("newton", {"base": 3}),
        ("newton", {"base": {"theta": [1.0]}}),
        ("lbfgs", {"base": None}),
        ("lbfgs", {"base": None, "steps": [{"moved": [1.0], "turned": [1.0, 2.0]}]}),
    ],
)
def test_damaged_memory_is_refused(name: str, members: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="the training's"):
        OPTIMIZERS[name]().restore(members)


def test_the_penalty_spares_the_intercepts() -> None:
    theta = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0])  # 3 classes, 2 features
    point = Point(theta, 0.5, np.zeros(9), 10, np.zeros((9, 9)))
    found = penalised(point, 2, C=0.1)
    np.testing.assert_allclose(found.gradient, [1, 2, 3, 4, 5, 6, 0, 0, 0])
    assert found.loss == pytest.approx(0.5 + 91 / 2)
    np.testing.assert_allclose(np.diag(np.asarray(found.hessian)), [1.0] * 6 + [0.0] * 3)
    assert penalised(point, 2, C=None).loss == 0.5


W = np.array([1.0, -2.0, 3.0])
SLOPE = np.array([0.25, 0.5, -0.125])


def test_a_step_without_a_penalty() -> None:
    point = penalised(Point(W, 0.0, SLOPE, 10), 2, None)
    np.testing.assert_array_equal(GradientDescent(0.5).step(point), [0.875, -2.25, 3.0625])


def test_the_penalty_is_of_the_coefficients_alone() -> None:
    point = penalised(Point(W, 0.0, SLOPE, 16), 2, 0.25)
    stepped = GradientDescent(0.5).step(point)
    np.testing.assert_array_equal(stepped, [1 - 0.5 * 0.5, -2 - 0.5 * (0.5 - 0.5), 3.0625])


def test_the_gradient_of_the_penalty_is_that_of_finite_differences() -> None:
    theta = np.array([0.5, -2.0, 0.0, 7.0])

    def penalty(at: np.ndarray) -> Point:
        return penalised(Point(at, 0.0, np.zeros(4), 12, np.zeros((4, 4))), 3, 0.7)

    numeric = approx_fprime(theta, lambda at: penalty(at).loss, 1e-6)
    np.testing.assert_allclose(penalty(theta).gradient, numeric, atol=1e-5)
    hessian = approx_fprime(theta, lambda at: penalty(at).gradient, 1e-6)
    np.testing.assert_allclose(np.asarray(penalty(theta).hessian), hessian, atol=1e-5)


@pytest.mark.parametrize("C", [None, math.inf])
def test_no_strength_is_no_penalty(C: float | None) -> None:
    point = penalised(Point(W, 0.25, SLOPE, 5), 2, C)
    assert point.loss == 0.25
    assert point.gradient.tolist() == SLOPE.tolist()


@pytest.mark.parametrize(
    ("C", "examples", "words"),
    [
        (0.0, 10, "C must be greater than 0, got"),
        (-1.0, 10, "C must be greater than 0, got"),
        (math.nan, 10, "C must be greater than 0, got"),
        (1.0, 0, "examples must be at least 1, got 0"),
        (None, 0, "examples must be at least 1, got 0"),
    ],
)
def test_what_no_penalty_can_use(C: float | None, examples: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        penalised(Point(W, 0.0, SLOPE, examples), 2, C)


def test_the_registry_has_the_optimizers_that_the_configuration_offers() -> None:
    assert {*optimizers.OPTIMIZERS, groups.AUTO} == set(groups.OPTIMIZERS)
    for name in optimizers.OPTIMIZERS:
        assert isinstance(optimizers.optimizer_of(name, 0.1).second_order, bool)
    with pytest.raises(ValueError, match="one of gd, nesterov, newton, lbfgs, got 'adam'"):
        optimizers.optimizer_of("adam", 0.1)
