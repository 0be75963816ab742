"""Models read from scikit-learn, and in integers, against their own predict."""

from __future__ import annotations

import secrets
import tracemalloc
from typing import Any

import numpy as np
import pytest
from integer_scores import integer_scores
from sklearn.datasets import load_iris
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import (
    LogisticRegression,
    Perceptron,
    RidgeClassifier,
    SGDClassifier,
)
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from fl_he.learning.errors import DataError
from fl_he.learning.voting.answering import AnsweringModel, Layer
from fl_he.learning.voting.estimators import answering_model
from fl_he.learning.voting.integer_model import IntegerModel, fixed_point, in_integers
from fl_he.learning.voting.layers import Convolution, network

COMPARED_BITS = 8
FEATURES, LABELS = load_iris(return_X_y=True)
# quarters, which fixed point holds exactly
FEATURES = np.rint(FEATURES * 4) / 4
BITS = {"fraction_bits": 2, "integer_bits": 4}

KINDS = [
    LogisticRegression(max_iter=1000),
    LinearDiscriminantAnalysis(),
    LinearSVC(random_state=0),
    SGDClassifier(random_state=0),
    RidgeClassifier(),
    Perceptron(random_state=0),
    NearestCentroid(),
    MLPClassifier((8,), random_state=0, max_iter=200, solver="lbfgs"),
    MLPClassifier((7, 5), random_state=0, max_iter=200, solver="lbfgs"),
]


def integers(model: AnsweringModel, value_bits: int = 36, **changes: int) -> IntegerModel:
    limits = {"largest_difference": (1 << value_bits) - 2, "compared_bits": COMPARED_BITS}
    return in_integers(model, **{**BITS, **limits, **changes})


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("estimator", KINDS, ids=lambda kind: type(kind).__name__)
@pytest.mark.parametrize("classes", [2, 3])
def test_a_model_predicts_what_its_classifier_does(estimator: Any, classes: int) -> None:
    rows = classes > LABELS
    fitted = estimator.fit(FEATURES[rows], LABELS[rows])
    model = answering_model(fitted, classes)
    wanted = fitted.predict(FEATURES)
    assert model.predict(FEATURES).tolist() == wanted.tolist()
    scores = integer_scores(integers(model, 60), fixed_point(FEATURES, **BITS))
    assert scores.astype(float).argmax(axis=1).tolist() == wanted.tolist()


def test_a_class_that_a_model_has_not_seen_never_wins() -> None:
    rows = LABELS != 1
    fitted = LogisticRegression(max_iter=1000).fit(FEATURES[rows], LABELS[rows])
    model = answering_model(fitted, 4)
    rng = np.random.default_rng(0)
    limit = 2 ** sum(BITS.values()) - 1
    queries = rng.choice([-limit, limit], size=(200, 4))  # the corners of the allowed range
    scores = integer_scores(integers(model, 20), queries)
    assert set(scores.astype(float).argmax(axis=1)) <= {0, 2}
    assert int((scores.max(axis=1) - scores.min(axis=1)).max()) <= 2**20 - 2


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("value_bits", [14, 20, 28, 40])
def test_no_number_outgrows_its_bits_at_any_query(value_bits: int) -> None:
    fitted = KINDS[-1].fit(FEATURES, LABELS) if value_bits > 28 else KINDS[0].fit(FEATURES, LABELS)
    model = integers(answering_model(fitted, 3), value_bits)
    limit = 2 ** sum(BITS.values()) - 1
    corners = np.random.default_rng(1).choice([-limit, limit], size=(300, 4))
    scores = integer_scores(model, corners)
    assert int((scores.max(axis=1) - scores.min(axis=1)).max()) <= 2**value_bits - 2
    for depth in range(1, len(model)):
        units = integer_scores(model[:depth], corners)
        bits = model[depth - 1].bits
        assert bits == 6 + (value_bits - 1 - 6) * depth // len(model)
        reached = int(np.abs(units).max())
        largest = 2**bits - 2 ** max(0, bits - COMPARED_BITS)
        assert 2 ** (bits - 2) < reached <= largest
        if depth == 1:  # the corner of each unit
            sizes = [
                sum(map(abs, row)) * (limit + 1) + abs(offset)
                for row, offset in zip(model[0].weights, model[0].offsets, strict=True)
            ]
            assert 0.99 * largest < max(sizes) <= largest


@pytest.mark.parametrize("value_bits", [32, 60, 80])
def test_units_by_their_highest_bits_leave_the_labels_as_they_are(value_bits: int) -> None:
    """Of more bits than weights can fill only empty ones would be compared."""
    features = StandardScaler().fit_transform(FEATURES) / 3
    fitted = MLPClassifier((8,), random_state=0, max_iter=60).fit(features, LABELS)
    terms = {"fraction_bits": 6, "integer_bits": 1}
    model = answering_model(fitted, 3)
    first, last = integers(model, value_bits, **terms, compared_bits=16)
    queries = fixed_point(features, **terms)
    units = queries.astype(object) @ np.array(first.weights, dtype=object).T + first.offsets
    left_out = max(0, first.bits - 16)
    masks = np.array([[secrets.randbits(left_out + 40) for _ in row] for row in units])
    passed = ((units + masks) >> left_out) >= (masks >> left_out)
    scores = np.where(passed, units, 0) @ np.array(last.weights, dtype=object).T + last.offsets
    labels = scores.astype(float).argmax(axis=1)
    assert (labels == fitted.predict(features)).mean() > 0.98


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_too_few_bits_are_refused_by_the_settings_that_help() -> None:
    model = answering_model(KINDS[-1].fit(FEATURES, LABELS), 3)
    with pytest.raises(DataError, match="raise value_bits"):
        integers(model, 16)


@pytest.mark.parametrize(
    "estimator", [DecisionTreeClassifier(), SVC(kernel="rbf"), KNeighborsClassifier()]
)
def test_another_kind_is_refused_with_those_that_can(estimator: Any) -> None:
    with pytest.raises(DataError, match=r"LogisticRegression.*MLPClassifier.*got \w*(er|SVC)$"):
        answering_model(estimator.fit(FEATURES, LABELS), 3)


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (MLPClassifier((3,), activation="tanh", max_iter=5), "ReLUs"),
        (NearestCentroid(shrink_threshold=0.1), "NearestCentroid must"),
        (NearestCentroid(metric="manhattan"), "NearestCentroid must"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_settings_that_cannot_be_evaluated_are_refused(estimator: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        answering_model(estimator.fit(FEATURES, LABELS), 3)


def test_labels_that_are_no_class_are_refused() -> None:
    for labels in (LABELS + 1, np.array(["a", "b", "c"])[LABELS]):
        with pytest.raises(DataError, match="labels must be integers from 0 to 2"):
            answering_model(LogisticRegression(max_iter=1000).fit(FEATURES, labels), 3)


def test_layers_that_do_not_fit_are_refused() -> None:
    two = Layer(np.ones((2, 4)), np.zeros(2))
    for layers, reason in (
        ((), "at least one layer"),
        ((two, two), r"layer 1 must have \(2,\) inputs"),
        ((Layer(np.ones((2, 4)), np.zeros(3)),), "an offset for each output"),
        ((Layer(np.full((2, 4), np.nan), np.zeros(2)),), "finite numbers only"),
        ((Layer(np.ones((4, 4)), np.full(4, -np.inf)), two), "finite numbers only"),
    ):
        with pytest.raises(DataError, match=reason):
            AnsweringModel(layers)
    with pytest.raises(DataError, match="must have 3 outputs"):
        answering_model(AnsweringModel((two,)), 3)


def test_features_round_to_the_nearest_step_and_large_ones_are_refused() -> None:
    features = np.array([[0.26, 1.12], [0.24, -1.13]])
    assert fixed_point(features, **BITS).tolist() == [[1, 4], [1, -5]]
    for value in (16.0, -16.0, np.nan, np.inf):
        with pytest.raises(DataError, match="feature 1 of query 0 must be below"):
            fixed_point(np.array([[0.0, value]]), **BITS)


def test_layers_of_zeros_and_of_tiny_weights_fit_too() -> None:
    last = Layer(np.array([[1.0], [-1.0]]), np.zeros(2))
    dead = AnsweringModel((Layer(np.zeros((1, 4)), np.array([2.0])), last))
    scores = integer_scores(integers(dead), fixed_point(FEATURES, **BITS))
    assert (scores.argmax(axis=1) == 0).all()
    tiny = AnsweringModel((*[Layer(np.full((1, 1), 1e-290), np.zeros(1))] * 30, last))
    with pytest.raises(DataError, match="at least 3 bits to its weights"):
        integers(tiny, integer_bits=4)


def test_a_matrix_of_a_convolution_is_rounded_in_the_memory_of_its_integers() -> None:
    rng = np.random.default_rng(0)
    convolution = Convolution(rng.normal(size=(5, 1, 3, 3)), np.zeros(5), (1, 1), (1, 1))
    outputs = Layer(rng.normal(size=(2, 5 * 20 * 20)), np.zeros(2))
    model = network([convolution, outputs], (1, 20, 20))
    numbers = sum(layer.weights.size for layer in model.layers)
    tracemalloc.start()
    try:
        integers(model, value_bits=60)
        # a pointer for each number, and no other array of its size
        assert tracemalloc.get_traced_memory()[1] < 1.5 * 8 * numbers
    finally:
        tracemalloc.stop()
