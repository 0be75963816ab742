"""Tests of proportional hazards, on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fl_he.report.blocks import Row, Sheet
from fl_he.report.figures import count, fixed, p_value


def hazard_sheets(inference: Mapping[str, Any]) -> list[Sheet]:
    """Return the table of the tests of each feature and of all together, if there are any."""
    tests = inference.get("proportional")
    if not tests or not tests["features"]:
        return []
    several = len(tests["features"]) > 1
    rows = [*tests["features"], *([{**tests, "name": "all together"}] if several else [])]
    cells = [
        (row["name"], fixed(row["chi2"], 2), count(row["df"]), p_value(row["p_value"]))
        for row in rows
    ]
    title = "Test of proportional hazards (small p: hazard ratio changes with log(1 + time))"
    return [Sheet(title, ("feature", "chi-square", "df", "p"), list(map(Row, cells)))]


def hazard_notes(inference: Mapping[str, Any]) -> list[str]:
    """Say why tests are not there, if any of a time to an event are not."""
    if not (tests := inference.get("proportional")) or not (reason := tests.get("withheld")):
        return []
    which = "Not all tests" if tests["features"] else "No test"
    return [f"{which} of proportional hazards: {reason}."]
