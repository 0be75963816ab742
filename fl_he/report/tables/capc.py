"""Tables of a run of CaPC, and the texts that they share with its page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from fl_he.report.figures import count, decimal, others_of, seconds, size
from fl_he.run_files.metrics import Metrics

_PLAIN = "WITHOUT ENCRYPTION (backend=plain)"
#: Columns of `step_rows`.
STEP_COLUMNS = ("step", "hops", "seconds", "CPU seconds of all nodes", "data sent")


#: Columns of `label_rows`; the figures are of the test set, before and after.
LABEL_COLUMNS = ("querying party", "label", "balanced accuracy", "ROC AUC")


def quality(result: Mapping[str, Any], when: str, figure: str) -> str:
    """Write a figure of a querying party's model, which a deployed party tells nobody."""
    return decimal((result.get(when) or {}).get(figure))


def answered(result: Mapping[str, Any]) -> str:
    """Write how many of its queries a party got answers to."""
    known = result["answered"] is not None
    return f"{count(result['answered']) if known else '?'} of {count(result['queries'])}"


def analysis_note(metrics: Mapping[str, Any]) -> str | None:
    """Tell PATE's bound by the votes themselves; None where nobody knows them."""
    analysis = metrics.get("analysis")
    if analysis is None:
        return None
    return (
        f"for analysis only, NOT TO BE RELEASED: epsilon {analysis['epsilon_by_votes']:.3f} by the "
        "votes themselves (PATE's data-dependent bound), which tells something about them"
    )


def privacy_note(privacy: Mapping[str, Any]) -> str:
    """Tell the epsilon of the released labels for any votes."""
    if privacy["epsilon"] is None:
        return "no differential privacy: what is released is not noisy"
    return (
        f"epsilon {privacy['epsilon']:.3f} at delta {privacy['delta']:g} for each answering "
        f"party's patients, over {privacy['queries']} queries, all counted as answered"
    )


def masks_note(metrics: Metrics) -> str | None:
    """Say who must work together to learn one vote; None where votes have no pairwise masks."""
    masking = metrics.get("masked_votes")
    if not masking:
        return None
    return (
        "votes are masked pairwise: company X learns one only with "
        f"{others_of(masking, 'answering parties')}"
    )


def step_rows(metrics: Metrics) -> list[tuple[str, ...]]:
    """Write the cost of each step, in the order of `STEP_COLUMNS`."""
    return [
        (
            one["step"].removeprefix("query.capc_").replace("_", " "),
            count(one["hops"]),
            f"{one['seconds']:.2f}",
            seconds(one["node_seconds"], 2),
            size(one["bytes_sent"]),
        )
        for one in metrics["steps"]
    ]


def label_rows(metrics: Metrics) -> list[tuple[str, ...]]:
    """Write each label's figures of each querying party, in the order of `LABEL_COLUMNS`."""
    rows = []
    for result in metrics["querying"]:
        before, after = ((result.get(when) or {}).get("labels", []) for when in ("before", "after"))
        for old, new in zip(before, after, strict=False):
            changes = (
                f"{decimal(old[figure])} > {decimal(new[figure])}"
                for figure in ("balanced_accuracy", "roc_auc")
            )
            rows.append((result["party"], old["label"], *changes))
    return rows


def labels_table(metrics: Metrics) -> Table | None:
    """List the figures of each label; None where cases have one label."""
    rows = label_rows(metrics)
    if not rows:
        return None
    table = Table(title="Labels on the test set, before > after")
    for number, heading in enumerate(LABEL_COLUMNS):
        table.add_column(heading, justify="left" if number < 2 else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def answers_table(metrics: Metrics) -> Table:
    """List the answers to each querying party, and its model before and after on the test set."""
    spent = privacy_note(metrics["privacy"])
    if by_votes := analysis_note(metrics):
        spent = f"{spent}\n{by_votes}"
    if masks := masks_note(metrics):
        spent = f"{spent}\n{masks}"
    how = "" if metrics["encrypted"] else f", {_PLAIN}"
    table = Table(title=Text(f"CaPC{how}"), caption=Text(spent))
    table.add_column("querying party", overflow="fold", min_width=10)
    for heading in ("answered", "labels\nright", "accuracy", "balanced\naccuracy"):
        table.add_column(heading, justify="right")
    for result in metrics["querying"]:
        changes = (
            f"{quality(result, 'before', figure)} > {quality(result, 'after', figure)}"
            for figure in ("accuracy", "balanced_accuracy")
        )
        right = decimal(result["label_accuracy"])
        table.add_row(Text(result["party"]), answered(result), right, *changes)
    return table


def steps_table(metrics: Metrics) -> Table:
    """Tell what each step cost."""
    table = Table(title="What the protocol cost", caption=f"{metrics['seconds']:.1f} s in all")
    name, *figures = STEP_COLUMNS
    table.add_column(name)
    for heading in figures:
        table.add_column(heading.replace(" of ", "\nof "), justify="right")
    for step, *cells in step_rows(metrics):
        table.add_row(Text(step), *cells)
    return table
