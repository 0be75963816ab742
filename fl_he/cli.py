"""The ``fl-he`` command.

Each command imports what it needs when it runs: Hydra, Flower and Ray take seconds to load.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

import signal
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fl_he.commands.agree import agree
from fl_he.commands.enroll import enroll
from fl_he.commands.federation import federation, show
from fl_he.commands.keygen import keygen
from fl_he.commands.predict import export, predict
from fl_he.errors import FlHeError, FlHeWarning
from fl_he.terminal.interrupt import end_at_ctrl_c, end_at_once

if TYPE_CHECKING:
    from fl_he.config import Config

app = typer.Typer(
    name="fl-he",
    help="Encrypted federated learning: hospitals train one model from encrypted updates.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    suggest_commands=False,  # Click makes the same suggestion
)

_format_other_warning = warnings.formatwarning


def main() -> None:
    """Run the command line."""
    app()


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from fl_he.version import __version__

        typer.echo(f"fl-he {__version__}")
        raise typer.Exit


# Hydra parses everything that follows, its own flags and --help included.
@app.command("run", context_settings={"ignore_unknown_options": True, "help_option_names": []})
def _run(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]... [HYDRA FLAGS]")
    ] = None,
) -> None:
    """Train over simulated hospitals and compare. `fl-he run --help` lists every key."""
    signal.signal(signal.SIGINT, lambda *_: end_at_once())  # the imports take seconds
    from fl_he.config import ConfigError
    from fl_he.experiment.jobs import abandon, run_jobs

    finished: dict[Path, dict[str, Any]] = {}

    def simulate(config: Config, folder: Path) -> None:
        finished[folder] = _simulate(config, folder)

    warnings.formatwarning = _format_warning
    end_at_ctrl_c(abandon)
    try:
        jobs = run_jobs(simulate, arguments or [], _explain)
    except ConfigError as error:
        _explain(error)
        raise typer.Exit(1) from None
    if len(jobs) > 1:
        from fl_he.report.tables.sweep import SweepRow
        from fl_he.terminal.show import show_all

        show_all(
            [SweepRow(job.overrides, str(job.folder), finished.get(job.folder)) for job in jobs]
        )
    if not all(job.succeeded for job in jobs):
        raise typer.Exit(1)


@app.command("report")
def _report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER..."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "--out",
            metavar="FILE",
            help="File of the page: of a single run its report, else report.html in its folder; of "
            "several their comparison, else comparison.html in the folder that holds all of them, "
            "or here.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Print the tables of finished runs, and write report.html and the plots of each again.

    FOLDER... are what `fl-he run` wrote: runs, or sweeps.

    Several runs are compared, in one more table and a page of its own.
    """
    from fl_he.report.tables.sweep import SweepRow, differences
    from fl_he.run_files.metrics import read_metrics, run_folders
    from fl_he.run_files.metrics_contract import MetricsError
    from fl_he.terminal.show import from_here, show_all, write_again

    runs: dict[Path, dict[str, Any]] = {}
    succeeded = True
    for run in dict.fromkeys(run for folder in folders for run in run_folders(folder)):
        try:
            runs[run] = read_metrics(run)
        except MetricsError as error:
            succeeded = not _explain(error)
    for run, metrics in runs.items():
        _show(metrics, run)
        try:
            page = write_again(metrics, run, None if len(runs) > 1 else output)
        except OSError:
            typer.echo(f"fl-he: {run} must be writable to draw plots and report again", err=True)
            succeeded = False
        else:
            typer.echo(f"report: {from_here(page)}")
    if len(runs) > 1:
        settings = differences([metrics["config"] for metrics in runs.values()])
        try:
            show_all(list(map(SweepRow, settings, map(str, runs), runs.values())), output)
        except OSError:
            typer.echo("fl-he: --output must be a file that can be written", err=True)
            succeeded = False
    if not succeeded:
        raise typer.Exit(1)


@app.command("bench")
def _bench(
    sections: Annotated[
        list[str] | None,
        typer.Argument(metavar="[kernel|federation|hospitals|capc]..."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer cases and runs; ends within a minute.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("bench.json"),
) -> None:
    """Measure what encryption costs on this machine, beside the alternatives.

    All four parts if none is named.
    """
    from rich.console import Console

    from fl_he.bench.command import run_bench

    signal.signal(signal.SIGINT, lambda *_: end_at_once())
    try:
        run_bench(sections or [], quick=quick, out=out, console=Console())
    except ValueError as error:
        if not _explain(error):
            raise
        raise typer.Exit(1) from None


# Help lists them in this order: first what one needs first.
for command in (predict, export, keygen, enroll, federation, agree, show):
    app.command()(command)


def _simulate(config: Config, folder: Path) -> dict[str, Any]:
    from rich.console import Console

    from fl_he.report.page.write import NAME as REPORT
    from fl_he.terminal.progress import follow_rounds, follow_steps
    from fl_he.terminal.show import from_here

    follow = (
        follow_steps(Console(), config.hospitals, _steps(config))
        if config.capc.enabled
        else follow_rounds(Console(), config.hospitals, config.rounds)
    )
    with follow as followed:
        from fl_he import simulation

        metrics = simulation.run(
            config, folder, followed.on_round, followed.on_hop, followed.on_start
        )
    _show(metrics, folder)
    typer.echo(f"report: {from_here(folder / REPORT)}")
    return metrics


def _steps(config: Config) -> int:
    """Return how many hops CaPC takes without hidden layers; docs/capc.md counts them."""
    batch = 12 if config.capc.threshold is None else 14
    return 2 + batch * len(config.capc.querying)


def _show(metrics: dict[str, Any], folder: Path) -> None:
    from fl_he.terminal.show import show_run

    warning = show_run(metrics, folder)
    if warning:
        typer.echo(f"fl-he: warning: {warning}", err=True)


def _explain(error: Exception) -> bool:
    """Print an error that fl-he raised on purpose as one line; leave others their traceback."""
    ours = _is_ours(type(error))
    if ours:
        typer.echo(f"fl-he: {error}", err=True)
    return ours


def _is_ours(kind: type) -> bool:
    return issubclass(kind, FlHeError | FlHeWarning)


def _format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Print fl-he's warnings as one line too, without a place in its source."""
    if _is_ours(category):
        return f"fl-he: warning: {message}\n"
    return _format_other_warning(message, category, filename, lineno, line)


if __name__ == "__main__":
    main()
