"""What a run of CaPC shows: its tables, and capc.png."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from fl_he.atomic import replace_file
from fl_he.report.page.capc_page import analysis_note

PLOT = "capc.png"
_BEFORE, _AFTER = "#D55E00", "#0072B2"
_PLAIN = "WITHOUT ENCRYPTION (backend=plain)"


def answers_table(metrics: Mapping[str, Any]) -> Table:
    """Tell what each querying party got, and what it was good for on the held-out test set."""
    privacy = metrics["privacy"]
    if privacy["epsilon"] is None:
        spent = "no differential privacy: what is released is not noisy"
    else:
        spent = (
            f"epsilon {privacy['epsilon']:.3f} at delta {privacy['delta']:g} for each answering "
            f"party's patients, over {privacy['queries']} queries, all counted as answered"
        )
    if by_votes := analysis_note(metrics):
        spent = f"{spent}\n{by_votes}"
    table = Table(title=Text(f"CaPC{_how(metrics)}"), caption=Text(spent))
    table.add_column("querying party", overflow="fold", min_width=10)
    for heading in ("answered", "labels\nright", "accuracy", "balanced\naccuracy"):
        table.add_column(heading, justify="right")
    for result in metrics["querying"]:
        # what a deployed party does not tell
        before, after = result["before"] or {}, result["after"] or {}
        answered = "?" if result["answered"] is None else result["answered"]
        table.add_row(
            Text(result["party"]),
            f"{answered} of {result['queries']}",
            _share(result["label_accuracy"]),
            f"{_share(before.get('accuracy'))} > {_share(after.get('accuracy'))}",
            f"{_share(before.get('balanced_accuracy'))} > {_share(after.get('balanced_accuracy'))}",
        )
    return table


def steps_table(metrics: Mapping[str, Any]) -> Table:
    """Tell what each step cost."""
    table = Table(title="What the protocol cost", caption=f"{metrics['seconds']:.1f} s in all")
    table.add_column("step")
    for heading in ("hops", "seconds", "CPU seconds\nof all nodes", "bytes"):
        table.add_column(heading, justify="right")
    for step in metrics["steps"]:
        table.add_row(
            Text(step["step"].removeprefix("query.capc_")),
            str(step["hops"]),
            f"{step['seconds']:.2f}",
            f"{step['node_seconds']:.2f}",
            f"{step['bytes_sent']:,}",
        )
    return table


def write_plot(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Draw capc.png: each class's accuracy before and after, for each querying party.

    There is nothing to draw of deployed parties, which tell nobody.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - a second to import

    results = [result for result in metrics["querying"] if result["before"] is not None]
    if metrics["querying"] and not results:
        return
    figure = Figure(figsize=(7.0, 1.0 + 2.4 * max(len(results), 1)), layout="constrained")
    figure.suptitle(f"Accuracy on the held-out test set{_how(metrics)}")
    for row, result in enumerate(results):
        axes = figure.add_subplot(len(results), 1, row + 1)
        for shift, name, colour in ((-0.2, "before", _BEFORE), (0.2, "after", _AFTER)):
            shares = [value or 0.0 for value in result[name]["per_class_accuracy"]]
            places = [label + shift for label in range(len(shares))]
            axes.bar(places, shares, width=0.38, color=colour, label=name)
        axes.set_title(f"{result['party']}: {result['answered']} of {result['queries']} answered")
        axes.set_xlabel("class")
        axes.set_ylabel("accuracy")
        axes.set_ylim(0.0, 1.0)
        axes.set_xticks(range(len(result["before"]["per_class_accuracy"])))
        axes.legend(loc="lower right")
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    replace_file(folder / PLOT, picture.getvalue())


def _how(metrics: Mapping[str, Any]) -> str:
    return "" if metrics["encrypted"] else f", {_PLAIN}"


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
