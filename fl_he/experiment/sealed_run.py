"""A run over a sealed chain: the rounds, the checkpoint and what the coordinator can report.

It has no model, no loss and no accuracy to report: each hospital has its own ``model.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from flwr.app import ConfigRecord
from flwr.serverapp import Grid

from fl_he.config import Config
from fl_he.experiment.comparison import NoComparison
from fl_he.experiment.declared_ranges import first_terms
from fl_he.experiment.privacy_statement import privacy_figures, privacy_of
from fl_he.experiment.run_figures import cost_figures, crypto_figures, origin_figures, packing_of
from fl_he.report.files import write_run
from fl_he.run_files import metrics_contract
from fl_he.run_files.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    plain_config,
    write_checkpoint,
)
from fl_he.strategies.hop_watch import HopWatch
from fl_he.strategies.roster import Roster
from fl_he.strategies.sealed.progress import SealedProgress
from fl_he.strategies.sealed.router import SealedChain, SealedRound
from fl_he.wire.hop import OnHop
from fl_he.wire.learning_terms import privacy_members


def train(
    grid: Grid,
    config: Config,
    folder: Path,
    on_round: Callable[[Mapping[str, Any]], None] = lambda _: None,
    on_hop: OnHop = lambda _: None,
) -> dict[str, Any]:
    """Have the hospitals of the grid train one model that the coordinator does not see.

    Parameters
    ----------
    grid : Grid
    config : Config
        With ``sealed``.
    folder : Path
        Where ``metrics.json``, ``report.html`` and, after every round, ``checkpoint.json`` go.
        With ``resume`` it holds the checkpoint to go on from.
    on_round : callable
        Called after each round with its entry of ``rounds``.
    on_hop : callable
        Called when a message goes out to a node and when its answer comes.

    Returns
    -------
    dict
        What ``metrics.json`` holds; what the coordinator does not know is null.

    Raises
    ------
    ProtocolError, CryptoError, CheckpointError
        Whenever something is refused; of the run's files only ``checkpoint.json`` is there then.
    """
    start = perf_counter()
    chain = SealedChain(
        ConfigRecord(),
        hospitals=config.hospitals,
        min_contributors=config.min_contributors,
        hop_timeout=config.hop_timeout,
        key_holder_timeout=config.key_holder_timeout,
        on_summed=lambda progress: keep(sealed=progress.to_members()),
    )
    earlier = None if config.resume is None else _resumed(chain, config, folder)
    roster = chain.call_roll(grid)
    chain.config = _train_config(config, roster.features)
    grid = watch = HopWatch(grid, chain.node_name, on_hop)
    packing = packing_of(config.crypto)
    roster.require_packing(packing)
    privacy = privacy_figures(config, len(roster.features), simulated=False)
    checkpoint = _first_checkpoint(config, roster, chain.progress, earlier)
    seconds_before = checkpoint.seconds

    def keep(**changes: Any) -> None:
        nonlocal checkpoint
        seconds = seconds_before + perf_counter() - start
        checkpoint = replace(checkpoint, seconds=seconds, **changes)
        write_checkpoint(folder, checkpoint)

    folder.mkdir(parents=True, exist_ok=True)
    keep()
    while len(checkpoint.rounds) < config.rounds:
        done = chain.run_round(grid)
        keep(
            rounds=[*checkpoint.rounds, {**_round_entry(done), "hops": watch.take()}],
            crypto=crypto_figures(
                packing,
                roster.public_key,
                # The header is shorter than a ciphertext.
                done.update_bytes // roster.public_key.ciphertext_bytes,
                done.update_bytes,
            ),
            sealed=chain.progress.to_members(),
        )
        on_round(checkpoint.rounds[-1])
    chain.finish(grid)
    unknown = dict.fromkeys(("examples", *metrics_contract.FIGURES, "intercept"))
    metrics = write_run(
        folder,
        {
            **origin_figures(),
            "simulated": roster.simulated,
            "feature_names": list(roster.features),
            "config": asdict(replace(config, data=NoComparison(roster.features).data)),
            "local": None,
            "federated": {**unknown, "coefficients": []},
            "pooled": None,
            "inference": None,
            "evaluation": None,
            "rounds": checkpoint.rounds,
            "privacy": privacy and {**privacy, "without": None},
            "crypto": checkpoint.crypto,
            "seconds": seconds_before + perf_counter() - start,
        },
    )
    keep(finished=True)
    return metrics


def _train_config(config: Config, features: tuple[str, ...]) -> ConfigRecord:
    """Return the train config; declared ranges are in the order of the hospitals' features."""
    record = first_terms(config, features).to_config()
    record["lr"] = config.optimizer.lr
    if config.C is not None:
        record["C"] = config.C
    record.update(privacy_members(privacy_of(config)))
    return record


def _resumed(chain: SealedChain, config: Config, folder: Path) -> Checkpoint:
    """Let the chain go on where the folder's run was cut off."""
    checkpoint = load_checkpoint(folder, config)
    if checkpoint.sealed is None:
        raise CheckpointError(f"the checkpoint in {folder} must be one of a sealed chain")
    chain.resume(SealedProgress.from_members(checkpoint.sealed))
    return checkpoint


def _first_checkpoint(
    config: Config, roster: Roster, progress: SealedProgress, earlier: Checkpoint | None
) -> Checkpoint:
    fingerprint, features = roster.public_key.fingerprint, list(roster.features)
    if earlier is None:
        return Checkpoint(
            plain_config(config),
            features,
            progress.session,
            fingerprint,
            # The model from which the hospitals start is all that the coordinator knows of it.
            parameters=[0.0] * (len(features) + 1),
            sealed=progress.to_members(),
        )
    for name, ours, theirs in (
        ("features", earlier.features, features),
        ("key fingerprint", earlier.key_fingerprint, fingerprint),
    ):
        if ours != theirs:
            raise CheckpointError(
                f"the {name} must be as in the run that is resumed, {ours}, got {theirs}"
            )
    return earlier


def _round_entry(done: SealedRound) -> dict[str, Any]:
    return {
        "round": done.round,
        **dict.fromkeys(("loss", "accuracy", "test_loss", "test_accuracy", "gradient_norm")),
        "converged": False,
        "contributors": len(done.contributors),
        "skipped": list(done.skipped),
        **cost_figures(done),
    }
