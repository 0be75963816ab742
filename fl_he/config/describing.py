"""Rules between the settings of a table of descriptive statistics and all others."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fl_he.config.groups import DescribeConfig
from fl_he.config.run import Config
from fl_he.errors import written


def describing(config: Config) -> Iterator[str]:
    """Yield what does not go together with a table; see `fl_he.config.rules`."""
    describe = config.describe
    if not describe.enabled:
        for key, value in vars(describe).items():
            if value != getattr(DescribeConfig(), key):
                yield (
                    f"describe.{key} must come with describe.enabled=true (experiment=table1), got "
                    f"{written(value)} without"
                )
        return
    refused = (
        ("capc.enabled", config.capc.enabled, "false", "CaPC has no table"),
        ("test_size", config.test_size > 0, "0", "a table is of all rows"),
        ("evaluate", config.evaluate, "false", "a table has no model"),
        ("sealed", config.sealed, "false", "company X gives the table to the coordinator"),
        ("resume", config.resume is not None, "null", "a table is one sum: start a new run"),
        (
            *("plan", config.plan is not None and config.privacy.name != "none", "null"),
            "a study plan has no table under privacy",
        ),
    )
    for setting, wrong, right, why in refused:
        if wrong:
            yield f"{setting} must be {right} with describe.enabled=true: {why}"
    if len(set(describe.columns)) < len(describe.columns):
        yield "describe.columns must name no column twice"
    if describe.by in describe.columns:
        yield f"describe.columns must not name describe.by, {describe.by!r}"
    grid = describe.grid
    if not all(0.0 < time < math.inf for time in grid) or grid != sorted(set(grid)):
        yield f"describe.grid must be times above 0 that ascend, got {written(grid)}"
