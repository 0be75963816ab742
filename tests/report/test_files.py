"""A figure that is not finite loses no file of a run."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from example_pages import make_classes, make_newton

from fl_he.report.files import draw_run, write_run
from fl_he.run_files.metrics import read_metrics
from fl_he.run_files.metrics_contract import INFERENCE
from fl_he.terminal.show import show_run

_FINDINGS: dict[str, Any] = {
    "constant": [],
    "aliased": {},
    "separation": None,
    "unique": None,
    "converged": False,
}


def spoiled(value: Any, number: float) -> Any:
    """Return a value with each float in it replaced."""
    if isinstance(value, dict):
        return {key: spoiled(inner, number) for key, inner in value.items()}
    if isinstance(value, list):
        return [spoiled(inner, number) for inner in value]
    return number if isinstance(value, float) else value


@pytest.mark.parametrize("make", [make_newton, make_classes])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 1e305])
def test_figures_that_are_not_finite_are_null(
    tmp_path: Path, make: Callable[[], dict[str, Any]], number: float
) -> None:
    metrics = make() | {"diagnostics": copy.deepcopy(_FINDINGS)}
    metrics["inference"] = make_newton()["inference"]
    for name in ("local", "federated", "pooled", "inference", "evaluation"):
        metrics[name] = spoiled(metrics.get(name), number)
    metrics["inference"]["level"] = 0.95
    metrics["inference"]["profile"]["seconds"] = 0.5
    without_hops = [{**entry, "hops": []} for entry in metrics["rounds"]]
    metrics["rounds"] = spoiled(without_hops, number)
    write_run(tmp_path, metrics, "{}")
    assert {path.name for path in tmp_path.iterdir()} == {
        *("metrics.json", "model.json", "report.html", "comparison.png")
    }
    read = read_metrics(tmp_path)
    assert all(row[key] is None for row in read["inference"]["coefficients"] for key in INFERENCE)
    draw_run(tmp_path, read)
    show_run(read, tmp_path)
