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
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from fl_he import __version__, divergence, metrics_file, report, sealed_run
from fl_he.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    plain_config,
    write_checkpoint,
)
from fl_he.comparison import Comparison, NoComparison, SimulatedComparison
from fl_he.config_schema import ClassWeight, Config
from fl_he.config_schema import Scaling as ScalingChoice
from fl_he.learning import inference, likelihood, parameters
from fl_he.learning.damped import LBFGS, Newton
from fl_he.learning.errors import DataError
from fl_he.learning.optimizers import Nesterov, Optimizer, Point
from fl_he.learning.scaling import Scaling
from fl_he.learning.softmax_model import model_of
from fl_he.learning_messages import LearningTerms
from fl_he.messages import ACCURACY, LOSS, ProtocolError, model_arrays, read_parameters
from fl_he.run_figures import cost_figures, crypto_figures, packing_of
from fl_he.run_folder import opened
from fl_he.strategies.encrypted_sum import EncryptedSum
from fl_he.strategies.gradient_descent import GradientDescent, SummedObjective
from fl_he.strategies.pooled_figures import pooled_figures
from fl_he.strategies.preparation import Preparation, prepare
from fl_he.strategies.roster import Roster
from fl_he.strategies.sequential_paillier import SequentialPaillier
from fl_he.strategies.unopened_sum import UnopenedSum

_logger = logging.getLogger(__name__)

OnRound = Callable[[Mapping[str, Any]], None]


def train(
    grid: Grid, config: Config, folder: Path, on_round: OnRound = lambda _: None
) -> dict[str, Any]:
    """Train one model over the hospitals of the grid and write the run's files.

    Parameters
    ----------
    grid : Grid
    config : Config
    folder : Path
        Where ``metrics.json``, ``model.json``, ``comparison.png`` and, after every round,
        ``checkpoint.json`` go. With ``resume`` it holds the checkpoint to go on from.
    on_round : callable
        Called after each round with its entry of ``rounds``.

    Returns
    -------
    dict
        What ``metrics.json`` holds; the README documents it.

    Raises
    ------
    ProtocolError, CryptoError, DataError, CheckpointError
        Whenever something is refused; of the run's files only ``checkpoint.json`` is there then.
    """
    if config.sealed:
        return sealed_run.train(grid, config, folder, on_round)
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
    earlier = None if config.resume is None else _resumed(strategy, objective, config, folder)
    roster = strategy.call_roll(grid)
    started = perf_counter()
    comparison = _comparison(config, roster)
    classes = len(comparison.classes) or 2
    checkpoint = _first_checkpoint(config, comparison.feature_names, classes, roster, earlier)
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
        }
        keep(
            parameters=model.tolist(),
            optimizer=objective.optimizer.to_members(),
            hessian=_triangle(objective.point),
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
            _preparation(checkpoint, config),
            balanced=config.class_weight is ClassWeight.balanced,
            classes=classes,
            keep=lambda known: keep(preparation=known.to_members(), unopened=None),
        )
        scaling = _scaling(terms, len(comparison.feature_names))
        comparison.use(scaling)
        if not _is_converged(checkpoint):
            with suppress(_ConvergedError):
                strategy.start(
                    grid,
                    initial_arrays=_model_of(checkpoint),
                    num_rounds=config.rounds - len(checkpoint.rounds),
                    train_config=terms.to_config(),
                    evaluate_fn=after_round,
                )
    except ProtocolError as error:
        # A hospital's own configuration has no groups of keys; this one has.
        reason = str(error).replace("raise integer_bits", "raise crypto.integer_bits")
        hint = divergence.hint(checkpoint.rounds)
        raise ProtocolError(f"{reason}; {hint}" if hint else reason) from error
    strategy.finish(_model_of(checkpoint), terms.to_config())
    trained = np.array(checkpoint.parameters)
    evaluation = None
    if config.evaluate:
        number = len(checkpoint.rounds)
        evaluation = pooled_figures(
            strategy, grid, number, _model_of(checkpoint), terms.to_config()
        )
        keep(unopened=None)
    metrics = {
        "version": metrics_file.VERSION,
        "fl_he": __version__,
        "config": asdict(replace(config, data=comparison.data)),
        **comparison.at_the_end(trained, checkpoint.examples),
        "inference": _inference(checkpoint, config, scaling),
        "evaluation": evaluation,
        "rounds": checkpoint.rounds,
        "crypto": checkpoint.crypto,
        "start_seconds": started - start,
        "seconds": seconds_before + perf_counter() - start,
    }
    model = model_of(
        trained, comparison.feature_names, scaling, comparison.positive, comparison.classes
    )
    report.write_run(folder, metrics, model.to_json())
    keep(finished=True)
    return metrics


def objective_of(config: Config) -> SummedObjective:
    """Return the strategy that takes the configuration's steps."""
    if config.optimizer.name == "gd":
        return GradientDescent(config.optimizer.lr, config.min_contributors, config.C)
    chosen: dict[str, Callable[[], Optimizer]] = {
        "nesterov": lambda: Nesterov(config.optimizer.lr),
        "newton": Newton,
        "lbfgs": LBFGS,
    }
    return SummedObjective(chosen[config.optimizer.name](), config.min_contributors, config.C)


class _ConvergedError(Exception):
    """Ends Flower's loop over the rounds, which knows no other way."""


def _resumed(
    strategy: SequentialPaillier, objective: SummedObjective, config: Config, folder: Path
) -> Checkpoint:
    """Let the strategy go on where the folder's run was cut off."""
    checkpoint = load_checkpoint(folder, config)
    unopened = checkpoint.unopened
    strategy.resume(
        len(checkpoint.rounds),
        checkpoint.session,
        checkpoint.key_fingerprint,
        None if unopened is None else UnopenedSum.from_members(unopened),
    )
    if checkpoint.rounds:
        try:
            objective.optimizer.restore(checkpoint.optimizer)
        except DataError as error:
            raise CheckpointError(f"the checkpoint in {folder}: {error}") from error
    return checkpoint


def _first_checkpoint(
    config: Config,
    feature_names: tuple[str, ...],
    classes: int,
    roster: Roster,
    earlier: Checkpoint | None,
) -> Checkpoint:
    fingerprint, features = roster.public_key.fingerprint, list(feature_names)
    zeros = [0.0] * parameters.count(len(features), classes)
    if earlier is None:
        return Checkpoint(plain_config(config), features, roster.session, fingerprint, zeros)
    if earlier.features != features:
        raise CheckpointError(
            f"the features must be those of the run that is resumed, {earlier.features}, got "
            f"{features}"
        )
    if len(earlier.parameters) != len(zeros):
        raise CheckpointError(
            f"a checkpoint of {classes} classes must have {len(zeros)} parameters"
        )
    unopened = earlier.unopened if roster.session == earlier.session else None
    return replace(earlier, session=roster.session, key_fingerprint=fingerprint, unopened=unopened)


def _model_of(checkpoint: Checkpoint) -> ArrayRecord:
    return model_arrays(
        *parameters.split(np.array(checkpoint.parameters), len(checkpoint.features))
    )


def _triangle(point: Point | None) -> list[float] | None:
    if point is None or point.hessian is None:
        return None
    triangle: list[float] = likelihood.upper_triangle(point.hessian).tolist()
    return triangle


def _inference(checkpoint: Checkpoint, config: Config, scaling: Scaling) -> dict[str, Any] | None:
    """Return the table of coefficients; ``None`` of more than two classes or mixed units."""
    theta, features = np.array(checkpoint.parameters), checkpoint.features
    if len(theta) != len(features) + 1 or config.scaling is ScalingChoice.local:
        return None
    cov = None
    # With class weights the inverse Hessian is not the estimates' covariance.
    if checkpoint.hessian is not None and config.class_weight is ClassWeight.equal:
        hessian = likelihood.from_upper_triangle(np.array(checkpoint.hessian), len(theta))
        cov = inference.covariance(hessian, checkpoint.examples)
    return {
        "level": inference.LEVEL,
        "penalised": config.C is not None,
        "coefficients": inference.coefficient_table(theta, features, scaling, cov),
    }


def _is_converged(checkpoint: Checkpoint) -> bool:
    return any(entry.get("converged") for entry in checkpoint.rounds)


def _preparation(checkpoint: Checkpoint, config: Config) -> Preparation:
    if checkpoint.preparation is None:
        return Preparation(terms=LearningTerms(scaling=config.scaling.value))
    return Preparation.from_members(checkpoint.preparation)


def _scaling(terms: LearningTerms, features: int) -> Scaling:
    """Return from what units the tables come to those of the model, as far as it is the same."""
    if terms.scaling != "federated":
        return Scaling.none(features)
    return Scaling(np.array(terms.mean), np.array(terms.scale))


def _comparison(config: Config, roster: Roster) -> Comparison:
    if roster.simulated:
        return SimulatedComparison(config)
    if not roster.features:
        raise ProtocolError("the hospitals must say what their features are, and they do not")
    return NoComparison(roster.features)


def _round_entry(total: EncryptedSum, tested: Mapping[str, float | None]) -> dict[str, Any]:
    return {
        "round": total.round,
        "loss": total.metrics[LOSS],
        "accuracy": total.metrics[ACCURACY],
        **tested,
        "contributors": total.contributors,
        "skipped": [one.name for one in total.skipped],
        **cost_figures(total),
    }


app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the experiment that the run configuration names: ``flwr run``."""
    from fl_he.config import compose  # noqa: PLC0415 - only this entry point composes

    config = compose(str(context.run_config["config-name"]), str(context.run_config["overrides"]))
    folder = Path(config.output_dir or f"outputs/run-{context.run_id}").resolve()
    with opened(folder) if config.resume is None else nullcontext():
        metrics = train(grid, config, folder, _log_round)
    federated = metrics["federated"]
    if federated["accuracy"] is not None:
        _logger.warning("test accuracy %(accuracy).3f, log loss %(log_loss).3f", federated)
    _logger.warning("the run's files are in %s; `fl-he report` prints them", folder)


def _log_round(entry: Mapping[str, Any]) -> None:
    if entry["loss"] is None:
        _logger.warning("round %(round)d: %(contributors)d contributors", entry)
    else:
        _logger.warning("round %(round)d: loss %(loss).4f, accuracy %(accuracy).3f", entry)
