"""Flower's simulation as started by a run: its leftovers, and the end of its server."""

from __future__ import annotations

import os
from typing import Any

import pytest
from flwr.app import Context, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from local_grid import LocalGrid, simulated_nodes

from fl_he.experiment import ray_engine
from fl_he.experiment.ray_engine import run_in_ray


def flowers_place(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Replace Flower's simulation and return the arguments of its call."""
    calls: list[dict[str, Any]] = []

    def run_simulation(server: ServerApp, client: ClientApp, **settings: Any) -> None:
        calls.append(settings)
        os.environ["PYTHONPATH"] = "what Flower adds"
        grid = LocalGrid(client, simulated_nodes(settings["num_supernodes"] - 1))
        server(grid, Context(7, 0, {}, RecordDict(), {}))

    monkeypatch.setattr(ray_engine, "run_simulation", run_simulation)
    monkeypatch.setattr(ray_engine, "_start", lambda _: None)
    return calls


@pytest.mark.parametrize("path", [None, "mine"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_run_leaves_the_environment_as_it_was(
    monkeypatch: pytest.MonkeyPatch, path: str | None, fails: bool
) -> None:
    if path is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", path)
    flowers_place(monkeypatch)

    def main(_: Grid) -> str:
        assert os.environ["PYTHONPATH"] != path
        if fails:
            raise OSError("disk full")
        return "done"

    try:
        assert run_in_ray(main, ClientApp(), 2) == "done"
    except OSError:
        assert fails
    assert os.environ.get("PYTHONPATH") == path


def test_after_the_run_the_server_stops_at_its_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    flowers_place(monkeypatch)
    grids: list[Grid] = []
    run_in_ray(grids.append, ClientApp(), 2)
    for look in (lambda: grids[0].pull_messages([]), grids[0].get_node_ids):
        with pytest.raises(InterruptedError):
            look()


@pytest.mark.parametrize("verbose", [False, True])
def test_flower_is_told_the_nodes_and_whether_to_log(
    monkeypatch: pytest.MonkeyPatch, verbose: bool
) -> None:
    calls = flowers_place(monkeypatch)
    run_in_ray(lambda _: None, ClientApp(), 4, verbose=verbose)
    assert calls[0]["num_supernodes"] == 4
    assert calls[0]["verbose_logging"] is verbose
    assert calls[0]["backend_config"]["client_resources"]["num_cpus"] == 1
