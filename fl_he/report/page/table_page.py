"""The page of a run that made a table of descriptive statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from fl_he.report.blocks import Charts, Facts, Note, Page, Points, Row, Section, Sheet
from fl_he.report.figures import count, data_name, encryption, seconds, size
from fl_he.report.page.charts import survival_chart
from fl_he.report.page.run_page import configuration, versions
from fl_he.report.plots import Curve
from fl_he.report.tables.table1 import headings, notes, rows
from fl_he.run_files.metrics import Metrics

_SIMULATION = (
    "This run was a simulation. All of its nodes shared one machine and one user, so it separated "
    "nobody: the table is of nodes that each have their own machine."
)


_ON_THE_GRID = (
    "A time counts as the first of the declared grid that is not earlier, so curves step at the "
    "grid's times alone. Times are merged into the next one where a group would have few events "
    "or withdrawals."
)
#: Times in the table of numbers at risk.
_COLUMNS = 8


def table_page(metrics: Metrics) -> Page:
    """Return the page of a table of descriptive statistics."""
    config, table = metrics["config"], metrics["table"]
    return Page(
        title=f"Table 1 of {data_name(config)}, {count(metrics['hospitals'])} hospitals",
        subtitle=f"Descriptive statistics from one encrypted sum, {encryption(metrics)}",
        tiles={"rows": count(table["rows"]), "hospitals": count(metrics["hospitals"])},
        notes=[Note(_SIMULATION, warning=True)] if metrics["simulated"] else [],
        sections=[
            _table(metrics),
            *_curves(metrics),
            _visibility(metrics),
            _cost(metrics),
            configuration(metrics, without=("capc.",)),
            versions(metrics),
        ],
    )


def _table(metrics: Metrics) -> Section:
    name, *others = headings(metrics)
    cells = [Row(row) for row in rows(metrics)]
    sheet = Sheet("Descriptive statistics", (name, *others), cells)
    return Section("Table 1", [sheet, Points(notes(metrics))])


def _curves(metrics: Metrics) -> list[Section]:
    """Draw the Kaplan-Meier curves of the groups, or of all rows without groups."""
    table, found = metrics["table"], metrics["table"]["survival"]
    if found is None:
        return []
    whole, *groups = found["curves"]
    names, curves = (table["groups"], groups) if groups else (["all rows"], [whole])
    pairs = enumerate(zip(names, curves, strict=True), start=1)
    drawn = [Curve(name, curve["survival"], series) for series, (name, curve) in pairs]
    chart = survival_chart("Survival by Kaplan-Meier", found["times"], drawn)
    if chart is None:
        return []
    at_risk = _at_risk(names, curves, found["times"])
    return [Section("Survival", [Charts([chart]), at_risk, Note(_ON_THE_GRID)])]


def _at_risk(
    names: Sequence[str], curves: Sequence[Mapping[str, Any]], times: Sequence[float]
) -> Sheet:
    """Return numbers at risk and, in parentheses, events until then, at a few times."""
    step = -(-len(times) // _COLUMNS)
    shown = range(step - 1, len(times), step)
    rows = []
    for name, curve in zip(names, curves, strict=True):
        events = list(accumulate(curve["events"]))
        cells = (f"{count(curve['at_risk'][place])} ({count(events[place])})" for place in shown)
        rows.append(Row((name, *cells)))
    caption = "Number at risk at a time (events up to and including it)"
    return Sheet(caption, ("", *(f"{times[place]:g}" for place in shown)), rows)


def _visibility(metrics: Metrics) -> Section:
    cell = metrics["table"]["min_cell"]
    known = (
        ("that hospital", "yes", "through the table", "yes"),
        ("another hospital", "no", "through the table", "if it is told"),
        ("coordinator", "no: ciphertexts only", "no", "yes"),
        ("company X", "no, unless it colludes", "yes", "yes"),
    )
    columns = ("", "one hospital's counts", "counts of all hospitals", "the table")
    sheet = Sheet("By role", columns, [Row(row) for row in known], text=True)
    if metrics["privacy"]:
        noisy = (
            "Counts have noise, and none is withheld. The number of rows of a hospital is public."
        )
        return Section("Who could see what", [sheet, Note(noisy)])
    note = (
        f"No count of 1 to {cell - 1} rows can be solved for from the table: company X merges or "
        "withholds cells by its own min-cell. A hospital that takes part can subtract its own "
        "counts, and what is left may be fewer. Means and deviations are exact. A column of "
        "numbers with few different values, without bounds, can tell how often each occurs: "
        "declare it a category, or its bounds with type integer."
    )
    return Section("Who could see what", [sheet, Note(note)])


def _cost(metrics: Metrics) -> Section:
    crypto = metrics["crypto"]
    facts = {
        "seconds in all": seconds(metrics["seconds"]),
        "data sent": size(metrics["bytes_sent"]),
        "one update": size(crypto["bytes_per_update"]),
        "ciphertexts in one update": count(crypto["ciphertexts_per_update"]),
    }
    return Section("Cost of the encryption", [Facts(facts)])
