"""``fl-he run``: train over simulated hospitals and compare."""
# ruff: noqa: PLC0415 - see the package

from __future__ import annotations

import os
import signal
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fl_he.terminal.errors import explain, format_warning
from fl_he.terminal.interrupt import end_at_once, end_at_signals

if TYPE_CHECKING:
    from fl_he.config.run import Config
    from fl_he.wire.events import Event


def run(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]... [HYDRA FLAGS]")
    ] = None,
) -> None:
    """Train over simulated hospitals and compare. `fl-he run --help` lists every key."""
    end_at_signals()  # the imports take seconds
    # Before NumPy is loaded. Matrices are small here: threads wait for each other longer than
    # they compute.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from fl_he.config.constraints import ConfigError
    from fl_he.experiment.helper import Helper
    from fl_he.experiment.jobs import abandon, run_jobs

    finished: dict[Path, dict[str, Any]] = {}
    helper = Helper()

    def simulate(config: Config, folder: Path) -> None:
        if not (config.capc.enabled or config.describe.enabled):
            helper.start()
        finished[folder] = _simulate(config, folder)

    warnings.formatwarning = format_warning
    end_at_signals(abandon)
    try:
        with helper:
            jobs = run_jobs(simulate, arguments or [], explain)
    except ConfigError as error:
        explain(error)
        raise typer.Exit(1) from None
    if len(jobs) > 1:
        from fl_he.report.tables.sweep import SweepRow
        from fl_he.terminal.show import show_all

        show_all(
            [SweepRow(job.overrides, str(job.folder), finished.get(job.folder)) for job in jobs]
        )
    if not all(job.succeeded for job in jobs):
        raise typer.Exit(1)


def _simulate(config: Config, folder: Path) -> dict[str, Any]:
    from rich.console import Console

    from fl_he.experiment.data import with_sites
    from fl_he.experiment.jobs import abandon
    from fl_he.experiment.private_settings import with_private_settings
    from fl_he.report.files import REPORT
    from fl_he.report.tables.comparison import difference_note
    from fl_he.terminal.progress import follow
    from fl_he.terminal.show import from_here, show_run

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            """End as other programs do; Rich's own way ends Flower's thread alone."""
            end_at_once(signal.SIGPIPE, abandon)

    config, capc = with_private_settings(with_sites(config)), config.capc.enabled
    trains = not (capc or config.describe.enabled)
    steps = _steps(config) if capc else config.rounds if trains else 1
    with follow(Screen(), config.hospitals, steps, capc=capc) as show:
        from fl_he import simulation

        def tell(event: Event) -> None:
            try:
                show(event)
            except OSError as error:
                raise OSError(error.errno, error.strerror, "standard output") from error

        metrics = simulation.run(config, folder, tell)
    show_run(metrics, folder)
    typer.echo(f"report: {from_here(folder / REPORT)}")
    if trains and (note := difference_note(metrics)):
        typer.echo(note)
    return metrics


def _steps(config: Config) -> int:
    """Return how many hops CaPC takes without hidden layers; docs/capc.md counts them."""
    from fl_he.config.capc import Voting
    from fl_he.config.groups import Collusion

    batch = 12 if config.capc.threshold is None else 14
    once = 4 if config.crypto.collusion is Collusion.resistant else 2
    labels = len(config.capc.labels) if config.capc.voting is Voting.binary else 1
    return once + batch * len(config.capc.querying) * labels
