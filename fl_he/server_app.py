"""The ServerApp: `train`, and the entry point of ``flwr run``."""

from __future__ import annotations

from contextlib import nullcontext
from logging import INFO
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp

from fl_he.config.constraints import ConfigError
from fl_he.config.groups import SimulationConfig
from fl_he.config.run import Config
from fl_he.experiment.data import with_sites
from fl_he.experiment.open_run import OpenRun
from fl_he.experiment.plan import planned_grid
from fl_he.experiment.run import Run, execute
from fl_he.experiment.run_folder import opened
from fl_he.experiment.sealed_run import SealedRun
from fl_he.experiment.table_run import TableRun
from fl_he.terminal.progress import quality
from fl_he.wire.events import (
    Event,
    Listener,
    OptimizerChosen,
    ProfileAdvanced,
    RoundEnded,
    StepEnded,
    unheard,
)


def train(grid: Grid, config: Config, folder: Path, on_event: Listener = unheard) -> dict[str, Any]:
    """Run what the configuration says over the nodes of the grid and write the run's files.

    Parameters
    ----------
    grid : Grid
    config : Config
        Chooses open training, sealed training, a table or CaPC.
    folder : Path
        Where the run's files go. With ``resume`` it holds the checkpoint to continue from.
    on_event : callable
        Is told each event of the run; see :mod:`fl_he.wire.events`.

    Returns
    -------
    dict
        What ``metrics.json`` holds; docs/files.md documents it.

    Raises
    ------
    FlHeError
        Whenever something is refused; of the run's files only ``checkpoint.json`` is there then.
    """

    def begin(tell: Listener) -> Run:
        if config.capc.enabled:
            from fl_he.capc.run import EncryptedBatches  # noqa: PLC0415 - lazy: needs scikit-learn

            return EncryptedBatches(grid, config, folder, tell)
        if config.describe.enabled:
            return TableRun(planned_grid(grid, config), config, folder, tell)
        run = SealedRun if config.sealed else OpenRun
        return run(planned_grid(grid, config), config, folder, tell)

    return execute(begin, config, folder, on_event)


app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the experiment that the run configuration names: ``flwr run``."""
    from fl_he.config.composition import compose_run  # noqa: PLC0415 - lazy: needs Hydra

    config = with_sites(compose_run(context.run_config))
    for key, value in vars(config.simulation).items():
        if value != getattr(SimulationConfig, key):
            raise ConfigError(
                f"simulation.{key} is a setting of `fl-he run`, got {value}: leave it out here, "
                "where Flower has started the nodes"
            )
    folder = Path(config.output_dir or f"outputs/run-{context.run_id}").resolve()
    with opened(folder) if config.resume is None else nullcontext():
        metrics = train(grid, config, folder, _log)
    federated = metrics.get("federated")
    if federated is not None and federated["accuracy"] is not None:
        log(INFO, "test accuracy %(accuracy).3f, log loss %(log_loss).3f", federated)
    log(INFO, "the run's files are in %s; `fl-he report` prints them", folder)


def _log(event: Event) -> None:
    match event:
        case OptimizerChosen(name, reason):
            log(INFO, "optimizer: %s (%s)", name, reason)
        case ProfileAdvanced(iteration, ended, bounds):
            log(
                INFO, "profile likelihoods, iteration %d: %d of %d bounds", iteration, ended, bounds
            )
        case StepEnded(step):
            log(INFO, "%s is done", step)
        case RoundEnded(entry):
            words = quality(entry) or f"{entry['contributors']} contributors"
            log(INFO, "round %d: %s", entry["round"], words)
