"""Gradient descent on a summed gradient: every hospital's model takes the same step."""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from fl_he.learning import descent
from fl_he.messages import ProtocolError, model_arrays, read_model_arrays


class GradientDescent(FedAvg):
    """Step a logistic model against the mean of the hospitals' gradients.

    FedAvg averages what the hospitals send, weighted by their numbers of examples. Here that is
    the gradient of the mean log loss over all of their data, so that one round is one step of
    gradient descent on the pooled data: ``w <- w - learning_rate * (gradient + w / (C * n))``.

    Parameters
    ----------
    learning_rate : float
        Step length, > 0.
    min_hospitals : int
        Fewest hospitals that a round starts with. All that are connected take part.
    C : float or None
        Inverse strength of the L2 penalty as in scikit-learn; ``None``: no penalty. The intercept
        is not penalised.
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
        """Average the gradients and take the step; returns the new model and the mean metrics."""
        replies = list(replies)
        gradient, metrics = super().aggregate_train(server_round, replies)
        if gradient is None or self._model is None:
            return None, metrics
        coefficients, intercept = read_model_arrays(self._model)
        coefficient_gradient, intercept_gradient = read_model_arrays(gradient)
        if coefficient_gradient.shape != coefficients.shape:
            raise ProtocolError(
                f"a gradient must have {len(coefficients)} coefficients, got "
                f"{len(coefficient_gradient)}"
            )
        stepped = descent.step(
            (coefficients, intercept),
            (coefficient_gradient, intercept_gradient),
            self.learning_rate,
            self.C,
            _examples(replies, self.weighted_by_key),
        )
        return model_arrays(*stepped), metrics


def _examples(replies: list[Message], weighted_by: str) -> int:
    total = 0
    for reply in replies:
        if reply.has_content():
            value = next(iter(reply.content.metric_records.values()))[weighted_by]
            total += int(value)  # type: ignore[arg-type]  # FedAvg has checked it is one number
    return total
