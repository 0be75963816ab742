"""Votes for several labels of a case: subsets, clipping, and the cost against exact distances."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from dp_accounting import get_epsilon_gaussian
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from fl_he.learning.errors import DataError, PrivacyError
from fl_he.learning.voting.answering import AnsweringModel, Layer
from fl_he.learning.voting.estimators import answering_model
from fl_he.learning.voting.gnmax import VotingBudget
from fl_he.learning.voting.many_labels import (
    ClippedVotes,
    LabelModels,
    having_label,
    subset_model,
    subsets,
)

RNG = np.random.default_rng(7)
FEATURES = RNG.normal(size=(80, 4))
LABELS = (FEATURES @ RNG.normal(size=(4, 3)) + RNG.normal(size=(80, 3)) > 0.3).astype(np.int64)


def test_a_subset_has_its_labels_and_no_answer_has_none() -> None:
    found = subsets(list(LABELS.T))
    assert found.max() <= 7
    for label in range(3):
        assert (having_label(found, label) == LABELS[:, label]).all()
    assert having_label(np.array([-1, 5]), 2).tolist() == [-1, 1]


@pytest.mark.filterwarnings("ignore:lbfgs failed")
@pytest.mark.parametrize(
    "new", [LogisticRegression, lambda: MLPClassifier((3,), solver="lbfgs", random_state=1)]
)
def test_the_subset_model_says_what_the_models_of_all_labels_say(new: Callable[[], Any]) -> None:
    fitted = [new().fit(FEATURES, label) for label in LABELS.T]
    joined = subset_model([answering_model(one, 2) for one in fitted])
    assert len(joined.layers[-1].offsets) == 8
    predicted = joined.predict(FEATURES)
    assert (predicted == LabelModels(tuple(fitted)).predict(FEATURES)).all()
    assert len(set(predicted.tolist())) > 3


def test_models_that_cannot_be_joined_are_refused() -> None:
    linear = AnsweringModel((Layer(np.eye(2), np.zeros(2)),))
    deep = AnsweringModel((Layer(np.eye(2), np.zeros(2)), Layer(np.eye(2), np.zeros(2))))
    one_class = AnsweringModel((Layer(np.eye(2), np.array([0.0, -np.inf])),))
    with pytest.raises(DataError, match="equally many layers"):
        subset_model([linear, deep])
    with pytest.raises(DataError, match="the model of a label knows one class only"):
        subset_model([linear, one_class])


@pytest.mark.parametrize("labels", [1, 3, 5])
@pytest.mark.parametrize("tau", [0.5, 1.0, 1.3, 1.8, math.sqrt(5), 4.0])
def test_no_two_clipped_vectors_are_further_apart_than_counted(labels: int, tau: float) -> None:
    vectors = np.array(list(product([0.0, 1.0], repeat=labels)))
    norms = np.maximum(np.linalg.norm(vectors, axis=1), 1e-9)
    clipped = vectors * np.minimum(1.0, tau / norms)[:, None]
    largest = np.linalg.norm(clipped[:, None] - clipped[None], axis=2).max()
    counted = ClippedVotes(labels, tau, 1.0).distance
    assert counted == pytest.approx(largest, rel=1e-5)  # votes are whole numbers of steps
    assert counted <= min(math.sqrt(2) * tau, math.sqrt(labels)) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("tau", "distance"),
    [(1.0, math.sqrt(2)), (math.sqrt(5), math.sqrt(5)), (1.2, 1.2 * math.sqrt(2))],
)
def test_a_clipped_vote_costs_what_gaussian_noise_on_all_labels_costs(
    tau: float, distance: float
) -> None:
    noise = ClippedVotes(5, tau, 4.0)
    exact = get_epsilon_gaussian(4.0 / (distance * math.sqrt(30)), 1e-5)
    assert noise.epsilon(30, 1e-5) == pytest.approx(exact, rel=0.01)
    budget = VotingBudget(noise, exact * 1.01, 1e-5)
    assert budget.affordable() == 30


def test_a_label_is_given_by_more_than_half_of_the_clipped_votes() -> None:
    # two parties say all of three labels, one says the first alone
    votes = np.array([[7], [7], [1]])
    assert ClippedVotes(3, 2.0, None).answers(votes).tolist() == [7]
    # with tau 1 a party's three votes count 0.58 each: 2.15 and 1.15 of 3
    assert ClippedVotes(3, 1.0, None).answers(votes).tolist() == [1]
    # half is not enough
    assert ClippedVotes(2, 2.0, None).answers(np.array([[3], [0]])).tolist() == [0]


def test_clipped_votes_have_noise_of_the_deviation_that_is_counted() -> None:
    votes = np.zeros((10, 4000), dtype=np.int64)
    found = ClippedVotes(2, 1.0, 5.0).answers(votes)
    # a sum of 0 is above 5 with noise of deviation 5 in 15.9% of the cases
    for label in range(2):
        assert having_label(found, label).mean() == pytest.approx(0.1587, abs=0.03)


def test_tau_and_sigma_are_above_0() -> None:
    for tau, sigma in ((0.0, 1.0), (1.0, math.inf)):
        with pytest.raises(PrivacyError, match="must be above 0 and finite"):
            ClippedVotes(3, tau, sigma)
    with pytest.raises(PrivacyError, match="sigma must be above 0"):
        ClippedVotes(3, 1.0, -1.0)
