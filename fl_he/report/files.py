"""Files that show runs: report.html, comparison.png or a table; comparison.html of several runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fl_he.atomic import replace_file, require_own
from fl_he.report.blocks import Page
from fl_he.report.page.capc_page import capc_page
from fl_he.report.page.html import render
from fl_he.report.page.run_page import run_page
from fl_he.report.page.sweep_page import sweep_page
from fl_he.report.page.table_page import table_page
from fl_he.report.page.text import COLUMNS, MARK
from fl_he.report.page.text import as_csv as as_text_table
from fl_he.report.page.text import as_markdown as as_text
from fl_he.report.plots import write_plot
from fl_he.report.tables.sweep import SweepRow
from fl_he.report.tables.table1 import as_csv, as_markdown
from fl_he.run_files.metrics import Metrics, write_metrics
from fl_he.run_files.metrics_contract import CAPC, TABLE

REPORT = "report.html"
COMPARISON = "comparison.html"
#: Ends the title of every page, see its template.
_MARK = b" - fl-he report</title>"


def write_run(
    folder: Path,
    metrics: Metrics,
    model_json: str | None = None,
    draw: Callable[[Path, Metrics], object] | None = None,
) -> dict[str, Any]:
    """Write metrics.json, model.json if there is one, and the files that show the run.

    Parameters
    ----------
    folder : Path
        The run's folder; made if it does not exist.
    metrics : mapping
        By the contract in :mod:`fl_he.run_files.metrics`. A number that is not finite becomes null.
    model_json : str or None
        The text of model.json.
    draw : callable, optional
        Called in the place of `draw_run`.

    Returns
    -------
    dict
        What metrics.json holds.

    Raises
    ------
    MetricsError
        If `metrics` break the contract; then nothing is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = write_metrics(folder, metrics)
    if model_json is not None:
        replace_file(folder / "model.json", model_json.encode())
    (draw or draw_run)(folder, written)
    return written


def draw_run(folder: Path, metrics: Metrics, page: Path | None = None) -> Path:
    """Write the page of a run and, unless nobody knows what it shows, comparison.png.

    A table of descriptive statistics is written as CSV and as Markdown.

    Parameters
    ----------
    folder : Path
        The run's folder; must exist.
    metrics : Metrics
    page : Path or None
        The page's file; None for report.html in the folder.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    FileExistsError
        If there is something else in the place of the page or of comparison.png; table1.csv and
        table1.md are replaced.
    """
    if metrics.get("protocol") == TABLE:
        replace_file(folder / "table1.csv", as_csv(metrics).encode())
        replace_file(folder / "table1.md", as_markdown(metrics).encode())
    elif metrics.get("protocol") != CAPC and not metrics["config"].get("sealed"):
        write_plot(folder, metrics)
    return write_page(folder, metrics, page)


def write_page(folder: Path, metrics: Metrics, path: Path | None = None) -> Path:
    """Write the page of a run alone; see `draw_run`."""
    path = folder / REPORT if path is None else path
    _replace_page(path, page_of(metrics))
    return path


def page_of(metrics: Metrics) -> Page:
    """Return the page of a run of any protocol."""
    make = {CAPC: capc_page, TABLE: table_page}.get(metrics.get("protocol", ""), run_page)
    return make(metrics)


def write_text(runs: Mapping[str, Metrics], kind: str, path: Path | None) -> None:
    """Write the reports of runs as text.

    Parameters
    ----------
    runs : mapping of str to Metrics
        By the run's name.
    kind : str
        ``md`` or ``csv``.
    path : Path or None
        The file, which may be there if fl-he made it as this kind; None for standard output.

    Raises
    ------
    FileExistsError
        If there is something else in the file's place.
    """
    pages = {name: page_of(metrics) for name, metrics in runs.items()}
    text = as_text_table(pages) if kind == "csv" else as_text(list(pages.values()))
    if path is None:
        sys.stdout.write(text)
        return
    require_own(path, (",".join(COLUMNS) if kind == "csv" else MARK).encode())
    replace_file(path, text.encode())


def write_comparison(path: Path, rows: Sequence[SweepRow], folders: Sequence[Path]) -> None:
    """Write the page that compares several runs.

    Parameters
    ----------
    path : Path
        The file; its folder must exist.
    rows : sequence of SweepRow
    folders : sequence of Path
        Of the runs, in which their own pages are.
    """
    links = [_link(path, folder / REPORT) for folder in folders]
    _replace_page(path, sweep_page(rows, links))


def _replace_page(path: Path, page: Page) -> None:
    require_own(path, _MARK)
    replace_file(path, render(page).encode())


def _link(page: Path, target: Path) -> str:
    if not target.is_file():
        return ""
    return quote(Path(os.path.relpath(target.resolve(), page.resolve().parent)).as_posix())
