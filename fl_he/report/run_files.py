"""The files of a run that show what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fl_he.atomic import replace_file
from fl_he.report.page.write import write_page
from fl_he.report.plots import write_plot
from fl_he.run_files.metrics import write_metrics


def write_run(folder: Path, metrics: Mapping[str, Any], model_json: str) -> None:
    """Write metrics.json, model.json, comparison.png and report.html, each at once or not at all.

    Parameters
    ----------
    folder : Path
        The run's folder; made if it does not exist.
    metrics : mapping
        By the contract in :mod:`fl_he.run_files.metrics`. A number that is not finite becomes null.
    model_json : str
        The text of model.json.

    Raises
    ------
    MetricsError
        If `metrics` break the contract; then nothing is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = write_metrics(folder, metrics)
    replace_file(folder / "model.json", model_json.encode())
    write_plot(folder, written)
    write_page(folder, written)
