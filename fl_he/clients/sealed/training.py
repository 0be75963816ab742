"""The learner of fl-he's own models: hospitals and company X compute each step by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from fl_he.clients.sealed.learner import Learner, Learnt, Stage
from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.optimizers.task import Task
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
    """Trains a logistic or softmax model by `Training`; the train config says the task."""

    with_company_x = True

    def begin(
        self, config: ConfigRecord, packing: Packing, first: Callable[[], ArrayRecord] | None
    ) -> Learnt:
        """See Learner."""
        learnt = _learnt(Training(_task(config, packing)))
        if first is not None and _shapes(first()) != _shapes(learnt.model):
            raise ProtocolError(
                "the train config must be of this hospital's features and classes, and is of others"
            )
        return learnt

    def question(
        self,
        learnt: Learnt,
        config: ConfigRecord,
        packing: Packing,
        purpose: Purpose | None = None,
    ) -> tuple[str, RecordDict]:
        """See Learner."""
        training = _restored(learnt.memory, config, packing)
        return question_of(training, purpose or _due(training), config)

    def step(
        self,
        learnt: Learnt,
        mean: RecordDict,
        config: ConfigRecord,
        packing: Packing,
        purpose: Purpose | None = None,
    ) -> Learnt:
        """See Learner."""
        training = _restored(learnt.memory, config, packing)
        take_total(training, purpose or _due(training), mean)
        return _learnt(training)

    def final(self, learnt: Learnt, config: ConfigRecord, packing: Packing) -> RecordDict:
        """See Learner."""
        training = _restored(learnt.memory, config, packing)
        if not training.steps:
            raise ProtocolError("a model is saved after its first step, and this one has had none")
        return model_message_content(*final_model(training, private=_is_private(config)))

    def signed(self, own: Learnt, memory: str, config: ConfigRecord, packing: Packing) -> Learnt:
        """See Learner."""
        training = _restored(own.memory, config, packing)
        take_signed(training, memory)
        return _learnt(training)

    def stage(self, learnt: Learnt, config: ConfigRecord, packing: Packing) -> Stage:
        """See Learner; with noise nobody can tell whether training is over."""
        training = _restored(learnt.memory, config, packing)
        prepares = not training.steps or training.due != "train"
        return Stage(prepares, training.converged and not _is_private(config))


def _task(config: ConfigRecord, packing: Packing) -> Task:
    return task_of(config, Limbs(packing.fraction_bits, packing.integer_bits))


def _restored(memory: str, config: ConfigRecord, packing: Packing) -> Training:
    with refused_as("the training so far:"):
        return Training.restored(_task(config, packing), memory)


def _learnt(training: Training) -> Learnt:
    return Learnt(training_arrays(training), training.to_json())


def _due(training: Training) -> Purpose:
    return cast(Purpose, training.due)


def _is_private(config: ConfigRecord) -> bool:
    return any(key in config for key in PRIVACY_KEYS)


def _shapes(arrays: ArrayRecord) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shape) for name, array in arrays.items()}
