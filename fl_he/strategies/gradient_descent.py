"""Steps on summed derivatives: every hospital's model takes the same one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from fl_he.learning.optimizers import base as optimizers
from fl_he.learning.optimizers.base import Optimizer, Point
from fl_he.learning.regression import likelihood, parameters
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.encrypted_sum import LOSS
from fl_he.wire.learning_terms import HESSIAN
from fl_he.wire.model import DERIVATIVES, model_arrays, read_named_array, read_parameters
from fl_he.wire.records import ProtocolError, refused_as

#: Those of a hospital of fl-he's own app, if its packing is the default.
_LIMBS = Limbs(24, 24)


class SummedObjective(FedAvg):
    """Move a logistic or softmax model by what the hospitals' derivatives come to.

    FedAvg averages what the hospitals send, weighted by their numbers of examples. Here these are
    loss, gradient and, if the optimizer asks for it, Hessian of the mean log loss over all of their
    data. So a round is one evaluation of the objective of the pooled data.

    Parameters
    ----------
    optimizer : Optimizer
        Chooses the next model.
    min_hospitals : int
        Fewest hospitals that a round starts with. All that are connected take part.
    C : float or None
        Inverse strength of the L2 penalty as in scikit-learn; ``None``: no penalty. Intercepts
        are not penalised.
    limbs : Limbs
        How the hospitals write sums of derivatives for an optimizer of second order.

    Notes
    -----
    ``penalise``, if it is set, adds another penalty to a round's evaluation. If it returns
    ``None``, the round takes no step.

    ``point`` is the last evaluation, the penalty included; ``None`` if it is not known. With an
    optimizer of second order the loss of the metrics that are returned is as exact as the
    derivatives.

    ``observe`` is shown each evaluation without the penalty, and returns which parameters move; all
    others stay as they are.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        min_hospitals: int,
        C: float | None = None,
        limbs: Limbs = _LIMBS,
    ) -> None:
        super().__init__(min_train_nodes=min_hospitals, min_available_nodes=min_hospitals)
        # The train reply brings loss and accuracy already: no second round trip for them. Set
        # here, since FedAvg warns about it in its constructor.
        self.fraction_evaluate = 0.0
        self.min_evaluate_nodes = 0
        self.optimizer = optimizer
        self.C = C
        self.limbs = limbs
        self.penalise: Callable[[int, Point], Point | None] | None = None
        self.point: Point | None = None
        self.observe: Callable[[Point], NDArray[np.bool_]] = lambda point: np.full(
            point.theta.shape, fill_value=True
        )
        self._scaled = False
        self._model: ArrayRecord | None = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Send the model to every hospital and remember it for the step."""
        self._model = arrays
        if self.optimizer.second_order:
            config = ConfigRecord({**config, HESSIAN: True})
        self._scaled = config.get("scaling", "none") != "none"
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the derivatives and take the step; returns new model and mean metrics."""
        replies = list(replies)
        mean, metrics = super().aggregate_train(server_round, replies)
        if mean is None or metrics is None or self._model is None:
            return None, metrics
        examples = _examples(replies, self.weighted_by_key)
        coefficients, intercepts = read_parameters(self._model)
        features, theta = coefficients.shape[1], parameters.join(coefficients, intercepts)
        with refused_as("the hospitals' mean:"):
            if self.optimizer.second_order:
                limbs = self.limbs.of_derivatives(scaled=self._scaled)
                sums = limbs.join(read_named_array(mean, DERIVATIVES) * examples)
                loss, gradient, hessian = likelihood.mean_derivatives(sums, len(theta), examples)
                point = Point(theta, loss, gradient, examples, hessian)
                metrics[LOSS] = loss
            else:
                point = _first_order(mean, metrics, coefficients, theta, examples)
            moves = self.observe(point)
            point = optimizers.penalised(point, features, self.C).along(moves)
        self.point = point if self.penalise is None else self.penalise(server_round, point)
        if self.point is None:
            return self._model, metrics
        with refused_as("the hospitals' mean:"):
            stepped = np.where(moves, self.optimizer.step(self.point), theta)
        return model_arrays(*parameters.split(stepped, features)), metrics


class GradientDescent(SummedObjective):
    """Step a model against the mean of the hospitals' gradients.

    One round is one step of gradient descent on the pooled data:
    ``w <- w - learning_rate * (gradient + w / (C * n))``.

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
        super().__init__(optimizers.GradientDescent(learning_rate), min_hospitals, C)
        self.learning_rate = learning_rate


def _first_order(
    mean: ArrayRecord,
    metrics: MetricRecord,
    coefficients: NDArray[np.float64],
    theta: NDArray[np.float64],
    examples: int,
) -> Point:
    gradient = read_parameters(mean)
    if gradient[0].shape != coefficients.shape:
        raise ProtocolError(
            f"a gradient must have {_shape(coefficients)} coefficients, got {_shape(gradient[0])}"
        )
    # A private total has no loss; an optimizer that needs one refuses.
    if not isinstance(loss := metrics.get(LOSS, math.nan), float):
        raise ProtocolError(f"the hospitals' metrics must hold {LOSS!r}, one number")
    return Point(theta, loss, parameters.join(*gradient), examples)


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
