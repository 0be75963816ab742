"""Chosen settings of private descent: given ones are kept, and they suit seeded tables."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quick import slow
from scipy.special import expit
from sklearn.datasets import load_digits, load_wine
from sklearn.linear_model import LinearRegression, PoissonRegressor

from fl_he.learning.privacy.accounting import gaussian_budget
from fl_he.learning.privacy.descent import (
    OF_COUNTS,
    DescentSettings,
    descent_settings,
    number_settings,
)
from fl_he.learning.tables.arrays import Array

MU = math.sqrt(gaussian_budget(1.0, 1e-5).squared_mu)
LIMITS = st.integers(1, 10**7), st.integers(1, 10**4), st.floats(1e-6, 100.0)


@given(*LIMITS)
def test_any_table_has_settings_within_bounds(examples: int, features: int, mu: float) -> None:
    found = descent_settings(examples, features, mu)
    size = math.sqrt(features + 1)
    assert 10 <= found.rounds <= 40
    assert 0.09 * size < found.clip < 0.42 * size
    path = found.rounds * found.lr * found.clip * size
    assert 19 < path < 680
    assert found.lr * found.clip * size < 17


@given(
    *LIMITS,
    st.none() | st.floats(1e-3, 1e3),
    st.none() | st.floats(1e-3, 1e3),
    st.none() | st.integers(1, 500),
)
def test_what_is_given_is_kept(  # noqa: PLR0917 - drawn by hypothesis
    examples: int,
    features: int,
    mu: float,
    clip: float | None,
    lr: float | None,
    rounds: int | None,
) -> None:
    found = descent_settings(examples, features, mu, clip=clip, lr=lr, rounds=rounds)
    free = descent_settings(examples, features, mu)
    assert found.clip == (free.clip if clip is None else clip)
    assert found.rounds == (free.rounds if rounds is None else rounds)
    if lr is not None:
        assert found.lr == lr


@given(*LIMITS, st.sampled_from([1.0, OF_COUNTS]))
def test_numbers_have_steps_that_go_downhill(
    examples: int, features: int, mu: float, curvature: float
) -> None:
    """Features with a standard deviation of a quarter of their range: half of half of it."""
    found = number_settings(examples, features, mu, curvature)
    size = math.sqrt(features + 1)
    assert 10 <= found.rounds <= 60
    assert 0.05 * size < found.clip < 0.42 * size
    largest = curvature * (1 + features * 0.5**2)
    assert found.lr * largest <= 2.0 * 1.05  # two digits
    assert found.rounds * found.lr <= 1.05 * 80 / curvature
    given_lr = number_settings(examples, features, mu, curvature, lr=0.3, rounds=7)
    assert (given_lr.lr, given_lr.rounds, given_lr.clip) == (0.3, 7, found.clip)
    assert number_settings(examples, features, mu, curvature, clip=2.5).clip == 2.5


@pytest.mark.parametrize("counts", [False, True])
def test_chosen_settings_of_numbers_come_near_the_maximum_of_the_likelihood(counts: bool) -> None:
    """A seeded table of 4000 rows at epsilon 1: nine tenths of D2 without privacy."""
    rng = np.random.default_rng(6)
    X = np.c_[np.clip(rng.normal(0, 0.5, (4000, 4)), -1, 1), np.ones(4000)]
    margins = X @ [0.6, -0.5, 0.4, 0.0, 0.7]
    y = rng.poisson(np.exp(margins)) if counts else margins + 0.4 * rng.normal(size=4000)
    low, high = (0.0, 12.0) if counts else (-3.0, 3.0)
    found = number_settings(4000, 4, MU, OF_COUNTS if counts else 1.0)
    theta = np.append(np.zeros(4), math.log(math.sqrt(1 + high) - 1) if counts else 0.0)
    for _ in range(found.rounds):
        m = X @ theta
        residuals = ((np.minimum(np.exp(m), high) if counts else m) - np.clip(y, low, high)) / high
        each = X * residuals[:, None]
        lengths = np.linalg.norm(each, axis=1)[:, None]
        total = (each * np.minimum(1, found.clip / np.maximum(lengths, 1e-30))).sum(axis=0)
        total += 2 * found.clip * math.sqrt(found.rounds) / MU * rng.normal(size=5)
        theta = theta - found.lr * total / 4000 * (1.0 if counts else high)

    def loss(margins: Array) -> float:
        if counts:
            return float(np.mean(np.exp(margins) - y * margins))
        return float(np.mean((y - margins) ** 2))

    model = PoissonRegressor(alpha=0) if counts else LinearRegression()
    best = model.fit(X[:, :4], y)
    fitted = X[:, :4] @ best.coef_ + best.intercept_
    null = np.full(4000, np.log(y.mean()) if counts else y.mean())
    assert loss(null) - loss(X @ theta) > 0.9 * (loss(null) - loss(fitted))


def test_the_learning_rate_suits_what_is_given() -> None:
    free = descent_settings(1000, 20, MU)
    assert descent_settings(1000, 20, MU, clip=free.clip / 2).lr == pytest.approx(
        2 * free.lr, rel=0.05
    )
    # Few rounds take longer steps, and not as long as all of the path would need.
    few = descent_settings(1000, 20, MU, rounds=5)
    assert free.lr < few.lr < free.lr * free.rounds / 5


def test_more_patients_or_a_larger_budget_have_a_longer_path() -> None:
    few, many = (descent_settings(rows, 30, MU) for rows in (300, 3000))
    large = descent_settings(300, 30, 10 * MU)
    assert few.rounds < many.rounds
    assert few.clip < many.clip
    assert large == many


def private_accuracy(features: Array, labels: Array, settings: DescentSettings) -> float:
    """Return the mean accuracy on a quarter of the rows, of seeded noise at epsilon 1."""
    rng = np.random.default_rng(3)
    rows = np.c_[features, np.ones(len(features))]
    scores = []
    for _ in range(30):
        order = rng.permutation(len(rows))
        held_out, train = np.split(order, [len(rows) // 4])
        theta = np.zeros(rows.shape[1])
        deviation = 2 * settings.clip * math.sqrt(settings.rounds) / MU
        for _ in range(settings.rounds):
            each = rows[train] * (expit(rows[train] @ theta) - labels[train])[:, None]
            lengths = np.linalg.norm(each, axis=1)[:, None]
            total = (each * np.minimum(1, settings.clip / np.maximum(lengths, 1e-30))).sum(axis=0)
            total += deviation * rng.normal(size=len(theta))
            theta = theta - settings.lr * total / len(train)
        scores.append(np.mean((rows[held_out] @ theta > 0) == labels[held_out]))
    return float(np.mean(scores))


@pytest.mark.parametrize(
    ("table", "least", "gain"), [*slow(("digits", 0.83, 0.04)), ("wine", 0.92, 0.01)]
)
def test_chosen_settings_are_better_than_the_constants_of_before(
    table: str, least: float, gain: float
) -> None:
    """Tables that they were chosen on, among others: docs/studies/private_defaults.py."""
    if table == "digits":
        features, labels = load_digits(return_X_y=True)
        features, labels = features / 8.0 - 1.0, (labels >= 5).astype(float)
    else:
        features, labels = load_wine(return_X_y=True)
        middle, half = features.mean(axis=0), 2 * features.std(axis=0)
        features, labels = (features - middle) / half, (labels == 0).astype(float)
    examples = len(features) - len(features) // 4
    chosen = private_accuracy(features, labels, descent_settings(examples, features.shape[1], MU))
    assert chosen >= least
    assert chosen >= private_accuracy(features, labels, DescentSettings(1.0, 0.05, 50)) + gain


def test_rates_of_counts_grow_as_the_second_derivative_shrinks() -> None:
    of_numbers, of_counts = (number_settings(3000, 10, 0.27, one) for one in (1.0, 0.3))
    # Steps go downhill below 2 / L, with L = 0.3 (1 + 10 / 4).
    assert of_counts == replace(of_numbers, lr=1.9)
