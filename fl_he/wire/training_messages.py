"""Questions of a training to hospitals, and its totals, as the content of messages.

The coordinator, company X and each hospital read and write them here, so that all ask the same
question of the same training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace

from flwr.app import ArrayRecord, ConfigRecord, MessageType, MetricRecord, RecordDict

from fl_he.learning.optimizers.task import Moments
from fl_he.learning.optimizers.training import Training
from fl_he.learning.regression import parameters
from fl_he.wire.encrypted_sum import (
    ACCURACY,
    FIGURES,
    FIRTH,
    LOSS,
    MOMENTS,
    NUM_EXAMPLES,
    PROFILE,
    SEPARATION,
    SITES,
    Purpose,
)
from fl_he.wire.learning_terms import PRIVACY_KEYS, LearningTerms, MomentsRequest
from fl_he.wire.model import (
    model_arrays,
    model_message_content,
    models_content,
    read_named_array,
)
from fl_he.wire.records import CONFIG, ProtocolError, config_of, refused_as

#: What hospitals answer for each purpose of a training.
ACTIONS: Mapping[Purpose, str] = {
    "prepare": MOMENTS,
    "train": MessageType.TRAIN,
    "firth": FIRTH,
    "profile": PROFILE,
    "separation": SEPARATION,
    "sites": SITES,
    "figures": FIGURES,
}
#: Purposes of a training's sums, by the action that hospitals answer.
PURPOSES: Mapping[str, Purpose] = {action: purpose for purpose, action in ACTIONS.items()}
#: Purposes of the totals that change what is asked next.
MODEL_LINKS: frozenset[Purpose] = frozenset(
    {"prepare", "train", "firth", "profile", "separation", "sites"}
)


def question_of(
    training: Training, purpose: Purpose, config: ConfigRecord
) -> tuple[str, RecordDict]:
    """Return the type and the content of the message that asks what a training asks next.

    Parameters
    ----------
    training : Training
    purpose : Purpose
    config : ConfigRecord
        The train config, whose terms of privacy go with the question.

    Raises
    ------
    ProtocolError
        If no sum of this purpose can come now.
    """
    with refused_as("the training:"):
        asked = training.question(purpose)
    privacy = {key: config[key] for key in PRIVACY_KEYS if key in config}
    if isinstance(asked, Moments):
        content = MomentsRequest(**asdict(asked)).to_content()
        config_of(content, CONFIG).update(privacy)
        return ACTIONS[purpose], content
    is_train = purpose == "train"
    told = _terms(training, hessian=is_train and training.second_order)
    if purpose == "sites":
        told = replace(told, left_out=tuple(training.left_out))
    terms = told.to_config()
    if purpose in ("firth", "profile"):
        return ACTIONS[purpose], models_content(asked.thetas, terms, asked.roots)
    if is_train:
        terms.update(privacy)
    parts = parameters.split(asked.thetas[0], training.task.features)
    return ACTIONS[purpose], model_message_content(model_arrays(*parts), terms)


def take_total(training: Training, purpose: Purpose, mean: RecordDict, min_cell: int = 1) -> None:
    """Have a training continue by a total.

    Parameters
    ----------
    training : Training
        It is changed.
    purpose : Purpose
    mean : RecordDict
        The weighted mean of the replies to the training's question.
    min_cell : int
        Fewest cells of a count that is given out, if it has any: company X's.

    Raises
    ------
    ProtocolError
        If `mean` is no total, or the training refuses it.
    """
    if len(mean.array_records) != 1:
        raise ProtocolError(
            f"a total must have one record of arrays, got {len(mean.array_records)}"
        )
    record = next(iter(mean.array_records.values()))
    metrics = next(iter(mean.metric_records.values()))
    arrays = {name: read_named_array(record, name) for name in record}
    examples = int(_number(metrics, NUM_EXAMPLES, absent=0))
    loss, accuracy = _number(metrics, LOSS), _number(metrics, ACCURACY)
    with refused_as("the hospitals' total:"):
        training.take(purpose, arrays, examples, loss, accuracy, min_cell=min_cell)


def take_signed(training: Training, memory: str) -> None:
    """Have a training continue with the step that company X has signed.

    Processors round differently, so all continue with company X's numbers.

    Parameters
    ----------
    training : Training
        After the total; it is changed.
    memory : str
        State of company X's own training after the total.

    Raises
    ------
    ProtocolError
        If that state does not follow from the total, rounding apart.
    """
    with refused_as("the training so far:"):
        theirs = Training.restored(training.task, memory)
    if not training.agrees(theirs):
        raise ProtocolError(
            "the step that company X has signed is not the one that follows from the total"
        )
    training.adopt(theirs)


def final_model(training: Training, *, private: bool) -> tuple[ArrayRecord, ConfigRecord]:
    """Return the model that hospitals are told to save, and its terms."""
    end, method = None if private else training.end, training.method(private=private)
    terms = replace(_terms(training), training=end, method=method)
    return training_arrays(training), terms.to_config()


def training_arrays(training: Training) -> ArrayRecord:
    """Return a training's model as it travels."""
    return model_arrays(*training.parameters)


def _terms(training: Training, *, hessian: bool = False) -> LearningTerms:
    return LearningTerms(
        scaling=training.task.scaling if training.standardised else "none",
        mean=training.mean,
        scale=training.scale,
        class_weights=training.class_weights,
        hessian=hessian,
        imputed=training.imputed,
        site_intercepts=training.task.site_intercepts,
        overdispersion=training.overdispersion,
        outcome_bounds=training.task.outcome_bounds,
    )


def _number(metrics: MetricRecord, name: str, absent: float = math.nan) -> float:
    """Return a metric; a total with noise has neither loss nor accuracy."""
    value = metrics.get(name, absent)
    if not isinstance(value, float | int):
        raise ProtocolError(f"the hospitals' metrics must hold {name!r}, one number")
    return value
