"""The ServerApp: from a configuration to a strategy, a trained model and the run's files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from fl_he.config import ClassWeight, Config, ConfigError, Engine
from fl_he.experiment import run_state, sealed_run
from fl_he.experiment.comparison import Comparison, NoComparison, simulated_comparison
from fl_he.experiment.privacy_statement import privacy_figures, privacy_of
from fl_he.experiment.run_figures import cost_figures, crypto_figures, origin_figures, packing_of
from fl_he.experiment.run_folder import opened
from fl_he.experiment.tracking import tracked
from fl_he.learning.optimizers.registry import optimizer_of
from fl_he.learning.regression import parameters
from fl_he.learning.regression.registry import model_of
from fl_he.report.files import write_run
from fl_he.run_files import divergence
from fl_he.run_files.checkpoint import Checkpoint, CheckpointError, write_checkpoint
from fl_he.strategies.encrypted_sum import EncryptedSum
from fl_he.strategies.gradient_descent import GradientDescent, SummedObjective
from fl_he.strategies.hop_watch import HopWatch
from fl_he.strategies.pooled_figures import pooled_figures
from fl_he.strategies.preparation import prepare
from fl_he.strategies.roster import Roster
from fl_he.strategies.sequential_paillier import SequentialPaillier
from fl_he.wire.encrypted_sum import ACCURACY, LOSS
from fl_he.wire.hop import OnHop
from fl_he.wire.learning_terms import LearningTerms, privacy_members
from fl_he.wire.model import read_parameters
from fl_he.wire.records import ProtocolError

_logger = logging.getLogger(__name__)

OnRound = Callable[[Mapping[str, Any]], None]


def train(
    grid: Grid,
    config: Config,
    folder: Path,
    on_round: OnRound = lambda _: None,
    on_hop: OnHop = lambda _: None,
) -> dict[str, Any]:
    """Run what the configuration says over the hospitals of the grid and write the run's files.

    Parameters
    ----------
    grid : Grid
    config : Config
    folder : Path
        Where ``metrics.json``, ``model.json``, ``comparison.png``, ``report.html`` and, after every
        round, ``checkpoint.json`` go. With ``resume`` it holds the checkpoint to go on from.
    on_round : callable
        Called after each round with its entry of ``rounds``.
    on_hop : callable
        Called when a message goes out to a node and when its answer comes.

    Returns
    -------
    dict
        What ``metrics.json`` holds; docs/files.md documents it.

    Raises
    ------
    ProtocolError, CryptoError, DataError, CheckpointError, ConfigError
        Whenever something is refused; of the run's files only ``checkpoint.json`` is there then.
    """
    with tracked(config, folder) as tracker:

        def after_round(entry: Mapping[str, Any]) -> None:
            tracker.on_round(entry)
            on_round(entry)

        metrics = _train(grid, config, folder, after_round, on_hop)
        tracker.end(metrics)
    return metrics


def _train(
    grid: Grid, config: Config, folder: Path, on_round: OnRound, on_hop: OnHop
) -> dict[str, Any]:
    if config.capc.enabled:
        from fl_he.capc import run as capc_run  # noqa: PLC0415 - another protocol, with scikit-learn

        return capc_run.run_encrypted(
            grid, config, folder, lambda step: on_round({"step": step}), on_hop
        )
    if config.sealed:
        return sealed_run.train(grid, config, folder, on_round, on_hop)
    return _train_open(grid, config, folder, on_round, on_hop)


def _train_open(
    grid: Grid, config: Config, folder: Path, on_round: OnRound, on_hop: OnHop
) -> dict[str, Any]:
    """Train with totals that the coordinator sees."""
    start = perf_counter()
    objective = objective_of(config)
    strategy = SequentialPaillier(
        objective,
        topology=config.topology,
        segments=config.segments,
        packing=packing_of(config.crypto),
        min_contributors=config.min_contributors,
        hop_timeout=config.hop_timeout,
        key_holder_timeout=config.key_holder_timeout,
        hospitals=config.hospitals,
        on_summed=lambda unopened: keep(unopened=unopened.to_members()),
    )
    earlier = (
        None if config.resume is None else run_state.resumed(strategy, objective, config, folder)
    )
    roster = strategy.call_roll(grid)
    grid = watch = HopWatch(grid, strategy.node_name, on_hop)
    started = perf_counter()
    comparison = _comparison(config, roster)
    classes = len(comparison.classes) or 2
    privacy = _privacy(config, len(comparison.feature_names), classes, roster, earlier)
    checkpoint = run_state.first_checkpoint(
        config, comparison.feature_names, classes, roster, earlier
    )
    seconds_before = checkpoint.seconds

    def keep(**changes: Any) -> None:
        nonlocal checkpoint
        seconds = seconds_before + perf_counter() - start
        checkpoint = replace(checkpoint, seconds=seconds, **changes)
        write_checkpoint(folder, checkpoint)

    def after_round(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        if server_round == 0:
            return None
        total, model = strategy.sums[-1], parameters.join(*read_parameters(arrays))
        norm = None if objective.point is None else objective.point.gradient_norm
        entry = {
            **_round_entry(total, comparison.after_round(model)),
            "gradient_norm": norm,
            "converged": norm is not None and norm <= config.tolerance,
            "hops": watch.take(),
        }
        keep(
            parameters=model.tolist(),
            optimizer=objective.optimizer.to_members(),
            hessian=run_state.triangle_of(objective.point),
            rounds=[*checkpoint.rounds, entry],
            examples=round(total.examples),
            crypto=crypto_figures(
                strategy.packing, roster.public_key, total.ciphertexts, total.update_bytes
            ),
            unopened=None,
        )
        on_round(entry)
        if entry["converged"]:
            raise _ConvergedError
        return None

    folder.mkdir(parents=True, exist_ok=True)
    try:
        terms = prepare(
            strategy,
            grid,
            run_state.preparation_of(checkpoint, config),
            balanced=config.class_weight is ClassWeight.balanced,
            classes=classes,
            private=run_state.private_scaling_of(config, comparison.feature_names),
            keep=lambda known: keep(preparation=known.to_members(), unopened=None),
        )
        scaling = run_state.scaling_of(terms, len(comparison.feature_names))
        comparison.use(scaling)
        watch.take()  # what came before the first round is in no entry
        if not run_state.is_converged(checkpoint):
            with suppress(_ConvergedError):
                strategy.start(
                    grid,
                    initial_arrays=run_state.arrays_of(checkpoint),
                    num_rounds=config.rounds - len(checkpoint.rounds),
                    train_config=ConfigRecord(
                        {**terms.to_config(), **privacy_members(privacy_of(config))}
                    ),
                    evaluate_fn=after_round,
                )
    except ProtocolError as error:
        # A hospital's own configuration has no groups of keys; this one has.
        reason = str(error).replace("raise integer_bits", "raise crypto.integer_bits")
        hint = divergence.hint(checkpoint.rounds)
        raise ProtocolError(f"{reason}; {hint}" if hint else reason) from error
    strategy.finish(run_state.arrays_of(checkpoint), terms.to_config())
    trained = np.array(checkpoint.parameters)
    evaluation = None
    if config.evaluate:
        evaluation = _evaluated(strategy, grid, terms, lambda: checkpoint)
        keep(unopened=None)
    metrics = {
        **origin_figures(),
        "simulated": roster.simulated,
        "feature_names": list(comparison.feature_names),
        "classes": list(comparison.classes),
        "config": asdict(replace(config, data=comparison.data)),
        **comparison.at_the_end(trained, checkpoint.examples),
        "inference": run_state.inference_of(checkpoint, config, scaling),
        "evaluation": evaluation,
        "rounds": checkpoint.rounds,
        "privacy": privacy and {**privacy, "without": comparison.without_privacy()},
        "crypto": checkpoint.crypto,
        "start_seconds": started - start,
        "seconds": seconds_before + perf_counter() - start,
    }
    model = model_of(
        trained, comparison.feature_names, scaling, comparison.positive, comparison.classes
    )
    write_run(folder, metrics, model.to_json())
    keep(finished=True)
    return metrics


def _evaluated(
    strategy: SequentialPaillier, grid: Grid, terms: LearningTerms, state: Callable[[], Checkpoint]
) -> dict[str, Any] | None:
    """Return the pooled figures; ``None`` if hospitals have nothing to evaluate the model on."""
    trained = state()
    try:
        return pooled_figures(
            strategy, grid, len(trained.rounds), run_state.arrays_of(trained), terms.to_config()
        )
    except ProtocolError as error:
        if state().unopened is not None:
            raise  # the run can be resumed when company X is back
        _logger.warning("the model is trained, but nobody evaluated it: %s", error)
        return None


def objective_of(config: Config) -> SummedObjective:
    """Return the strategy that takes the configuration's steps."""
    chosen = config.optimizer
    if chosen.name == "gd":
        return GradientDescent(chosen.lr, config.min_contributors, config.C)
    optimizer = optimizer_of(chosen.name, chosen.lr)
    return SummedObjective(optimizer, config.min_contributors, config.C)


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


class _ConvergedError(Exception):
    """Ends Flower's loop over the rounds, which knows no other way."""


def _comparison(config: Config, roster: Roster) -> Comparison:
    if roster.simulated:
        return simulated_comparison(config)
    if not roster.features:
        raise ProtocolError("the hospitals must say what their features are, and they do not")
    return NoComparison(roster.features, roster.classes)


def _round_entry(total: EncryptedSum, tested: Mapping[str, float | None]) -> dict[str, Any]:
    return {
        "round": total.round,
        "loss": total.metrics.get(LOSS),  # a private total has neither
        "accuracy": total.metrics.get(ACCURACY),
        **tested,
        "contributors": total.contributors,
        "skipped": [one.name for one in total.skipped],
        **cost_figures(total),
    }


app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the experiment that the run configuration names: ``flwr run``."""
    from fl_he.config.composition import compose  # noqa: PLC0415 - only this entry point composes

    config = compose(str(context.run_config["config-name"]), str(context.run_config["overrides"]))
    if config.simulation.engine is not Engine.ray:
        raise ConfigError(
            f"simulation.engine is a setting of `fl-he run`, got {config.simulation.engine}: leave "
            "it out here, where Flower has started the nodes"
        )
    folder = Path(config.output_dir or f"outputs/run-{context.run_id}").resolve()
    with opened(folder) if config.resume is None else nullcontext():
        metrics = train(grid, config, folder, _log_round)
    federated = metrics.get("federated")
    if federated is not None and federated["accuracy"] is not None:
        _logger.warning("test accuracy %(accuracy).3f, log loss %(log_loss).3f", federated)
    _logger.warning("the run's files are in %s; `fl-he report` prints them", folder)


def _log_round(entry: Mapping[str, Any]) -> None:
    if "step" in entry:
        _logger.warning("%(step)s is done", entry)
    elif entry["loss"] is None and entry["test_loss"] is not None:
        _logger.warning(
            "round %(round)d: test loss %(test_loss).4f, test accuracy %(test_accuracy).3f", entry
        )
    elif entry["loss"] is None:
        _logger.warning("round %(round)d: %(contributors)d contributors", entry)
    else:
        _logger.warning("round %(round)d: loss %(loss).4f, accuracy %(accuracy).3f", entry)
