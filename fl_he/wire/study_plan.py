"""The study plan: what may be computed from the hospitals' tables, agreed before anything is.

A plan is a file of public values that every party has. Its digest is in the manifest, so nobody
can exchange it. The coordinator names a plan and picks from its lists;
:mod:`fl_he.wire.planned_messages` refuses every message that asks for something else.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.encoding.fields import (
    Fingerprint,
    Limit,
    Natural,
    Number,
    Whole,
    check_fields,
    choice,
    constant,
    form_of,
    kind_of,
    left_out,
    optional,
)
from fl_he.crypto.encoding.strict_json import Document, Documented
from fl_he.learning.describing.form import TableForm
from fl_he.learning.optimizers import OPTIMIZERS, WITH_RATE
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.learning.regression.calibration import fine_bins
from fl_he.learning.regression.outcome_bounds import require_bounds
from fl_he.learning.regression.registry import COMPARED, FAMILIES, NUMERIC, WITH_SITES
from fl_he.learning.tables.feature_ranges import Ranges
from fl_he.run_files.metrics_contract import BRESLOW, COX, EXPOSED, SURVIVAL
from fl_he.wire.encrypted_sum import Purpose
from fl_he.wire.records import ProtocolError, refused_as
from fl_he.wire.table import table_words

#: What nodes count sums by. In a sealed chain the totals say what is summed up next.
Counted = Literal[Purpose, "sealed"]

FORMAT = "fl-he study plan 1"

#: The largest second derivative of one example's loss by its margins, as a fraction of the squared
#: norm of its features and a one; see `StudyPlan.largest_rate`.
_CURVATURE = {"logistic": 0.25, "softmax": 0.5}

_Positive = Annotated[Number, Limit("be above 0", lambda value: value > 0, shown=True)]
_Numbers = tuple[Number, ...]
_listed = ", ".join
_Name = Annotated[str, Limit("be a name", lambda value: bool(value.strip()))]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Column that is predicted.

    Attributes
    ----------
    target : str
        Name of the column.
    positive : str or None
        The label that counts as 1.
    threshold : float or None
        The number from which on the target counts as 1.
    classes : tuple of str
        More than two labels in their order; else empty.
    family : str
        Of an outcome that is a number; empty where it is a class.
    event : str
        Of a time to an event: the column that says whether the event was seen; else empty.
    exposure : str
        The column of exposures, of which the mean outcome is a multiple; empty without.
    """

    target: _Name
    positive: str | None
    threshold: Number | None
    classes: tuple[str, ...]
    family: Annotated[str, left_out(kind_of(Annotated[str, choice("", *NUMERIC)]), "")] = ""
    event: Annotated[str, left_out(kind_of(str), "")] = ""
    exposure: Annotated[str, left_out(kind_of(str), "")] = ""

    def __str__(self) -> str:
        """Return the outcome as a node configuration says it."""
        given = {"target": self.target, "positive": self.positive, "threshold": self.threshold}
        given |= {"classes": ",".join(self.classes) or None, "family": self.family or None}
        given |= {"event": self.event or None, "exposure": self.exposure or None}
        if self.family == BRESLOW:
            given |= {"family": COX, "ties": "breslow"}
        return " ".join(f"{key}={json.dumps(v)}" for key, v in given.items() if v is not None)

    @property
    def other_columns(self) -> tuple[str, ...]:
        """Names of its columns other than the target."""
        return tuple(filter(None, (self.event, self.exposure)))


@dataclass(frozen=True, slots=True)
class StudyPlan(Documented):
    """Limits of one study, by public values.

    Parameters
    ----------
    family : str
        Of the model, a key of `fl_he.learning.regression.registry.FAMILIES`.
    features : tuple of str
        Names in the order of the coefficients.
    outcome : Outcome
    scaling : {"none", "federated", "ranges"}
        Units of the model: the table's, those of mean and variance of all hospitals' rows, or those
        in which `ranges` become -1 to 1.
    ranges : tuple of pairs of float
        Declared lower and upper bounds of each feature; empty where nothing is scaled or clipped by
        them.
    class_weights : {"none", "balanced"}
    penalty : {"l2", "firth"}
    C : tuple of float or None
        Inverse strengths of the L2 penalty that may be chosen, None for no penalty.
    profile : bool
        Whether profile likelihoods may be searched.
    optimizers : tuple of str
        The optimizers that may be chosen.
    lr : tuple of float
        Learning rates that may be chosen; empty unless an optimizer has one.
    tolerance : float
        Distance from the optimum at which training stops.
    bins : int
        Fine bins of the scores of held-out patients, 0 for no evaluation.
    privacy : GaussianPrivacy or None
        Terms of differential privacy.
    most_rounds : int
        Of training, in one session.
    most_sessions : int
        Sessions of company X under this plan.
    max_step : float
        Largest change of a coefficient in one step.
    max_coefficient : float
        Largest size of a coefficient, in the units of the model.
    min_contributors : int
        Fewest hospitals of a total.
    schema : str or None
        Digest of the schema by which the hospitals read their tables; ``None``: by none.
    imputed : tuple of str
        The schema's columns whose missing cells get the mean of all hospitals' cells.
    site_intercepts : bool
        Whether each hospital has its own intercept.
    sites : bool
        Whether hospitals may be compared.
    table : TableForm or None
        The table of descriptive statistics that is made, once in a session, in place of a training.
    outcome_bounds : tuple of float
        With privacy, the declared bounds of an outcome that is a number; else empty.

    Raises
    ------
    FlHeError
        If the values are no plan.
    """

    family: Annotated[str, choice(*FAMILIES)]
    features: tuple[_Name, ...]
    outcome: Outcome
    scaling: Literal["none", "federated", "ranges"]
    ranges: tuple[tuple[Number, Number], ...]
    class_weights: Literal["none", "balanced"]
    penalty: Literal["l2", "firth"]
    C: tuple[_Positive | None, ...]
    profile: bool
    optimizers: tuple[Annotated[str, choice(*OPTIMIZERS)], ...]
    lr: tuple[_Positive, ...]
    tolerance: _Positive
    bins: Whole
    privacy: GaussianPrivacy | None
    most_rounds: Natural
    most_sessions: Natural
    max_step: _Positive
    max_coefficient: _Positive
    min_contributors: Natural
    schema: Annotated[str | None, left_out(optional(kind_of(Fingerprint)), None)] = None
    imputed: Annotated[tuple[_Name, ...], left_out(kind_of(tuple[_Name, ...]), ())] = ()
    site_intercepts: Annotated[bool, left_out(kind_of(bool), False)] = False
    sites: Annotated[bool, left_out(kind_of(bool), False)] = False
    table: Annotated[TableForm | None, left_out(optional(kind_of(TableForm)), None)] = None
    outcome_bounds: Annotated[_Numbers, left_out(kind_of(_Numbers), ())] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("features", "C", "optimizers"):
            _require_different(name, getattr(self, name), 1)
        _require_different("lr", self.lr, int(self.has_rate))
        _require_different("outcome.classes", self.outcome.classes, 0)
        _require_different("imputed", self.imputed, 0)
        _check_outcome(self)
        _check_ranges(self)
        _check_sums(self)
        _check_privacy(self)
        _check_rates(self)

    @property
    def digest(self) -> str:
        """SHA-256 of all members as 64 hexadecimal digits, however the file is laid out."""
        members = json.dumps(form_of(StudyPlan).write(self), sort_keys=True, allow_nan=False)
        return hashlib.sha256(encode_fields(FORMAT.encode(), members.encode())).hexdigest()

    @property
    def has_rate(self) -> bool:
        """Whether an optimizer of the plan has a learning rate."""
        return not set(WITH_RATE).isdisjoint(self.optimizers)

    @property
    def class_count(self) -> int:
        """Number of classes of the outcome, 0 if it is a number."""
        return 0 if self.is_glm else len(self.outcome.classes) or 2

    @property
    def is_glm(self) -> bool:
        """Whether the outcome is a number."""
        return bool(self.outcome.family)

    @property
    def declared_ranges(self) -> Ranges | None:
        """The ranges as arrays; None without."""
        if not self.ranges:
            return None
        low, high = np.array(self.ranges).T
        return Ranges(low, high)

    def most(self, purpose: Counted) -> int:
        """Return how many sums of a purpose a session may have, 0 if the plan has none.

        Totals of a training tell counts that a table withholds, so a plan with a table has no more.
        """
        if self.table is not None:
            return int(purpose == "table")
        unpenalised = None in self.C and self.privacy is None
        moments = self.scaling == "federated" or "newton" in self.optimizers
        before = moments or self.class_weights == "balanced"
        prepared = before * (2 if self.privacy is None else 1) + bool(self.imputed)
        return {
            "train": self.most_rounds,
            "sealed": prepared + self.most_rounds * (1 + (self.penalty == "firth")),
            "evaluate": 0,
            "prepare": prepared,
            "figures": int(self.bins > 0),
            "firth": (self.penalty == "firth") * (1 + self.profile) * self.most_rounds,
            "profile": self.profile * self.most_rounds,
            "separation": int(unpenalised),
            "sites": int(self.sites),
            "table": 0,
        }[purpose]

    @property
    def largest_rate(self) -> float:
        """The learning rate below which gradient descent converges on any tables.

        That is ``2 / L`` for a gradient with Lipschitz constant L: Nesterov 2004, "Introductory
        Lectures on Convex Optimization", theorem 2.1.14. The Hessian of the mean loss is at most
        ``c X'X / n`` with c = 1/4 for two classes (Bohning, Lindsay 1988, "Monotonicity of
        quadratic-approximation algorithms") and c = 1/2 for more (Bohning 1992, "Multinomial
        logistic regression algorithm"). The largest eigenvalue of ``X'X / n`` is at most its trace:
        ``d + 1`` for d features of variance 1 and a one, and no more for features within -1 to 1.
        So L is at most ``c (d + 1)``. Clipped gradients of differential privacy are at most `clip`
        long, so there the rate is bounded by ``max_step / clip``.

        Features that are not scaled are taken to be of such a size already, and balanced class
        weights to change the mean of the squared norms little.
        """
        if self.privacy is not None:
            return self.max_step / self.privacy.clip
        if self.is_glm:  # whose gradient has no Lipschitz constant that is known
            return 0.0
        return 2.0 / (_CURVATURE[self.family] * (len(self.features) + 1))


# The file of ten thousand features with ranges has about a million characters.
StudyPlan.DOCUMENT = Document(
    "study plan",
    {"format": constant(FORMAT), **form_of(StudyPlan).members},
    limit=2**21,
    error=ProtocolError,
    indent=1,
)


def _require_different(name: str, values: tuple[object, ...], least: int) -> None:
    if len(values) < least or len(set(values)) < len(values):
        raise ProtocolError(
            f"{name} of a study plan must hold at least {least} different values and none twice, "
            f"got {len(values)} of which {len(set(values))} differ"
        )


def _check_outcome(plan: StudyPlan) -> None:
    outcome, classes = plan.outcome, len(plan.outcome.classes)
    meanings = (outcome.positive is not None, outcome.threshold is not None, bool(classes))
    if sum(meanings) > 1:
        raise ProtocolError(
            "outcome of a study plan must have at most one of positive, threshold and classes"
        )
    if bool(outcome.event.strip()) is not (outcome.family in SURVIVAL):
        raise ProtocolError(
            "outcome of a study plan must have an event with family cox, and with no other"
        )
    if outcome.exposure and (
        not outcome.exposure.strip() or outcome.family not in EXPOSED or plan.privacy is not None
    ):
        raise ProtocolError(
            f"outcome of a study plan must have an exposure with family {' or '.join(EXPOSED)} "
            "and without privacy only"
        )
    if plan.family in NUMERIC or outcome.family:
        if any(meanings) or plan.family != outcome.family:
            raise ProtocolError(
                "a study plan must have the family of its outcome, which is then without positive, "
                f"threshold and classes, got {plan.family} with {outcome.family or 'none'}"
            )
        newton = (plan.optimizers, plan.class_weights) == (("newton",), "none")
        if plan.privacy is None and not newton:
            raise ProtocolError(
                f"a study plan of family {plan.family} must have optimizers ['newton'] "
                "and class_weights none, without privacy"
            )
        return
    if (plan.family == "softmax") is not bool(classes) or classes in (1, 2):
        raise ProtocolError(
            "a study plan must have family softmax with 3 outcome.classes or more, or logistic "
            f"with none, got {plan.family} with {classes}"
        )


def _check_ranges(plan: StudyPlan) -> None:
    needed = plan.scaling == "ranges" or (plan.scaling == "federated" and plan.privacy is not None)
    wanted = len(plan.features) if needed else 0
    if len(plan.ranges) != wanted:
        raise ProtocolError(
            f"ranges of a study plan with scaling {plan.scaling} and "
            f"{'no ' if plan.privacy is None else ''}privacy must be {wanted} pairs, "
            f"got {len(plan.ranges)}"
        )
    with refused_as("ranges of a study plan:"):
        _ = plan.declared_ranges


def _check_sums(plan: StudyPlan) -> None:
    """Refuse sums that do not go together."""
    if plan.bins not in (0, bins := fine_bins(FAMILIES[plan.family])):
        among = f" or {bins}" if bins else ""
        raise ProtocolError(
            f"bins of a study plan must be 0 for no evaluation{among}, got {plan.bins}"
        )
    newton = plan.optimizers == ("newton",)
    newton &= (plan.class_weights, plan.penalty, plan.privacy) == ("none", "l2", None)
    for name, asked, families, right, words in (
        (
            *("site_intercepts", plan.site_intercepts, WITH_SITES),
            *(not (plan.profile or plan.bins), "bins 0, profile false"),
        ),
        ("sites", plan.sites, COMPARED, plan.C == (None,), "C [null]"),
    ):
        if asked and not (newton and right and plan.family in families):
            raise ProtocolError(
                f"a study plan with {name} must have family {' or '.join(families)}, optimizers "
                f"['newton'], class_weights none, penalty l2, {words} and no privacy"
            )
    setting = "penalty firth" if plan.penalty == "firth" else "profile"
    if (plan.penalty == "firth" or plan.profile) and (
        plan.C != (None,)
        or plan.optimizers != ("newton",)
        or plan.class_weights != "none"
        or plan.family != "logistic"
    ):
        raise ProtocolError(
            f"a study plan with {setting} must have family logistic, C [null], optimizers "
            "['newton'] and class_weights none"
        )


def _check_privacy(plan: StudyPlan) -> None:
    terms = plan.privacy
    if terms is None:
        if plan.outcome_bounds:
            raise ProtocolError("outcome_bounds of a study plan must be empty without privacy")
        return
    with refused_as("a study plan:"):
        require_bounds(FAMILIES[plan.family], plan.outcome_bounds)
    second = [name for name in plan.optimizers if name not in WITH_RATE]
    others = (plan.bins, plan.profile, plan.imputed, plan.table)
    if second or plan.class_weights != "none" or any(others):
        raise ProtocolError(
            "a study plan with privacy must have class_weights none, bins 0, profile false, no "
            f"imputed columns, no table and no optimizers but {' and '.join(WITH_RATE)}: nothing "
            "else is in the budget"
        )
    if (terms.rounds, terms.contributors) != (plan.most_rounds, plan.min_contributors):
        raise ProtocolError(
            "privacy of a study plan must have rounds as most_rounds and contributors as "
            f"min_contributors, {plan.most_rounds} and {plan.min_contributors}, got "
            f"{terms.rounds} and {terms.contributors}"
        )
    if (terms.scaling > 0.0) is not (plan.scaling == "federated"):
        raise ProtocolError(
            "privacy.scaling of a study plan must be above 0 with scaling federated and 0 with "
            f"another, got {terms.scaling:g} with {plan.scaling}"
        )


def _check_rates(plan: StudyPlan) -> None:
    if plan.lr and not plan.has_rate:
        raise ProtocolError(
            f"lr of a study plan must be empty unless an optimizer is {' or '.join(WITH_RATE)}"
        )
    bound = plan.largest_rate
    if too_large := [rate for rate in plan.lr if rate > bound]:
        reason = (
            f"the loss of {len(plan.features)} scaled features may be so curved"
            if plan.privacy is None
            else "a clipped gradient may take a coefficient further than max_step"
        )
        raise ProtocolError(
            f"lr of a study plan must be at most {bound:.4g}, got {too_large[0]:g}: {reason}, and "
            "then training diverges"
        )


def plain_words(plan: StudyPlan) -> list[str]:
    """Return lines that say what a plan allows."""
    outcome, privacy = plan.outcome, plan.privacy
    meaning = ""
    if outcome.positive is not None:
        meaning = f" ({outcome.positive!r} counts as 1)"
    elif outcome.threshold is not None:
        meaning = f" (1 from {outcome.threshold:g} on)"
    elif outcome.classes:
        meaning = f" ({_listed(map(repr, outcome.classes))})"
    elif outcome.event:
        meaning = f" (a time, with the event in {outcome.event!r})"
    elif outcome.exposure:
        meaning = f" (with the exposure in {outcome.exposure!r})"
    few = "" if plan.min_contributors > 2 else "; WARNING: it may show one hospital's part"
    schema = [] if plan.schema is None else [f"schema: {plan.schema}"]
    if plan.table is not None:
        return [
            f"outcome: {outcome.target!r}{meaning}; no model is trained",
            *schema,
            *table_words(plan.table),
            f"at most {plan.most_sessions} sessions, each with this table",
            f"the table is of at least {plan.min_contributors} hospitals{few}",
        ]
    ranges = ""
    if plan.ranges:
        pairs = zip(plan.features, plan.ranges, strict=True)
        ranges = f", by {_listed(f'{name} {low:g} to {high:g}' for name, (low, high) in pairs)}"
    strengths = _listed("none" if one is None else f"C={one:g}" for one in plan.C)
    l2 = "none" if set(plan.C) == {None} else f"l2, {strengths}"
    stop = f"; stops at {plan.tolerance:g}" if privacy is None else ""  # noise ends no run
    bounds = "; outcome {:g} to {:g}".format(*plan.outcome_bounds) if plan.outcome_bounds else ""
    rates = f", lr {_listed(f'{rate:g}' for rate in plan.lr)}" if plan.lr else ""
    return [
        f"model: {plan.family}, {outcome.target!r}{meaning} by {len(plan.features)} features",
        f"features: {_listed(map(repr, plan.features))}",
        *schema,
        *([f"mean of missing cells: {_listed(map(repr, plan.imputed))}"] if plan.imputed else []),
        *(["intercepts: one for each hospital"] if plan.site_intercepts else []),
        f"scaling: {plan.scaling}{ranges}",
        f"class weights: {plan.class_weights}",
        f"penalty: {'firth' if plan.penalty == 'firth' else l2}",
        f"profile likelihoods: {'yes' if plan.profile else 'no'}",
        *(["comparison of the hospitals: yes"] if plan.sites else []),
        f"optimizer: {_listed(plan.optimizers)}{rates}{stop}",
        f"evaluation: {f'{plan.bins} bins' if plan.bins else 'none'}",
        "differential privacy: "
        + (
            "none"
            if privacy is None
            else f"epsilon {privacy.epsilon:g}, delta {privacy.delta:g}, clip {privacy.clip:g}, "
            f"{privacy.scaling:g} of the budget for scaling{bounds}"
        ),
        f"at most {plan.most_rounds} rounds in a session, {plan.most_sessions} sessions",
        f"steps up to {plan.max_step:g}, coefficients up to {plan.max_coefficient:g} in size",
        f"a total is of at least {plan.min_contributors} hospitals{few}",
    ]
