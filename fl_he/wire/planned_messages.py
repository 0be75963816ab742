"""Messages under a study plan: the coordinator's choice, and the check of all that a message asks.

`check` is the only place where a plan is applied. Nodes call it before anything of a message is
acted on, and the coordinator before a message leaves. It depends on the plan and the message alone,
so a refusal tells nobody anything of a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from hashlib import sha256
from typing import ClassVar

import numpy as np
from flwr.app import ConfigRecord, MessageType, RecordDict
from numpy.typing import NDArray

from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.encoding.fields import Fingerprint, Natural, Number
from fl_he.learning.optimizers import optimizer_of
from fl_he.learning.regression.registry import family_for
from fl_he.wire.arrays import array_fields
from fl_he.wire.encrypted_sum import (
    DECRYPT,
    FINISH,
    FIRTH,
    MOMENTS,
    PROFILE,
    SEPARATION,
    SERVER_ROUND,
    DecryptRequest,
    EncryptionRequest,
    Purpose,
)
from fl_he.wire.learning_terms import (
    PRIVACY_KEYS,
    LearningTerms,
    MomentsRequest,
    TrainingTerms,
    described,
    read_privacy,
)
from fl_he.wire.model import read_arrays, read_models, read_parameters
from fl_he.wire.records import CONFIG, Message, ProtocolError, config_of
from fl_he.wire.sealed_messages import OPEN, Hop, News, OpenRequest
from fl_he.wire.study_plan import WITH_RATE, Counted, StudyPlan
from fl_he.wire.training_messages import ACTIONS

_PURPOSES: Mapping[str, Purpose] = {
    MessageType.EVALUATE: "evaluate",
    **{action: purpose for purpose, action in ACTIONS.items()},
}
#: How far the sum of the inverses of balanced class weights may be from the number of classes.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Choice(Message):
    """What a coordinator has picked from a plan's lists; it travels with every message.

    Attributes
    ----------
    plan : str
        The plan's digest.
    optimizer : str
    lr : float or None
        The learning rate, of optimizers that have one.
    C : float or None
        Inverse strength of the L2 penalty.
    """

    plan: Fingerprint
    optimizer: str
    lr: Number | None = None
    C: Number | None = None
    HOME: ClassVar[str] = "fl-he.plan"


@dataclass(frozen=True, slots=True)
class Asked:
    """A sum that a message asks for, as nodes count sums.

    Attributes
    ----------
    plan, session : str
    purpose : Counted
    round : int
    terms : str
        Digest of what stays the same in a session.
    question : str
        Digest of all that the answer depends on, beside the table.
    """

    plan: Fingerprint
    session: str
    purpose: Counted
    round: Natural
    terms: str
    question: str


def is_planned(action: str) -> bool:
    """Tell whether messages of an action are under a plan: all that open or compute a sum.

    CaPC's are under an agreement of their own.
    """
    computed = action.partition(".")[0] in (MessageType.TRAIN, MessageType.EVALUATE)
    return computed or action in (DECRYPT, OPEN, FINISH)


def check(plan: StudyPlan, action: str, content: RecordDict) -> Asked | None:
    """Refuse a message that asks for something that the plan does not allow.

    Parameters
    ----------
    plan : StudyPlan
        The one that the message names.
    action : str
        One of `is_planned`.
    content : RecordDict
        Of the message, with the coordinator's `Choice`.

    Returns
    -------
    Asked or None
        ``None`` for the message after the last round, which asks for no sum.

    Raises
    ------
    ProtocolError
        With what the plan allows, and what the message asks for.
    """
    choice = Choice.from_content(content)
    _check_choice(plan, choice)
    asked: Asked | None
    if action == DECRYPT:
        asked = _opening(choice, content)
    elif action == OPEN or News.is_in(content):
        _check_task(plan, choice, content)
        asked = None if action == FINISH else _sealed(choice, action, content)
    else:
        if action != FINISH and action not in _PURPOSES:
            raise ProtocolError(f"the study plan must know what is computed, got {action!r:.40}")
        _check_terms(plan, choice, action, content)
        _check_models(plan, action, content)
        asked = None if action == FINISH else _question(choice, action, content)
    if asked is None:
        return None
    most = plan.most(asked.purpose)
    if not most:
        raise ProtocolError(f"the study plan has no sums for {asked.purpose}")
    last = max(most, plan.most_rounds) if asked.purpose == "figures" else most
    if asked.round > last:
        raise ProtocolError(
            f"the study plan has at most {last} rounds of {asked.purpose}, got round {asked.round}"
        )
    return asked


def _check_choice(plan: StudyPlan, choice: Choice) -> None:
    _require_in("optimizer", choice.optimizer, plan.optimizers)
    _require_in("lr", choice.lr, plan.lr if choice.optimizer in WITH_RATE else (None,))
    _require_in("C", choice.C, plan.C)


def _require_in(name: str, chosen: object, allowed: Sequence[object]) -> None:
    if chosen not in allowed:
        raise ProtocolError(
            f"{name} must be {' or '.join(map(str, allowed))} by the study plan, got {chosen!r:.40}"
        )


def _opening(choice: Choice, content: RecordDict) -> Asked:
    """Return what company X is asked for; its own ledger compares the sums themselves."""
    request, terms = DecryptRequest.from_content(content), _digest(astuple(choice))
    return Asked(choice.plan, request.session, request.purpose, request.round, terms, "")


def _sealed(choice: Choice, action: str, content: RecordDict) -> Asked:
    """Return what a sum of a sealed chain is for; what it is of follows from the totals."""
    if action == OPEN:
        request = OpenRequest.from_content(content)
        session, number = request.session, request.round
    else:
        session, number = News.from_content(content).session, Hop.from_content(content).round
    terms = _digest(_settings(content))
    return Asked(choice.plan, session, "sealed", number, terms, "")


def _settings(content: RecordDict) -> list[tuple[str, object]]:
    """Return the train config without what changes from round to round."""
    config = config_of(content, CONFIG)
    return sorted((key, item) for key, item in config.items() if key != SERVER_ROUND)


def _question(choice: Choice, action: str, content: RecordDict) -> Asked:
    purpose, request = _PURPOSES[action], EncryptionRequest.from_content(content)
    arrays = () if purpose == "prepare" else array_fields(read_arrays(content))
    question = _digest(action, _settings(content), *arrays)
    terms = ""
    if purpose != "prepare":
        asked = LearningTerms.from_content(content)
        units = (asked.scaling, asked.mean, asked.scale, asked.class_weights)
        terms = _digest(astuple(choice), units)
    return Asked(choice.plan, request.session, purpose, request.round, terms, question)


def _digest(*values: object) -> str:
    parts = (value if isinstance(value, bytes) else repr(value).encode() for value in values)
    return sha256(encode_fields(*parts)).hexdigest()


def _check_terms(plan: StudyPlan, choice: Choice, action: str, content: RecordDict) -> None:
    config = config_of(content, CONFIG)
    if action == MOMENTS:
        _check_keys(config, MomentsRequest)
        _check_moments(plan, MomentsRequest.from_content(content))
    else:
        _check_keys(config, LearningTerms)
        terms = LearningTerms.from_content(content)
        _check_scaling(plan, terms)
        _check_class_weights(plan, terms.class_weights)
        if terms.hessian and not optimizer_of(choice.optimizer, 1.0).second_order:
            raise ProtocolError(f"the study plan has no Hessian for {choice.optimizer}")
    if action in (MessageType.TRAIN, MOMENTS):
        _check_privacy(plan, config)


def _check_task(plan: StudyPlan, choice: Choice, content: RecordDict) -> None:
    """Refuse another task for nodes that compute the model themselves."""
    config = config_of(content, CONFIG)
    _check_keys(config, TrainingTerms)
    asked = TrainingTerms.from_content(content)
    scaling, mean, scale = _units(plan)
    ranges = plan.ranges if plan.scaling == "federated" else ()
    planned = TrainingTerms(
        features=len(plan.features),
        classes=plan.class_count,
        optimizer=choice.optimizer,
        lr=asked.lr if choice.lr is None else choice.lr,  # of no effect without
        C=choice.C,
        scaling=scaling,
        mean=mean,
        scale=scale,
        balanced=plan.class_weights == "balanced",
        tolerance=plan.tolerance,
        max_step=plan.max_step,
        max_coefficient=plan.max_coefficient,
        low=tuple(low for low, _ in ranges),
        high=tuple(high for _, high in ranges),
        firth=plan.penalty == "firth",
        profile=asked.profile if plan.profile else (),
    )
    if asked != planned:
        names = [field.name for field in fields(asked)]
        other = [name for name in names if getattr(asked, name) != getattr(planned, name)]
        raise ProtocolError(
            f"{', '.join(other)} of a train config must be those picked from the study plan"
        )
    _check_privacy(plan, config)


def _check_privacy(plan: StudyPlan, config: ConfigRecord) -> None:
    asked = read_privacy(config)
    if asked != plan.privacy:
        raise ProtocolError(
            f"privacy must be the study plan's, {described(plan.privacy)}, got {described(asked)}"
        )


def _check_keys(
    config: ConfigRecord, message: type[LearningTerms | MomentsRequest | TrainingTerms]
) -> None:
    known = {field.name.replace("_", "-") for field in fields(message)}
    unknown = set(config) - known - {SERVER_ROUND, *PRIVACY_KEYS}
    if unknown:
        raise ProtocolError(
            f"a train config under a study plan must have no settings but {sorted(known)}, got "
            f"{len(unknown)} others"
        )


def _check_moments(plan: StudyPlan, asked: MomentsRequest) -> None:
    federated, private = plan.scaling == "federated", plan.privacy is not None
    ranges = tuple(zip(asked.low, asked.high, strict=False))
    allowed = (
        (not asked.sums or (federated and not private))
        and (not asked.mean or (federated and not private))
        and (not asked.counts or plan.class_weights == "balanced")
        and (not asked.low or (federated and private and ranges == plan.ranges))
    )
    if not allowed or len(asked.low) != len(asked.high):
        raise ProtocolError(
            f"sums before the first round must be those of scaling {plan.scaling} and class "
            f"weights {plan.class_weights} by the study plan, got a request for others"
        )


def _check_scaling(plan: StudyPlan, terms: LearningTerms) -> None:
    """Refuse other units; those of all hospitals' data only if they could be none."""
    wanted, *declared = _units(plan)
    _require_in("scaling", terms.scaling, (wanted,))
    if plan.scaling == "ranges" and [terms.mean, terms.scale] != declared:
        raise ProtocolError("mean and scale must be those of the study plan's ranges")
    features = 0 if wanted == "none" else len(plan.features)
    numbers = len(terms.mean) == len(terms.scale) == features
    if not numbers or not all(scale > 0.0 for scale in terms.scale):
        raise ProtocolError(
            f"mean and scale must be of the study plan's features, {features} numbers each and "
            f"scale above 0, got {len(terms.mean)} and {len(terms.scale)}"
        )


def _units(plan: StudyPlan) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    """Return scaling, mean and scale of a message's terms, as far as the plan has them."""
    ranges = plan.declared_ranges
    if plan.scaling != "ranges" or ranges is None:
        return plan.scaling, (), ()
    scaling = ranges.scaling
    return "federated", tuple(scaling.mean.tolist()), tuple(scaling.scale.tolist())


def _check_class_weights(plan: StudyPlan, weights: tuple[float, ...]) -> None:
    """Refuse weights that no counts of classes balance.

    A class of m out of n examples weighs ``n / (k m)``, so the inverses of the weights add up to k:
    `fl_he.learning.tables.moments.balanced_weights`.
    """
    classes = plan.class_count
    if plan.class_weights == "none":
        if weights:
            raise ProtocolError(f"class weights must be none by the study plan, got {len(weights)}")
        return
    if len(weights) != classes or not all(weight * classes > 1.0 for weight in weights):
        raise ProtocolError(
            f"balanced class weights must be {classes} numbers above 1/{classes}, got others"
        )
    if abs(sum(1.0 / weight for weight in weights) - classes) > _ROUNDING * classes:
        raise ProtocolError(
            f"balanced class weights must have inverses that add up to {classes}, and they do not"
        )


def _check_models(plan: StudyPlan, action: str, content: RecordDict) -> None:
    """Refuse models of another form, and coefficients that are too large."""
    if action in (MOMENTS, SEPARATION):  # the size of a separating direction means nothing
        return
    features, family = len(plan.features), family_for(plan.class_count)
    rows = family.rows(plan.class_count)
    coefficients: NDArray[np.float64]
    if action in (PROFILE, FIRTH):
        models = read_models(content, family.count(features, plan.class_count))
        coefficients = models[:, : rows * features]
    else:
        coefficients, _ = read_parameters(read_arrays(content))
        if coefficients.shape != (rows, features):
            raise ProtocolError(
                f"a model must be {plan.family} of the study plan's {features} features, got "
                f"coefficients of shape {coefficients.shape}"
            )
    largest = float(np.abs(coefficients).max())
    if largest > plan.max_coefficient:
        raise ProtocolError(
            f"coefficients must be at most {plan.max_coefficient:g} in size by the study plan, got "
            f"{largest:.4g}: the classes may be separated; a plan with a penalty (C) keeps "
            "coefficients finite"
        )
