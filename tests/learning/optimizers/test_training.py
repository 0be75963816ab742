"""Training by totals alone, against scikit-learn on the pooled data."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from firthmodels import FirthLogisticRegression
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.task import Models, Moments, Task
from fl_he.learning.optimizers.training import Training
from fl_he.learning.tables.moments import Limbs, column_sums

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


def moments(training: Training) -> Moments | None:
    """Return the next question to the data, if there is one."""
    asked = training.question(training.due)
    return asked if isinstance(asked, Moments) else None


def answer(
    training: Training,
    X: NDArray[np.float64],
    y: NDArray[np.float64],
    classes: int = 2,
    purpose: str | None = None,
) -> None:
    """Answer as hospitals together would, by separate formulas."""
    n, purpose = len(X), purpose or training.due
    asked = training.question(purpose)
    if isinstance(asked, Moments):
        means: dict[str, NDArray[np.float64]] = {}
        if asked.sums:
            means["sums"] = LIMBS.split(column_sums(X)) / n
        if asked.counts:
            means["counts"] = np.bincount(y.astype(int), minlength=classes) / n
        if asked.mean:
            means["squares"] = LIMBS.split(((X - asked.mean) ** 2).sum(axis=0)) / n
        training.take(purpose, means, n)
        return
    Z = np.column_stack([(X - training.mean) / training.scale, np.ones(n)])
    s = np.ones(n)
    if training.class_weights:
        s = np.array(training.class_weights)[y.astype(int)]
    found = [sums(Z, y, s, theta) for theta in asked.thetas]
    if purpose == "separation":
        own = np.where(y == 1, 1, -1) * (Z @ asked.thetas[0])
        sides = np.array([(own < -1e-9).sum(), (np.abs(own) <= 1e-9).sum()]) / n
        training.take(purpose, {"sides": sides}, n)
    elif purpose == "firth":
        assert asked.roots is not None
        inverses = [root @ root.T for root in asked.roots]
        rows = [adjustments(Z, *both) for both in zip(asked.thetas, inverses, strict=True)]
        training.take(purpose, {"adjustments": digits(rows, n)}, n)
    elif not training.second_order:
        loss, gradient, _, accuracy = found[0]
        split = asked.thetas.shape[1] // (X.shape[1] + 1) * X.shape[1]
        coefficients = gradient[:split].reshape(training.parameters[0].shape)
        if len(coefficients) == 1:
            (coefficients,) = coefficients
        parts = {"coefficients": coefficients / n, "intercept": gradient[split:] / n}
        training.take(purpose, parts, n, loss / n, accuracy)
    else:
        rows = [
            np.concatenate([[loss], gradient, hessian[np.triu_indices(len(hessian))]])
            for loss, gradient, hessian, _ in found
        ]
        derivatives = digits(rows, n)
        mean = {"derivatives": derivatives[:, 0] if purpose == "train" else derivatives}
        training.take(purpose, mean, n, accuracy=found[0][3])


def digits(rows: list[NDArray[np.float64]], n: int) -> NDArray[np.float64]:
    limbs = LIMBS.of_derivatives(scaled=True)
    return limbs.split(np.concatenate(rows)).reshape(limbs.count, len(rows), -1) / n


def sums(
    Z: NDArray[np.float64],
    y: NDArray[np.float64],
    s: NDArray[np.float64],
    theta: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64], NDArray[np.float64], float]:
    """Return sums of loss, gradient and Hessian at a model, and its accuracy."""
    n, width = Z.shape
    rows = len(theta) // width
    order = np.concatenate(  # coefficients row by row, then the intercepts
        [
            np.arange(width * rows).reshape(rows, width)[:, :-1].ravel(),
            width - 1 + width * np.arange(rows),
        ]
    )
    W = np.empty(len(theta))
    W[order] = theta
    margins = Z @ W.reshape(rows, width).T
    if rows == 1:
        P, Y = 1 / (1 + np.exp(-margins)), y[:, None]
        losses = np.logaddexp(0, margins[:, 0]) - y * margins[:, 0]
        hits = (margins[:, 0] > 0) == (y == 1)
    else:
        P = np.exp(margins - margins.max(axis=1, keepdims=True))
        P /= P.sum(axis=1, keepdims=True)
        Y = np.eye(rows)[y.astype(int)]
        losses = -np.log(P[np.arange(n), y.astype(int)])
        hits = margins.argmax(axis=1) == y
    gradient = (s[:, None] * (P - Y)).T @ Z
    hessian = np.zeros((rows, width, rows, width))
    for a in range(rows):
        for b in range(rows):
            c = s * P[:, a] * (float(a == b) - P[:, b])
            hessian[a, :, b, :] = (Z * c[:, None]).T @ Z
    H = hessian.reshape(len(theta), len(theta))[np.ix_(order, order)]
    return float((s * losses).sum()), gradient.ravel()[order], H, float(hits.mean())


def adjustments(
    Z: NDArray[np.float64], theta: NDArray[np.float64], inverse: NDArray[np.float64]
) -> NDArray[np.float64]:
    p = 1 / (1 + np.exp(-Z @ theta))
    h = p * (1 - p) * np.einsum("ij,jk,ik->i", Z, inverse, Z)
    return np.asarray((h * (0.5 - p)) @ Z)


def trained(
    chosen: Task,
    rounds: int = 400,
    data: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> Training:
    X, y = data or table(chosen.classes)
    training = Training(chosen)
    for _ in range(rounds):
        if training.is_over:
            break
        answer(training, X, y, chosen.classes)
        # As on a node that remembers only this text.
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
        asked.append(moments(training))
        answer(training, X, y)
    assert [one and (one.sums, one.counts, bool(one.mean)) for one in asked] == [
        (True, True, False),
        (False, False, True),
        None,
        None,
    ]
    assert (training.prepared, training.steps) == (2, 2)
    assert training.hessian is None, "nobody needs it with a penalty"
    declared = {"mean": (0.0,) * 3, "scale": (1.0,) * 3}
    for changes in ({"scaling": "none"}, {"scaling": "local"}, declared):
        first = moments(Training(task(optimizer="lbfgs", **changes)))
        assert first is None, changes
        first = moments(Training(task(**changes)))
        assert (first is None) == (changes == {"scaling": "local"}), "Newton's are about the mean"


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
        training.take("prepare", means, examples, 0.5)
    assert training.to_json() == before


@pytest.mark.parametrize("scaling", ["federated", "none"])
@pytest.mark.parametrize(("deviation", "constant"), [(1e-2, False), (1e-7, True), (0.0, True)])
def test_a_column_of_many_rows_far_from_0_is_constant_within_rounding_only(
    scaling: str, deviation: float, constant: bool
) -> None:
    n, training = 1_000_000, Training(task(scaling=scaling))
    mean = np.array([1.7e9, 1.0, -1.0])
    squares = n * np.square([deviation, 1.0, 1.0])
    training.take("prepare", {"sums": LIMBS.split(n * mean) / n}, n)
    training.take("prepare", {"squares": LIMBS.split(squares) / n}, n)
    assert training.constant == ((0,) if constant else ())


def test_a_class_without_patients_has_no_balanced_weight() -> None:
    with pytest.raises(DataError, match="balanced class weights"):
        Training(task(scaling="local", balanced=True)).take(
            "prepare", {"counts": np.array([1.0, 0.0])}, 9
        )


@pytest.mark.parametrize(
    "change",
    [
        {"theta": [0.0]},
        {"theta": [0.0, 0.0, 0.0, None]},
        {"mean": "a"},
        {"mean": [0.0]},
        {"class_weights": [1.0] * 3},
        {"steps": "1"},
        {"distance": True},
        {"optimizer": 3},
        {"optimizer": {"base": 1}},
        {"constant": [3]},
        {"constant": [1, 0]},
        {"aliased": {"3": [0]}},
        {"aliased": {"1": [0.0]}},
        {"watch": None},
        {"watch": {"settled": 1}},
        {"watch": {"settled": True, "first": [1.0] * 9}},
        {"watch": {"settled": True, "proof": "perhaps"}},
        {"hessian": [1.0] * 9},
        {"pending": {}},
        {"pending": [{"theta": [0.0] * 4, "gradient": [0.0] * 4, "loss": 1.0, "examples": 3}]},
        {"pending": [{}, {}]},
        {"search": {"bounds": [{}], "iterations": 0, "missed": 0}},
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
    assert not training.agrees(other(constant=[1]))
    assert not training.agrees(other(aliased={"2": [0]}))
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
        with pytest.raises(DataError, match=r"must be at most .* in size \(value") as caught:
            answer(training, X, y)
        for remedy in ("--max-coefficient", "--max-step", "penalty=firth"):
            assert remedy in str(caught.value)
        assert not training.theta.any()
        assert training.steps == 0


def left_out_table() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a table whose second column does not vary, and whose third is made of the first."""
    X, y = table()
    return np.column_stack([X[:, 0], np.full(len(X), 7.3), 2 * X[:, 0] + 1]), y


@pytest.mark.parametrize("C", [None, 1.0])
def test_columns_without_a_coefficient_of_their_own_are_left_out(C: float | None) -> None:
    X, y = left_out_table()
    training = trained(task(C=C), data=(X, y))
    assert training.converged
    assert training.constant == (1,)
    assert training.aliased == {2: (0,)}
    assert training.taking_part == ([0] if C is None else [0, 2])
    coefficients, intercept = training.parameters
    assert coefficients[0, 1] == 0.0
    fit = LogisticRegression(C=np.inf if C is None else C, tol=1e-12, max_iter=10_000)
    kept = training.taking_part
    fit.fit(StandardScaler().fit_transform(X[:, kept]), y)
    np.testing.assert_allclose(coefficients[0, kept], fit.coef_[0], atol=1e-6)
    assert intercept[0] == pytest.approx(fit.intercept_[0], abs=1e-6)


def test_a_column_that_varies_by_rounding_alone_is_left_out() -> None:
    """The sums before the first step tell: without its mean such a column is noise."""
    X, y = table()
    X[:, 1] = np.where(X[:, 0] > np.median(X[:, 0]), 1e6, np.nextafter(1e6, 2e6))
    training = trained(task(C=None), data=(X, y))
    assert training.converged
    assert (training.constant, training.aliased) == ((1,), {})


def test_gradient_descent_leaves_out_what_the_sums_before_it_tell() -> None:
    training = trained(task(optimizer="gd", tolerance=1e-6), 10, left_out_table())
    assert (training.constant, training.aliased) == ((1,), None)
    assert training.parameters[0][0, 1] == 0.0
    assert training.parameters[0][0, 2] != 0.0


def test_noisy_sums_within_ranges_give_units_within_them() -> None:
    X, _ = table()
    low, high = X.min(axis=0), X.max(axis=0)
    chosen = task(optimizer="gd", low=tuple(low.tolist()), high=tuple(high.tolist()))
    training = Training(chosen)
    asked = moments(training)
    assert asked is not None
    assert (asked.sums, asked.counts, asked.mean) == (False, False, ())
    assert (asked.low, asked.high) == (chosen.low, chosen.high)
    mapped = 2 * (X - low) / (high - low) - 1
    within = np.concatenate([mapped.mean(axis=0), (mapped**2).mean(axis=0)])
    training.take("prepare", {"within": within}, len(X))
    np.testing.assert_allclose(training.mean, X.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(training.scale, X.std(axis=0), rtol=1e-4)
    assert training.due == "train"


def penalised() -> Task:
    return task(C=None, firth=True, profile=(2, 0))


def test_firths_penalty_takes_two_totals_for_a_step() -> None:
    X, y = table()
    training = trained(penalised(), 2, (X, y))
    asked, steps = [], []
    for _ in range(4):
        asked.append(training.due)
        answer(training, X, y)
        steps.append(training.steps)
        training = Training.restored(penalised(), training.to_json())
    assert asked == ["train", "firth", "train", "firth"]
    assert steps == [0, 1, 1, 2]
    with pytest.raises(DataError, match="a sum for 'firth' cannot come now, train is due"):
        training.question("firth")
    answer(training, X, y)
    with pytest.raises(DataError, match="a sum for 'train' cannot come now, firth is due"):
        training.question("train")


def test_a_penalty_of_other_examples_is_not_used() -> None:
    X, y = table()
    training = trained(penalised(), 3, (X, y))
    before = training.theta
    asked = training.question("firth")
    assert isinstance(asked, Models)
    training.take("firth", {"adjustments": digits([np.ones(4)], len(X) - 1)}, len(X) - 1)
    assert training.point is None
    np.testing.assert_array_equal(training.theta, before)
    assert (training.due, training.steps) == ("train", 0)


def test_the_search_for_intervals_follows_from_totals() -> None:
    X, y = table()
    training = trained(penalised(), data=(X, y))
    assert training.converged
    fit = FirthLogisticRegression(max_iter=500, xtol=1e-9, gtol=1e-8)
    Z = StandardScaler().fit_transform(X)
    fit.fit(Z, y)
    np.testing.assert_allclose(training.theta[:3], fit.coef_, atol=1e-6)
    while training.may_ask("profile"):
        answer(training, X, y, purpose="profile")
        training = Training.restored(penalised(), training.to_json())
        answer(training, X, y)
        training = Training.restored(penalised(), training.to_json())
    assert training.search is not None
    found = np.array([bound.theta[bound.column] for bound in training.search.bounds])
    expected = fit.conf_int(method="pl", tol=1e-9, max_iter=500)[[2, 0]]
    np.testing.assert_allclose(found.reshape(2, 2), expected, atol=1e-6)
    assert not training.may_ask("train")
    assert training.agrees(Training.restored(penalised(), training.to_json()))


def test_what_is_left_out_is_in_no_penalty_and_no_interval() -> None:
    X, y = left_out_table()
    chosen = task(C=None, firth=True, profile=(0,))
    training = trained(chosen, data=(X, y))
    assert training.converged
    fit = FirthLogisticRegression(max_iter=500, xtol=1e-9, gtol=1e-8)
    fit.fit(StandardScaler().fit_transform(X[:, :1]), y)
    assert training.theta[0] == pytest.approx(fit.coef_[0], abs=1e-6)
    assert training.theta[1:3].tolist() == [0.0, 0.0]
    while training.may_ask("profile"):
        answer(training, X, y, purpose="profile")
        answer(training, X, y)
    assert training.search is not None
    found = [bound.theta[0] for bound in training.search.bounds]
    expected = fit.conf_int(method="pl", tol=1e-9, max_iter=500)[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_bounds_beyond_the_largest_coefficient_are_not_asked_for() -> None:
    largest = float(np.abs(trained(task(C=None)).parameters[0]).max())
    training = trained(task(C=None, profile=(0, 1, 2), max_coefficient=largest * 1.001))
    assert training.converged
    with pytest.raises(DataError, match=r"coefficients must be at most .* in size \(value"):
        training.question("profile")


def test_a_search_with_other_examples_ends() -> None:
    X, y = table()
    training = trained(task(C=None, profile=(1,)), data=(X, y))
    answer(training, X[1:], y[1:], purpose="profile")
    answer(training, X, y, purpose="profile")
    assert training.search is not None
    assert (training.search.iterations, training.search.missed) == (2, 0)
    training = trained(task(C=None, profile=(1,)), data=(X, y))
    for number in range(1, 4):
        answer(training, X[1:], y[1:], purpose="profile")
        assert training.search is not None
        assert (training.search.iterations, training.search.missed) == (number, number)
        assert {bound.state for bound in training.search.bounds} == {"open"}
    with pytest.raises(DataError, match="cannot come now"):
        training.question("profile")


@pytest.mark.parametrize("change", [{"column": 0}, {"theta": [0.0]}, {"misses": []}])
def test_a_search_for_other_bounds_is_refused(change: dict[str, Any]) -> None:
    chosen, data = task(C=None, profile=(1,)), table()
    training = trained(chosen, data=data)
    answer(training, *data, purpose="profile")
    members = json.loads(training.to_json())
    members["search"]["bounds"][1].update(change)
    with pytest.raises(DataError):
        Training.restored(chosen, json.dumps(members))


@pytest.mark.parametrize("change", ["theta", "state", "missed"])
def test_a_search_that_went_elsewhere_is_not_agreed_to(change: str) -> None:
    chosen, data = task(C=None, profile=(1,)), table()
    training = trained(chosen, data=data)
    answer(training, *data, purpose="profile")
    members = json.loads(training.to_json())
    other = {"theta": [0.0] * 4, "state": "lost", "missed": 1}[change]
    (members["search"] if change == "missed" else members["search"]["bounds"][0])[change] = other
    assert not training.agrees(Training.restored(chosen, json.dumps(members)))


@pytest.mark.parametrize("optimizer", ["newton", "lbfgs"])
def test_separated_classes_are_found_and_proved(optimizer: str) -> None:
    X, _ = table()
    y = (X[:, 1] > np.median(X[:, 1])).astype(float)
    chosen = task(C=None, optimizer=optimizer)
    training = trained(chosen, 60, (X, y))
    # The gradient vanishes too; the information tells that there is no optimum.
    assert training.converged is (optimizer == "lbfgs")
    assert training.may_ask("separation")
    answer(training, X, y, purpose="separation")
    assert training.watch.proof == "complete"
    assert training.watch.columns(3)[0] == 1
    assert not training.may_ask("separation")
    before, training = training, Training.restored(chosen, training.to_json())
    assert training.watch.proof == "complete"
    assert training.agrees(before)
    assert training.is_over
    assert not training.converged


def test_training_of_separated_classes_ends_and_never_converges() -> None:
    X, _ = table()
    y = (X[:, 1] > np.median(X[:, 1])).astype(float)
    chosen = task(C=None, tolerance=1e-3)
    assert trained(chosen, 60, (X, y)).steps < 40
    training, distances = Training(chosen), list[float]()
    for _ in range(60):
        answer(training, X, y)
        assert not training.converged
        distances.append(training.distance)
    assert min(distances) <= chosen.tolerance


def test_a_step_that_changes_the_standard_errors_is_not_the_last() -> None:
    training = trained(task(C=None, tolerance=2.0))
    assert training.converged
    before, steps = training.distance, training.steps
    assert before < 0.1, "a step before was within the tolerance already"
    assert steps > 2


def test_a_candidate_of_overlapping_classes_is_not_proved() -> None:
    X, _ = table()
    y = (X[:, 1] > np.median(X[:, 1])).astype(float)
    training = trained(task(C=None), 60, (X, y))
    before = Training.restored(training.task, training.to_json())
    training.take("separation", {"sides": np.array([0.1, 0.0])}, len(X))
    assert training.watch.proof == "not proved"
    assert not training.agrees(before)


@pytest.mark.parametrize(
    ("mean", "words"),
    [
        ({}, "a total must hold 'derivatives'"),
        ({"derivatives": np.ones((2, 1, 15))}, "digits must have shape"),
        ({"derivatives": np.ones((2, 14))}, "a Hessian's upper triangle must have 10 values"),
        ({"derivatives": np.ones((1, 15))}, r"digits must have shape \(2, d\), got \(1, 15\)"),
    ],
)
def test_derivatives_of_another_form_are_refused(
    mean: dict[str, NDArray[np.float64]], words: str
) -> None:
    training = trained(task(), 2)
    with pytest.raises(DataError, match=words):
        training.take("train", mean, 240)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("wrong", ["coefficients", "intercept"])
def test_a_gradient_of_another_shape_is_refused(classes: int, wrong: str) -> None:
    training = trained(task(optimizer="gd", classes=classes), 2)
    shapes: dict[str, tuple[int, ...]] = {"coefficients": (3,), "intercept": (1,)}
    if classes == 3:
        shapes = {"coefficients": (3, 3), "intercept": (3,)}
    mean = {name: np.zeros(shape) for name, shape in shapes.items()}
    mean[wrong] = np.zeros(7)
    with pytest.raises(DataError, match=f"{wrong} must have shape "):
        training.take("train", mean, 240, 0.5)


@pytest.mark.parametrize(
    ("digit", "words"),
    [
        (np.ones((2, 1, 15)), "derivatives must be of 2 models, got shape .2, 1, 15."),
        (np.ones((2, 15)), "derivatives must be of 2 models, got shape .2, 15."),
        (np.ones((1, 2, 15)), r"digits must have shape \(2, d\), got \(1, 30\)"),
        (np.ones((2, 2, 14)), "a Hessian's upper triangle must have 10 values"),
    ],
)
def test_derivatives_of_other_bounds_are_refused(digit: NDArray[np.float64], words: str) -> None:
    training = trained(task(C=None, profile=(1,)))
    with pytest.raises(DataError, match=words):
        training.take("profile", {"derivatives": digit}, 240)
    assert training.search is None


@pytest.mark.parametrize("purpose", ["prepare", "firth", "profile", "separation", "evaluate"])
def test_only_what_is_due_can_be_asked(purpose: str) -> None:
    training = trained(task(), 2)
    with pytest.raises(DataError, match="cannot come now, train is due"):
        training.question(purpose)
    with pytest.raises(DataError, match="cannot come now, train is due"):
        training.take(purpose, {}, 240)
    assert isinstance(training.question("figures"), Models)
    with pytest.raises(DataError, match="cannot come now"):
        training.take("figures", {}, 240)


def test_the_loss_that_is_kept_is_without_the_penalty() -> None:
    X, y = table()
    training = trained(task(C=0.1), 4, (X, y))
    theta = training.theta
    answer(training, X, y)
    Z = np.column_stack([(X - training.mean) / training.scale, np.ones(len(X))])
    assert np.abs(theta).max() > 0.1
    expected = sums(Z, y, np.ones(len(X)), theta)[0] / len(X)
    assert training.loss == pytest.approx(expected, rel=1e-9)


def test_an_evaluation_that_waits_is_not_agreed_to_by_who_has_none() -> None:
    X, y = table()
    before = trained(penalised(), 2, (X, y))
    training = Training.restored(penalised(), before.to_json())
    answer(training, X, y)
    assert training.due == "firth"
    assert training.agrees(Training.restored(penalised(), training.to_json()))
    waits = {**training.to_members(), "pending": []}
    assert not training.agrees(Training.from_members(penalised(), waits))


def test_an_intercept_may_be_larger_than_the_largest_coefficient() -> None:
    X, _ = table()
    y = (np.arange(len(X)) < 8).astype(float)  # a rare outcome
    training = trained(task(max_coefficient=1.0, max_step=1.0), data=(X, y))
    assert training.converged
    assert abs(training.parameters[1][0]) > 3.0


def test_with_firths_penalty_no_separation_is_looked_for() -> None:
    X, _ = table()
    y = (X[:, 1] > np.median(X[:, 1])).astype(float)
    training = trained(task(C=None, firth=True, tolerance=1e-6), 200, (X, y))
    assert training.converged
    assert training.watch.candidate is None
    assert not training.may_ask("separation")


def test_a_total_from_which_no_step_follows_leaves_no_point() -> None:
    X, y = table()
    training = trained(task(C=None, profile=(1,)), data=(X, y))
    answer(training, X, y)
    assert training.point is not None
    answer(training, X, y, purpose="profile")
    assert training.point is None
