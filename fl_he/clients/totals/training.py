"""The learner of fl-he's own models: hospitals and company X compute each step by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from fl_he.clients.totals.learner import Course, Learner, Learnt, Stage
from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.optimizers.training import Training
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.encrypted_sum import Purpose
from fl_he.wire.learning_terms import PRIVACY_KEYS, task_of
from fl_he.wire.model import model_message_content
from fl_he.wire.records import ProtocolError, refused_as
from fl_he.wire.training_messages import (
    final_model,
    question_of,
    take_signed,
    take_total,
    training_arrays,
)


class TrainingLearner(Learner):
    """Trains a model of any family by `Training`; the train config says the task."""

    with_company_x = True

    def begin(
        self, config: ConfigRecord, packing: Packing, first: Callable[[], ArrayRecord] | None
    ) -> Course:
        """See Learner."""
        limbs = Limbs(packing.fraction_bits, packing.integer_bits)
        course = _Trained(Training(task_of(config, limbs)))
        if first is not None and _shapes(first()) != _shapes(course.model):
            raise ProtocolError(
                "the train config must be of this hospital's features and classes, and is of others"
            )
        return course


class _Trained(Course):
    def __init__(self, training: Training) -> None:
        self._training = training

    @property
    def model(self) -> ArrayRecord:
        return training_arrays(self._training)

    @property
    def memory(self) -> str:
        return self._training.to_json()

    @property
    def longest_memory(self) -> int:
        return self._training.longest_text

    def at(self, learnt: Learnt) -> Course:
        with refused_as("the training so far:"):
            return _Trained(Training.restored(self._training.task, learnt.memory))

    def question(
        self, config: ConfigRecord, purpose: Purpose | None = None
    ) -> tuple[str, RecordDict]:
        return question_of(self._training, purpose or self._due, config)

    def step(
        self,
        mean: RecordDict,
        config: ConfigRecord,
        purpose: Purpose | None = None,
        min_cell: int = 1,
    ) -> None:
        take_total(self._training, purpose or self._due, mean, min_cell)

    def final(self, config: ConfigRecord) -> RecordDict:
        if not self._training.steps:
            raise ProtocolError("a model is saved after its first step, and this one has had none")
        return model_message_content(*final_model(self._training, private=_is_private(config)))

    def adopt(self, memory: str) -> None:
        take_signed(self._training, memory)

    def stage(self, config: ConfigRecord) -> Stage:
        """See Course; with noise nobody can tell whether training is over."""
        training = self._training
        prepares = not training.steps or training.due != "train"
        return Stage(prepares, training.converged and not _is_private(config))

    @property
    def _due(self) -> Purpose:
        return cast(Purpose, self._training.due)


def _is_private(config: ConfigRecord) -> bool:
    return any(key in config for key in PRIVACY_KEYS)


def _shapes(arrays: ArrayRecord) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shape) for name, array in arrays.items()}
