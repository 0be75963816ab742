"""Training with totals that the coordinator sees."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fl_he.config.run import ClassWeight, Config, Penalty
from fl_he.experiment.comparison import Comparison
from fl_he.experiment.data import simulated_data
from fl_he.experiment.diagnostics import Diagnostics, Findings, Sides
from fl_he.experiment.inference import Inference, check_columns
from fl_he.experiment.private_settings import (
    private_settings_note,
    require_private_settings,
    with_private_settings,
)
from fl_he.experiment.profile import ProfileIntervals
from fl_he.experiment.terms import (
    chosen_optimizer,
    declared_ranges,
    first_terms,
    packing_of,
    privacy_figures,
    privacy_of,
)
from fl_he.experiment.training_run import TrainingRun
from fl_he.learning.errors import DataError
from fl_he.learning.optimizers import optimizer_of
from fl_he.learning.optimizers.base import GradientDescent, Optimizer, Point
from fl_he.learning.optimizers.scoring import FisherScoring, information_of
from fl_he.learning.regression import likelihood, parameters
from fl_he.learning.regression.firth import null_log_likelihood
from fl_he.learning.regression.inference import class_counts
from fl_he.learning.regression.registry import family_for, model_of
from fl_he.learning.tables.identifiers import identifiers
from fl_he.learning.tables.moments import Limbs
from fl_he.learning.tables.scaling import Scaling as ModelScaling
from fl_he.run_files.checkpoint import CheckpointError
from fl_he.run_files.convergence import converged, divergence
from fl_he.strategies.encrypted_sum import AwayError, UnopenedSum
from fl_he.strategies.gradient_descent import SummedObjective
from fl_he.strategies.model_sums import ModelSums
from fl_he.strategies.pooled_sums import Preparation, pooled_figures, prepare, taken_sides
from fl_he.strategies.sequential_paillier import SequentialPaillier
from fl_he.wire.encrypted_sum import ACCURACY, LOSS
from fl_he.wire.events import Event, Listener, OptimizerChosen
from fl_he.wire.learning_terms import privacy_members
from fl_he.wire.model import model_arrays, read_parameters
from fl_he.wire.records import ProtocolError

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
        crypto = config.crypto
        # Gradient descent until the roll tells how large the model is.
        self._objective = SummedObjective(
            GradientDescent(config.optimizer.lr),
            config.min_contributors,
            config.C,
            Limbs(crypto.fraction_bits, crypto.integer_bits),
        )
        self._strategy = strategy = SequentialPaillier(
            self._objective,
            topology=config.topology,
            segments=config.segments,
            packing=packing_of(config.crypto),
            min_contributors=config.min_contributors,
            hop_timeout=config.hop_timeout,
            key_holder_timeout=config.key_holder_timeout,
            hospitals=config.hospitals,
            on_summed=self._keep_sum,
        )
        if (earlier := self._earlier) is not None:
            kept = (earlier.first_sum, earlier.unopened)
            sums = [UnopenedSum.from_members(one) for one in kept if one is not None]
            strategy.resume(len(earlier.rounds), earlier.session, earlier.key_fingerprint, sums)
        roster = strategy.call_roll(grid)
        self._start_seconds = perf_counter() - self._start
        if not roster.features:
            raise ProtocolError("the hospitals must say what their features are, and they do not")
        if roster.simulated:
            config = self._config = with_private_settings(config)
        else:
            require_private_settings(config)
        data = simulated_data(config) if roster.simulated else None
        self._positive = None if data is None else data.train.positive
        self._features, self._classes = len(roster.features), len(roster.classes) or 2
        self._privacy = privacy_figures(
            config, self._features, self._classes, simulated=roster.simulated
        )
        if self._privacy and self._earlier and roster.simulated:
            raise CheckpointError(
                "resume must be left out for a simulation with privacy: its hospitals have "
                "forgotten what they released, and would release it again with other noise"
            )
        self._chosen = chosen_optimizer(config, self._features, self._classes)
        if data is not None and config.privacy.chosen:
            note = private_settings_note(config, data.train.examples, self._features)
            self._chosen["reason"] += f"; {note}"
        check_columns(config, roster.features)
        self._profile = ProfileIntervals(config, roster.features, self._classes)
        self._objective.optimizer = self._optimizer()
        tell(OptimizerChosen(**self._chosen))
        self._inference = Inference(config, roster.features, roster.classes, self._positive)
        zeros = family_for(self._classes).zeros(self._features, self._classes)
        self._begin(grid, tell, roster, zeros.tolist())
        prepared = self._prepared()
        self._terms = terms = prepared.terms
        self._unique = None if data is None else identifiers(data.train)
        self._diagnostics = self._diagnosed(prepared.constant)
        self._objective.observe = self._diagnostics.observe
        self._scaling = ModelScaling.none(self._features)
        if terms.scaling == "federated":
            self._scaling = ModelScaling(np.array(terms.mean), np.array(terms.scale))
        self._comparison = Comparison(config, data, self._scaling)
        self._sums = ModelSums(strategy, terms)
        self._sums.restrict = self._diagnostics.restricted
        if config.penalty is Penalty.firth:
            self._objective.penalise = self._with_firth
        members = {**terms.to_config(), **privacy_members(privacy_of(config))}
        self._train_config = ConfigRecord(members)
        strategy.summary()

    def _keep_sum(self, unopened: UnopenedSum) -> None:
        """Keep a sum before it is opened, and beside a second sum of an iteration the first."""
        first = self._state.unopened if unopened.request.purpose == "firth" else None
        self._keep(first_sum=first, unopened=unopened.to_members())

    def _optimizer(self) -> Optimizer:
        """Return the chosen optimizer, with what the earlier run's remembered."""
        optimizer = optimizer_of(self._chosen["name"], self._config.optimizer.lr)
        if self._config.penalty is Penalty.firth:
            optimizer = FisherScoring()
        if self._earlier is not None and self._earlier.rounds:
            try:
                optimizer.restore(self._earlier.optimizer)
            except DataError as error:
                raise CheckpointError(f"the checkpoint in {self._folder}: {error}") from error
        return optimizer

    def _prepared(self) -> Preparation:
        """Return the hospitals' terms, once they have summed up what has to be known."""
        config, features = self._config, self._roster.features
        if self._state.preparation is None:
            known = Preparation(terms=first_terms(config, features))
        else:
            known = Preparation.from_members(self._state.preparation)
        return prepare(
            self._strategy,
            known,
            balanced=config.class_weight is ClassWeight.balanced,
            classes=self._classes,
            ranges=declared_ranges(config, features),
            privacy=privacy_of(config),
            keep=lambda known: self._keep(preparation=known.to_members(), unopened=None),
        )

    def _diagnosed(self, constant: Sequence[int] | None) -> Diagnostics:
        """Return the diagnostics as far as they are known, with the numbers of constant columns."""
        config, features, state = self._config, self._roster.features, self._state
        if state.findings is not None:
            found = Findings.from_members(state.findings)
        else:
            names = None if constant is None else tuple(features[j] for j in constant)
            found = Findings(constant=names)
        diagnostics = Diagnostics(config, features, found, state.hessian)
        diagnostics.check(family_for(self._classes).rows(self._classes))
        return diagnostics

    def is_over(self) -> bool:
        """See TrainingRun."""
        rounds = self._state.rounds
        return super().is_over() or (
            bool(rounds) and self._diagnostics.is_over(rounds[-1]["distance"])
        )

    def _round(self, number: int) -> None:
        """Take one step and keep it."""
        strategy, objective = self._strategy, self._objective
        try:
            strategy.configure_train(number, self._arrays(), self._train_config, self._grid)
            arrays, metrics = strategy.aggregate_train(number, ())
        except ProtocolError as error:
            if hint := divergence(self._state.rounds):
                raise ProtocolError(f"{error}; {hint}") from error
            raise
        if arrays is None or metrics is None:
            raise ProtocolError("a round must change the model, and this one has no update")
        total, model = strategy.sums[-1], parameters.join(*read_parameters(arrays))
        if objective.penalise is not None:
            total = replace(strategy.sums[-2], cost=strategy.sums[-2].cost + total.cost)
        diagnostics, accuracy = self._diagnostics, metrics.get(ACCURACY)
        figures = {
            "loss": metrics.get(LOSS),  # a private total has neither
            "accuracy": accuracy,
            **self._comparison.after_round(model),
            "contributors": total.contributors,
            "skipped": [one.name for one in total.skipped],
        }
        changes = {}
        if (point := objective.point) is not None:
            distance = objective.optimizer.distance(point)
            figures |= {
                "gradient_norm": point.gradient_norm,
                "distance": distance,
                "converged": distance <= self._config.tolerance and diagnostics.settled,
            }
            diagnostics.separates(accuracy if isinstance(accuracy, float) else None, point.examples)
            hessian = None if point.hessian is None else likelihood.upper_triangle(point.hessian)
            changes = {
                "parameters": model.tolist(),
                "optimizer": objective.optimizer.to_members(),
                "hessian": None if hessian is None else hessian.tolist(),
                "examples": round(total.examples),
                "findings": diagnostics.found.to_members(),
                **self._first_figures(point),
            }
        self._end_round(total, total.ciphertexts, figures, **changes, first_sum=None, unopened=None)

    def _with_firth(self, number: int, point: Point) -> Point | None:
        """Add Firth's penalty to a round's evaluation, by a second sum of the same hospitals."""
        found = self._sums.penalised(number, [point])
        if found is None:
            _logger.warning(
                "round %d: other hospitals answered the second of its two sums than the first, so "
                "it takes no step",
                number,
            )
        return None if found is None else found[0]

    def rounds(self) -> Iterator[Event]:
        """See Run."""
        yield from super().rounds()
        yield from self._profile.search(lambda: self._state, self._sums, self._keep)

    def _first_figures(self, point: Point) -> dict[str, Any]:
        """Return members of the checkpoint that the first total tells: classes, and without a fit.

        Without the effect of any feature there are as many patients of each class as expected.
        """
        if self._state.rounds or self._privacy or self._config.class_weight is ClassWeight.balanced:
            return {}
        family, features, slope = family_for(self._classes), self._features, point.gradient
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
        self._prove_separation()
        comparison, roster, state = self._comparison, self._roster, self._state
        diagnostics, scaling = self._diagnostics, self._scaling
        reached = converged({"rounds": state.rounds, "privacy": self._privacy})
        self._strategy.finish(self._arrays(), replace(self._terms, converged=reached).to_config())
        evaluation = self._evaluated() if self._config.evaluate else None
        trained, privacy = np.array(state.parameters), self._privacy
        model = model_of(
            trained,
            roster.features,
            scaling,
            self._positive,
            roster.classes,
            converged=reached,
        )
        return self._write(
            {
                "optimizer": self._chosen,
                "classes": list(roster.classes),
                **comparison.at_the_end(
                    trained,
                    self._features,
                    state.examples,
                    left_out=diagnostics.left_out,
                    separated=diagnostics.is_separated,
                ),
                "diagnostics": diagnostics.figures(self._unique, converged=reached),
                "inference": {
                    **self._inference.figures(
                        state,
                        scaling,
                        diagnostics.left_out,
                        diagnostics.limits(scaling, self._inference.reference),
                    ),
                    "profile": self._profile.figures(
                        state, scaling, diagnostics.left_out, diagnostics.separated
                    ),
                },
                "evaluation": evaluation,
                "privacy": privacy and {**privacy, "without_noise": comparison.without_noise()},
                "start_seconds": self._start_seconds,
            },
            model.to_json(),
        )

    def _prove_separation(self) -> None:
        """Have company X say whether the classes are separated, if they may be."""

        def take_sides(model: NDArray[np.float64]) -> Sides:
            arrays = model_arrays(*parameters.split(model, self._features))
            return taken_sides(self._strategy, arrays, self._terms.to_config())

        family = family_for(self._classes)
        try:
            self._diagnostics.prove(take_sides, family.rows(self._classes))
        except AwayError:
            raise  # the run can be resumed when company X is back
        except ProtocolError as error:
            _logger.warning("nobody could say whether the classes are separated: %s", error)
        rounds = self._state.rounds
        if self._diagnostics.is_separated:
            rounds = [*rounds[:-1], {**rounds[-1], "converged": False}]
        findings = self._diagnostics.found.to_members()
        self._keep(rounds=rounds, findings=findings, unopened=None)

    def _arrays(self) -> ArrayRecord:
        """Return the model as it is sent."""
        return model_arrays(*parameters.split(np.array(self._state.parameters), self._features))

    def _evaluated(self) -> dict[str, Any] | None:
        """Return the pooled figures; ``None`` if the hospitals hold nothing out."""
        number, terms = len(self._state.rounds), self._terms.to_config()
        try:
            figures = pooled_figures(self._strategy, number, self._arrays(), terms)
        except AwayError:
            raise  # the run can be resumed when company X is back
        except ProtocolError as error:
            _logger.warning("the model is trained, but nobody evaluated it: %s", error)
            figures = None
        self._keep(unopened=None)
        return figures
