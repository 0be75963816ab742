"""What a trained model is compared with: in a simulation much, in a deployment nothing.

Only a simulation has a test set, single hospitals' data and the pooled data. In a deployment
nobody holds any of them, and the figures are null in metrics.json.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fl_he.config_schema import Config, DataConfig
from fl_he.learning import descent, logistic
from fl_he.learning.baselines import figures, fit_alone
from fl_he.learning.scaling import Scaling
from fl_he.metrics_file import FIGURES
from fl_he.simulated_data import simulated_data

#: Coefficients of shape (d,), and the intercept.
Parameters = tuple[NDArray[np.float64], float]


class Comparison(Protocol):
    """What is known of the data beside the opened totals.

    Attributes
    ----------
    data : DataConfig
        Where the data are from, for metrics.json.
    feature_names : tuple of str
        In the order of the coefficients.
    positive : str or None
        What label 1 stands for; ``None`` where only the hospitals know.
    scaling : Scaling
        From the tables' units to those of the coefficients.
    """

    data: DataConfig
    feature_names: tuple[str, ...]
    positive: str | None
    scaling: Scaling

    def after_round(self, model: Parameters) -> dict[str, float | None]:
        """Return the test figures of a round in metrics.json."""

    def at_the_end(self, model: Parameters, examples: int) -> dict[str, Any]:
        """Return ``local``, ``federated`` and ``pooled`` of metrics.json.

        Parameters
        ----------
        model : tuple
            The trained one.
        examples : int
            How many it was trained on, from the opened total.
        """

    def without_privacy(self) -> dict[str, float | None] | None:
        """Return the figures of the same steps without clipping and noise."""


class SimulatedComparison:
    """Compare on a simulation's test set with each hospital alone and with the pooled data."""

    def __init__(self, config: Config) -> None:
        self._data = simulated_data(config)
        self._C = config.C
        self._config = config
        self.data = config.data
        self.feature_names = self._data.train.feature_names
        self.positive = self._data.train.positive
        self.scaling = self._data.scaling

    def after_round(self, model: Parameters) -> dict[str, float | None]:
        """See Comparison."""
        test = self._data.test
        return {
            "test_loss": logistic.log_loss(test.features, test.labels, *model),
            "test_accuracy": logistic.accuracy(test.features, test.labels, *model),
        }

    def at_the_end(self, model: Parameters, examples: int) -> dict[str, Any]:
        """See Comparison."""
        pooled = fit_alone(self._data.train, self._C)
        return {
            "local": [
                {
                    "hospital": f"hospital-{number}",
                    "examples": hospital.examples,
                    **self._figures(fit_alone(hospital, self._C)),
                }
                for number, hospital in enumerate(self._data.hospitals, start=1)
            ],
            "federated": _entry(model, examples, self._figures(model)),
            "pooled": _entry(pooled, self._data.train.examples, self._figures(pooled)),
        }

    def without_privacy(self) -> dict[str, float | None] | None:
        """See Comparison: on the pooled data, which comes to the same as federated."""
        train, optimizer = self._data.train, self._config.optimizer
        model: Parameters = np.zeros(len(self.feature_names)), 0.0
        for _ in range(self._config.rounds):
            gradient = logistic.gradient(train.features, train.labels, *model)
            model = descent.step(model, gradient, optimizer.lr, self._C, train.examples)
        return self._figures(model)

    def _figures(self, model: Parameters) -> dict[str, float | None]:
        test = self._data.test
        return asdict(figures(logistic.probabilities(test.features, *model), test.labels))


class NoComparison:
    """Compare with nothing: hospitals that are deployed show their data to nobody.

    Parameters
    ----------
    feature_names : tuple of str
        What the hospitals' coefficients stand for.
    """

    def __init__(self, feature_names: tuple[str, ...]) -> None:
        self.data = DataConfig(name="each hospital's own table")
        self.feature_names = feature_names
        self.positive: str | None = None
        # Deployed hospitals train on their tables as they are.
        self.scaling = Scaling.none(len(feature_names))

    def after_round(self, model: Parameters) -> dict[str, float | None]:
        """See Comparison."""
        return {"test_loss": None, "test_accuracy": None}

    def at_the_end(self, model: Parameters, examples: int) -> dict[str, Any]:
        """See Comparison."""
        unknown = dict.fromkeys(FIGURES)
        return {"local": None, "federated": _entry(model, examples, unknown), "pooled": None}

    def without_privacy(self) -> dict[str, float | None] | None:
        """See Comparison."""
        return None


def _entry(model: Parameters, examples: int, found: dict[str, float | None]) -> dict[str, Any]:
    coefficients, intercept = model
    return {
        "examples": examples,
        **found,
        "coefficients": coefficients.tolist(),
        "intercept": intercept,
    }
