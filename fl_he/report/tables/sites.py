"""The federated model at each site of a simulation whose files or column name the sites."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from fl_he.report.blocks import Row
from fl_he.report.figures import count, decimal, of_number
from fl_he.report.tables.fitted import keep_whole
from fl_he.run_files.metrics import Metrics

_COLUMNS = {
    "roc_auc": "ROC AUC",
    "log_loss": "log loss",
    "brier_score": "Brier score",
    "observed": "observed share",
    "predicted": "mean predicted probability",
}
#: The same of a model of a number.
_OF_NUMBER = {"observed": "mean observed outcome", "predicted": "mean predicted outcome"}
#: Sites that a table lists one by one; the others are counted.
_ROWS = 50


def site_columns(metrics: Metrics) -> list[str]:
    """Return the headings of the table after the site's name."""
    return ["rows", *(_OF_NUMBER if of_number(metrics) else _COLUMNS).values()]


def site_rows(metrics: Metrics) -> list[Row]:
    """Return a row for each site, its name first and a cell for each of `site_columns`."""
    sites, keys = metrics.get("sites") or [], _OF_NUMBER if of_number(metrics) else _COLUMNS
    rows = [
        Row((one["hospital"], count(one["examples"]), *(decimal(one[key]) for key in keys)))
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
    headings = site_columns(metrics)
    for heading in headings:
        table.add_column(heading.replace(" ", "\n"), justify="right")
    for row in rows:
        name, *cells = row.cells
        table.add_row(Text(name), *cells)
    keep_whole(table, range(1, 1 + len(headings)))
    return table
