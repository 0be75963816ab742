"""``fl-he report``: the tables and pages of finished runs, and their comparison."""
# ruff: noqa: PLC0415 - see the package

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from fl_he.terminal.errors import explain, tell


class Format(StrEnum):
    """Forms of a report."""

    html = "html"
    md = "md"
    csv = "csv"


def report(
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
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="html writes pages and plots; md and csv print the report, or write it to "
            "--output, and nothing else: csv has a line for each cell of its tables.",
        ),
    ] = Format.html,
) -> None:
    """Print the tables of finished runs, and write report.html and comparison.png of each again.

    FOLDER... are what `fl-he run` wrote: runs, or sweeps.

    Several runs are compared, in one more table and a page of its own.
    """
    from fl_he.report.files import draw_run, write_text
    from fl_he.report.tables.sweep import SweepRow, differences
    from fl_he.run_files.metrics import read_metrics, run_folders
    from fl_he.run_files.metrics_contract import MetricsError
    from fl_he.terminal.show import from_here, show_all, show_run

    runs: dict[Path, dict[str, Any]] = {}
    succeeded = True
    for run in dict.fromkeys(run for folder in folders for run in run_folders(folder)):
        try:
            runs[run] = read_metrics(run)
        except MetricsError as error:
            succeeded = not explain(error)
    if form != Format.html:
        succeeded &= _wrote(
            partial(write_text, dict(zip(map(str, runs), runs.values(), strict=True)), form, output)
        )
        raise typer.Exit(not succeeded)
    for run, metrics in runs.items():
        show_run(metrics, run)
        try:
            page = draw_run(run, metrics, None if len(runs) > 1 else output)
        except FileExistsError as error:
            succeeded = not explain(error)
        except OSError:
            tell(f"{run} must be writable to draw plots and report again")
            succeeded = False
        else:
            typer.echo(f"report: {from_here(page)}")
    if len(runs) > 1:
        settings = differences([metrics["config"] for metrics in runs.values()])
        rows = list(map(SweepRow, settings, map(str, runs), runs.values()))
        succeeded &= _wrote(partial(show_all, rows, output))
    if not succeeded:
        raise typer.Exit(1)


def _wrote(write: Callable[[], object]) -> bool:
    """Return whether a file could be written; say so if not."""
    try:
        write()
    except FileExistsError as error:
        return not explain(error)
    except OSError:
        tell("--output must be a file that can be written")
        return False
    return True
