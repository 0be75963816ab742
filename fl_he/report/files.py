"""The files of a run that show its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fl_he.atomic import replace_file
from fl_he.report.page.write import write_page
from fl_he.report.plots import write_plot
from fl_he.run_files.metrics import Metrics, write_metrics
from fl_he.run_files.metrics_contract import CAPC


def write_run(folder: Path, metrics: Metrics, model_json: str | None = None) -> dict[str, Any]:
    """Write metrics.json, model.json if there is one, and the files that show the run.

    Parameters
    ----------
    folder : Path
        The run's folder; made if it does not exist.
    metrics : mapping
        By the contract in :mod:`fl_he.run_files.metrics`. A number that is not finite becomes null.
    model_json : str or None
        The text of model.json.

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
    draw_run(folder, written)
    return written


def draw_run(folder: Path, metrics: Metrics, page: Path | None = None) -> Path:
    """Write the page of a run and, unless nobody knows what it shows, comparison.png.

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
    """
    if metrics.get("protocol") != CAPC and not metrics["config"].get("sealed"):
        write_plot(folder, metrics)
    return write_page(folder, metrics, page)
