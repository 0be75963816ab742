"""Models as records: their form is checked where they are read."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from fl_he.wire.model import model_arrays, read_model_arrays
from fl_he.wire.records import ProtocolError


def test_model_arrays() -> None:
    coefficients, intercept = read_model_arrays(model_arrays(np.array([1.0, -2.0]), 0.5))
    np.testing.assert_array_equal(coefficients, [1.0, -2.0])
    assert intercept == 0.5


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (ArrayRecord({"w": Array(np.zeros(2))}), "must hold the arrays"),
        (model_arrays(np.zeros((2, 2)), 0.0), r"shape \(d,\)"),
        (model_arrays(np.array([np.nan]), 0.0), "finite"),
        (model_arrays(np.array([1.0]), np.inf), "finite"),
    ],
)
def test_model_arrays_of_another_form_are_refused(arrays: ArrayRecord, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        read_model_arrays(arrays)


@pytest.mark.parametrize(
    "change",
    [
        {"extra": Array(np.zeros(2))},
        {"coefficients": Array(np.zeros(2, "float32"))},
        {"coefficients": Array(np.zeros(2, "complex128"))},
        {"coefficients": Array(np.array(["a", "b"]))},
        {"intercept": Array(np.array(["a"]))},
    ],
    ids=str,
)
def test_models_of_other_arrays_or_types_are_refused(change: dict[str, Array]) -> None:
    arrays = {**model_arrays(np.zeros(2), 0.0), **change}
    with pytest.raises(ProtocolError, match="a logistic model must"):
        read_model_arrays(ArrayRecord(arrays))
