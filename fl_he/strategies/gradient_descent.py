"""Gradient descent on summed gradients, for Flower apps that send fl-he's models by themselves."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from fl_he.learning.optimizers import base as optimizers
from fl_he.learning.optimizers.base import Point
from fl_he.learning.regression import parameters
from fl_he.wire.model import model_arrays, read_parameters
from fl_he.wire.records import ProtocolError, refused_as


class GradientDescent(FedAvg):
    """Step a logistic or softmax model against the mean of the hospitals' gradients.

    FedAvg averages what the hospitals send, weighted by their numbers of examples. Here these are
    gradients of the mean log loss over their data, so a round is one step of gradient descent on
    the pooled data: ``w <- w - learning_rate * (gradient + w / (C * n))``.

    Parameters
    ----------
    learning_rate : float
        Step length, > 0.
    min_hospitals : int
        Fewest hospitals that a round starts with. All that are connected take part.
    C : float or None
        Inverse strength of the L2 penalty as in scikit-learn; ``None``: no penalty. The intercept
        is not penalised.

    Examples
    --------
    >>> strategy = GradientDescent(learning_rate=0.5, min_hospitals=3)
    >>> strategy.learning_rate, strategy.C
    (0.5, None)
    """

    def __init__(self, learning_rate: float, min_hospitals: int, C: float | None = None) -> None:
        super().__init__(min_train_nodes=min_hospitals, min_available_nodes=min_hospitals)
        # The train reply brings loss and accuracy already: no second round trip for them. Set
        # here, since FedAvg warns about it in its constructor.
        self.fraction_evaluate = 0.0
        self.min_evaluate_nodes = 0
        self.learning_rate = learning_rate
        self.C = C
        self._model: ArrayRecord | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the model to every hospital and remember it for the step."""
        self._model = arrays
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the gradients and take the step; returns new model and mean metrics."""
        replies = list(replies)
        mean, metrics = super().aggregate_train(server_round, replies)
        if mean is None or metrics is None or self._model is None:
            return None, metrics
        coefficients, intercepts = read_parameters(self._model)
        gradient = read_parameters(mean)
        if gradient[0].shape != coefficients.shape:
            raise ProtocolError(
                f"a gradient must have {_shape(coefficients)} coefficients, "
                f"got {_shape(gradient[0])}"
            )
        features, theta = coefficients.shape[1], parameters.join(coefficients, intercepts)
        examples = _examples(replies, self.weighted_by_key)
        point = Point(theta, math.nan, parameters.join(*gradient), examples)
        with refused_as("the hospitals' mean:"):
            point = optimizers.penalised(point, features, self.C)
        stepped = optimizers.GradientDescent(self.learning_rate).step(point)
        return model_arrays(*parameters.split(stepped, features)), metrics


def _shape(coefficients: NDArray[np.float64]) -> str:
    rows, features = coefficients.shape
    return str(features) if rows == 1 else f"{rows} x {features}"


def _examples(replies: list[Message], weighted_by: str) -> int:
    total = 0
    for reply in replies:
        if reply.has_content():
            value = next(iter(reply.content.metric_records.values()))[weighted_by]
            total += int(value)  # type: ignore[arg-type]  # FedAvg has checked it is one number
    return total
