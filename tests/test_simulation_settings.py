"""What one run leaves behind in this process; in place of Ray a grid that has none."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
from experiments import experiment, on_round
from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from local_grid import LocalGrid, simulated_nodes

from fl_he import client_app, server_app, simulation
from fl_he.wire.events import Event, Starting


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Take the place of Flower's simulation and return what it was called with."""
    calls: list[dict[str, Any]] = []

    def run_simulation(server: ServerApp, client: ClientApp, **settings: Any) -> None:
        calls.append({**settings, "level": logging.getLogger("flwr").level})
        os.environ["PYTHONPATH"] = "what Flower adds"
        grid = LocalGrid(client, simulated_nodes(settings["num_supernodes"] - 1))
        calls[-1]["grid"] = grid
        server(grid, Context(7, 0, {}, RecordDict(), {}))

    monkeypatch.setattr(simulation, "run_simulation", run_simulation)
    monkeypatch.setattr(simulation, "_start_ray", lambda: None)
    return calls


@pytest.mark.parametrize("path", [None, "mine"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_run_leaves_the_environment_as_it_was(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ray: list[dict[str, Any]],
    path: str | None,
    fails: bool,
) -> None:
    if path is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", path)
    config = experiment("rounds=1", folder=tmp_path)

    def fail(_: object) -> None:
        if fails:
            raise OSError("disk full")

    try:
        simulation.run(config, tmp_path, on_round(fail))
    except OSError:
        assert fails
    assert os.environ.get("PYTHONPATH") == path


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
    assert ray[0]["verbose_logging"] is verbose


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


def test_after_the_run_the_server_stops_at_its_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray: list[dict[str, Any]]
) -> None:
    grids: list[Any] = []
    train = server_app.train

    def spy(grid: Any, *rest: Any) -> Any:
        grids.append(grid)
        return train(grid, *rest)

    monkeypatch.setattr(server_app, "train", spy)
    simulation.run(experiment("rounds=1", folder=tmp_path), tmp_path)
    for look in (lambda: grids[0].pull_messages([]), grids[0].get_node_ids):
        with pytest.raises(InterruptedError):
            look()
