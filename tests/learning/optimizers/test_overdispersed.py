"""Trainings of coefficients and alpha together, by hospitals' sums that nobody encrypts."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from overdispersed_counts import FEATURES, count_tables, pooled_nb2
from plain_rounds import trained
from quick import release
from scipy.stats import nbinom

from fl_he.learning.optimizers.base import Overdispersion, Point
from fl_he.learning.optimizers.overdispersed import OverdispersedNewton
from fl_he.learning.optimizers.task import Task
from fl_he.learning.optimizers.training import Training
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.records import ProtocolError

FAMILY = "negative_binomial"


def task(**changes: Any) -> Task:
    usual: dict[str, Any] = {
        **{"features": 2, "classes": 0, "optimizer": "newton", "lr": 0.5, "C": None},
        **{"scaling": "federated", "mean": (), "scale": (), "balanced": False},
        **{"tolerance": 1e-7, "max_step": None, "max_coefficient": None},
        **{"limbs": Limbs(24, 24), "family": FAMILY},
    }
    return Task(**usual | changes)


def hospitals(tables: list[Any]) -> list[Dataset]:
    return [
        Dataset(
            *(table[[*FEATURES]].to_numpy(float), table["visits"].to_numpy(float), FEATURES),
            family=FAMILY,
        )
        for table in tables
    ]


#: Tables on which a step can be too long.
HARD: dict[str, dict[str, Any]] = {
    "strong": {"alpha": 4.0, "intercept": 1.0},
    "weak": {"alpha": 0.05, "intercept": 2.0},
    "rare": {"alpha": 4.0, "intercept": -2.5, "sizes": (900, 400, 20)},
    "large": {"intercept": 5.0},
    "small": {"sizes": (30, 20, 20)},
    "effects": {"alpha": 0.5, "effect": 2.0},
}


@pytest.mark.parametrize(
    ("kind", "seed"),
    [
        *((kind, 1) for kind in HARD),
        ("rare", 37),  # coefficients and alpha that step together go too far
        *release(*((kind, seed) for kind in HARD for seed in range(2, 7))),
    ],
)
def test_twelve_rounds_come_to_the_optimum(kind: str, seed: int) -> None:
    tables = count_tables(seed, **HARD[kind])
    training, fitted = trained(hospitals(tables), task()), pooled_nb2(tables)
    assert training.converged
    assert training.steps <= 12
    coefficients = training.parameters[0][0] / training.scale
    for place, name in enumerate(FEATURES):
        error = fitted.bse[name]
        assert coefficients[place] == pytest.approx(fitted.params[name], abs=1e-6 * error)
    log_alpha, intercept, null = training.overdispersion
    found = math.exp(log_alpha)
    assert found == pytest.approx(fitted.params["alpha"], abs=1e-6 * fitted.bse["alpha"])
    assert found * training.log_alpha_error == pytest.approx(fitted.bse["alpha"], rel=1e-5)
    alone = pooled_nb2(tables, ())
    assert [intercept, math.exp(null)] == pytest.approx([*alone.params], rel=1e-6)


@pytest.mark.parametrize("largest", [1e5, 1e6])
def test_one_outlying_count_does_not_end_a_training(largest: float) -> None:
    tables = count_tables(2, sizes=(300, 200, 20), effect=0.3)
    tables[0].loc[0, "visits"] = largest
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training = trained(hospitals(tables), task())
    assert training.converged
    pooled = pd.concat(tables)
    features = (pooled[[*FEATURES]].to_numpy(float) - training.mean) / training.scale
    design = np.column_stack([np.ones(len(features)), features])

    def likelihood(theta: np.ndarray, log_alpha: float) -> float:
        alpha, means = math.exp(log_alpha), np.exp(design @ theta)
        return float(nbinom.logpmf(pooled["visits"], 1 / alpha, 1 / (1 + alpha * means)).sum())

    coefficients, intercepts = training.parameters
    theta, (log_alpha, *_) = np.append(intercepts, coefficients), training.overdispersion
    best = likelihood(theta, log_alpha)
    for step in (-1e-3, 1e-3):
        assert likelihood(theta, log_alpha + step) < best
        for place in np.eye(len(theta)):
            assert likelihood(theta + step * place, log_alpha) < best


@pytest.mark.parametrize("seed", range(1, 4))
def test_counts_that_vary_no_more_than_poissons_are_refused(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tables = count_tables(seed, alpha=0.0)
    for table in tables:
        table["visits"] = rng.binomial(4, 0.5, len(table))
    with pytest.raises(ProtocolError, match=r"vary more than Poisson's do.*: set family poisson"):
        trained(hospitals(tables), task())


def test_a_penalty_pulls_the_coefficients_only() -> None:
    own = hospitals(count_tables(3))
    free, pulled = trained(own, task()), trained(own, task(C=0.001))
    assert pulled.converged
    assert (np.abs(pulled.parameters[0]) < np.abs(free.parameters[0])).all()
    assert pulled.hessian is None
    assert pulled.overdispersion[0] > free.overdispersion[0]


def test_a_step_that_raises_the_loss_without_features_alone_is_halved() -> None:
    null = 1.0, np.array([0.3, 0.2]), np.eye(2)
    alpha = Overdispersion((0.1, 0.5, 0.2), 0.1, 1.0, np.zeros(1), *null, 2.0)
    point = Point(np.array([0.4]), 1.0, np.array([0.2]), 100, np.eye(1), overdispersion=alpha)
    optimizer, start = OverdispersedNewton(), np.array([0.4, *alpha.told])
    tried = optimizer.step(point)
    further = replace(alpha, told=tuple(tried[1:].tolist()), null_loss=1.5)
    found = optimizer.step(replace(point, theta=tried[:1], loss=0.9, overdispersion=further))
    np.testing.assert_allclose(found - start, (tried - start) / 2)


def test_a_training_goes_on_from_its_text() -> None:
    training = trained(hospitals(count_tables(3)), task(), rounds=4)
    again = Training.restored(training.task, training.to_json())
    assert again.overdispersion == training.overdispersion
    assert again.log_alpha_error == training.log_alpha_error
    assert again.to_json() == training.to_json()
    assert len(training.to_json()) <= training.longest_text
    text = training.to_json().replace('"overdispersion": [', '"overdispersion": [0.1, ')
    with pytest.raises(Exception, match="overdispersion must be of the task's"):
        Training.restored(training.task, text)


@pytest.mark.release
def test_intervals_cover_the_true_values_of_three_hospitals_in_95_percent() -> None:
    rng, truth, alpha, covered = np.random.default_rng(5), np.array([0.4, -0.5]), 0.7, np.zeros(3)
    for _ in range(400):
        own = []
        for rows in (400, 150, 50):
            features = np.column_stack([rng.normal(size=rows), rng.integers(0, 2, rows)])
            rates = rng.gamma(1.0 / alpha, alpha * np.exp(0.5 + features @ truth))
            labels = rng.poisson(rates).astype(float)
            own.append(Dataset(features, labels, FEATURES, family=FAMILY))
        training = trained(own, task())
        assert training.converged
        assert training.hessian is not None
        inverse = np.linalg.inv(training.examples * training.hessian)
        errors = np.append(np.sqrt(np.diag(inverse))[:2], training.log_alpha_error)
        estimates = [*(training.parameters[0][0] / training.scale), training.overdispersion[0]]
        errors[:2] /= training.scale
        covered += np.abs(estimates - np.append(truth, math.log(alpha))) <= 1.959964 * errors
    print("covered", covered / 400)
    assert ((covered / 400 >= 0.93) & (covered / 400 <= 0.97)).all()
