"""The step by itself, on the plain replies of several hospitals."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from local_grid import LocalGrid, simulated_nodes

from fl_he.strategies.gradient_descent import GradientDescent
from fl_he.wire.model import model_arrays, read_model_arrays, update_content
from fl_he.wire.records import ProtocolError


def replies(*examples: int, features: int = 2) -> list[Message]:
    """Return each hospital's reply: hospital k's is a gradient of ones times k."""
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
