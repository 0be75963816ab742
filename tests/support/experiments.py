"""Small experiments, and their right results, computed without fl-he's learning code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from fl_he.config.composition import compose
from fl_he.config.run import Config
from fl_he.experiment.data import SimulatedData, simulated_data
from fl_he.learning.tables.data import Dataset
from fl_he.wire.events import Event, Listener, RoundEnded

#: A real table that is not part of the repository.
GRAD_SCHOOL = Path(__file__).parents[3] / "shared" / "data" / "grad_school.csv"


def experiment(*overrides: str, folder: Path, key_bits: int = 1024) -> Config:
    """Return a composed configuration.

    Unless a test says otherwise: a small key, Ray, and the settings of ``experiment=original``:
    gradient descent, which is easy to follow, and a split that takes no account of classes.
    """
    said = {override.partition("=")[0] for override in overrides}
    original = {"optimizer": "gd", "rounds": 15, "C": "null", "stratify": "false"}
    plain = {"simulation.engine": "ray", **({} if "experiment" in said else original)}
    settings = [f"{key}={value}" for key, value in plain.items() if key not in said]
    config = _composed(f"crypto.key_bits={key_bits}", *settings, *overrides)
    return replace(deepcopy(config), output_dir=str(folder))


@cache  # of Hydra's compositions, the same few hundred milliseconds each
def _composed(*overrides: str) -> Config:
    return compose("config", overrides)


def standardised(config: Config) -> SimulatedData:
    """Return a simulation's data in the units of scikit-learn's scaler on the training data."""
    raw = simulated_data(config)
    scaler = StandardScaler().fit(raw.train.features)

    def scaled(data: Dataset) -> Dataset:
        return replace(data, features=scaler.transform(data.features))

    hospitals = tuple(map(scaled, raw.hospitals))
    return replace(raw, hospitals=hospitals, train=scaled(raw.train), held_out=scaled(raw.test))


def pooled_descent(config: Config) -> tuple[NDArray[np.float64], float]:
    """Return coefficients and intercept of plain gradient descent on the pooled training data."""
    train = standardised(config).train
    X, y = train.features, train.labels
    w, b = np.zeros(X.shape[1]), 0.0
    for _ in range(config.rounds):
        error = 1.0 / (1.0 + np.exp(-(X @ w + b))) - y
        penalty = 0.0 if config.C is None else w / (config.C * len(y))
        w, b = (
            w - config.optimizer.lr * (X.T @ error / len(y) + penalty),
            b - config.optimizer.lr * float(error.mean()),
        )
    return w, b


def check_equals_pooled_descent(config: Config, metrics: dict[str, Any]) -> None:
    """Assert that the encrypted federation took the very steps of the pooled data."""
    w, b = pooled_descent(config)
    federated = metrics["federated"]
    np.testing.assert_allclose(federated["coefficients"], w, rtol=0, atol=1e-6)
    assert abs(federated["intercept"] - b) < 1e-6
    assert np.abs(w).max() > 0.01, "the comparison must not be of zeros"


def on_round(function: Callable[[Mapping[str, Any]], object]) -> Listener:
    """Return a callback that calls a function with the entry of each ended round."""

    def hear(event: Event) -> None:
        if isinstance(event, RoundEnded):
            function(event.entry)

    return hear
