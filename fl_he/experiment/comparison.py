"""The trained model beside others: many in a simulation, none in a deployment.

Only a simulation has a test set, single hospitals' data and the pooled data. In a deployment
nobody holds any of them, and the figures are null in metrics.json; so they are in a simulation
that holds no test set out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.config import ClassWeight, Config, DataConfig
from fl_he.config import Scaling as ScalingChoice
from fl_he.experiment.data import simulated_data
from fl_he.learning.optimizers import base as optimizers
from fl_he.learning.optimizers.registry import optimizer_of
from fl_he.learning.regression import likelihood, parameters
from fl_he.learning.regression.baselines import figures, fit, penalty_of
from fl_he.learning.regression.registry import class_probabilities, family_for
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.scaling import Scaling, standardise
from fl_he.run_files.metrics_contract import FIGURES

#: A model's parameters, as fl_he.learning.regression.parameters lays them out.
Parameters = NDArray[np.float64]


class Comparison:
    """The model beside nothing: nobody holds test data.

    Parameters
    ----------
    feature_names : tuple of str
        In the order of the coefficients.
    classes : tuple of str
        Names of more than two classes; empty for two.
    positive : str or None
        What label 1 stands for; ``None`` where only the hospitals know.
    data : DataConfig or None
        Where the data are from, for metrics.json; ``None`` for hospitals that are deployed, which
        show their data to nobody.
    """

    def __init__(
        self,
        feature_names: tuple[str, ...],
        classes: tuple[str, ...] = (),
        positive: str | None = None,
        data: DataConfig | None = None,
    ) -> None:
        self.data = DataConfig(name="each hospital's own table") if data is None else data
        self.feature_names = feature_names
        self.positive = positive
        self.classes = classes

    def use(self, scaling: Scaling) -> None:
        """Compare in the units of the model: those that this scaling makes of the tables'."""

    def after_round(self, model: Parameters) -> dict[str, float | None]:
        """Return the test figures of a round in metrics.json."""
        return {"test_loss": None, "test_accuracy": None}

    def at_the_end(self, model: Parameters, examples: int) -> dict[str, Any]:
        """Return ``local``, ``federated`` and ``pooled`` of metrics.json.

        Parameters
        ----------
        model : ndarray
            The trained one.
        examples : int
            How many it was trained on, from the opened total.
        """
        federated = self._entry(model, examples, dict.fromkeys(FIGURES))
        return {"local": None, "federated": federated, "pooled": None}

    def without_privacy(self) -> dict[str, float | None] | None:
        """Return the figures of the same steps without clipping and noise."""
        return None

    def _entry(
        self, model: Parameters, examples: int, found: dict[str, float | None]
    ) -> dict[str, Any]:
        coefficients, intercepts = parameters.split(model, len(self.feature_names))
        binary = len(intercepts) == 1
        return {
            "examples": examples,
            **found,
            "coefficients": (coefficients[0] if binary else coefficients).tolist(),
            "intercept": float(intercepts[0]) if binary else intercepts.tolist(),
        }


class SimulatedComparison(Comparison):
    """Compare on a simulation's test set with each hospital alone and with the pooled data."""

    def __init__(self, config: Config) -> None:
        self._raw = simulated_data(config)
        train = self._raw.train
        super().__init__(train.feature_names, train.classes, train.positive, config.data)
        self._C = config.C
        self._config = config
        self._local = config.scaling is ScalingChoice.local
        self._balanced = config.class_weight is ClassWeight.balanced
        self.use(Scaling.none(len(self.feature_names)))

    def use(self, scaling: Scaling) -> None:
        """See Comparison."""

        def scaled(dataset: Dataset) -> Dataset:
            if self._local:
                return standardise(dataset)[0]
            return replace(dataset, features=scaling.apply(dataset.features))

        self._hospitals = [scaled(hospital) for hospital in self._raw.hospitals]
        # With local scaling, as a hospital does to which the model is new.
        self._test = scaled(self._raw.test)
        self._train = replace(
            self._raw.train,
            features=np.concatenate([part.features for part in self._hospitals]),
            labels=np.concatenate([part.labels for part in self._hospitals]),
        )

    def after_round(self, model: Parameters) -> dict[str, float | None]:
        """See Comparison."""
        examples = likelihood.examples_of(self._test, model)
        return {
            "test_loss": float(np.mean(examples.losses)),
            "test_accuracy": float(np.mean(examples.hits)),
        }

    def at_the_end(self, model: Parameters, examples: int) -> dict[str, Any]:
        """See Comparison."""
        pooled = self._fit(self._train)
        return {
            "local": [
                {
                    "hospital": f"hospital-{number}",
                    "examples": hospital.examples,
                    **self._figures(self._fit(hospital)),
                }
                for number, hospital in enumerate(self._hospitals, start=1)
            ],
            "federated": self._entry(model, examples, self._figures(model)),
            "pooled": self._entry(pooled, self._train.examples, self._figures(pooled))
            | {"C": penalty_of(self._C)},
        }

    def without_privacy(self) -> dict[str, float | None] | None:
        """See Comparison: on the pooled data, which comes to the same as federated."""
        features = len(self.feature_names)
        optimizer = optimizer_of(self._config.optimizer.name, self._config.optimizer.lr)
        classes = self._train.class_count
        theta = family_for(classes).zeros(features, classes)
        for _ in range(self._config.rounds):
            examples = likelihood.examples_of(self._train, theta)
            point = optimizers.Point(
                theta,
                float(np.mean(examples.losses)),
                likelihood.mean_gradient(examples),
                self._train.examples,
            )
            theta = optimizer.step(optimizers.penalised(point, features, self._C))
        return self._figures(theta)

    def _fit(self, dataset: Dataset) -> Parameters:
        return fit(dataset, self._C, balanced=self._balanced)

    def _figures(self, model: Parameters) -> dict[str, float | None]:
        probabilities = class_probabilities(model, self._test.features)
        return {**figures(probabilities, self._test.labels)}


def simulated_comparison(config: Config) -> Comparison:
    """Return what a simulation compares with: nothing if it holds no test set out."""
    raw = simulated_data(config)
    if raw.held_out is not None:
        return SimulatedComparison(config)
    train = raw.train
    return Comparison(train.feature_names, train.classes, train.positive, config.data)
