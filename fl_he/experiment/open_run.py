"""Training with totals that the coordinator sees."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from flwr.serverapp import Grid

from fl_he.config.constraints import ConfigError
from fl_he.config.run import ClassWeight, Config, Scaling
from fl_he.experiment.comparison import Comparison
from fl_he.experiment.data import simulated_data
from fl_he.experiment.diagnostics import Diagnostics
from fl_he.experiment.helper import helped
from fl_he.experiment.inference import Inference, check_columns
from fl_he.experiment.plan import study_plan
from fl_he.experiment.private_settings import (
    private_settings_note,
    require_private_settings,
    with_private_settings,
)
from fl_he.experiment.profile import ProfileIntervals
from fl_he.experiment.run import encrypted_sum
from fl_he.experiment.sites import site_figures
from fl_he.experiment.terms import chosen_optimizer, privacy_figures, train_config
from fl_he.experiment.training_run import TrainingRun
from fl_he.learning.errors import DataError
from fl_he.learning.optimizers.base import Point
from fl_he.learning.optimizers.scoring import information_of
from fl_he.learning.optimizers.training import Training
from fl_he.learning.regression.family import ClassFamily
from fl_he.learning.regression.firth import null_log_likelihood
from fl_he.learning.regression.inference import class_counts
from fl_he.learning.regression.negative_binomial import told_alpha
from fl_he.learning.regression.registry import family_named, model_of
from fl_he.learning.tables.identifiers import identifiers
from fl_he.learning.tables.moments import Limbs
from fl_he.learning.tables.scaling import Scaling as ModelScaling
from fl_he.run_files.checkpoint import CheckpointError
from fl_he.run_files.convergence import converged, divergence
from fl_he.strategies.dropouts import ResumableError
from fl_he.strategies.opened_sum import NotPermittedError, OpenedSum, UnopenedSum
from fl_he.strategies.total_chain import OpenedTotal, TotalChain
from fl_he.wire.encrypted_sum import ACCURACY, Purpose, printable
from fl_he.wire.events import Event, Listener, OptimizerChosen, ProfileAdvanced
from fl_he.wire.learning_terms import task_of
from fl_he.wire.records import ProtocolError, refused_as
from fl_he.wire.totals import SignedTotal
from fl_he.wire.training_messages import ACTIONS, take_signed, take_total

_logger = logging.getLogger(__name__)


class OpenRun(TrainingRun):
    """Rounds of one encrypted sum and one step each.

    Parameters
    ----------
    grid : Grid
    config : Config
    folder : Path
        See TrainingRun; the run's files are ``metrics.json``, ``model.json``, ``comparison.png``
        and ``report.html``.
    tell : callable
        Is told each hop.

    Raises
    ------
    FlHeError
        If the nodes cannot take part, or what comes before the first round is refused.
    """

    def __init__(self, grid: Grid, config: Config, folder: Path, tell: Listener) -> None:
        super().__init__(config, folder)
        self._strategy = strategy = encrypted_sum(config, self._keep_sum)
        if (earlier := self._earlier) is not None:
            kept = (earlier.first_sum, earlier.unopened)
            sums = [UnopenedSum.from_members(one) for one in kept if one is not None]
            strategy.resume(len(earlier.rounds), earlier.session, earlier.key_fingerprint, sums)
        roster = self._called(strategy.call_roll(grid))
        if not roster.features:
            raise ProtocolError("the hospitals must say what their features are, and they do not")
        if roster.simulated:
            config = self._config = with_private_settings(config)
        else:
            require_private_settings(config)
            if config.names_sites:
                raise ConfigError(
                    "data.path must be one file and partition even, uneven or by_label for "
                    "deployed hospitals: each has its own table"
                )
        data = simulated_data(config) if roster.simulated else None
        self._positive = None if data is None else data.train.positive
        plan = study_plan(config)
        planned = None if plan is None else plan.schema
        self._schema = planned if data is None else data.train.schema
        self._features = len(roster.features)
        self._classes = 0 if roster.family else len(roster.classes) or 2
        self._family = family_named(roster.family, self._classes)
        self._chosen = chosen_optimizer(config, self._features, self._classes, self._family)
        self._privacy = privacy_figures(
            *(config, self._features, self._classes),
            simulated=roster.simulated,
            family=self._family,
        )
        if self._privacy and self._earlier and roster.simulated:
            raise CheckpointError(
                "resume must be left out for a simulation with privacy: its hospitals have "
                "forgotten what they released, and would release it again with other noise"
            )
        if data is not None and config.privacy.chosen:
            note = private_settings_note(config, data.train.examples, self._features)
            self._chosen["reason"] += f"; {note}"
        check_columns(config, roster.features)
        self._profile = ProfileIntervals(config, self._classes)
        tell(OptimizerChosen(**self._chosen))
        self._inference = Inference(config, roster, self._positive, self._family)
        self._begin(grid, tell, roster)
        self._train_config = train_config(
            *(config, roster.features, self._classes, self._chosen["name"], plan),
            imputed=roster.imputed,
            family=self._family,
        )
        self._training = training = self._restored()
        totals = (OpenedTotal.from_members(one).total for one in self._state.opened)
        self._chain = strategy.chain = TotalChain(self._train_config, totals)
        self._diagnostics = Diagnostics(roster.features, training)
        while training.due == "prepare":
            self._sum("prepare", training.prepared + 1)
            self._keep(**self._progress(), unopened=None)
        data = None if data is None else data.completed(training.imputed)
        self._unique = None if data is None else identifiers(data.train)
        self._scaling = ModelScaling.none(self._features)
        if training.scale:
            self._scaling = ModelScaling(np.array(training.mean), np.array(training.scale))
        self._comparison = Comparison(config, data, self._scaling)
        strategy.summary()

    def _keep_sum(self, unopened: UnopenedSum) -> None:
        """Keep a sum before it is opened, and with an iteration's second sum the first."""
        first = self._state.unopened if unopened.request.purpose == "firth" else None
        self._keep(first_sum=first, unopened=unopened.to_members())

    def _restored(self) -> Training:
        """Return the training as it begins, or as the earlier run had left it."""
        crypto = self._config.crypto
        limbs = Limbs(crypto.fraction_bits, crypto.integer_bits)
        task = task_of(self._train_config, limbs)
        if self._state.training is None:
            return Training(task)
        try:
            return Training.from_members(task, self._state.training)
        except DataError as error:
            raise CheckpointError(f"the checkpoint in {self._folder}: {error}") from error

    def _sum(self, purpose: Purpose, number: int) -> OpenedSum:
        """Have summed up what the training asks, and continue by the total."""
        with refused_as("the training:"):
            self._training.question(purpose)
        mean = self._strategy.sum_up(purpose, number, ACTIONS[purpose])
        total = self._strategy.sums[-1]
        take_total(self._training, purpose, mean)
        with refused_as("company X's total:"):
            signed = SignedTotal.from_bytes(total.signed or b"")
        take_signed(self._training, signed.total.memory)
        return total

    def _progress(self) -> dict[str, Any]:
        """Return members of the checkpoint: the training, and the totals that led to it."""
        opened = self._state.opened
        new = enumerate(self._chain.totals[len(opened) :], len(opened) + 1)
        added = (OpenedTotal(number, total).to_members() for number, total in new)
        return {"training": self._training.to_members(), "opened": [*opened, *added]}

    def _evaluated(self, purpose: Purpose, number: int) -> OpenedSum:
        """Have derivatives summed up; with Firth's penalty in two sums, the first of which counts.

        Its cost is that of both.
        """
        total = self._sum(purpose, number)
        if not self._training.pending:
            return total
        # Sums of the penalty are numbered on from the rounds to the search.
        rounds = len(self._state.rounds) if purpose == "profile" else 0
        second = self._sum("firth", rounds + number)
        return replace(total, cost=total.cost + second.cost)

    def is_over(self) -> bool:
        """See TrainingRun."""
        return self._training.is_over

    def _round(self, _: int) -> None:
        """Take one step and keep it."""
        training, number = self._training, len(self._state.rounds) + 1
        try:
            total = self._evaluated("train", number)
        except (ResumableError, NotPermittedError):
            raise
        except ProtocolError as error:
            if hint := divergence(self._state.rounds, self._chosen["name"]):
                raise ProtocolError(f"{error}; {hint}") from error
            raise
        figures: dict[str, Any] = {
            # A private total has neither.
            "loss": None if math.isnan(training.loss) else training.shown_loss,
            "accuracy": total.metrics.get(ACCURACY),
            **self._comparison.after_round(training.theta, training.overdispersion),
            "contributors": total.contributors,
            "skipped": [one.name for one in total.skipped],
        }
        first = {}
        if (point := training.point) is None:
            _logger.warning(
                "round %d: other hospitals answered the second of its two sums than the first, so "
                "it takes no step",
                number,
            )
        else:
            figures |= {
                "gradient_norm": point.gradient_norm,
                "distance": training.distance,
                "converged": training.converged,
            }
            first = self._first_figures(point)
        changes = {**first, **self._progress()}
        self._end_round(total, total.ciphertexts, figures, **changes, first_sum=None, unopened=None)

    def rounds(self) -> Iterator[Event]:
        """See Run; after the last round, the search for profile likelihood intervals."""
        yield from super().rounds()
        training, done = self._training, 0
        if training.search is not None:
            done = training.search.iterations
        while training.may_ask("profile") and done < self._config.rounds:
            done += 1
            total = self._evaluated("profile", done)
            seconds = self._state.profile_seconds + total.cost.seconds
            kept = {**self._progress(), "profile_seconds": seconds}
            self._keep(**kept, first_sum=None, unopened=None)
            if (search := training.search) is not None:
                yield ProfileAdvanced(done, search.ended, len(search.bounds))

    def _first_figures(self, point: Point) -> dict[str, Any]:
        """Return members of the checkpoint that the first total tells: classes, and without a fit.

        Without the effect of any feature there are as many patients of each class as expected.
        """
        if (alpha := point.overdispersion) is not None:  # fitted with the model, in each round
            return {"null_loss": [alpha.null_loss, float(point.examples)]}
        if self._state.rounds or self._privacy or self._config.class_weight is ClassWeight.balanced:
            return {}
        family, features, slope = self._family, self._features, point.gradient
        if not isinstance(family, ClassFamily) or self._config.site_intercepts:
            return {"null_loss": [point.loss, float(point.examples)]}
        if point.penalty_gradient is not None:
            slope = slope - point.penalty_gradient
        counts = class_counts(family, point.theta, slope, point.examples, features)
        if counts is None:
            return {}
        null = None
        if point.penalty_gradient is not None:
            null = null_log_likelihood(information_of(point), counts)
        return {"class_counts": counts.tolist(), "null_log_likelihood": null}

    def finish(self) -> dict[str, Any]:
        """See Run."""
        self._compare_sites()
        self._prove_separation()
        comparison, roster, state = self._comparison, self._roster, self._state
        training, diagnostics, scaling = self._training, self._diagnostics, self._scaling
        reached = converged({"rounds": state.rounds, "privacy": self._privacy})
        self._strategy.finish()
        evaluation = self._pooled_figures() if self._config.evaluate else None
        left_out = diagnostics.left_out
        model = model_of(
            training.theta,
            roster.features,
            scaling,
            self._positive,
            roster.classes,
            family=told_alpha(self._family, training.overdispersion),
            training=None if self._privacy else training.end,
            class_weights=training.class_weights,
            method=training.method(private=bool(self._privacy)),
            schema=self._schema,
            has_intercept=not self._config.site_intercepts,
            exposure=roster.exposure,
        )
        imputed = dict(zip(roster.imputed, training.imputed, strict=True))
        model = replace(model, imputed=imputed)
        limits = diagnostics.limits(scaling, self._inference.reference)
        return self._write(
            {
                **helped(
                    comparison.at_the_end,
                    training.theta,
                    self._features,
                    training.examples,
                    overdispersion=training.overdispersion,
                    left_out=left_out,
                    separated=diagnostics.is_separated,
                ),
                "diagnostics": diagnostics.figures(self._unique, converged=reached),
                "inference": {
                    **self._inference.figures(state, training, scaling, left_out, limits),
                    "sites": site_figures(training, roster.features, scaling),
                    "profile": self._profile.figures(
                        *(training, state.profile_seconds, scaling, left_out),
                        diagnostics.separated,
                    ),
                },
                "evaluation": evaluation,
                "imputed": imputed or None,
            },
            None if self._config.scaling is Scaling.local else model.to_json(),
            without_noise=comparison.without_noise(training.task) if self._privacy else None,
        )

    def _compare_sites(self) -> None:
        """Have the hospitals compared, if that was asked for and training has converged."""
        if self._training.may_ask("sites"):
            try:
                self._sum("sites", 1)
            except ResumableError:
                raise
            except ProtocolError as error:
                _logger.warning("nobody could compare the hospitals: %s", error)
            self._keep(**self._progress(), unopened=None)

    def _prove_separation(self) -> None:
        """Have company X say whether the classes are separated, if they may be."""
        if self._training.may_ask("separation"):
            try:
                self._sum("separation", 1)
            except ResumableError:
                raise
            except ProtocolError as error:
                _logger.warning("nobody could say whether the classes are separated: %s", error)
        rounds = self._state.rounds
        if self._diagnostics.is_separated:
            rounds = [*rounds[:-1], {**rounds[-1], "converged": False}]
        self._keep(**self._progress(), rounds=rounds, unopened=None)

    def _pooled_figures(self) -> dict[str, Any] | None:
        """Have the hospitals count what the model predicts right; return what may be said of it.

        Returns
        -------
        dict or None
            Members of :class:`fl_he.learning.regression.disclosure.Figures`, with the number of
            ``hospitals``; ``None`` if the hospitals hold nothing out.
        """
        number, figures = len(self._state.rounds), None
        try:
            found = self._strategy.figures(number)
        except ResumableError:
            raise
        except ProtocolError as error:
            _logger.warning("the model is trained, but nobody evaluated it: %s", error)
        else:
            reasons = found.withheld.items()
            withheld = {printable(name): printable(reason) for name, reason in reasons}
            hospitals = self._strategy.sums[-1].contributors
            figures = {**asdict(found), "withheld": withheld, "hospitals": hospitals}
        self._keep(unopened=None)
        return figures
