"""Training over a sealed chain: the rounds, the checkpoint and what the coordinator can report.

It has no model, no loss and no accuracy to report: each hospital has its own ``model.json``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from flwr.app import ConfigRecord
from flwr.serverapp import Grid

from fl_he.config import Config
from fl_he.experiment.comparison import Comparison
from fl_he.experiment.declared_ranges import first_terms
from fl_he.experiment.privacy_statement import privacy_figures, privacy_of
from fl_he.experiment.run_figures import crypto_figures, origin_figures, packing_of
from fl_he.experiment.run_state import CheckpointKeeper
from fl_he.report.files import write_run
from fl_he.run_files import metrics_contract
from fl_he.run_files.checkpoint import Checkpoint, CheckpointError, load_checkpoint, plain_config
from fl_he.strategies.grid import HopWatch
from fl_he.strategies.roster import Roster, Waiting, call_roll
from fl_he.strategies.sealed.progress import SealedProgress, SealedSum
from fl_he.strategies.sealed.router import SealedChain
from fl_he.wire.events import Listener, RoundEnded
from fl_he.wire.learning_terms import privacy_members


class SealedRun:
    """Rounds in which the hospitals of the grid train one model that the coordinator does not see.

    Parameters
    ----------
    grid : Grid
    config : Config
        With ``sealed``.
    folder : Path
        Where ``metrics.json``, ``report.html`` and, after every round, ``checkpoint.json`` go.
        With ``resume`` it holds the checkpoint to go on from.
    tell : callable
        Is told each hop.

    Raises
    ------
    FlHeError
        If the nodes cannot take part, or the checkpoint cannot be resumed.
    """

    def __init__(self, grid: Grid, config: Config, folder: Path, tell: Listener) -> None:
        start = perf_counter()
        self._config, self._folder = config, folder
        earlier = None if config.resume is None else _resumed(config, folder)
        waiting = Waiting(config.min_contributors, config.hop_timeout, config.key_holder_timeout)
        self._roster = roster = call_roll(grid, waiting, config.hospitals)
        self._chain = chain = SealedChain(
            roster,
            _train_config(config, roster.features),
            SealedProgress.from_members(earlier.sealed) if earlier else SealedProgress(),
            on_summed=self._keep_progress,
        )
        chain.begin()
        roster.grid = self._grid = HopWatch(grid, roster.name, tell)
        self._packing = packing_of(config.crypto)
        roster.require_packing(self._packing)
        self._privacy = privacy_figures(config, len(roster.features), simulated=False)
        first = _first_checkpoint(config, roster, chain.progress, earlier)
        folder.mkdir(parents=True, exist_ok=True)
        self._keeper = CheckpointKeeper(folder, first, start)
        self._keeper.keep()

    def rounds(self) -> Iterator[RoundEnded]:
        """See Run."""
        for _ in range(len(self._keeper.checkpoint.rounds), self._config.rounds):
            yield RoundEnded(self._round())

    def finish(self) -> dict[str, Any]:
        """See Run; what the coordinator does not know is null."""
        self._chain.finish()
        checkpoint, roster = self._keeper.checkpoint, self._roster
        unknown = dict.fromkeys(("examples", *metrics_contract.FIGURES, "intercept"))
        metrics = write_run(
            self._folder,
            {
                **origin_figures(),
                "simulated": roster.simulated,
                "feature_names": list(roster.features),
                "config": asdict(replace(self._config, data=Comparison(roster.features).data)),
                "local": None,
                "federated": {**unknown, "coefficients": []},
                "pooled": None,
                "inference": None,
                "evaluation": None,
                "rounds": checkpoint.rounds,
                "privacy": self._privacy and {**self._privacy, "without": None},
                "crypto": checkpoint.crypto,
                "seconds": self._keeper.seconds,
            },
        )
        self._keeper.keep(finished=True)
        return metrics

    def _round(self) -> dict[str, Any]:
        """Have one sum opened and keep it; return the round's entry."""
        done, key = self._chain.run_round(), self._roster.public_key
        number = len(self._chain.progress.opened)
        entry = {**_round_entry(number, done), "hops": self._grid.take()}
        # The header is shorter than a ciphertext.
        ciphertexts = done.update_bytes // key.ciphertext_bytes
        self._keeper.keep(
            rounds=[*self._keeper.checkpoint.rounds, entry],
            crypto=crypto_figures(self._packing, key, ciphertexts, done.update_bytes),
            sealed=self._chain.progress.to_members(),
        )
        return entry

    def _keep_progress(self, progress: SealedProgress) -> None:
        self._keeper.keep(sealed=progress.to_members())


def _train_config(config: Config, features: tuple[str, ...]) -> ConfigRecord:
    """Return the train config; declared ranges are in the order of the hospitals' features."""
    record = first_terms(config, features).to_config()
    record["lr"] = config.optimizer.lr
    if config.C is not None:
        record["C"] = config.C
    record.update(privacy_members(privacy_of(config)))
    return record


def _resumed(config: Config, folder: Path) -> Checkpoint:
    checkpoint = load_checkpoint(folder, config)
    if checkpoint.sealed is None:
        raise CheckpointError(f"the checkpoint in {folder} must be one of a sealed chain")
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


def _round_entry(number: int, done: SealedSum) -> dict[str, Any]:
    return {
        "round": number,
        **dict.fromkeys(("loss", "accuracy", "test_loss", "test_accuracy", "gradient_norm")),
        "converged": False,
        "contributors": len(done.request.contributors),
        "skipped": list(done.skipped),
        **asdict(done.cost),
    }
