"""Training with totals that the coordinator sees."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from flwr.app import ConfigRecord
from flwr.serverapp import Grid

from fl_he.config import ClassWeight, Config
from fl_he.experiment import run_state
from fl_he.experiment.comparison import Comparison, simulated_comparison
from fl_he.experiment.declared_ranges import declared_ranges
from fl_he.experiment.privacy_statement import privacy_figures, privacy_of
from fl_he.experiment.run_figures import crypto_figures, origin_figures, packing_of
from fl_he.experiment.run_state import CheckpointKeeper
from fl_he.learning.optimizers.registry import optimizer_of
from fl_he.learning.regression import parameters
from fl_he.learning.regression.registry import model_of
from fl_he.report.files import write_run
from fl_he.run_files import divergence
from fl_he.run_files.checkpoint import Checkpoint, CheckpointError
from fl_he.strategies.encrypted_sum import EncryptedSum, UnopenedSum
from fl_he.strategies.gradient_descent import SummedObjective
from fl_he.strategies.grid import HopWatch
from fl_he.strategies.pooled_sums import Preparation, pooled_figures, prepare
from fl_he.strategies.roster import Roster
from fl_he.strategies.sequential_paillier import SequentialPaillier
from fl_he.wire.encrypted_sum import ACCURACY, LOSS
from fl_he.wire.events import Listener, RoundEnded
from fl_he.wire.learning_terms import LearningTerms, privacy_members
from fl_he.wire.model import read_parameters
from fl_he.wire.records import ProtocolError

_logger = logging.getLogger(__name__)


class OpenRun:
    """Rounds of one encrypted sum and one step each, from a checkpoint to the run's files.

    Parameters
    ----------
    grid : Grid
    config : Config
    folder : Path
        Where ``metrics.json``, ``model.json``, ``comparison.png``, ``report.html`` and, after every
        round, ``checkpoint.json`` go. With ``resume`` it holds the checkpoint to go on from.
    tell : callable
        Is told each hop.

    Raises
    ------
    FlHeError
        If the nodes cannot take part, or what comes before the first round is refused.
    """

    def __init__(self, grid: Grid, config: Config, folder: Path, tell: Listener) -> None:
        start = perf_counter()
        self._config, self._folder = config, folder
        chosen = config.optimizer
        self._objective = SummedObjective(
            optimizer_of(chosen.name, chosen.lr), config.min_contributors, config.C
        )
        self._strategy = SequentialPaillier(
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
        earlier = None
        if config.resume is not None:
            earlier = run_state.resumed(self._strategy, self._objective, config, folder)
        self._roster = roster = self._strategy.call_roll(grid)
        roster.grid = self._grid = HopWatch(grid, roster.name, tell)
        self._start_seconds = perf_counter() - start
        self._comparison = comparison = _comparison(config, roster)
        features, classes = comparison.feature_names, len(comparison.classes) or 2
        self._privacy = _privacy(config, len(features), classes, roster, earlier)
        self._keeper = CheckpointKeeper(
            folder,
            run_state.first_checkpoint(config, features, classes, roster, earlier),
            start,
        )
        folder.mkdir(parents=True, exist_ok=True)
        self._terms = self._prepared(classes)
        self._scaling = run_state.scaling_of(self._terms, len(features))
        comparison.use(self._scaling)
        self._strategy.summary()

    @property
    def _state(self) -> Checkpoint:
        return self._keeper.checkpoint

    def rounds(self) -> Iterator[RoundEnded]:
        """See Run."""
        terms = {**self._terms.to_config(), **privacy_members(privacy_of(self._config))}
        train_config = ConfigRecord(terms)
        self._grid.take()  # what came before the first round is in no entry
        left = 0 if run_state.is_converged(self._state) else self._config.rounds
        for number in range(1, left - len(self._state.rounds) + 1):
            entry = self._round(number, train_config)
            yield RoundEnded(entry)
            if entry["converged"]:
                return

    def finish(self) -> dict[str, Any]:
        """See Run."""
        strategy, comparison, config = self._strategy, self._comparison, self._config
        strategy.finish(run_state.arrays_of(self._state), self._terms.to_config())
        evaluation = self._evaluated() if config.evaluate else None
        trained, privacy = np.array(self._state.parameters), self._privacy
        metrics = {
            **origin_figures(),
            "simulated": self._roster.simulated,
            "feature_names": list(comparison.feature_names),
            "classes": list(comparison.classes),
            "config": asdict(replace(config, data=comparison.data)),
            **comparison.at_the_end(trained, self._state.examples),
            "inference": run_state.inference_of(self._state, config, self._scaling),
            "evaluation": evaluation,
            "rounds": self._state.rounds,
            "privacy": privacy and {**privacy, "without": comparison.without_privacy()},
            "crypto": self._state.crypto,
            "start_seconds": self._start_seconds,
            "seconds": self._keeper.seconds,
        }
        model = model_of(
            trained,
            comparison.feature_names,
            self._scaling,
            comparison.positive,
            comparison.classes,
        )
        written = write_run(self._folder, metrics, model.to_json())
        self._keeper.keep(finished=True)
        return written

    def _round(self, number: int, train_config: ConfigRecord) -> dict[str, Any]:
        """Take one step and keep it; return the round's entry."""
        strategy = self._strategy
        with self._explained():
            strategy.configure_train(
                number, run_state.arrays_of(self._state), train_config, self._grid
            )
            arrays, _ = strategy.aggregate_train(number, ())
        if arrays is None:
            raise ProtocolError("a round must change the model, and this one has no update")
        total, model = strategy.sums[-1], parameters.join(*read_parameters(arrays))
        point = self._objective.point
        norm = None if point is None else point.gradient_norm
        entry = {
            **_round_entry(total, self._comparison.after_round(model)),
            "gradient_norm": norm,
            "converged": norm is not None and norm <= self._config.tolerance,
            "hops": self._grid.take(),
        }
        self._keeper.keep(
            parameters=model.tolist(),
            optimizer=self._objective.optimizer.to_members(),
            hessian=run_state.triangle_of(point),
            rounds=[*self._state.rounds, entry],
            examples=round(total.examples),
            crypto=crypto_figures(
                strategy.packing, self._roster.public_key, total.ciphertexts, total.update_bytes
            ),
            unopened=None,
        )
        return entry

    def _prepared(self, classes: int) -> LearningTerms:
        config = self._config
        with self._explained():
            return prepare(
                self._strategy,
                run_state.preparation_of(self._state, config),
                balanced=config.class_weight is ClassWeight.balanced,
                classes=classes,
                ranges=declared_ranges(config, self._comparison.feature_names),
                privacy=privacy_of(config),
                keep=self._keep_preparation,
            )

    def _evaluated(self) -> dict[str, Any] | None:
        """Return the pooled figures; ``None`` if the hospitals hold nothing out."""
        trained = self._state
        model, terms = run_state.arrays_of(trained), self._terms.to_config()
        try:
            figures = pooled_figures(self._strategy, len(trained.rounds), model, terms)
        except ProtocolError as error:
            if self._state.unopened is not None:
                raise  # the run can be resumed when company X is back
            _logger.warning("the model is trained, but nobody evaluated it: %s", error)
            figures = None
        self._keeper.keep(unopened=None)
        return figures

    def _keep_sum(self, unopened: UnopenedSum) -> None:
        self._keeper.keep(unopened=unopened.to_members())

    def _keep_preparation(self, known: Preparation) -> None:
        self._keeper.keep(preparation=known.to_members(), unopened=None)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Add to a refusal that training diverges, where it does."""
        try:
            yield
        except ProtocolError as error:
            if hint := divergence.hint(self._state.rounds):
                raise ProtocolError(f"{error}; {hint}") from error
            raise


def _privacy(
    config: Config, features: int, classes: int, roster: Roster, earlier: Checkpoint | None
) -> dict[str, Any] | None:
    """Return what the run promises, for a model of so many features and classes."""
    privacy = privacy_figures(config, features, classes, simulated=roster.simulated)
    if privacy and earlier and roster.simulated:
        raise CheckpointError(
            "resume must be left out for a simulation with privacy: its hospitals have forgotten "
            "what they released, and would release it again with other noise"
        )
    return privacy


def _comparison(config: Config, roster: Roster) -> Comparison:
    if roster.simulated:
        return simulated_comparison(config)
    if not roster.features:
        raise ProtocolError("the hospitals must say what their features are, and they do not")
    return Comparison(roster.features, roster.classes)


def _round_entry(total: EncryptedSum, tested: dict[str, float | None]) -> dict[str, Any]:
    return {
        "round": total.round,
        "loss": total.metrics.get(LOSS),  # a private total has neither
        "accuracy": total.metrics.get(ACCURACY),
        **tested,
        "contributors": total.contributors,
        "skipped": [one.name for one in total.skipped],
        **asdict(total.cost),
    }
