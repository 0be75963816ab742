"""Member ``inference`` of metrics.json: coefficients, tests and fit, or why they are withheld."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.config.command_line import Texts, did_you_mean
from fl_he.config.constraints import ConfigError
from fl_he.config.run import ClassWeight, Config, Penalty, Scaling
from fl_he.experiment.diagnostics import Limits
from fl_he.experiment.tables import with_outcome, with_unit
from fl_he.learning.optimizers.scoring import FisherScoring
from fl_he.learning.optimizers.training import Training
from fl_he.learning.regression import inference
from fl_he.learning.regression.family import Family
from fl_he.learning.regression.firth import whitening
from fl_he.learning.regression.glm import GlmFamily
from fl_he.learning.regression.glm_fit import goodness_of_fit
from fl_he.learning.regression.hazards import (
    NO_ESTIMATES,
    NO_SUMS,
    trend_tests,
    without_tests,
)
from fl_he.learning.tables.scaling import Scaling as ModelScaling
from fl_he.learning.tables.table_file import INTERCEPT, some
from fl_he.run_files.checkpoint import Checkpoint
from fl_he.run_files.convergence import OF_EACH_SITE
from fl_he.strategies.roster import Roster

_MOST_NAMED = 40
#: Deviation of residuals that is rounding, as a share of the outcome's.
_EXACT = 1e-9

#: Why there are no standard errors of some models.
SINGULAR = (
    "the information is singular: columns are linear combinations of others, or the classes can be "
    "separated"
)


class Inference:
    """Choices for the inference of a run, checked before its first round.

    Parameters
    ----------
    config : Config
    roster : Roster
        Of the hospitals' features and classes.
    positive : str or None
        What label 1 stands for, or the name of a number; ``None`` where only the hospitals know.
    family : Family

    Attributes
    ----------
    reference : int
        The class that others are compared with, of more than two.

    Raises
    ------
    FlHeError
        If ``data.reference`` is no class.
    """

    def __init__(
        self,
        config: Config,
        roster: Roster,
        positive: str | None,
        family: Family,
    ) -> None:
        self._config, self._features, self._classes = config, roster.features, roster.classes
        self._family = family
        self.reference = reference_number(config.data.reference, roster.classes)
        # A deployed coordinator is shown no table.
        self._outcome = positive
        data = with_outcome(config.data)
        if isinstance(family, GlmFamily):
            self._outcome = with_unit(positive, config.data)
        elif positive is not None and data.target and data.threshold is None:
            self._outcome = f"{data.target.strip()} = {positive}"
        elif roster.classes:
            self._outcome = data.target

    def figures(
        self,
        state: Checkpoint,
        training: Training,
        scaling: ModelScaling,
        left_out: Mapping[str, str] | None = None,
        limits: Limits | None = None,
    ) -> dict[str, Any]:
        """Return the member of metrics.json.

        Parameters
        ----------
        state : Checkpoint
            After the last round.
        training : Training
            The same.
        scaling : Scaling
            From the tables' units to those of the model.
        left_out : mapping of str to str, optional
            Reasons, by the names of features that have no coefficient.
        limits : Limits, optional
            What is left where the classes are separated.
        """
        config, theta, examples = self._config, training.theta, training.examples
        reason, hessian, rest = self._withheld(training, limits), None, None
        if reason is None:
            hessian = None if limits is None else limits.hessian
            if hessian is None:
                hessian, rest = training.hessian, training.rest
        found = inference.estimates_of(
            theta,
            self._features,
            scaling,
            classes=self._classes,
            reference=self.reference,
            hessian=hessian,
            examples=examples,
            rest=rest,
            deviations=config.scaling is Scaling.federated,
            left_out=left_out,
            undetermined={
                **({} if limits is None else limits.undetermined),
                **({(0, INTERCEPT): OF_EACH_SITE} if config.site_intercepts else {}),
            },
            **self._of_number(training),
        )
        if reason is None and found.covariance is None:
            reason = SINGULAR
        counts = np.array(state.class_counts or [0.0])
        same = counts.sum() == examples and _of_same_hospitals(state.rounds)
        known, fit = counts if same else None, None
        if reason is None:
            log_likelihood = -training.loss * examples
            fit = self._fit(state, training, found, known)
            if config.penalty is Penalty.firth and hessian is not None:
                _, log_determinant = whitening(examples * hessian, theta, rest)
                null = None if known is None else state.null_log_likelihood
                kept = [name not in (left_out or {}) for name in self._features]
                units = float(np.log(scaling.scale[kept]).sum())
                fit = inference.penalised_fit(
                    log_likelihood, log_determinant / 2, null, found, units
                )
        shift = None
        if isinstance(training.optimizer, FisherScoring) and training.hessian is not None:
            shift = training.optimizer.shift(examples * training.hessian, training.rest)
        return {
            "level": inference.LEVEL,
            "penalised": config.C is not None or config.penalty is Penalty.firth,
            "penalty": config.penalty.value,
            "penalty_shift": shift,
            "withheld": reason,
            "outcome": self._outcome,
            "reference": self._classes[self.reference] if self._classes else None,
            "events": self._events(training, known),
            "ratio": found.ratio or None,
            "freedom": found.freedom,
            "overdispersion": self._overdispersion(training, known=reason is None),
            "site_intercepts": None if training.sites is None else asdict(training.sites),
            # Each hospital's own units are nobody else's.
            "coefficients": [] if config.scaling is Scaling.local else self._rows(found),
            "fit": fit,
            "proportional": self._trends(training, limits) if reason is None else None,
            "groups": [
                {"columns": columns, **found.wald_test(columns)}
                for columns in feature_groups(config.inference.groups, self._features)
                if reason is None
            ],
        }

    def _trends(self, training: Training, limits: Limits | None) -> dict[str, Any] | None:
        """Return tests of whether coefficients of a time to an event are the same at all times."""
        if not isinstance(family := self._family, GlmFamily) or family.has_intercept:
            return None
        if limits is not None:
            return without_tests(NO_ESTIMATES)
        if training.trends is None or training.hessian is None:
            return without_tests(NO_SUMS)
        examples = training.examples
        return trend_tests(
            *(examples * training.hessian, training.trends, self._features, training.taking_part),
            examples=examples,
            rest=training.rest,
        )

    def _rows(self, found: inference.Estimates) -> list[dict[str, Any]]:
        family = self._family
        has_intercept = not isinstance(family, GlmFamily) or family.has_intercept
        return [row for row in found.rows() if has_intercept or row["name"] != INTERCEPT]

    def _events(self, training: Training, counts: NDArray[np.float64] | None) -> int | None:
        """Return the number of patients with the event, of two classes or of a time to it."""
        if isinstance(family := self._family, GlmFamily):
            mean = None if family.has_intercept else training.moments.mean
            return None if mean is None else round(mean * training.examples)
        return None if counts is None or self._classes else int(counts[1])

    def _of_number(self, training: Training) -> dict[str, Any]:
        """Return the further figures of an outcome that is a number."""
        if not isinstance(family := self._family, GlmFamily):
            return {}
        if not family.has_dispersion or training.freedom < 1 or math.isnan(training.pearson):
            return {"ratio": family.ratio}
        dispersion = training.dispersion
        return {"ratio": family.ratio, "dispersion": dispersion, "freedom": training.freedom}

    def _overdispersion(self, training: Training, *, known: bool) -> dict[str, float | None] | None:
        """Return the figures of alpha, ``None`` of a family without one; ``known``: its error is.

        The interval is that of the logarithm, whose distribution is nearer to the normal one.
        """
        if not self._family.has_alpha or not training.overdispersion:
            return None
        logarithm, error = training.overdispersion[0], training.log_alpha_error
        alpha, found = math.exp(logarithm), dict.fromkeys(("standard_error", "lower", "upper"))
        if not known or not error > 0.0:
            return {"alpha": alpha, **found}
        reach = NormalDist().inv_cdf((1.0 + inference.LEVEL) / 2.0) * error
        ends = math.exp(logarithm - reach), math.exp(logarithm + reach)
        return {"alpha": alpha, "standard_error": alpha * error, "lower": ends[0], "upper": ends[1]}

    def _fit(
        self,
        state: Checkpoint,
        training: Training,
        found: inference.Estimates,
        counts: NDArray[np.float64] | None,
    ) -> dict[str, Any]:
        examples, family = training.examples, self._family
        mean_loss, of = state.null_loss or (math.nan, 0.0)
        # With alpha the model without features is fitted in each round.
        same = of == examples and (family.has_alpha or _of_same_hospitals(state.rounds))
        losses = training.loss, mean_loss if same else None
        if not isinstance(family, GlmFamily):
            null = None if losses[1] is None else -losses[1] * examples
            if not self._config.site_intercepts:
                null = None if counts is None else inference.null_log_likelihood(counts)
            return inference.goodness_of_fit(
                -training.loss * examples, null, found, intercepts=training.intercepts
            )
        told = training.sites is None or not training.sites.withheld
        return goodness_of_fit(
            *(family, training.moments, losses),
            examples=examples,
            df=len(training.free) - 1,
            intercepts=training.intercepts,
            pearson=training.pearson,
            freedom=training.freedom if told else None,
        )

    def _withheld(self, training: Training, limits: Limits | None) -> str | None:
        """Return why there are no standard errors, as clauses; ``None`` if there are."""
        config = self._config
        if config.privacy.name != "none":
            return (
                "no standard error accounts for the noise and clipping of differential privacy, "
                "which are in the estimates"
            )
        strength = "" if config.C is None else f"C={config.C:g}"
        separated = None if limits is None else limits.reason
        # Each reason with the setting that removes it, if experiment=inference does not.
        reasons = (
            (
                config.scaling is Scaling.local,
                " scaling=federated",
                "with scaling=local each hospital's features have units of their own, so that the "
                "coefficients have none in common",
            ),
            (
                config.C is not None,
                "",
                f"the penalty ({strength}) pulls the estimates towards 0, and intervals around "
                "them would miss the true values too often",
            ),
            (
                config.class_weight is not ClassWeight.equal,
                " class_weight=equal",
                "with class weights the inverse Hessian is not the estimates' covariance",
            ),
            (
                not training.second_order,
                "",
                "they need the Hessian of all patients",
            ),
        )
        found = {words: setting for applies, setting, words in reasons if applies}
        if separated is not None:  # which no setting of these changes
            return "; ".join([*found, separated])
        if found:
            return (
                f"{'; '.join(found)}; experiment=inference{''.join(found.values())}"
                f"{_undone(config)} fits all rows without a penalty, and has them wherever the "
                "estimates are finite"
            )
        if limits is None and not training.converged:
            return "training ended before it converged"
        return self._without_variance(training)

    def _without_variance(self, training: Training) -> str | None:
        """Return why the variance of an outcome that is a number is not known, if it is not."""
        if isinstance(self._family, GlmFamily) and self._family.has_dispersion:
            tiny = (_EXACT * self._family.unit(training.moments)) ** 2
            if training.freedom < 1:
                return "there are no more patients than coefficients, so nothing tells the variance"
            if training.dispersion <= tiny:
                return "the model predicts every outcome but for rounding"
        return None


def _of_same_hospitals(rounds: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the same hospitals were skipped in the first and in the last round.

    Hospitals may have as many patients as others, so the number of patients does not tell.
    """
    first, last = ((one["contributors"], {*one["skipped"]}) for one in (rounds[0], rounds[-1]))
    return first == last


def _undone(config: Config) -> str:
    """Return settings in place of those that would undo a part of ``experiment=inference``."""
    inference = config.test_size == 0  # of no other experiment that keeps the default C
    given = {
        " C=null": config.C is not None and (inference or config.C != Config().C),
        " optimizer=newton": config.optimizer.name not in ("auto", "newton"),
    }
    return "".join(setting for setting, stays in given.items() if stays)


def check_columns(config: Config, features: Sequence[str]) -> None:
    """Refuse groups and profiles of columns that are no features, all in one message.

    Raises
    ------
    ConfigError
        With the settings that were meant, or the features; or for a group that is empty or names a
        feature twice.
    """
    groups, profile = config.inference.groups, config.inference.profile
    expanded = feature_groups(groups, features)
    for columns in expanded:
        if not columns or len(set(columns)) < len(columns):
            raise ConfigError(
                f"inference.groups must be lists of different features, got {list(columns)}"
            )
    settings: list[tuple[str, Texts, Sequence[str]]] = [
        ("inference.groups", groups, list(chain.from_iterable(expanded))),
        ("inference.profile", profile, profile),
    ]
    refusals, listed = [], ""
    for setting, value, names in settings:
        if unknown := [name for name in names if name not in features]:
            meant = did_you_mean(setting, value, features)
            listed = listed if meant else f"; the features are {some(features, _MOST_NAMED)}"
            words = f"{setting} must name features of the model, got {some(unknown, _MOST_NAMED)}"
            refusals.append(f"{words}{meant}")
    if refusals:
        raise ConfigError(f"{'; '.join(refusals)}{listed}")


def feature_groups(groups: Sequence[Sequence[str]], features: Sequence[str]) -> Sequence[list[str]]:
    """Return groups of features, where a category's name stands for the features of its levels.

    Examples
    --------
    >>> feature_groups([["kind", "age"]], ["age", "kind[b]", "kind[c]", "kind[b]:sex[m]"])
    [['kind[b]', 'kind[c]', 'age']]
    """
    levels = dict[str, list[str]]()
    for name in features:
        column, bracket, level = name.partition("[")
        if bracket and level.endswith("]") and "]:" not in level:  # of no product
            levels.setdefault(column, []).append(name)
    return [
        list(
            chain.from_iterable(
                [name] if name in features else levels.get(name, [name]) for name in names
            )
        )
        for names in groups
    ]


def reference_number(name: str | None, classes: Sequence[str]) -> int:
    """Return the number of ``data.reference`` among the names of more than two classes.

    Raises
    ------
    ConfigError
        If it is no class, or there are two classes.
    """
    if name is None:
        return 0
    if not classes:
        raise ConfigError(
            f"data.reference must be left out for two classes, got {name!r}: data.positive says "
            "which of them is compared with the other"
        )
    if name not in classes:
        raise ConfigError(f"data.reference must be one of {', '.join(classes)}, got {name!r}")
    return list(classes).index(name)
