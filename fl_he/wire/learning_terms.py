"""Terms of learning and of differential privacy in the config of messages about a model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, ClassVar

from flwr.app import ConfigRecord, RecordDict

from fl_he.crypto.encoding.fields import (
    MISSING,
    Form,
    Limit,
    Natural,
    Place,
    Whole,
    choice,
    form_of,
)
from fl_he.learning.errors import PrivacyError
from fl_he.learning.optimizers import OPTIMIZERS, WITH_RATE
from fl_he.learning.optimizers.task import Task
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.learning.regression.outcome_bounds import OutcomeBounds
from fl_he.learning.regression.registry import COMPARED, NUMERIC, WITH_SITES, family_named
from fl_he.learning.regression.trained import ENDS, METHODS
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.records import CONFIG, SPARSE, Message, ProtocolError, config_of, refused_as

_Numbers = Annotated[tuple[float, ...], SPARSE]
_TWO = 2
_POSITIVE = Limit("be greater than 0", lambda value: value > 0)


@dataclass(frozen=True, slots=True)
class LearningTerms(Message):
    """Terms that hospitals compute with, in the config of every message about the model.

    It is the same for all hospitals: numbers that the opened totals gave, and what is asked for.

    Attributes
    ----------
    scaling : {"none", "local", "federated"}
        Units of the model: of any size, those that the hospital's own mean and variance make, or
        those in which features are about 1 in size.
    mean, scale : tuple of float
        The same for all hospitals: of all their data, or declared; empty with ``"local"``, and
        for the table's own units.
    class_weights : tuple of float
        Weight of an example by its class; empty: all weigh 1.
    hessian : bool
        Whether the Hessian is asked for.
    training : {"converged", "separated", "not converged"} or None
        With the final model: the end of training; ``None`` if it is unknown.
    method : str or None
        With the final model: its method of estimation, one of `METHODS`.
    imputed : tuple of float
        Means that missing cells get, in the order of the schema's columns.
    site_intercepts : bool
        Whether each hospital takes the intercept that is best for its own rows.
    left_out : tuple of int
        Where hospitals are compared: numbers of the features without a coefficient.
    overdispersion : tuple of float
        Of counts with an alpha: see `fl_he.learning.regression.negative_binomial.told_alpha`.
    outcome_bounds : tuple of float
        Of a hospital with privacy: the declared bounds of an outcome that is a number.
    """

    scaling: Annotated[str, choice("none", "local", "federated"), SPARSE] = "none"
    mean: _Numbers = ()
    scale: _Numbers = ()
    class_weights: _Numbers = ()
    hessian: Annotated[bool, SPARSE] = False
    training: Annotated[str | None, choice(*ENDS), SPARSE] = None
    method: Annotated[str | None, choice(*METHODS), SPARSE] = None
    imputed: _Numbers = ()
    site_intercepts: Annotated[bool, SPARSE] = False
    left_out: Annotated[tuple[Whole, ...], SPARSE] = ()
    overdispersion: _Numbers = ()
    outcome_bounds: _Numbers = ()
    HOME: ClassVar[str] = CONFIG

    def to_config(self) -> ConfigRecord:
        """Return the config record that strategies send."""
        return config_of(self.to_content(), CONFIG)


@dataclass(frozen=True, slots=True)
class TrainingTerms(Message):
    """The task, for nodes that compute the model themselves; see `Task`.

    Attributes
    ----------
    features, classes : int
        Of the model; no classes where the outcome is a number.
    optimizer : str
    lr : float
    C : float or None
    scaling : {"none", "local", "federated"}
    mean, scale : tuple of float
        Declared units; empty: those of the pooled data, if ``scaling`` is ``"federated"``.
    balanced : bool
    tolerance : float
    max_step, max_coefficient : float or None
        ``None``: any size.
    low, high : tuple of float
        Ranges within which values are summed up, with privacy and federated scaling; else empty.
    firth : bool
    profile : tuple of int
    imputed : tuple of str
    family : str
        Of an outcome that is a number; else empty.
    site_intercepts, sites : bool
    outcome_bounds : tuple of float
        Of an outcome that is a number, with privacy; else empty.
    """

    features: Natural
    classes: Whole
    optimizer: Annotated[str, choice(*OPTIMIZERS)]
    lr: Annotated[float, _POSITIVE]
    C: Annotated[float | None, SPARSE, _POSITIVE] = None
    scaling: Annotated[str, choice("none", "local", "federated"), SPARSE] = "none"
    mean: _Numbers = ()
    scale: _Numbers = ()
    balanced: Annotated[bool, SPARSE] = False
    tolerance: Annotated[float, SPARSE] = 0.0
    max_step: Annotated[float | None, SPARSE, _POSITIVE] = None
    max_coefficient: Annotated[float | None, SPARSE, _POSITIVE] = None
    low: _Numbers = ()
    high: _Numbers = ()
    firth: Annotated[bool, SPARSE] = False
    profile: Annotated[tuple[Whole, ...], SPARSE] = ()
    imputed: Annotated[tuple[str, ...], SPARSE] = ()
    family: Annotated[str, choice("", *NUMERIC), SPARSE] = ""
    site_intercepts: Annotated[bool, SPARSE] = False
    sites: Annotated[bool, SPARSE] = False
    outcome_bounds: _Numbers = ()
    HOME: ClassVar[str] = CONFIG

    def to_config(self) -> ConfigRecord:
        """Return the config record that the coordinator sends."""
        return config_of(self.to_content(), CONFIG)

    def task(self, limbs: Limbs) -> Task:
        """Return the task of nodes that write sums so; raises ProtocolError if it is none."""
        for name in ("mean", "scale", "low", "high"):
            if len(getattr(self, name)) not in (0, self.features):
                raise ProtocolError(f"{name} must be of {self.features} features")
        if len(self.mean) != len(self.scale) or not all(one > 0 for one in self.scale):
            raise ProtocolError("a declared mean must come with a scale above 0, and the reverse")
        if self.scaling != "federated" and (self.mean or self.low):
            raise ProtocolError(f"scaling must be federated with a mean, got {self.scaling}")
        if len(self.low) != len(self.high) or (self.low and self.mean):
            raise ProtocolError("ranges must have both ends, and come without a declared mean")
        newton = self.optimizer == "newton" and self.C is None and not self.balanced
        if bool(self.family) is bool(self.classes) or self.classes == 1:
            raise ProtocolError(
                "a task must be of at least 2 classes, or of no classes and a family, got "
                f"{self.classes} with family {self.family or 'none'}"
            )
        allowed = WITH_RATE if self.outcome_bounds else ("newton",)
        if self.family and self.optimizer not in allowed:
            raise ProtocolError(
                f"optimizer must be {' or '.join(allowed)} for family {self.family}"
                f"{' with bounds of the outcome' * bool(self.outcome_bounds)}, got {self.optimizer}"
            )
        if (self.firth or self.profile) and (self.classes != _TWO or not newton):
            raise ProtocolError(
                "Firth's penalty and profile likelihoods must be of two classes, by Newton's "
                "method without another penalty or class weights"
            )
        family = family_named(self.family, self.classes)
        with refused_as("a task:"):
            OutcomeBounds.of(family, self.outcome_bounds)
        if self.site_intercepts and (
            not family.site_intercepts
            or self.optimizer != "newton"
            or self.scaling == "local"
            or self.balanced
            or self.firth
            or self.profile
            or self.low
        ):
            raise ProtocolError(
                f"intercepts of sites must be of family {' or '.join(WITH_SITES)}, by Newton's "
                "method in units that all hospitals share, without class weights, Firth's penalty, "
                "profile likelihoods and privacy"
            )
        if self.sites and (
            family.name not in COMPARED
            or (self.optimizer, self.C) != ("newton", None)
            or self.scaling == "local"
            or self.balanced
            or self.firth
            or self.low
        ):
            raise ProtocolError(
                f"hospitals must be compared by a model of family {' or '.join(COMPARED)}, by "
                "Newton's method in units that all hospitals share, without a penalty, class "
                "weights and privacy"
            )
        if len({*self.profile}) < len(self.profile) or any(
            column >= self.features for column in self.profile
        ):
            raise ProtocolError(f"profile must be of different features out of {self.features}")
        if len({*self.imputed}) < len(self.imputed):
            raise ProtocolError("imputed must be of different columns")
        return Task(**{one.name: getattr(self, one.name) for one in fields(self)}, limbs=limbs)


def task_of(config: ConfigRecord, limbs: Limbs) -> Task:
    """Return the task that a train config says; raises ProtocolError if it says none."""
    return TrainingTerms.from_content(RecordDict({CONFIG: config})).task(limbs)


@dataclass(frozen=True, slots=True)
class MomentsRequest(Message):
    """Ask hospitals for sums over their data, before the first round.

    Attributes
    ----------
    sums : bool
        Whether the sums of the features are asked for.
    counts, outcome : bool
        Whether the numbers of examples of each class are, and the sums of an outcome that is a
        number: see `OutcomeMoments`.
    mean : tuple of float
        Unless empty, the sums of ``(x - mean)^2`` are asked for and nothing else.
    low, high : tuple of float
        Unless empty, the noisy sums of the values within these ranges, and of their squares, are
        asked for and nothing else.
    cells : bool
        Whether sums of the cells that are not missing, and their numbers, are asked for and nothing
        else, of the columns whose missing cells get means.
    imputed : tuple of float
        Means that missing cells get.
    """

    sums: bool = False
    counts: bool = False
    mean: _Numbers = ()
    low: _Numbers = ()
    high: _Numbers = ()
    cells: Annotated[bool, SPARSE] = False
    imputed: _Numbers = ()
    outcome: Annotated[bool, SPARSE] = False
    HOME: ClassVar[str] = CONFIG


_PRIVACY = Form(
    {f"privacy-{name}": kind for name, kind in form_of(GaussianPrivacy).members.items()},
    GaussianPrivacy,
)
#: Keys of the terms of differential privacy in a train config, where hospitals hold them against
#: theirs.
PRIVACY_KEYS = tuple(_PRIVACY.members)


def privacy_members(terms: GaussianPrivacy | None) -> dict[str, float | int]:
    """Return the members of a train config that say the terms; none where there are none."""
    return {} if terms is None else _PRIVACY.write(terms)


def read_privacy(config: ConfigRecord | None) -> GaussianPrivacy | None:
    """Return the terms that a train config says, ``None`` where it says none.

    Raises
    ------
    ProtocolError
        If it says a part of them, or a value is out of range.
    """
    if config is None or not any(key in config for key in PRIVACY_KEYS):
        return None
    members = {key: config.get(key, MISSING) for key in PRIVACY_KEYS}
    try:
        terms: GaussianPrivacy = _PRIVACY.read(members, Place("the terms", ProtocolError))
    except PrivacyError as error:
        raise ProtocolError(f"the train config's privacy: {error}") from None
    return terms


def described(terms: GaussianPrivacy | None) -> str:
    """Return the terms in words for a message."""
    if terms is None:
        return "no privacy"
    return (
        f"epsilon {terms.epsilon:g}, delta {terms.delta:g}, clip {terms.clip:g}, "
        f"{terms.rounds} rounds, the noise of {terms.contributors} hospitals and "
        f"{terms.scaling:g} of the budget for scaling"
    )
