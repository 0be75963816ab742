"""An attack on one round's release: its success must stay below the promise.

Two neighbouring data sets, the worst that clipping leaves: in one a patient's gradient has the
clipping norm in one direction, in the other in the opposite one. The attacker, who knows everybody
else, looks at the total in that direction, as company X sees it, and guesses. How well he does
gives a lower bound on epsilon (Jagielski, Ullman, Oprea 2020, "Auditing Differentially Private
Machine Learning"), at 95% confidence by Clopper and Pearson's limits.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from fl_he.learning.privacy.discrete_gaussian import discrete_gaussian
from fl_he.learning.privacy.gradients import (
    GaussianPrivacy,
    Lattice,
    clipped_sum,
    epsilon_of_releases,
    noise_variance,
)
from fl_he.learning.regression import likelihood
from fl_he.learning.tables.data import Dataset

RUNS = 60_000
TERMS = GaussianPrivacy(epsilon=2.0, delta=1e-5, clip=1.0, rounds=1, contributors=3)
LATTICE = Lattice(fraction_bits=16, dimensions=3)
#: The last hospital's last patient is the one that differs, as far out as a feature may be.
TARGET = np.array([1e6, 0.0])


def hospitals(label: float) -> list[NDArray[np.int64]]:
    """Return the clipped sums of three hospitals at the zero model."""
    random = np.random.default_rng(8)
    sums = []
    for number in range(3):
        X, y = random.normal(size=(20, 2)), (random.random(20) > 0.5).astype(float)
        if number == 2:
            X[-1], y[-1] = TARGET, label
        gradients = likelihood.example_gradients(
            likelihood.examples_of(Dataset(X, y, ("a", "b")), np.zeros(3))
        )
        sums.append(clipped_sum(gradients, TERMS.clip, LATTICE.fraction_bits))
    return sums


def releases(label: float, variance: int) -> NDArray[np.int64]:
    """Return the attacker's view of many runs: the total's first coordinate."""
    known = sum(int(total[0]) for total in hospitals(label))
    # The noise of each coordinate is independent: the others reveal nothing about the target.
    noise = sum(discrete_gaussian(variance, RUNS) for _ in range(TERMS.contributors))
    return np.asarray(known + noise, dtype=np.int64)


def audited_epsilon(variance: int) -> float:
    """Return the largest epsilon that the attack shows, with 95% confidence."""
    # Half of the runs choose the threshold, the others measure: else the best of many tries counts.
    ones, others = releases(1.0, variance), releases(0.0, variance)
    half = RUNS // 2
    thresholds = np.quantile(ones[:half], np.linspace(0.01, 0.5, 50))
    guesses = [_bound(ones[:half] <= t, others[:half] <= t) for t in thresholds]
    best = thresholds[int(np.argmax(guesses))]
    return _bound(ones[half:] <= best, others[half:] <= best)


def _bound(right: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> float:
    """Return a lower bound on epsilon from right and wrong guesses, both at 97.5%."""
    hits, misses, runs = int(right.sum()), int(wrong.sum()), len(right)
    least = float(stats.beta.ppf(0.025, hits, runs - hits + 1)) if hits else 0.0
    most = float(stats.beta.ppf(0.975, misses + 1, runs - misses)) if misses < runs else 1.0
    return math.log(max(least - TERMS.delta, 1e-300) / most)


def test_the_target_is_as_far_apart_as_clipping_allows() -> None:
    here, there = (sum(int(total[0]) for total in hospitals(label)) for label in (1.0, 0.0))
    assert there - here >= 2 * (2**16 - 1) * 0.999


def test_the_attack_finds_no_more_than_is_promised() -> None:
    variance = noise_variance(TERMS, LATTICE)
    promised = epsilon_of_releases(TERMS, variance, LATTICE)
    assert promised <= TERMS.epsilon
    found = audited_epsilon(variance)
    assert found <= promised
    assert found > 0.25 * promised  # it is an attack, and not a blind one


def test_the_attack_would_notice_missing_noise() -> None:
    variance = noise_variance(TERMS, LATTICE)
    assert audited_epsilon(variance // 9) > TERMS.epsilon
