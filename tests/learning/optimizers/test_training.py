"""Training by totals alone, against scikit-learn on the pooled data."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.training import Task, Training
from fl_he.learning.tables.moments import Limbs

LIMBS = Limbs(24, 24)
SCALES = np.array([1.0, 1e4, 1e-3])


def table(classes: int = 2, rows: int = 240) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    random = np.random.default_rng(classes)
    X = random.normal(size=(rows, 3))
    logits = X @ random.normal(size=(3, classes)) + random.gumbel(size=(rows, classes))
    return X * SCALES + 5 * SCALES, logits.argmax(axis=1).astype(np.float64)


def task(**changes: Any) -> Task:
    usual: dict[str, Any] = {
        **{"features": 3, "classes": 2, "optimizer": "newton", "lr": 0.5, "C": 1.0},
        **{"scaling": "federated", "mean": (), "scale": (), "balanced": False},
        **{"tolerance": 1e-9, "max_step": None, "max_coefficient": None, "limbs": LIMBS},
    }
    return Task(**usual | changes)


def answer(
    training: Training, X: NDArray[np.float64], y: NDArray[np.float64], classes: int = 2
) -> None:
    """Answer as hospitals together would, by formulas of its own."""
    n = len(X)
    if (asked := training.moments()) is not None:
        means: dict[str, NDArray[np.float64]] = {}
        if asked.sums:
            means["sums"] = LIMBS.split(X.sum(axis=0)) / n
        if asked.counts:
            means["counts"] = np.bincount(y.astype(int), minlength=classes) / n
        if asked.mean:
            means["squares"] = LIMBS.split(((X - asked.mean) ** 2).sum(axis=0)) / n
        training.take(means, n, float("nan"))
        return
    Z = np.column_stack([(X - training.mean) / training.scale, np.ones(n)])
    s = np.ones(n)
    if training.class_weights:
        s = np.array(training.class_weights)[y.astype(int)]
    coefficients, intercepts = training.parameters
    margins = Z @ np.column_stack([coefficients, intercepts]).T
    if len(intercepts) == 1:
        P, Y = 1 / (1 + np.exp(-margins)), y[:, None]
        losses = np.logaddexp(0, margins[:, 0]) - y * margins[:, 0]
    else:
        P = np.exp(margins - margins.max(axis=1, keepdims=True))
        P /= P.sum(axis=1, keepdims=True)
        Y = np.eye(classes)[y.astype(int)]
        losses = -np.log(P[np.arange(n), y.astype(int)])
    rows = P.shape[1]
    gradient = (s[:, None] * (P - Y)).T @ Z
    # Coefficients row by row, then the intercepts.
    order = np.concatenate(
        [np.arange(4 * rows).reshape(rows, 4)[:, :3].ravel(), 3 + 4 * np.arange(rows)]
    )
    if not training.second_order:
        g = gradient.ravel()[order] / n
        split = {"coefficients": g[: 3 * rows].reshape(rows, 3), "intercept": g[3 * rows :]}
        training.take(split, n, float((s * losses).mean()))
        return
    hessian = np.zeros((rows, 4, rows, 4))
    for a in range(rows):
        for b in range(rows):
            c = s * P[:, a] * (float(a == b) - P[:, b])
            hessian[a, :, b, :] = (Z * c[:, None]).T @ Z
    H = hessian.reshape(4 * rows, 4 * rows)[np.ix_(order, order)]
    sums = np.concatenate(
        [[(s * losses).sum()], gradient.ravel()[order], H[np.triu_indices(4 * rows)]]
    )
    derivatives = LIMBS.of_derivatives(scaled=True).split(sums) / n
    training.take({"derivatives": derivatives}, n, float("nan"))


def trained(chosen: Task, rounds: int = 400) -> Training:
    X, y = table(chosen.classes)
    training = Training(chosen)
    for _ in range(rounds):
        if training.is_over:
            break
        answer(training, X, y, chosen.classes)
        # As a node does that remembers nothing but this text.
        training = Training.restored(chosen, training.to_json())
    return training


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({}, 1e-7),
        ({"classes": 3}, 1e-7),
        ({"balanced": True}, 1e-7),
        ({"optimizer": "lbfgs", "tolerance": 1e-7}, 1e-5),
        ({"optimizer": "nesterov", "tolerance": 1e-7}, 1e-5),
        ({"optimizer": "gd", "lr": 2.0, "tolerance": 1e-7}, 1e-5),
    ],
)
def test_the_model_is_scikit_learns(changes: dict[str, Any], tolerance: float) -> None:
    chosen = task(**changes)
    X, y = table(chosen.classes)
    weight = "balanced" if chosen.balanced else None
    fit = LogisticRegression(C=1.0, tol=1e-12, max_iter=10_000, class_weight=weight)
    fit.fit(StandardScaler().fit_transform(X), y)
    training = trained(chosen)
    assert training.is_over
    coefficients, intercepts = training.parameters
    np.testing.assert_allclose(coefficients, fit.coef_, rtol=0, atol=tolerance)
    # Softmax fixes the intercepts but for their sum.
    theirs = fit.intercept_ - fit.intercept_.mean() * (len(intercepts) > 1)
    ours = intercepts - intercepts.mean() * (len(intercepts) > 1)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)
    np.testing.assert_allclose(training.mean, X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(training.scale, X.std(axis=0), rtol=1e-9)


def test_what_is_asked_in_which_order() -> None:
    X, y = table()
    training, asked = Training(task(balanced=True)), []
    for _ in range(4):
        asked.append(training.moments())
        answer(training, X, y)
    assert [one and (one.sums, one.counts, bool(one.mean)) for one in asked] == [
        (True, True, False),
        (False, False, True),
        None,
        None,
    ]
    assert training.steps == 2
    assert Training(task(scaling="none")).moments() is None
    declared = task(mean=(0.0,) * 3, scale=(1.0,) * 3)
    assert Training(declared).moments() is None


@pytest.mark.parametrize(
    ("means", "examples"),
    [
        ({}, 240),
        ({"sums": np.zeros((1, 3))}, 240),
        ({"sums": LIMBS.split(np.zeros(2))}, 240),
        ({"sums": LIMBS.split(np.zeros(3))}, 0),
        ({"squares": LIMBS.split(np.zeros(3))}, 240),
    ],
)
def test_other_totals_are_refused(means: dict[str, NDArray[np.float64]], examples: int) -> None:
    training = Training(task())
    before = training.to_json()
    with pytest.raises(DataError):
        training.take(means, examples, 0.5)
    assert training.to_json() == before


def test_a_class_without_patients_has_no_balanced_weight() -> None:
    with pytest.raises(DataError, match="balanced class weights"):
        Training(task(scaling="none", balanced=True)).take({"counts": np.array([1.0, 0.0])}, 9, 0.5)


@pytest.mark.parametrize(
    "change",
    [
        {"theta": [0.0]},
        {"theta": [0.0, 0.0, 0.0, None]},
        {"mean": "a"},
        {"steps": "1"},
        {"distance": True},
        {"optimizer": 3},
        {"optimizer": {"base": 1}},
    ],
)
def test_what_was_not_written_down_is_refused(change: dict[str, Any]) -> None:
    text = trained(task(), 4).to_json()
    Training.restored(task(), text)
    with pytest.raises(DataError):
        Training.restored(task(), json.dumps({**json.loads(text), **change}))
    for other in ("", "[]", "{", "{}"):
        with pytest.raises(DataError):
            Training.restored(task(), other)


def test_rounding_is_agreed_to_and_nothing_else() -> None:
    training = trained(task(), 5)
    members = json.loads(training.to_json())

    def other(**changes: Any) -> Training:
        return Training.restored(task(), json.dumps({**members, **changes}))

    theta = np.array(members["theta"])
    for name in ("theta", "mean", "scale"):
        values = np.array(members[name])
        largest = np.abs(values).max()
        assert training.agrees(other(**{name: (values + 0.9e-9 * largest).tolist()}))
        assert not training.agrees(other(**{name: (values + 1.1e-9 * largest).tolist()}))
    assert not training.agrees(other(steps=members["steps"] + 1))
    assert not training.agrees(other(class_weights=[1.0, 1.0]))
    assert not training.agrees(other(theta=(0 * theta).tolist()))
    assert not Training(task()).agrees(other())


@pytest.mark.parametrize("bound", ["max_step", "max_coefficient"])
def test_a_step_beyond_a_bound_is_refused_and_changes_nothing(bound: str) -> None:
    X, y = table()
    largest = float(np.abs(trained(task(), 3).parameters[0]).max())  # after one step from zero
    for most, fits in ((largest * 1.001, True), (largest * 0.999, False)):
        training = trained(task(**{bound: most}), 2)
        if fits:
            answer(training, X, y)
            assert training.steps == 1
            continue
        with pytest.raises(DataError, match=r"must be at most .* in size, got "):
            answer(training, X, y)
        assert not training.theta.any()
        assert training.steps == 0
