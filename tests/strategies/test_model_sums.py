"""Sums at several models as the coordinator reads them, refused where they do not fit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from flwr.app import MetricRecord, RecordDict

from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.tables.moments import Limbs
from fl_he.strategies.encrypted_sum import Cost
from fl_he.strategies.model_sums import ModelSums
from fl_he.strategies.sequential_paillier import SequentialPaillier
from fl_he.strategies.skipping import Skipped
from fl_he.wire.learning_terms import LearningTerms
from fl_he.wire.model import named_arrays, update_content
from fl_he.wire.records import ProtocolError

LIMBS = Limbs(24, 24).of_derivatives(scaled=True)
EXAMPLES = 8


class Sums:
    """Stands for the strategy: answers with sums of its choice from hospitals of its choice."""

    packing = Packing()

    def __init__(self) -> None:
        self.sums: list[Any] = []
        self.skipped: tuple[Skipped, ...] = ()
        self.arrays: dict[str, np.ndarray] = {}

    def sum_up(self, purpose: str, number: int, action: str, content: RecordDict) -> RecordDict:
        total = SimpleNamespace(
            contributors=3, examples=float(EXAMPLES), skipped=self.skipped, cost=Cost(seconds=2.0)
        )
        self.sums.append(total)
        return update_content(named_arrays(**self.arrays), MetricRecord({"num-examples": EXAMPLES}))


def digits(*sums: np.ndarray) -> np.ndarray:
    split = LIMBS.split(np.concatenate(sums)) / EXAMPLES
    return split.reshape(LIMBS.count, len(sums), -1)


def answering(**arrays: np.ndarray) -> tuple[Sums, ModelSums]:
    sums = Sums()
    sums.arrays = arrays
    return sums, ModelSums(cast(SequentialPaillier, sums), LearningTerms("federated"))


DERIVATIVES = np.array([5.0, 0.5, -0.25, 2.0, 0.5, 1.0])
MODELS = [np.array([1.0, 2.0]), np.array([3.0, 4.0])]


def test_each_model_has_its_own_derivatives_and_penalty() -> None:
    sums, model_sums = answering(derivatives=digits(DERIVATIVES, 2 * DERIVATIVES))
    points = model_sums.points(1, MODELS)
    assert [point.loss for point in points] == [5 / 8, 10 / 8]
    np.testing.assert_allclose(points[1].gradient, [1 / 8, -0.5 / 8])
    np.testing.assert_array_equal(points[1].theta, MODELS[1])
    sums.arrays = {"adjustments": digits(np.array([0.5, 0.0]), np.array([1.0, 2.0]))}
    penalised = model_sums.penalised(2, points)
    assert penalised is not None
    np.testing.assert_allclose(penalised[1].gradient, [0.0, -2.5 / 8])
    assert penalised[0].loss == pytest.approx(5 / 8 - 0.5 * np.log(1.75) / 8)
    assert model_sums.take_seconds() == 4.0
    assert model_sums.take_seconds() == 0.0


def test_a_penalty_of_other_hospitals_is_not_used() -> None:
    sums, model_sums = answering(derivatives=digits(DERIVATIVES))
    points = model_sums.points(1, MODELS[:1])
    sums.arrays = {"adjustments": digits(np.array([0.5, 0.0]))}
    sums.skipped = (Skipped("clinic-1", "away"),)
    assert model_sums.penalised(2, points) is None


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"gradient": digits(DERIVATIVES)}, "arrays must hold 'derivatives'"),
        ({"derivatives": digits(DERIVATIVES)}, "must be of 2 models, got shape .2, 1, 6."),
        ({"derivatives": digits(DERIVATIVES)[:, 0]}, "must be of 2 models, got shape .2, 6."),
        (
            {"derivatives": digits(DERIVATIVES[:5], DERIVATIVES[:5])},
            "a Hessian's upper triangle must have 3 values, got 2",
        ),
        (
            {"derivatives": digits(DERIVATIVES, DERIVATIVES)[:1]},
            r"digits must have shape \(2, d\), got \(1, 12\)",
        ),
    ],
)
def test_sums_of_another_form_are_refused(arrays: dict[str, np.ndarray], words: str) -> None:
    _, model_sums = answering(**arrays)
    with pytest.raises(ProtocolError, match=words):
        model_sums.points(1, MODELS)
