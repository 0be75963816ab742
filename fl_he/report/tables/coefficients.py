"""The coefficients of a logistic model as a statistician expects them."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from fl_he.report.figures import known, short
from fl_he.run_files.metrics import Metrics

_NAME_WIDTH = 10


def coefficient_table(metrics: Metrics) -> Table | None:
    """List the coefficients of a logistic model as a statistician expects them.

    Returns
    -------
    rich.table.Table or None
        ``None`` where there is nothing to say beside model.json: no standard error is known.
    """
    inference = metrics.get("inference")
    if inference is None or not known(inference["coefficients"], "standard_error"):
        return None
    penalty = ", penalised" if inference["penalised"] else ""
    caption = (
        "odds ratio: of one standard deviation more, if features are scaled; "
        "(intercept): the odds where all features are 0"
    )
    if metrics["rounds"][-1].get("converged") is False:
        caption += "\ntraining ended before it converged: more rounds change these figures"
    table = Table(
        title=Text(f"Coefficients in the tables' units{penalty}"),
        caption=caption,
        box=SIMPLE,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("feature", overflow="fold", min_width=_NAME_WIDTH)
    for heading in (
        "estimate",
        "std. err.",
        "p",
        "odds ratio",
        f"{inference['level']:.0%} interval",
    ):
        table.add_column(heading, justify="right")
    for row in inference["coefficients"]:
        keys = ("estimate", "standard_error", "p_value", "odds_ratio")
        bounds = [row["odds_ratio_lower"], row["odds_ratio_upper"]]
        table.add_row(
            Text(row["name"]),
            *(short(row[key]) for key in keys),
            "" if None in bounds else ", ".join(map(short, bounds)),
        )
    return table
