"""The federated model at each site of a simulation whose files or column name the sites."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from fl_he.report.blocks import Row
from fl_he.report.figures import count, decimal
from fl_he.report.tables.fitted import keep_whole
from fl_he.run_files.metrics import Metrics

COLUMNS = ("rows", "ROC AUC", "log loss", "Brier score", "came true", "mean forecast")
_KEYS = ("roc_auc", "log_loss", "brier_score", "observed", "predicted")
#: Sites that a table lists one by one; the others are counted.
_ROWS = 50


def site_rows(metrics: Metrics) -> list[Row]:
    """Return a row for each site, its name first and a cell for each of `COLUMNS`."""
    sites = metrics.get("sites") or []
    rows = [
        Row((one["hospital"], count(one["examples"]), *(decimal(one[key]) for key in _KEYS)))
        for one in sites[:_ROWS]
    ]
    if len(sites) > _ROWS:
        rows.append(Row((f"... {len(sites) - _ROWS} more",)))
    return rows


def sites_caption(metrics: Metrics) -> str:
    """Say of which rows the figures are."""
    held_out = {one["held_out"] for one in metrics.get("sites") or []}
    if held_out == {True}:
        return "The federated model at each site, on the rows that the site holds out"
    if held_out == {False}:
        return "The federated model at each site, on the rows that it was trained on"
    return (
        "The federated model at each site, on the rows that the site holds out, or on its training "
        "rows where it has too few"
    )


def sites_table(metrics: Metrics) -> Table | None:
    """Return the table for the terminal; None for hospitals that nobody named."""
    rows = site_rows(metrics)
    if not rows:
        return None
    table = Table(title=Text(sites_caption(metrics)))
    table.add_column("site", overflow="fold")
    for heading in COLUMNS:
        table.add_column(heading.replace(" ", "\n"), justify="right")
    for row in rows:
        name, *cells = row.cells
        table.add_row(Text(name), *cells)
    keep_whole(table, range(1, 1 + len(COLUMNS)))
    return table
