"""The ServerApp: from a configuration to a strategy, a trained model and the run's files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
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
from fl_he.config_schema import Config
from fl_he.learning.model import LogisticModel
from fl_he.messages import ACCURACY, LOSS, ProtocolError, model_arrays, read_model_arrays
from fl_he.run_figures import cost_figures, crypto_figures, packing_of
from fl_he.run_folder import opened
from fl_he.strategies.encrypted_sum import EncryptedSum
from fl_he.strategies.gradient_descent import GradientDescent
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
    if config.capc.enabled:
        from fl_he import capc_run  # noqa: PLC0415 - another protocol, with scikit-learn

        return capc_run.run_encrypted(grid, config, folder, lambda step: on_round({"step": step}))
    if config.sealed:
        return sealed_run.train(grid, config, folder, on_round)
    start = perf_counter()
    strategy = SequentialPaillier(
        GradientDescent(config.optimizer.lr, config.min_contributors, config.C),
        topology=config.topology,
        segments=config.segments,
        packing=packing_of(config.crypto),
        min_contributors=config.min_contributors,
        hop_timeout=config.hop_timeout,
        key_holder_timeout=config.key_holder_timeout,
        hospitals=config.hospitals,
        on_summed=lambda unopened: keep(unopened=unopened.to_members()),
    )
    earlier = None if config.resume is None else _resumed(strategy, config, folder)
    roster = strategy.call_roll(grid)
    started = perf_counter()
    comparison = _comparison(config, roster)
    checkpoint = _first_checkpoint(config, list(comparison.feature_names), roster, earlier)
    seconds_before = checkpoint.seconds

    def keep(**changes: Any) -> None:
        nonlocal checkpoint
        seconds = seconds_before + perf_counter() - start
        checkpoint = replace(checkpoint, seconds=seconds, **changes)
        write_checkpoint(folder, checkpoint)

    def after_round(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        if server_round == 0:
            return None
        total, model = strategy.sums[-1], read_model_arrays(arrays)
        entry = _round_entry(total, comparison.after_round(model))
        keep(
            coefficients=model[0].tolist(),
            intercept=model[1],
            rounds=[*checkpoint.rounds, entry],
            examples=round(total.examples),
            crypto=crypto_figures(
                strategy.packing, roster.public_key, total.ciphertexts, total.update_bytes
            ),
            unopened=None,
        )
        on_round(entry)
        return None

    folder.mkdir(parents=True, exist_ok=True)
    try:
        strategy.start(
            grid,
            initial_arrays=_model_of(checkpoint),
            num_rounds=config.rounds - len(checkpoint.rounds),
            evaluate_fn=after_round,
        )
    except ProtocolError as error:
        # A hospital's own configuration has no groups of keys; this one has.
        reason = str(error).replace("raise integer_bits", "raise crypto.integer_bits")
        hint = divergence.hint(checkpoint.rounds)
        raise ProtocolError(f"{reason}; {hint}" if hint else reason) from error
    strategy.finish(_model_of(checkpoint))
    coefficients, intercept = trained = read_model_arrays(_model_of(checkpoint))
    metrics = {
        "version": metrics_file.VERSION,
        "fl_he": __version__,
        "config": asdict(replace(config, data=comparison.data)),
        **comparison.at_the_end(trained, checkpoint.examples),
        "rounds": checkpoint.rounds,
        "crypto": checkpoint.crypto,
        "start_seconds": started - start,
        "seconds": seconds_before + perf_counter() - start,
    }
    model = LogisticModel(
        feature_names=comparison.feature_names,
        mean=comparison.scaling.mean,
        scale=comparison.scaling.scale,
        coefficients=coefficients,
        intercept=intercept,
        positive=comparison.positive,
    )
    report.write_run(folder, metrics, model.to_json())
    keep(finished=True)
    return metrics


def _resumed(strategy: SequentialPaillier, config: Config, folder: Path) -> Checkpoint:
    """Let the strategy go on where the folder's run was cut off."""
    checkpoint = load_checkpoint(folder, config)
    unopened = checkpoint.unopened
    strategy.resume(
        len(checkpoint.rounds),
        checkpoint.session,
        checkpoint.key_fingerprint,
        None if unopened is None else UnopenedSum.from_members(unopened),
    )
    return checkpoint


def _first_checkpoint(
    config: Config, features: list[str], roster: Roster, earlier: Checkpoint | None
) -> Checkpoint:
    fingerprint = roster.public_key.fingerprint
    if earlier is None:
        zeros = [0.0] * len(features)
        return Checkpoint(plain_config(config), features, roster.session, fingerprint, zeros, 0.0)
    if earlier.features != features:
        raise CheckpointError(
            f"the features must be those of the run that is resumed, {earlier.features}, got "
            f"{features}"
        )
    unopened = earlier.unopened if roster.session == earlier.session else None
    return replace(earlier, session=roster.session, key_fingerprint=fingerprint, unopened=unopened)


def _model_of(checkpoint: Checkpoint) -> ArrayRecord:
    return model_arrays(np.array(checkpoint.coefficients), checkpoint.intercept)


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
    federated = metrics.get("federated")
    if federated is not None and federated["accuracy"] is not None:
        _logger.warning("test accuracy %(accuracy).3f, log loss %(log_loss).3f", federated)
    _logger.warning("the run's files are in %s; `fl-he report` prints them", folder)


def _log_round(entry: Mapping[str, Any]) -> None:
    if "step" in entry:
        _logger.warning("%(step)s is done", entry)
    elif entry["loss"] is None:
        _logger.warning("round %(round)d: %(contributors)d contributors", entry)
    else:
        _logger.warning("round %(round)d: loss %(loss).4f, accuracy %(accuracy).3f", entry)
