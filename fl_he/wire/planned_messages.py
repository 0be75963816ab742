"""Messages under a study plan: the coordinator's choice, and the check of all that a message asks.

`check` is the only place where a plan is applied. Nodes call it before anything of a message is
acted on, and the coordinator before a message leaves. It depends on the plan and the message alone,
so a refusal tells nobody anything of a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from hashlib import sha256
from typing import ClassVar

from flwr.app import ConfigRecord, MessageType, RecordDict

from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.encoding.fields import Fingerprint, Natural, Number
from fl_he.errors import written
from fl_he.learning.optimizers import WITH_RATE
from fl_he.wire.encrypted_sum import (
    DECRYPT,
    FINISH,
    SERVER_ROUND,
    TABLE,
    DecryptRequest,
    EncryptionRequest,
)
from fl_he.wire.learning_terms import PRIVACY_KEYS, TrainingTerms, described, read_privacy
from fl_he.wire.occasions import SUMMED
from fl_he.wire.permission import PERMIT, PERMIT_SEALED, PermitRequest, SealedPermitRequest
from fl_he.wire.records import CONFIG, Message, ProtocolError, config_of
from fl_he.wire.sealed_messages import OPEN, Hop, News, OpenNews, OpenRequest, is_sealed
from fl_he.wire.study_plan import Counted, StudyPlan
from fl_he.wire.table import TableRequest

#: Questions to company X that name a sum.
TO_COMPANY_X = (DECRYPT, OPEN, PERMIT, PERMIT_SEALED)


@dataclass(frozen=True, slots=True)
class Choice(Message):
    """A coordinator's choice from a plan's lists; it travels with every message.

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
        Digest of what stays the same in a session. What is asked follows from it and the totals.
    """

    plan: Fingerprint
    session: str
    purpose: Counted
    round: Natural
    terms: Fingerprint


def is_planned(action: str) -> bool:
    """Tell whether messages of an action are under a plan: all that compute, permit or open a sum.

    CaPC's are under an agreement of their own.
    """
    computed = action.partition(".")[0] in (MessageType.TRAIN, MessageType.EVALUATE)
    return computed or action in (*TO_COMPANY_X, FINISH)


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
    if TableRequest.is_in(content):
        return _asked_of_table(plan, action, content)
    if action not in (*TO_COMPANY_X, FINISH, *SUMMED):
        raise ProtocolError(f"the study plan must know what is computed, got {action!r:.40}")
    if not (is_sealed(action, content) or OpenNews.is_in(content)):
        raise ProtocolError(
            "a message under a study plan must bring totals and no model: hospitals and company X "
            "compute the model themselves"
        )
    _check_task(plan, choice, content)
    if action == FINISH:
        return None
    asked = _asked(choice.plan, action, content)
    most = plan.most(asked.purpose)
    if not most:
        raise ProtocolError(f"the study plan has no sums for {asked.purpose}")
    last = max(most, plan.most_rounds) if asked.purpose == "figures" else most
    if asked.round > last:
        raise ProtocolError(
            f"the study plan has at most {last} rounds of {asked.purpose}, got round {asked.round}"
        )
    return asked


def _asked_of_table(plan: StudyPlan, action: str, content: RecordDict) -> Asked:
    """Return what a message with the form of a table asks for; refuse another form or sum."""
    if action not in (TABLE, DECRYPT, PERMIT):
        raise ProtocolError(f"the form of a table must come with its cells, got {action!r:.40}")
    form = TableRequest.from_content(content).form
    if plan.table is None:
        raise ProtocolError("the study plan has no table of descriptive statistics")
    if form != plan.table:
        raise ProtocolError("the form of a table must be the study plan's, and it is another")
    session, purpose, number = _sum(action, content)
    if (purpose, number) != ("table", 1):
        raise ProtocolError(
            f"the study plan has one table in a session, got {purpose} {number} with its form"
        )
    terms = sha256(repr(form).encode()).hexdigest()
    return Asked(Choice.from_content(content).plan, session, purpose, number, terms)


def _check_choice(plan: StudyPlan, choice: Choice) -> None:
    _require_in("optimizer", choice.optimizer, plan.optimizers)
    _require_in("lr", choice.lr, plan.lr if choice.optimizer in WITH_RATE else (None,))
    _require_in("C", choice.C, plan.C)


def _require_in(name: str, chosen: object, allowed: Sequence[object]) -> None:
    if chosen not in allowed:
        words = " or ".join(one if isinstance(one, str) else written(one) for one in allowed)
        raise ProtocolError(f"{name} must be {words} by the study plan, got {written(chosen):.40}")


def _asked(plan: str, action: str, content: RecordDict) -> Asked:
    """Return what a sum is for; in a sealed chain the totals say what is summed up next."""
    session, purpose, number = _sum(action, content)
    terms = encode_fields(*(repr(item).encode() for item in _settings(content)))
    return Asked(plan, session, purpose, number, sha256(terms).hexdigest())


def _sum(action: str, content: RecordDict) -> tuple[str, Counted, int]:
    if action in (OPEN, PERMIT_SEALED):
        kind = OpenRequest if action == OPEN else SealedPermitRequest
        sealed = kind.from_content(content)
        return sealed.session, "sealed", sealed.round
    if action in (DECRYPT, PERMIT):
        opening = (DecryptRequest if action == DECRYPT else PermitRequest).from_content(content)
        return opening.session, opening.purpose, opening.round
    if is_sealed(action, content):
        return News.from_content(content).session, "sealed", Hop.from_content(content).round
    request = EncryptionRequest.from_content(content)
    return request.session, SUMMED[action], request.round


def _settings(content: RecordDict) -> list[tuple[str, object]]:
    """Return the train config without what changes from round to round."""
    config = config_of(content, CONFIG)
    return sorted((key, item) for key, item in config.items() if key != SERVER_ROUND)


def _check_task(plan: StudyPlan, choice: Choice, content: RecordDict) -> None:
    """Refuse another task for nodes that compute the model themselves."""
    config = config_of(content, CONFIG)
    _check_keys(config)
    asked = TrainingTerms.from_content(content)
    scaling, mean, scale = _units(plan)
    ranges = plan.ranges if plan.scaling == "federated" else ()
    planned = TrainingTerms(
        features=len(plan.features),
        classes=plan.class_count,
        family=plan.outcome.family,
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
        imputed=plan.imputed,
        site_intercepts=plan.site_intercepts,
        sites=asked.sites and plan.sites,
        outcome_bounds=plan.outcome_bounds,
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


def _check_keys(config: ConfigRecord) -> None:
    known = {field.name.replace("_", "-") for field in fields(TrainingTerms)}
    unknown = set(config) - known - {SERVER_ROUND, *PRIVACY_KEYS}
    if unknown:
        raise ProtocolError(
            f"a train config under a study plan must have no settings but {sorted(known)}, got "
            f"{len(unknown)} others"
        )


def _units(plan: StudyPlan) -> tuple[str, tuple[float, ...], tuple[float, ...]]:
    """Return scaling, mean and scale of a message's terms, as far as the plan has them."""
    ranges = plan.declared_ranges
    if plan.scaling != "ranges" or ranges is None:
        return plan.scaling, (), ()
    scaling = ranges.scaling
    return "federated", tuple(scaling.mean.tolist()), tuple(scaling.scale.tolist())
