"""Finished runs: tables on the terminal, plots and pages in their folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment

from fl_he.errors import visible
from fl_he.report.blocks import Page, Sheet
from fl_he.report.files import COMPARISON, write_comparison
from fl_he.report.tables.capc import answers_table, labels_table, steps_table
from fl_he.report.tables.coefficients import coefficient_table
from fl_he.report.tables.comparison import comparison_table, counted_text, withheld_note
from fl_he.report.tables.cost import cost_table
from fl_he.report.tables.diagnostics import findings_text
from fl_he.report.tables.fitted import DividedTable
from fl_he.report.tables.privacy import privacy_table
from fl_he.report.tables.sites import sites_table
from fl_he.report.tables.sweep import SweepRow, sweep_table
from fl_he.report.tables.table1 import table1
from fl_he.run_files.convergence import warnings
from fl_he.run_files.metrics_contract import CAPC, TABLE
from fl_he.terminal.errors import tell


def show_run(metrics: Mapping[str, Any], folder: Path) -> None:
    """Print a run's tables, its folder, and its warnings."""
    if metrics.get("protocol") == CAPC:
        _print(answers_table(metrics))
        if (labels := labels_table(metrics)) is not None:
            _print(labels)
        if metrics["steps"]:  # none without encryption
            _print(steps_table(metrics))
        typer.echo(f"run folder: {from_here(folder)}")
        return
    if metrics.get("protocol") == TABLE:
        _print(table1(metrics))
        typer.echo(f"run folder: {from_here(folder)}")
        return
    tables = [
        comparison_table(metrics),
        sites_table(metrics),
        privacy_table(metrics),
        findings_text(metrics),
        coefficient_table(metrics),
        cost_table(metrics),
    ]
    _print(*(table for table in tables if table is not None))
    typer.echo(f"run folder: {from_here(folder)}")
    if evaluation := metrics.get("evaluation"):
        typer.echo(counted_text(metrics))
        if withheld := withheld_note(evaluation):
            typer.echo(visible(withheld))
    for hint in warnings(metrics):
        tell(f"warning: {hint}")


def show_page(page: Page) -> None:
    """Print the notes and the tables of a page."""
    for line in (page.title, page.subtitle, *(note.text for note in page.notes)):
        typer.echo(visible(line))
    for section in page.sections:
        _print(*(DividedTable(block) for block in section.blocks if isinstance(block, Sheet)))


def show_all(runs: Sequence[SweepRow], path: Path | None = None) -> None:
    """Print the table that compares several runs and write the page that does.

    Parameters
    ----------
    runs : sequence of SweepRow
        At least one, with the paths of their folders.
    path : Path or None
        The page's file, None for comparison.html in the folder that holds all of the runs, or, if
        none does, in the current one.
    """
    folders = [Path(run.folder) for run in runs]
    parents = {run.parent for run in folders}
    together = len(parents) == 1
    folder = parents.pop() if together else Path()
    rows = [
        replace(row, folder=_name(run, together=together))
        for row, run in zip(runs, folders, strict=True)
    ]
    _print(sweep_table(rows))
    path = folder / COMPARISON if path is None else path
    if any(run.metrics is not None for run in runs):
        write_comparison(path, rows, folders)
        typer.echo(f"comparison: {from_here(path)}")
    if together:
        typer.echo(f"folder of the runs: {from_here(folder)}")


def from_here(path: Path) -> Path:
    """Return a path as seen from the current folder, if it is below it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _name(folder: Path, *, together: bool) -> str:
    if not folder.exists():
        return ""
    return folder.name if together else str(from_here(folder))


@dataclass(frozen=True, slots=True)
class _Visible:
    """A table whose texts, which may be others', control no terminal."""

    table: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table's segments: Rich calls this."""
        for text, style, control in console.render(self.table, options):
            yield Segment(visible(text), style, control)


def _print(*tables: RenderableType) -> None:
    """Print tables; where a line is too long for the terminal, let it wrap rather than be cut."""
    Console().print(*map(_Visible, tables), sep="\n", crop=False)
