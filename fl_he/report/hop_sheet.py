"""The hops of a run: who was asked, how often, and how long the answer took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from fl_he.report.blocks import Block, Note, Row, Sheet
from fl_he.report.figures import count, seconds

#: Nodes that the table lists; of more, the slowest.
_ROWS = 25


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
    rows = [
        Row(
            (
                node,
                count(len(times[node])),
                seconds(median(times[node])),
                seconds(max(times[node])),
                count(failed[node]),
            )
        )
        for node in sorted(slowest[:_ROWS])
    ]
    blocks: list[Block] = [
        Sheet(
            "Hops: seconds from a message to its answer",
            ("node", "hops", "median", "longest", "failed"),
            rows,
        )
    ]
    if len(times) > _ROWS:
        blocks.append(Note(f"The {_ROWS} slowest of {len(times)} nodes."))
    return blocks
