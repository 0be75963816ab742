"""The ``fl-he`` command.

Each command imports what it needs when it runs: Hydra, Flower and Ray take seconds to load.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fl_he.commands.agree import agree
from fl_he.commands.enroll import enroll
from fl_he.commands.federation import federation, show
from fl_he.commands.keygen import keygen
from fl_he.commands.predict import export, predict

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from fl_he.config import Config

app = typer.Typer(
    name="fl-he",
    help="Encrypted federated learning: hospitals train one model, nobody sees an update.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    suggest_commands=False,  # Click makes the same suggestion
)

for command in (keygen, enroll, federation, agree, show, predict, export):
    app.command()(command)

_format_other_warning = warnings.formatwarning


def main() -> None:
    """Run the command line."""
    app()


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from fl_he import __version__

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
    signal.signal(signal.SIGINT, lambda *_: _end_at_once())  # the imports take seconds
    from fl_he.config import ConfigError
    from fl_he.jobs import abandon, run_jobs

    finished: dict[Path, dict[str, Any]] = {}

    def simulate(config: Config, folder: Path) -> None:
        finished[folder] = _simulate(config, folder)

    warnings.formatwarning = _format_warning
    signal.signal(signal.SIGINT, lambda *_: _end_at_once(abandon))
    try:
        jobs = run_jobs(simulate, arguments or [], _explain)
    except ConfigError as error:
        _explain(error)
        raise typer.Exit(1) from None
    if len(jobs) > 1:
        _show_all([(job.overrides, job.folder, finished.get(job.folder)) for job in jobs])
    if not all(job.succeeded for job in jobs):
        raise typer.Exit(1)


@app.command("report")
def _report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="What `fl-he run` wrote: a run, or a sweep."),
    ],
) -> None:
    """Print the tables of finished runs and draw their comparison.png again."""
    from fl_he.capc_report import write_plot as write_capc
    from fl_he.metrics_file import CAPC, MetricsError, read_metrics, run_folders
    from fl_he.report.rounds_plot import write_plot
    from fl_he.report.sweep_table import differences

    succeeded = True
    for folder in folders:
        shown: dict[Path, dict[str, Any]] = {}
        for run in run_folders(folder):
            try:
                shown[run] = read_metrics(run)
                _show(shown[run], run)
                draw = write_capc if shown[run].get("protocol") == CAPC else write_plot
                draw(run, shown[run])
            except MetricsError as error:
                succeeded = not _explain(error)
            except OSError:
                typer.echo(f"fl-he: {run} must be writable to draw comparison.png", err=True)
                succeeded = False
        if len(shown) > 1:
            settings = differences([metrics["config"] for metrics in shown.values()])
            _show_all(list(zip(settings, shown, shown.values(), strict=True)))
    if not succeeded:
        raise typer.Exit(1)


@app.command("bench")
def _bench(
    sections: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[kernel|federation|hospitals|capc]...", help="All if none is named."
        ),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer cases and runs; ends within a minute.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = Path("bench.json"),
) -> None:
    """Measure what encryption costs on this machine, beside the alternatives."""
    from rich.console import Console

    from fl_he.bench.command import run_bench

    signal.signal(signal.SIGINT, lambda *_: _end_at_once())
    try:
        run_bench(sections or [], quick=quick, out=out, console=Console())
    except ValueError as error:
        if not _explain(error):
            raise
        raise typer.Exit(1) from None


def _end_at_once(clean_up: Callable[[], None] = lambda: None) -> None:
    """End the process at Ctrl-C without unwinding, but for one last thing to do.

    Flower's threads may wait for Ray for ever once it is gone, and some of Ray's processes outlive
    their parent by half a minute. Files are written under another name first, so none is left
    half done.
    """
    import psutil

    ourselves = psutil.Process()
    # Stopped before they are killed: Ray starts what has ended again.
    for end in (psutil.Process.suspend, psutil.Process.kill):
        for child in ourselves.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                end(child)
    clean_up()
    show_cursor = "\x1b[?25h\n" if sys.stderr.isatty() else ""
    os.write(2, f"{show_cursor}fl-he: interrupted\n".encode())
    os._exit(130)


def _simulate(config: Config, folder: Path) -> dict[str, Any]:
    from rich.console import Console

    from fl_he.progress import follow_rounds, follow_steps

    follow = (
        follow_steps(Console(), config.hospitals)
        if config.capc.enabled
        else follow_rounds(Console(), config.hospitals, config.rounds)
    )
    with follow as on_round:
        from fl_he import simulation

        metrics = simulation.run(config, folder, on_round)
    _show(metrics, folder)
    return metrics


def _show(metrics: dict[str, Any], folder: Path) -> None:
    from fl_he import divergence
    from fl_he.capc_report import answers_table, steps_table
    from fl_he.metrics_file import CAPC
    from fl_he.report.coefficient_table import coefficient_table
    from fl_he.report.comparison_table import comparison_table
    from fl_he.report.cost_table import cost_table
    from fl_he.report.privacy_table import privacy_table

    if metrics.get("protocol") == CAPC:
        _print(answers_table(metrics), steps_table(metrics))
        typer.echo(f"run folder: {_from_here(folder)}")
        return
    tables = [
        comparison_table(metrics),
        privacy_table(metrics),
        coefficient_table(metrics),
        cost_table(metrics),
    ]
    _print(*(table for table in tables if table is not None))
    typer.echo(f"run folder: {_from_here(folder)}")
    if evaluation := metrics.get("evaluation"):
        typer.echo(
            f"calibration error {evaluation['calibration_error']:.3f} over "
            f"{evaluation['examples']} held-out examples of {evaluation['hospitals']} hospitals"
        )
    diverges = divergence.hint(metrics["rounds"])
    if diverges:
        typer.echo(f"fl-he: warning: {diverges}", err=True)


def _show_all(runs: list[tuple[tuple[str, ...], Path, dict[str, Any] | None]]) -> None:
    from fl_he.report.sweep_plot import write_sweep_plot
    from fl_he.report.sweep_table import SweepRow, sweep_table

    rows = [
        SweepRow(settings, folder.name if folder.exists() else "", metrics)
        for settings, folder, metrics in runs
    ]
    _print(sweep_table(rows))
    folder = runs[0][1].parent
    if folder.is_dir() and all(run[1].parent == folder for run in runs):
        with contextlib.suppress(OSError):
            write_sweep_plot(folder, rows)
    typer.echo(f"sweep folder: {_from_here(folder)}")


def _print(*tables: RenderableType) -> None:
    """Print tables; where a line is too long for the terminal, let it wrap rather than be cut."""
    from rich.console import Console

    Console().print(*tables, sep="\n", crop=False)


def _from_here(folder: Path) -> Path:
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def _explain(error: Exception) -> bool:
    """Print an error that fl-he raised on purpose as one line; leave others their traceback."""
    ours = isinstance(error, ValueError) and _is_ours(type(error))
    if ours:
        typer.echo(f"fl-he: {error}", err=True)
    return ours


def _is_ours(kind: type) -> bool:
    return any(base.__module__.partition(".")[0] == "fl_he" for base in kind.__mro__)


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
