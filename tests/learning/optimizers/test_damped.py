"""Damped steps one by one: halved steps, and L-BFGS's use of earlier ones."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.base import Point
from fl_he.learning.optimizers.damped import LBFGS, Newton

START = Point(np.zeros(2), 1.0, np.array([1.0, 0.0]), 7, np.eye(2))
FULL = np.array([-1.0, 0.0])
#: Of a point that is taken, and so the next step from it.
GRADIENT = np.array([0.0, 0.5])


def later(theta: np.ndarray, loss: float, examples: int = 7) -> Point:
    return Point(theta, loss, GRADIENT, examples, np.eye(2))


def halved(times: int) -> Newton:
    newton = Newton()
    theta = newton.step(START)
    for _ in range(times):
        theta = newton.step(later(theta, 9.0))
    np.testing.assert_array_equal(theta, FULL / 2**times)
    return newton


@pytest.mark.parametrize("halvings", [0, 1, 3])
@pytest.mark.parametrize(("beyond", "taken"), [(-2e-5, True), (5e-13, True), (2e-12, False)])
def test_a_step_is_taken_for_its_share_of_what_the_gradient_promises(
    halvings: int, beyond: float, taken: bool
) -> None:
    """Nocedal and Wright's equation 3.4 with c = 1e-4, and 1e-12 for the rounding of float64."""
    newton, theta = halved(halvings), FULL / 2**halvings
    loss = START.loss + 1e-4 * float(START.gradient @ theta) + beyond
    expected = theta - GRADIENT if taken else theta / 2
    np.testing.assert_array_equal(newton.step(later(theta, loss)), expected)


@pytest.mark.parametrize(("beyond", "taken"), [(5e-8, True), (2e-7, False)])
def test_a_loss_in_fixed_point_may_rise_by_its_rounding(beyond: float, taken: bool) -> None:
    lbfgs = LBFGS()
    theta = lbfgs.step(START)
    step = lbfgs.step(later(theta, START.loss + 1e-4 * float(START.gradient @ theta) + beyond))
    assert (theta / 2).tolist() != step.tolist() if taken else (theta / 2).tolist() == step.tolist()


def test_the_distance_of_newton_is_in_standard_errors_whatever_the_units() -> None:
    """One standard error from the optimum of a quadratic, in units from 1e-9 to 1e9."""
    units, examples = np.array([1e-9, 1.0, 1e9]), 50
    root = np.random.default_rng(8).normal(size=(3, 3)) * units
    hessian = root.T @ root
    errors = np.sqrt(np.diag(np.linalg.inv(hessian / np.outer(units, units))) / examples) / units
    for number in range(3):
        off = hessian @ (np.eye(3)[number] * errors[number])
        # The others at their optimum, given this one.
        along = np.linalg.inv(hessian / np.outer(units, units))[number] / units / units[number]
        gradient = hessian @ (along / np.sqrt(along[number] * examples))
        point = Point(np.zeros(3), 0.0, gradient, examples, hessian)
        assert Newton().distance(point) == pytest.approx(1.0)
        assert Newton().distance(Point(np.zeros(3), 0.0, off, examples, hessian)) >= 1.0


def test_a_gradient_where_there_is_no_curvature_is_far_from_the_optimum() -> None:
    flat = Point(np.zeros(2), 1.0, np.array([0.0, 0.1]), 9, np.diag([1.0, 0.0]))
    assert Newton().distance(flat) > 1e6
    level = Point(np.zeros(2), 1.0, np.zeros(2), 9, np.diag([1.0, 0.0]))
    assert Newton().distance(level) == 0.0


def test_the_shortest_step_is_the_shortest_in_the_parameters_own_units() -> None:
    """Softmax: parameters of the same information and their sum are not determined."""
    hessian = np.array([[3.0, -1.0, -2.0], [-1.0, 2.0, -1.0], [-2.0, -1.0, 3.0]])
    gradient = np.array([0.5, -0.2, -0.3])
    step = Newton().step(Point(np.zeros(3), 1.0, gradient, 9, hessian))
    np.testing.assert_allclose(step, -np.linalg.pinv(hessian) @ gradient, atol=1e-14)


def test_halving_ends_where_the_direction_is_no_good() -> None:
    newton, theta = halved(21), FULL / 2**21
    np.testing.assert_array_equal(newton.step(later(theta, 9.0)), theta - GRADIENT)


def test_a_step_without_a_loss_is_refused() -> None:
    with pytest.raises(DataError, match="must be given the loss"):
        LBFGS().step(later(np.zeros(2), float("nan")))


def test_a_halved_step_is_restored() -> None:
    restored = Newton()
    restored.restore(json.loads(json.dumps(halved(2).to_members())))
    np.testing.assert_array_equal(restored.step(later(FULL / 4, 9.0)), FULL / 8)


def test_restoring_forgets_what_was_before() -> None:
    newton = halved(2)
    newton.restore(Newton().to_members())
    np.testing.assert_array_equal(newton.step(later(FULL, 9.0)), FULL - GRADIENT)


@pytest.mark.parametrize(("gradient", "first"), [([3.0, 4.0], [-0.6, -0.8]), ([0.3, 0.4],) * 2])
def test_the_first_step_of_lbfgs_is_no_longer_than_one(
    gradient: list[float], first: list[float]
) -> None:
    step = LBFGS().step(Point(np.zeros(2), 1.0, np.array(gradient), 7))
    np.testing.assert_allclose(step, -np.abs(first))


def path(points: int) -> list[Point]:
    """Return points of a convex quadratic, with losses that say that every step was good."""
    rng = np.random.default_rng(4)
    root = rng.normal(size=(5, 5))
    thetas = rng.normal(size=(points, 5))
    return [
        Point(theta, -100.0 * number, (root @ root.T + np.eye(5)) @ theta, 7)
        for number, theta in enumerate(thetas)
    ]


def dense_inverse(points: list[Point]) -> np.ndarray:
    """Return the inverse Hessian of BFGS as a matrix: Nocedal and Wright, equations 6.17, 7.20."""
    pairs = [
        (after.theta - before.theta, after.gradient - before.gradient)
        for before, after in itertools.pairwise(points)
    ]
    s, y = pairs[-1]
    inverse: np.ndarray = np.eye(len(s)) * (s @ y) / (y @ y)
    for s, y in pairs:
        turned = np.eye(len(s)) - np.outer(y, s) / (y @ s)
        inverse = turned.T @ inverse @ turned + np.outer(s, s) / (y @ s)
    return inverse


@pytest.mark.parametrize("memory", [1, 3, None])
def test_lbfgs_is_bfgs_of_the_last_steps(memory: int | None) -> None:
    lbfgs, points = LBFGS() if memory is None else LBFGS(memory), path(14)
    for number, point in enumerate(points):
        step = lbfgs.step(point)
        if number:
            remembered = points[max(0, number - (memory or 10)) : number + 1]
            expected = point.theta - dense_inverse(remembered) @ point.gradient
            np.testing.assert_allclose(step, expected, rtol=1e-8)


@pytest.mark.parametrize(
    "point",
    [
        Point(np.array([-1.0, 0.0]), 0.0, np.array([2.0, 0.0]), 7),
        Point(np.array([-1.0, 0.0]), 0.0, np.array([0.5, 0.0]), 8),
    ],
    ids=["where the curvature is negative", "of other examples"],
)
def test_lbfgs_does_not_learn(point: Point) -> None:
    lbfgs = LBFGS()
    lbfgs.step(START)
    expected = point.theta - point.gradient / max(1.0, point.gradient_norm)
    np.testing.assert_array_equal(lbfgs.step(point), expected)
