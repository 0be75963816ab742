"""Separation found by Newton's method and proved by two counts, against a linear program."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from quick import slow
from scipy.optimize import linprog

from fl_he.learning.optimizers.damped import Newton
from fl_he.learning.optimizers.scoring import information_of, point_of
from fl_he.learning.regression import likelihood, separation
from fl_he.learning.regression.dependencies import dependencies, design_information
from fl_he.learning.regression.inference import inverse_of
from fl_he.learning.regression.registry import family_for
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.scaling import standardise

Numbers = NDArray[np.float64]
ROUNDS = 50


class Trained:
    """Rounds of Newton's method until they have converged, or something has vanished."""

    def __init__(self, features: Numbers, labels: Numbers, classes: int = 2) -> None:
        rows, d = features.shape
        names = tuple(f"x{number}" for number in range(d))
        self.data, self.scaling = standardise(
            Dataset(features, labels, names, classes=tuple("abc") if classes > 2 else ())
        )
        theta, newton = family_for(classes).zeros(d, classes), Newton()
        self.converged, self.vanishing = False, None
        before: Any = None
        for self.rounds in range(1, ROUNDS + 1):
            self.examples = likelihood.examples_of(self.data, theta)
            point = point_of(theta, likelihood.derivative_parts(self.examples), rows)
            if classes > 2:
                point = replace(point, rest=None)
            hessian = information_of(point) / rows
            self.theta, self.hessian = theta, hessian
            self.now = separation.Information(information_of(point), rows, point.rest)
            if before is None:
                self.first = design_information(hessian, d)
                found = dependencies(self.first, rows)
                self.singular = bool(found.constant or found.aliased)
                if self.singular:
                    return
            else:
                self.vanishing = separation.vanishing(self.first, before, self.now, theta)
            distance = newton.distance(point)
            self.converged = self.vanishing is None and distance <= 1e-7
            if self.converged or (self.vanishing and self.vanishing.gone and distance <= 1e-3):
                return
            before, theta = self.now, newton.step(point)

    def kind(self) -> str | None:
        """Return the conclusion from the counts of the candidate."""
        if self.singular or self.converged:
            return None
        candidate = self.vanishing.candidate if self.vanishing else self.theta
        if self.examples.hits.all():
            candidate = self.theta
        if not candidate.any():
            return None
        deviation = separation.deviations(self.first)
        candidate = candidate / separation.loadings(candidate, deviation).max()
        examples = likelihood.examples_of(self.data, candidate)
        against, on = separation.sides(examples, candidate).tolist()
        self.columns = separation.taking_part(candidate, deviation)
        return separation.kind_of(candidate, self.first, against=against > 0, on=on > 0)


def margins(features: Numbers, labels: Numbers, classes: int) -> Numbers:
    """Return the matrix that makes all margins of a model with a row for each class."""
    design = np.column_stack([features, np.ones(len(features))])
    rows = []
    for x, own in zip(design, labels.astype(int), strict=True):
        for other in set(range(classes)) - {own}:
            row = np.zeros((classes, design.shape[1]))
            row[own], row[other] = x, -x
            rows.append(row.ravel())
    return np.array(rows)


def by_linear_program(features: Numbers, labels: Numbers, classes: int = 2) -> str | None:
    """Return the kind of separation; Konis 2007, "Linear programming algorithms for detecting
    separated data in binary logistic regression models", chapter 4.
    """
    A = margins(features, labels, classes)
    free = [(None, None)] * A.shape[1]
    zeros, ones = np.zeros(len(A)), np.ones(len(A))
    if linprog(np.zeros(A.shape[1]), A_ub=-A, b_ub=-ones, bounds=free).status == 0:
        return "complete"
    found = linprog(
        -A.sum(axis=0), A_ub=np.vstack([-A, A]), b_ub=np.append(zeros, ones), bounds=free
    )
    return "quasi-complete" if -found.fun > 1e-6 else None


@st.composite
def tables(draw: st.DrawFn, classes: int) -> tuple[Numbers, Numbers]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, columns = draw(st.integers(6, 40)), draw(st.integers(1, 4))
    features = rng.integers(0, 3, (rows, columns)).astype(float)
    if draw(st.booleans()):
        features[:, 1:] = rng.standard_normal((rows, columns - 1)).round(draw(st.integers(0, 3)))
    odds = features @ rng.normal(size=(columns, classes)) * draw(st.sampled_from([0.5, 2.0, 6.0]))
    odds += rng.gumbel(size=odds.shape) * draw(st.sampled_from([0.05, 0.5, 1.0]))
    labels = odds.argmax(axis=1)
    labels[:classes] = np.arange(classes)
    return features, labels.astype(float)


@pytest.mark.parametrize("classes", [2, *slow((3,))])
def test_separation_is_proved_only_where_a_linear_program_finds_it(classes: int) -> None:
    @given(tables(classes))
    @settings(max_examples=100 if classes == 2 else 40)
    def check(table: tuple[Numbers, Numbers]) -> None:
        trained = Trained(*table, classes=classes)
        if trained.singular:
            return
        kind, right = trained.kind(), by_linear_program(*table, classes=classes)
        assert kind in (None, right)
        assert trained.converged == (right is None)

    check()


@pytest.mark.slow
def test_all_but_a_few_separations_of_two_classes_are_proved() -> None:
    rng, found = np.random.default_rng(12), []
    for _ in range(150):
        X = rng.integers(0, 3, (25, 3)).astype(float)
        X[:, 2] = rng.standard_normal(25).round(1)
        y = (X @ rng.normal(size=3) * 3 + rng.normal(scale=0.5, size=25) > 0).astype(float)
        if 0 < y.sum() < 25 and (right := by_linear_program(X, y)):
            found.append((right, Trained(X, y).kind()))
    assert len(found) > 80
    assert {right for right, _ in found} == {"complete", "quasi-complete"}
    assert sum(right == kind for right, kind in found) >= 0.97 * len(found)


def sick(features: Numbers, seed: int) -> Numbers:
    rng = np.random.default_rng(seed)
    return (rng.random(len(features)) < 1 / (1 + np.exp(-0.6 * features[:, 0]))).astype(float)


def test_a_threshold_separates_completely_by_its_column_alone() -> None:
    rng = np.random.default_rng(1)
    X = np.column_stack([rng.normal(62, 12, 900).round(), rng.integers(0, 2, 900)])
    trained = Trained(X, (X[:, 0] > 62).astype(float))
    assert trained.kind() == "complete"
    assert trained.columns == (0,)
    assert trained.rounds < 30


def with_dummy() -> tuple[Numbers, Numbers, NDArray[np.bool_]]:
    """Return a table in which all of a few patients with a rare code are sick."""
    X = np.random.default_rng(2).standard_normal((400, 2))
    y = sick(X, 3)
    rare = np.zeros(400)
    rare[np.flatnonzero(y)[:7]] = 1.0
    return np.column_stack([X, rare]), y, rare == 0.0


def test_a_code_of_sick_patients_only_separates_quasi_completely() -> None:
    X, y, _ = with_dummy()
    trained = Trained(X, y)
    assert trained.kind() == "quasi-complete"
    assert trained.columns == (2,)


@pytest.mark.parametrize("columns", [[0, 1, 2, 3], [2, 3]])
def test_a_class_apart_from_two_that_overlap_separates_quasi_completely(columns: list[int]) -> None:
    from sklearn.datasets import load_iris  # noqa: PLC0415 - lazy: one test only

    features, labels = load_iris(return_X_y=True)
    features = features[:, columns]

    run = Trained(features, labels.astype(np.float64), classes=3)

    assert run.kind() == "quasi-complete"
    assert run.rounds <= 40
    assert run.vanishing
    assert run.vanishing.number == features.shape[1] + 1  # all directions of one class


def test_what_no_vanishing_direction_touches_has_its_limits() -> None:
    """Estimates and standard errors are those of the patients without the code."""
    import statsmodels.api as statsmodels  # noqa: PLC0415 - lazy: a second to import

    X, y, others = with_dummy()
    trained = Trained(X, y)
    assert trained.vanishing is not None
    mean, scale = trained.scaling.mean, trained.scaling.scale
    found = separation.undetermined(
        trained.first, trained.now, trained.vanishing.number, -mean / scale
    )
    assert found.touched.tolist() == found.infinite.tolist() == [[False, False, True, False]]
    design = np.column_stack([X[others, :2], np.ones(np.count_nonzero(others))])
    fit = statsmodels.Logit(y[others], design).fit(method="newton", disp=False, tol=1e-14)
    inverse = inverse_of(found.hessian)
    assert inverse is not None
    errors = np.sqrt(np.diag(inverse)[:2] / 400) / scale[:2]
    np.testing.assert_allclose(errors, fit.bse[:2], rtol=1e-8)
    np.testing.assert_allclose(trained.theta[:2] / scale[:2], fit.params[:2], rtol=1e-8)


def test_a_direction_through_the_intercept_touches_it() -> None:
    X, y, _ = with_dummy()
    X[:, 2] = 1.0 - X[:, 2]
    trained = Trained(X, y)
    assert trained.vanishing is not None
    origin = -trained.scaling.mean / trained.scaling.scale
    found = separation.undetermined(trained.first, trained.now, trained.vanishing.number, origin)
    assert found.touched.tolist() == found.infinite.tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("overlap", [1e-3, 1e-6])
def test_classes_that_overlap_a_little_are_not_separated(overlap: float) -> None:
    x = np.concatenate([np.linspace(-2, -0.1, 30), [overlap, 0.0], np.linspace(0.1, 2, 30)])
    y = np.concatenate([np.zeros(31), np.ones(31)])
    trained = Trained(x[:, None], y)
    assert trained.converged
    assert trained.kind() is None


@pytest.mark.parametrize("outlier", [1e4, 1e6, 1e8])
def test_an_outlier_is_no_separation(outlier: float) -> None:
    X = np.random.default_rng(1).standard_normal((500, 2))
    y = sick(X, 5)
    X[7, 0], y[7] = outlier, 1.0
    assert Trained(X, y).converged


def test_sides_are_counted_to_ten_digits() -> None:
    X = np.array([[1.0], [1.0 + 5e-10], [1.0 - 5e-10], [1.0 + 1e-12], [3.0], [-1.0]])
    y = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 0.0])
    candidate = np.array([1.0, -1.0])
    examples = likelihood.examples_of(Dataset(X, y, ("x",)), candidate)
    assert separation.sides(examples, candidate).tolist() == [2.0, 2.0]


def test_a_candidate_on_which_all_examples_are_proves_nothing() -> None:
    first = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    null, column = np.array([1.0, -1.0, 0.0]), np.array([1.0, 0.0, 0.0])
    assert separation.kind_of(null, first, against=False, on=True) is None
    assert separation.kind_of(column, first, against=False, on=True) == "quasi-complete"
    assert separation.kind_of(column, None, against=False, on=True) is None
    assert separation.kind_of(column, None, against=False, on=False) == "complete"
    assert separation.kind_of(column, first, against=True, on=False) is None


@pytest.mark.parametrize("seed", [0, 1, 3, 4, 5, 6, 7, 9])
def test_a_rare_code_beside_nearly_collinear_columns_is_proved(seed: int) -> None:
    """Their rounding once hid the information that vanishes."""
    rng = np.random.default_rng(seed)
    base, noise = rng.normal(size=200), 10 ** rng.uniform(-4.4, -3.9)
    equal = [base + noise * rng.normal(size=200) for _ in range(3)]
    code = (np.arange(200) < 15).astype(float)
    labels = np.maximum(code, (rng.random(200) < 1 / (1 + np.exp(-base))).astype(float))
    run = Trained(np.column_stack([*equal, code]), labels)
    assert run.kind() == "quasi-complete"
    assert run.columns == (3,)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("noise", [1e-2, 1e-3, 1.6e-4])
def test_a_rare_difference_of_nearly_equal_columns_is_proved(seed: int, noise: float) -> None:
    """Steps that lost the digits of the difference once ended long before its proof."""
    rng = np.random.default_rng(seed)
    base, code = rng.normal(size=200), np.arange(200) < 20
    other = base + noise * code * np.abs(rng.normal(size=200))
    labels = np.maximum(code, rng.random(200) < 1 / (1 + np.exp(-base))).astype(float)
    run = Trained(np.column_stack([base, other, rng.normal(size=200)]), labels)
    assert run.kind() == "quasi-complete"
    assert sorted(run.columns) == [0, 1]
    assert run.rounds <= 40
