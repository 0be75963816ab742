"""The repository root as a Flower app, started by Flower's own command."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from experiments import check_equals_pooled_descent, experiment, on_round
from flower_command import Flower, flower
from local_grid import LocalGrid, simulated_nodes

from fl_he import client_app, server_app

pytestmark = [pytest.mark.waits, pytest.mark.xdist_group("flwr run")]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def superlink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flower]:
    with flower(tmp_path_factory.mktemp("flwr-home")) as running:
        yield running


def flwr_run(superlink: Flower, cwd: Path, nodes: int, overrides: str) -> str:
    """Run the app of the repository root and return Flower's output."""
    return superlink.run(ROOT, cwd, nodes, f"overrides='{overrides}'")


@pytest.mark.slow
def test_the_same_experiment(superlink: Flower, tmp_path: Path) -> None:
    descent = "optimizer=gd C=null stratify=false crypto.key_bits=1024"
    keys = f"hospitals=4 num-server-rounds=3 overrides='{descent} output_dir={tmp_path}/run'"
    printed = superlink.run(ROOT, tmp_path, 5, keys)
    assert (tmp_path / "run" / "metrics.json").exists(), printed
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    config = experiment("hospitals=4", "rounds=3", folder=tmp_path / "run")
    check_equals_pooled_descent(config, metrics)
    assert (tmp_path / "run" / "hospitals" / "hospital-4" / "model.json").exists()
    assert "round 3: loss" in printed
    assert "train 3: 4 hospitals in the sum" in printed


@pytest.mark.release
def test_another_number_of_nodes_is_refused(superlink: Flower, tmp_path: Path) -> None:
    overrides = f"hospitals=5 output_dir={tmp_path}/run"
    printed = flwr_run(superlink, tmp_path, 2, overrides)
    assert "hospitals=5 needs 6 simulated SuperNodes" in printed
    assert "num-supernodes=6" in printed
    assert not (tmp_path / "run").exists()


@pytest.mark.release
def test_a_run_that_was_cut_off_goes_on(superlink: Flower, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(entry: Mapping[str, object]) -> None:
        if entry["round"] == 2:
            raise KilledError

    folder = tmp_path / "run"
    config = experiment("hospitals=4", "rounds=3", folder=folder)
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(4))
    with pytest.raises(KilledError):
        server_app.train(grid, config, folder, on_round(kill))
    printed = flwr_run(superlink, tmp_path, 5, f"resume={folder}")
    assert (folder / "metrics.json").exists(), printed
    metrics = json.loads((folder / "metrics.json").read_text())
    check_equals_pooled_descent(config, metrics)
    assert [entry["round"] for entry in metrics["rounds"]] == [1, 2, 3]
    assert "round 3: loss" in printed
    assert "round 2: loss" not in printed
    assert (folder / "hospitals" / "hospital-4" / "model.json").exists()
    refused = flwr_run(superlink, tmp_path, 5, f"resume={folder}")
    assert "of a finished one" in refused
