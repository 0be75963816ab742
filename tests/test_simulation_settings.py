"""Settings that one run leaves behind in this process; a local grid replaces Ray."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from experiments import experiment
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from local_grid import LocalGrid, simulated_nodes

from fl_he import client_app, simulation
from fl_he.experiment import ray_engine
from fl_he.wire.events import Event, Starting


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace Ray and return the arguments of its call."""
    calls: list[dict[str, Any]] = []

    def run_in_ray(
        main: Callable[[Grid], object], app: ClientApp, nodes: int, **settings: Any
    ) -> object:
        grid = LocalGrid(app, simulated_nodes(nodes - 1))
        calls.append({"grid": grid, "level": logging.getLogger("flwr").level, **settings})
        return main(grid)

    monkeypatch.setattr(ray_engine, "run_in_ray", run_in_ray)
    return calls


@pytest.mark.parametrize("verbose", [False, True])
def test_flowers_log_is_quiet_during_a_run_alone(
    tmp_path: Path, ray: list[dict[str, Any]], verbose: bool
) -> None:
    logger = logging.getLogger("flwr")
    level, filters = logger.level, list(logger.filters)
    config = experiment("rounds=1", f"verbose={str(verbose).lower()}", folder=tmp_path)
    simulation.run(config, tmp_path)
    assert ray[0]["level"] == (level if verbose else logging.WARNING)
    assert (logger.level, list(logger.filters)) == (level, filters)
    assert ray[0]["verbose"] is verbose


def test_hospitals_write_into_the_runs_folder_wherever_they_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray: list[dict[str, Any]]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = experiment("rounds=1", folder=Path("elsewhere"))
    folders: list[str] = []
    build = client_app.build

    def spy(configuration: Any) -> ClientApp:
        folders.append(configuration(None).output_dir)
        return build(configuration)

    monkeypatch.setattr(client_app, "build", spy)
    started: list[int] = []

    def hear(event: Event) -> None:
        if isinstance(event, Starting):
            started.append(len(ray))

    simulation.run(config, Path("run"), hear)
    assert started == [0], "told before Ray starts"
    assert folders == [str(tmp_path / "run")]
    assert (tmp_path / "run" / "hospitals" / "hospital-3" / "model.json").exists()
