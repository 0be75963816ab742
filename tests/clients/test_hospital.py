from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from sklearn.metrics import log_loss

from fl_he.clients.hospital import HospitalData, add_hospital
from fl_he.learning.data import Dataset
from fl_he.messages import ProtocolError, model_arrays, model_message_content

DATA = Dataset(np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 1.0]]), np.array([1, 0, 1]), ("a", "b"))
W, B = np.array([0.25, -0.5]), 0.125


def ask(action: str, coefficients: np.ndarray[tuple[int], np.dtype[np.float64]] = W) -> RecordDict:
    app = add_hospital(ClientApp(), lambda _: HospitalData(DATA, None))
    content = model_message_content(model_arrays(coefficients, B))
    context = Context(1, 5, {"partition-id": 0, "num-partitions": 4}, RecordDict(), {})
    return app(Message(content, 5, action), context).content


def test_evaluation_is_of_the_model_that_was_sent_and_holds_no_arrays() -> None:
    content = ask("evaluate")
    assert list(content.keys()) == ["metrics"]
    probabilities = 1 / (1 + np.exp(-(DATA.features @ W + B)))
    assert dict(content.metric_records["metrics"]) == {
        "loss": pytest.approx(log_loss(DATA.labels, probabilities)),
        "accuracy": pytest.approx(np.mean((probabilities > 0.5) == DATA.labels)),
        "num-examples": 3,
    }


@pytest.mark.parametrize("action", ["train", "evaluate", "query.finish"])
@pytest.mark.parametrize("features", [1, 3])
def test_a_model_of_other_features_is_refused(action: str, features: int) -> None:
    with pytest.raises(ProtocolError, match=f"this hospital's 2 features, got {features}"):
        ask(action, np.zeros(features))
