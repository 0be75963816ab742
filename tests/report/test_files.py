"""A figure that is not finite loses no file of a run."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from example_pages import make_classes, make_newton
from quick import slow

from fl_he.report.files import draw_run, write_comparison, write_page, write_run
from fl_he.report.plots import write_plot
from fl_he.report.tables.sweep import SweepRow
from fl_he.run_files.metrics import read_metrics
from fl_he.run_files.metrics_contract import COEFFICIENT
from fl_he.terminal.show import show_run

_FINDINGS: dict[str, Any] = {
    "constant": [],
    "aliased": {},
    "separation": None,
    "unique": None,
    "converged": False,
}


@pytest.mark.slow
@pytest.mark.usefixtures("rendered")
def test_pages_and_plots_replace_their_own_kind_alone(tmp_path: Path) -> None:
    metrics = make_newton()
    rows = [SweepRow((), "run", metrics)]
    draw_run(tmp_path, metrics)
    write_comparison(tmp_path / "report.html", rows, [tmp_path])
    draw_run(tmp_path, metrics)
    for name in ("report.html", "comparison.png"):
        (tmp_path / name).write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "page.html")
    write_page(tmp_path, metrics, tmp_path / "page.html")
    for write in (
        lambda: write_plot(tmp_path, metrics),
        lambda: write_page(tmp_path, metrics),
        lambda: write_page(tmp_path, metrics, tmp_path / "link"),
        lambda: write_comparison(tmp_path / "report.html", rows, [tmp_path]),
    ):
        with pytest.raises(FileExistsError, match="made; not overwriting it"):
            write()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "report.html").read_text() == "mine"


def spoiled(value: Any, number: float) -> Any:
    """Return a value with each float in it replaced."""
    if isinstance(value, dict):
        return {key: spoiled(inner, number) for key, inner in value.items()}
    if isinstance(value, list):
        return [spoiled(inner, number) for inner in value]
    return number if isinstance(value, float) else value


@pytest.mark.usefixtures("rendered")
@pytest.mark.parametrize(
    ("make", "number"),
    [
        (make_newton, math.nan),
        (make_classes, 1e305),
        *slow(*((make_newton, number) for number in (math.inf, -math.inf, 1e305))),
        *slow(*((make_classes, number) for number in (math.nan, math.inf, -math.inf))),
    ],
)
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
    assert all(row[key] is None for row in read["inference"]["coefficients"] for key in COEFFICIENT)
    draw_run(tmp_path, read)
    show_run(read, tmp_path)


HOSTILE = "\x1b]0;pwned\x07\x1b[2J\x9b31m\u202e[red]"


def hostile(value: Any) -> Any:
    """Return a value with characters that a terminal obeys behind each of its texts."""
    if isinstance(value, dict):
        return {key: hostile(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [hostile(inner) for inner in value]
    return value + HOSTILE if isinstance(value, str) else value


@pytest.mark.parametrize("make", [make_newton, make_classes])
def test_texts_of_a_file_control_no_terminal(
    tmp_path: Path, make: Callable[[], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = make()
    spoilt = {key: hostile(value) for key, value in metrics.items() if key != "protocol"}
    show_run({**metrics, **spoilt}, tmp_path)
    out, err = capsys.readouterr()
    assert "pwned" in out
    assert all(c.isprintable() or c == "\n" for c in out + err)
