"""The app of docs/kaplan-meier.md runs, and its curve is that of the pooled patients."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from local_grid import LocalGrid, simulated_nodes
from statsmodels.duration.survfunc import SurvfuncRight

PAGE = (Path(__file__).parents[2] / "docs" / "kaplan-meier.md").read_text()


def test_its_curve_is_that_of_the_pooled_patients(capsys: pytest.CaptureFixture[str]) -> None:
    client, server = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(client, names)  # noqa: S102 - it is ours
    grid = LocalGrid(names["app"], simulated_nodes(3))
    exec(server, names)  # noqa: S102 - it is ours
    names["app"](grid, Context(7, 1, {}, RecordDict(), {}))
    printed = capsys.readouterr().out
    assert f"```text\n{printed}```" in PAGE

    tables = [names["patients"](context) for context in list(grid.contexts.values())[:-1]]
    months, died = (np.concatenate(columns) for columns in zip(*tables, strict=True))
    assert len(months) == 750
    pooled = SurvfuncRight(months, died)
    for line in printed.splitlines()[1:-1]:
        month, at_risk, survival, error = map(float, line.split())
        last = np.flatnonzero(pooled.surv_times <= month)[-1]
        assert at_risk == (months >= month).sum()
        assert survival == pytest.approx(pooled.surv_prob[last], abs=1e-6)
        assert error == pytest.approx(pooled.surv_prob_se[last], abs=1e-6)
    assert printed.endswith(f"median: month {pooled.quantile(0.5):.0f}\n")
