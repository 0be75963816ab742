"""Training over a sealed chain: the coordinator routes what it cannot read.

It has no model, no loss and no accuracy to report: each hospital has its own ``model.json``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from fl_he.config.run import Config, Penalty
from fl_he.crypto.schemes import MASKS
from fl_he.experiment.plan import study_plan
from fl_he.experiment.private_settings import require_private_settings
from fl_he.experiment.profile import check_classes
from fl_he.experiment.terms import (
    chosen_optimizer,
    privacy_figures,
    train_config,
)
from fl_he.experiment.training_run import TrainingRun
from fl_he.learning.regression.registry import family_named
from fl_he.run_files.checkpoint import CheckpointError
from fl_he.strategies.dropouts import Waiting
from fl_he.strategies.roll_call import call_roll
from fl_he.strategies.sealed.progress import SealedProgress, SealedSum
from fl_he.strategies.sealed.router import SealedChain
from fl_he.wire.events import Listener, OptimizerChosen


class SealedRun(TrainingRun):
    """Rounds in which the hospitals of the grid train one model that the coordinator does not see.

    Parameters
    ----------
    grid : Grid
    config : Config
        With ``sealed``.
    folder : Path
        See TrainingRun; metrics.json and report.html are the run's files.
    tell : callable
        Is told each hop.

    Raises
    ------
    FlHeError
        If the nodes cannot take part, or the checkpoint cannot be resumed.
    """

    def __init__(self, grid: Grid, config: Config, folder: Path, tell: Listener) -> None:
        require_private_settings(config)
        super().__init__(config, folder)
        earlier, progress = self._earlier, SealedProgress()
        if earlier is not None:
            if earlier.sealed is None:
                raise CheckpointError(f"the checkpoint in {folder} must be one of a sealed chain")
            progress = SealedProgress.from_members({**earlier.sealed, "opened": earlier.opened})
        waiting = Waiting(
            min_contributors=config.min_contributors,
            hop_timeout=config.hop_timeout,
            key_holder_timeout=config.key_holder_timeout,
            on_dropout=config.on_dropout,
            dropout_timeout=config.dropout_timeout,
        )
        session = "" if earlier is None else earlier.session
        roster = self._called(call_roll(grid, waiting, config.hospitals, session))
        features, plan = roster.features, study_plan(config)
        classes = 0 if roster.family else len(roster.classes) or 2
        family = family_named(roster.family, classes)
        check_classes(config, classes)
        self._chosen = chosen_optimizer(config, len(features), classes, family)
        terms = train_config(
            *(config, features, classes, self._chosen["name"], plan),
            family=family,
            imputed=roster.imputed,
        )
        self._chain = SealedChain(
            roster,
            terms,
            progress,
            scheme=config.crypto.scheme,
            on_summed=lambda progress: self._keep(**self._kept(progress)),
        )
        tell(OptimizerChosen(**self._chosen))
        self._chain.begin()
        self._privacy = privacy_figures(
            config, len(features), classes, simulated=False, family=family
        )
        if earlier is not None:
            key = roster.public_key.fingerprint
            self._require_earlier("key fingerprint", earlier.key_fingerprint, key)
        self._begin(grid, tell, roster)
        self._keep(session=self._chain.progress.session, **self._kept(self._chain.progress))

    def finish(self) -> dict[str, Any]:
        """See Run; what the coordinator does not know is null."""
        self._chain.finish()
        return self._write({})

    def _round(self, _: int) -> None:
        first: SealedSum | None = None
        while (done := self._chain.run_round()).prepares:
            first = done
            self._keep(**self._kept(self._chain.progress))
        if self._config.penalty is Penalty.firth and first is not None:
            done = replace(done, cost=first.cost + done.cost)
        key, scheme = self._roster.public_key, self._roster.scheme(self._config.crypto.scheme)
        self._end_round(
            done,
            # A masked vector is one; the header of the others is shorter than a ciphertext.
            1 if scheme == MASKS else done.update_bytes // key.ciphertext_bytes,
            {
                "contributors": len(done.request.contributors),
                "skipped": list(done.skipped),
                "converged": done.over,
            },
            **self._kept(self._chain.progress),
        )

    def _kept(self, progress: SealedProgress) -> dict[str, Any]:
        """Return the checkpoint's members of a progress; rounds that it has stay as they are."""
        before = self._state.opened
        new = replace(progress, opened=progress.opened[len(before) :]).to_members()
        return {"opened": [*before, *new["opened"]], "sealed": {**new, "opened": []}}
