"""The step by itself, on the plain replies of several hospitals."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from local_grid import LocalGrid, simulated_nodes

from fl_he.learning.optimizers.damped import Newton
from fl_he.learning.tables.moments import Limbs
from fl_he.strategies.gradient_descent import GradientDescent, SummedObjective
from fl_he.wire.model import model_arrays, named_arrays, read_model_arrays, update_content
from fl_he.wire.records import ProtocolError


def replies(*examples: int, features: int = 2) -> list[Message]:
    """Return hospital k's reply: a gradient of ones times k, from so many examples."""
    return [
        Message(
            update_content(
                model_arrays(np.full(features, float(k)), -float(k)),
                MetricRecord({"loss": 0.5, "num-examples": n}),
            ),
            reply_to=Message(RecordDict(), 1000 + k, "train"),
        )
        for k, n in enumerate(examples, start=1)
    ]


def started(C: float | None) -> GradientDescent:
    descent = GradientDescent(0.5, 3, C)
    model = model_arrays(np.array([1.0, -2.0]), 3.0)
    descent.configure_train(1, model, ConfigRecord(), LocalGrid(ClientApp(), simulated_nodes(2)))
    return descent


def test_the_penalty_is_over_the_examples_of_all_replies() -> None:
    arrays, _ = started(C=0.25).aggregate_train(1, replies(10, 30, 40))
    assert arrays is not None
    coefficients, intercept = read_model_arrays(arrays)
    mean = (1 * 10 + 2 * 30 + 3 * 40) / 80
    penalty = np.array([1.0, -2.0]) / (0.25 * 80)
    np.testing.assert_allclose(coefficients, [1.0, -2.0] - 0.5 * (mean + penalty))
    assert intercept == pytest.approx(3.0 + 0.5 * mean)


@pytest.mark.parametrize("features", [1, 3])
def test_a_gradient_of_another_length_is_refused(features: int) -> None:
    with pytest.raises(ProtocolError, match=f"must have 2 coefficients, got {features}"):
        started(C=None).aggregate_train(1, replies(10, 10, 10, features=features))


def test_newton_reads_plain_digits_as_exactly_as_encrypted_ones() -> None:
    """Sums that 48 bits cannot hold, averaged by Flower's own FedAvg."""
    limbs = Limbs(24, 24).of_derivatives(scaled=True)
    sums = np.array([3.0, 1e-13, -2.0, 0.0, 5e-13, 0.0, 0.0, 4.0, 0.0, 7.0])
    answers = [
        Message(
            update_content(
                named_arrays(derivatives=limbs.split(sums * n) / n),
                MetricRecord({"loss": 0.5, "num-examples": n}),
            ),
            reply_to=Message(RecordDict(), 1000 + n, "train"),
        )
        for n in (10, 30, 40)
    ]
    newton = SummedObjective(Newton(), 3)
    config = ConfigRecord({"scaling": "federated"})
    model = model_arrays(np.array([1.0, -2.0]), 3.0)
    newton.configure_train(1, model, config, LocalGrid(ClientApp(), simulated_nodes(2)))
    arrays, metrics = newton.aggregate_train(1, answers)
    assert arrays is not None
    assert metrics is not None
    coefficients, intercept = read_model_arrays(arrays)
    np.testing.assert_allclose(coefficients, [1.0 - 1e-13 / 5e-13, -2.0 + 2.0 / 4.0], rtol=1e-6)
    assert intercept == pytest.approx(3.0)
    assert metrics["loss"] == pytest.approx(3.0, rel=1e-15)


def test_derivatives_of_another_model_are_refused() -> None:
    digits = Limbs(24, 24).of_derivatives(scaled=True).split(np.ones(6))
    newton = SummedObjective(Newton(), 1)
    model = model_arrays(np.array([1.0, -2.0]), 3.0)
    config = ConfigRecord({"scaling": "federated"})
    newton.configure_train(1, model, config, LocalGrid(ClientApp(), simulated_nodes(2)))
    content = update_content(
        named_arrays(derivatives=digits), MetricRecord({"loss": 0.5, "num-examples": 1})
    )
    reply = Message(content, reply_to=Message(RecordDict(), 1000, "train"))
    with pytest.raises(ProtocolError, match="upper triangle must have 6 values, got 2"):
        newton.aggregate_train(1, [reply])
