"""The learner of fl-he's own models: hospitals and company X compute each step by themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import cast

from flwr.app import ArrayRecord, ConfigRecord, MessageType, RecordDict

from fl_he.clients.sealed.learner import Learner, Learnt, Stage
from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.optimizers.training import Task, Training
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.encrypted_sum import LOSS, MOMENTS, NUM_EXAMPLES
from fl_he.wire.learning_terms import (
    PRIVACY_KEYS,
    LearningTerms,
    MomentsRequest,
    TrainingTerms,
)
from fl_he.wire.model import model_arrays, model_message_content, read_named_array
from fl_he.wire.records import CONFIG, ProtocolError, refused_as


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
        self, learnt: Learnt, config: ConfigRecord, packing: Packing
    ) -> tuple[str, RecordDict]:
        """See Learner."""
        training = _restored(learnt.memory, config, packing)
        if (asked := training.moments()) is not None:
            return MOMENTS, MomentsRequest(**asdict(asked)).to_content()
        terms = _terms(training, config, packing).to_config()
        terms.update({key: config[key] for key in PRIVACY_KEYS if key in config})
        return MessageType.TRAIN, model_message_content(learnt.model, terms)

    def step(
        self, learnt: Learnt, mean: RecordDict, config: ConfigRecord, packing: Packing
    ) -> Learnt:
        """See Learner."""
        training = _restored(learnt.memory, config, packing)
        metrics = next(iter(mean.metric_records.values()))
        record = _only(mean)
        arrays = {name: read_named_array(record, name) for name in record}
        loss = metrics.get(LOSS, math.nan)
        with refused_as("the hospitals' total:"):
            training.take(arrays, int(cast(float, metrics[NUM_EXAMPLES])), cast(float, loss))
        return _learnt(training)

    def final(self, learnt: Learnt, config: ConfigRecord, packing: Packing) -> RecordDict:
        """See Learner."""
        training = _restored(learnt.memory, config, packing)
        return model_message_content(
            learnt.model, _terms(training, config, packing, final=True).to_config()
        )

    def signed(self, own: Learnt, memory: str, config: ConfigRecord, packing: Packing) -> Learnt:
        """See Learner; processors round differently, so all go on with company X's numbers."""
        theirs = _restored(memory, config, packing)
        if not _restored(own.memory, config, packing).agrees(theirs):
            raise ProtocolError(
                "the step that company X has signed must be the one that follows from the total, "
                "and it is not"
            )
        return _learnt(theirs)

    def stage(self, learnt: Learnt, config: ConfigRecord, packing: Packing) -> Stage:
        """See Learner; with noise nobody can tell whether training is over."""
        training = _restored(learnt.memory, config, packing)
        return Stage(not training.steps, training.is_over and not _is_private(config))


def _task(config: ConfigRecord, packing: Packing) -> Task:
    terms = TrainingTerms.from_content(RecordDict({CONFIG: config}))
    return terms.task(Limbs(packing.fraction_bits, packing.integer_bits))


def _restored(memory: str, config: ConfigRecord, packing: Packing) -> Training:
    with refused_as("the training so far:"):
        return Training.restored(_task(config, packing), memory)


def _learnt(training: Training) -> Learnt:
    return Learnt(model_arrays(*training.parameters), training.to_json())


def _terms(
    training: Training, config: ConfigRecord, packing: Packing, *, final: bool = False
) -> LearningTerms:
    task = _task(config, packing)
    return LearningTerms(
        scaling=task.scaling,
        mean=training.mean,
        scale=training.scale,
        class_weights=training.class_weights,
        hessian=training.second_order and not final,
        converged=training.is_over if final and not _is_private(config) else None,
    )


def _is_private(config: ConfigRecord) -> bool:
    return any(key in config for key in PRIVACY_KEYS)


def _only(mean: RecordDict) -> ArrayRecord:
    if len(mean.array_records) != 1:
        raise ProtocolError("a total must be of one record of arrays, and it is not")
    return next(iter(mean.array_records.values()))


def _shapes(arrays: ArrayRecord) -> dict[str, tuple[int, ...]]:
    return {name: tuple(array.shape) for name, array in arrays.items()}
