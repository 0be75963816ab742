from __future__ import annotations

from pathlib import Path
from typing import Any

from fl_he.report.plots import CONVERGENCE_NAME, write_sweep_plot
from fl_he.report.tables.sweep import SweepRow


def row(name: str, losses: list[float] | None) -> SweepRow:
    if losses is None:
        return SweepRow((f"optimizer={name}",), name, None)
    rounds: list[dict[str, Any]] = [
        {"round": i, "loss": loss, "gradient_norm": None if i == 1 else loss / 10}
        for i, loss in enumerate(losses, start=1)
    ]
    return SweepRow((f"optimizer={name}",), name, {"rounds": rounds})


def test_runs_are_drawn_on_one_plot(tmp_path: Path) -> None:
    rows = [row("gd", [0.7, 0.6, 0.5]), row("newton", [0.7, 0.1]), row("failed", None)]
    assert write_sweep_plot(tmp_path, rows)
    image = (tmp_path / CONVERGENCE_NAME).read_bytes()
    assert image.startswith(b"\x89PNG")
    assert write_sweep_plot(tmp_path, [*rows, row("nesterov", [0.7, 0.3, 0.2])])
    assert (tmp_path / CONVERGENCE_NAME).read_bytes() != image


def test_one_run_or_too_many_are_not_drawn(tmp_path: Path) -> None:
    assert not write_sweep_plot(tmp_path, [row("gd", [0.7]), row("failed", None)])
    assert not write_sweep_plot(tmp_path, [row(str(i), [0.7]) for i in range(13)])
    assert not list(tmp_path.iterdir())
