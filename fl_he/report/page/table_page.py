"""The page of a run that made a table of descriptive statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from statistics import NormalDist
from typing import Any

from fl_he.report.blocks import Charts, Facts, Note, Page, Points, Row, Section, Sheet
from fl_he.report.figures import count, data_name, encryption, seconds, size
from fl_he.report.page.charts import Band, survival_chart
from fl_he.report.page.run_page import configuration, versions
from fl_he.report.plots import Curve
from fl_he.report.tables.table1 import headings, notes, remaining, rows
from fl_he.run_files.metrics import Metrics

_SIMULATION = (
    "This run was a simulation. All of its nodes shared one machine and one user, so it "
    "provided no isolation: the table is of nodes that each have their own machine."
)


_ON_THE_GRID = (
    "A time counts as the first of the declared grid that is not earlier, so curves step at the "
    "grid's times alone. Times are merged into the next one where a group would have few events "
    "or withdrawals. With exact times a curve lies between this one and the table's rows 'exact "
    "times: at least'; a finer grid narrows the difference."
)
_BANDS = (
    "Shaded: pointwise 95% intervals by Greenwood's standard error, on the scale of "
    "log(-log(survival)). They are of each time by itself, not of the whole curve."
)
#: More bands than these cannot be told apart.
_MOST_BANDS = 4
_DEVIATE = NormalDist().inv_cdf(0.975)
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
    bands = {name: survival_bands(curve) for name, curve in zip(names, curves, strict=True)}
    if metrics["privacy"] or len(curves) > _MOST_BANDS:  # noise is in no standard error
        bands = {}
    axis = table.get("time") or "time"
    chart = survival_chart("Survival by Kaplan-Meier", found["times"], drawn, bands, axis=axis)
    if chart is None:
        return []
    at_risk = _at_risk(names, curves, found["times"])
    said = [Note(_BANDS)] if bands else []
    return [Section("Survival", [Charts([chart]), at_risk, *said, Note(_ON_THE_GRID)])]


def survival_bands(curve: Mapping[str, Any]) -> list[Band | None]:
    """Return the pointwise 95% interval of survival at each time, by Greenwood's standard error.

    The interval is of ``log(-log(survival))``, so that its ends are between 0 and 1: Kalbfleisch
    and Prentice 2002, "The Statistical Analysis of Failure Time Data", section 1.4.1. Before the
    first event it is 1 alone, and once nobody survives it is unknown.

    Parameters
    ----------
    curve
        An entry of ``survival.curves`` in metrics.json.

    Examples
    --------
    >>> curve = {"survival": [0.5, 0.0], "standard_error": [0.1, None]}
    >>> (low, high), nobody = survival_bands(curve)
    >>> round(low, 4), round(high, 4), nobody
    (0.2952, 0.6745, None)
    """
    found: list[Band | None] = []
    for share, error in zip(curve["survival"], curve["standard_error"], strict=True):
        if share is None or error is None or not share > 0.0:
            found.append(None)
        elif share >= 1.0:
            found.append((1.0, 1.0))
        else:
            reach = _DEVIATE * error / (share * -math.log(share))
            found.append((share ** math.exp(reach), share ** math.exp(-reach)))
    return found


def _at_risk(
    names: Sequence[str], curves: Sequence[Mapping[str, Any]], times: Sequence[float]
) -> Sheet:
    """Return rows with a later time and, in parentheses, events until then, at a few times."""
    step = -(-len(times) // _COLUMNS)
    shown = range(step - 1, len(times), step)
    rows = []
    for name, curve in zip(names, curves, strict=True):
        events = list(accumulate(curve["events"]))
        cells = (f"{remaining(curve, place)} ({count(events[place])})" for place in shown)
        rows.append(Row((name, *cells)))
    caption = "Rows with a later time (events up to and including it)"
    return Sheet(caption, ("", *(f"{times[place]:g}" for place in shown)), rows)


def _visibility(metrics: Metrics) -> Section:
    cell = metrics["table"]["min_cell"]
    known = (
        ("that hospital", "yes", "through the table", "yes"),
        ("another hospital", "no, unless all others collude", "through the table", "if it is told"),
        ("coordinator", "no: ciphertexts only", "no", "yes"),
        ("company X", "no, unless it colludes with the coordinator", "yes", "yes"),
    )
    columns = ("", "one hospital's counts", "counts of all hospitals", "the table")
    sheet = Sheet("By role", columns, [Row(row) for row in known], text=True)
    if metrics["privacy"]:
        noisy = (
            "Counts have noise, and none is withheld. The number of rows of a hospital is public."
        )
        return Section("Who could see what", [sheet, Note(noisy)])
    note = (
        f"No count of 1 to {cell - 1} rows can be computed from the table: company X merges or "
        "withholds such cells (its setting min-cell). A hospital that takes part can subtract its "
        "own counts; the counts that remain may be smaller. Means and standard deviations are "
        "exact. If a column of numbers has few different values and no bounds, they show how often "
        "each value occurs: declare such a column as a category, or as an integer with bounds."
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
