"""Round by round: curves, who was skipped, and how long each node took to answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from fl_he.report.blocks import Block, Charts, Note, Points, Row, Section, Sheet
from fl_he.report.figures import count, seconds
from fl_he.report.page.charts import bar_chart, line_chart
from fl_he.report.plots import Curve, quality_curves
from fl_he.run_files.convergence import unsought_separation
from fl_he.run_files.metrics import Metrics

#: Nodes that the table lists; of more, the slowest.
_SLOWEST = 25


def hops(rounds: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return the table of hops; nothing of a run of an earlier release, which kept none.

    Parameters
    ----------
    rounds : sequence of mapping
        Entries of ``rounds`` in metrics.json.
    """
    times: dict[str, list[float]] = defaultdict(list)
    failed: dict[str, int] = defaultdict(int)
    for entry in rounds:
        for hop in entry.get("hops", ()):
            times[hop["node"]].append(hop["seconds"])
            failed[hop["node"]] += hop["failed"]
    if not times:
        return []
    slowest = sorted(times, key=lambda node: -max(times[node]))
    rows = []
    for node in sorted(slowest[:_SLOWEST]):
        figures = (seconds(median(times[node])), seconds(max(times[node])))
        rows.append(Row((node, count(len(times[node])), *figures, count(failed[node]))))
    headings = ("node", "hops", "median", "longest", "failed")
    blocks: list[Block] = [Sheet("Hops: seconds from a message to its answer", headings, rows)]
    if len(times) > _SLOWEST:
        blocks.append(Note(f"The {_SLOWEST} slowest of {len(times)} nodes."))
    return blocks


def round_by_round(metrics: Metrics) -> Section:
    """Return the section of a training run's rounds."""
    rounds = metrics["rounds"]
    places = [entry["round"] for entry in rounds]
    norms = Curve("before the step", [entry.get("gradient_norm") for entry in rounds], 1)
    times = Curve("wall time", [entry["seconds"] for entry in rounds], 1)
    drawn = [
        *(line_chart(title, places, curves) for title, curves in quality_curves(metrics).items()),
        line_chart("Norm of the gradient", places, [norms], logarithmic=True),
        bar_chart("Seconds per round", places, [times]),
    ]
    blocks: list[Block] = [Charts([chart for chart in drawn if chart is not None])]
    if rounds[-1].get("converged"):
        said = "Training converged: the last step was within the tolerance"
        if unsought_separation(metrics):
            said += ", which does not show that the optimum is finite"
        blocks.append(Note(f"{said}."))
    skipped = [
        f"round {entry['round']}: without {', '.join(map(str, entry['skipped']))}"
        for entry in rounds
        if entry.get("skipped")
    ]
    if skipped:
        blocks += [Note("Hospitals that were asked and are not in the total:"), Points(skipped)]
    return Section("Round by round", blocks)
