"""Tests of proportional hazards, on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fl_he.report.blocks import Row, Sheet
from fl_he.report.figures import count, fixed, p_value


def hazard_sheets(inference: Mapping[str, Any]) -> list[Sheet]:
    """Return the table of the tests of each feature and of all together, if there are any."""
    if not (tests := inference.get("proportional")):
        return []
    several = len(tests["features"]) > 1
    rows = [*tests["features"], *([{**tests, "name": "all together"}] if several else [])]
    cells = [
        (row["name"], fixed(row["chi2"], 2), count(row["df"]), p_value(row["p_value"]))
        for row in rows
    ]
    title = "Proportional hazards: no trend in log(1 + time)"
    return [Sheet(title, ("feature", "chi-square", "df", "p"), list(map(Row, cells)))]
