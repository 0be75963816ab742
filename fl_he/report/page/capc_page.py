"""The page of a run of CaPC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fl_he.report.blocks import Block, Chart, Charts, Facts, Note, Page, Row, Section, Sheet
from fl_he.report.figures import count, data_name, decimal, known, seconds, short, size, total
from fl_he.report.page.charts import bar_chart
from fl_he.report.page.run_page import configuration, versions
from fl_he.report.plots import Curve
from fl_he.report.tables.capc import (
    LABEL_COLUMNS,
    STEP_COLUMNS,
    analysis_note,
    answered,
    label_rows,
    masks_note,
    quality,
    step_rows,
)
from fl_he.run_files.metrics import Metrics

_PLAIN = (
    "NOT ENCRYPTED. This run used backend=plain: one process computed the same votes in the open, "
    "for a study. Nothing was hidden from anybody, and its times say nothing of the protocol."
)
_SIMULATION = (
    "This run was a simulation: its nodes shared one machine and one user, and the querying "
    "party's labels were compared with the true ones, which only a simulation has."
)
_AFTER, _BEFORE = 1, 2


def capc_page(metrics: Metrics) -> Page:
    """Return the page of a run of CaPC."""
    config, encrypted = metrics["config"], metrics["encrypted"]
    return Page(
        title=f"CaPC on {data_name(config)}, {count(config.get('hospitals'))} parties",
        subtitle="Parties that label each other's cases"
        + (", encrypted" if encrypted else ", WITHOUT ENCRYPTION"),
        tiles=_tiles(metrics),
        notes=[] if encrypted else [Note(_PLAIN, warning=True)],
        sections=[
            _answers(metrics),
            _visibility(metrics),
            _privacy(metrics),
            _steps(metrics),
            configuration(metrics),
            versions(metrics),
        ],
    )


def _tiles(metrics: Metrics) -> dict[str, str]:
    results, privacy = metrics["querying"], metrics["privacy"]
    tiles = {"encryption": "yes" if metrics["encrypted"] else "NONE"}
    if results and results[0].get("after"):
        first = results[0]
        tiles[f"accuracy of {first['party']} before"] = quality(first, "before", "accuracy")
        tiles["and after"] = quality(first, "after", "accuracy")
    asked = count(sum(one["queries"] for one in results))
    if all(one["answered"] is not None for one in results):
        tiles["queries answered"] = f"{count(sum(one['answered'] for one in results))} of {asked}"
    else:
        tiles["queries"] = asked
    tiles["epsilon"] = "none" if privacy["epsilon"] is None else f"{privacy['epsilon']:.3g}"
    return tiles


def _answers(metrics: Metrics) -> Section:
    results = metrics["querying"]
    told = [one for one in results if one.get("before") and one.get("after")]
    if not told:
        rows = [Row((one["party"], count(one["queries"]))) for one in results]
        text = "A deployed party tells nobody which queries were answered, nor what it learned."
        sheet = Sheet("Querying parties", ("party", "queries"), rows)
        return Section("Queries", [sheet, Note(text)])
    rows = []
    for one in told:
        figures = [
            [quality(one, when, key) for key in ("accuracy", "balanced_accuracy")]
            for when in ("before", "after")
        ]
        rows.append(Row((f"{one['party']}, before", "", "", *figures[0])))
        right = decimal(one["label_accuracy"])
        rows.append(Row((f"{one['party']}, after", answered(one), right, *figures[1]), strong=True))
    headings = ("party", "answered", "labels right", "accuracy", "balanced accuracy")
    sheet = Sheet("Querying parties on the held-out test set", headings, rows)
    blocks: list[Block] = [sheet]
    if labels := [Row(row) for row in label_rows(metrics)]:
        title = "Labels on the held-out test set, before > after"
        blocks.append(Sheet(title, LABEL_COLUMNS, labels))
    charts = [chart for one in told if (chart := _by_class(one)) is not None]
    return Section("Before and after", [*blocks, Charts(charts)])


def _by_class(result: Mapping[str, Any]) -> Chart | None:
    before, after = (result[when]["per_class_accuracy"] for when in ("before", "after"))
    classes = min(len(before), len(after))
    return bar_chart(
        f"Accuracy by class of {result['party']}",
        list(range(classes)),
        [Curve("before", before[:classes], _BEFORE), Curve("after", after[:classes], _AFTER)],
        axis="class",
    )


def _visibility(metrics: Metrics) -> Section:
    if not metrics["encrypted"]:
        return Section("Who could see what", [Note(_PLAIN, warning=True)])
    layers = "no, but its layers' sizes"
    rows = (
        ("querying party", "yes", layers, "no", "no", "yes, or that there is none"),
        ("answering party", "no", "its own", "no, not even its own", "no", "no"),
        ("privacy guardian", "no", "no", "no", "no", "no, nor whether there is one"),
        ("coordinator", "no", layers, "no", "no", "no, nor whether there is one"),
    )
    objects = ("", "a query", "an answering model", "a vote", "the counts", "the label")
    table = Sheet("By role", objects, list(map(Row, rows)), text=True)
    masks = masks_note(metrics)
    together = ", and no two of querying party, answering party and guardian collude"
    if masks is not None:
        together = f"; {masks}, and the counts with the querying party"
    honest = f"All parties are taken to be honest but curious{together}. Sizes and times are plain."
    blocks: list[Block] = [table, Note(honest)]
    if any(one.get("before") for one in metrics["querying"]):
        blocks.insert(0, Note(_SIMULATION, warning=True))
    return Section("Who could see what", blocks)


def _privacy(metrics: Metrics) -> Section:
    privacy = metrics["privacy"]
    if privacy["epsilon"] is None:
        text = (
            "No differential privacy: what is released is not noisy, and nothing bounds what the "
            "labels say about one patient of an answering party."
        )
        return Section("Privacy of the patients", [Note(text)])
    facts = {
        "epsilon": f"{privacy['epsilon']:.4g} at delta {privacy['delta']:g}",
        "of whom": "each answering party's patients, one of whom changes one vote",
        "queries": f"{count(privacy['queries'])}, all counted as answered",
    }
    blocks: list[Block] = [Facts(facts)]
    if by_votes := analysis_note(metrics):
        blocks.append(Note(f"{by_votes[0].upper()}{by_votes[1:]}.", warning=True))
    return Section("Privacy of the patients", blocks)


def _steps(metrics: Metrics) -> Section:
    if not metrics["steps"]:
        text = f"No step was encrypted. The run took {short(metrics['seconds'])} seconds."
        return Section("Cost of the protocol", [Note(text)])
    rows = [Row(cells) for cells in step_rows(metrics)]
    steps = metrics["steps"]
    hops, wall, cpu, sent = (
        total(known(steps, key)) for key in ("hops", "seconds", "node_seconds", "bytes_sent")
    )
    totals = (count(hops), seconds(wall, 2), seconds(cpu, 2), size(sent))
    rows.append(Row(("all steps", *totals), strong=True))
    in_all = Note(f"{short(metrics['seconds'])} seconds in all.")
    return Section("Cost of the protocol", [Sheet("By step", STEP_COLUMNS, rows), in_all])
