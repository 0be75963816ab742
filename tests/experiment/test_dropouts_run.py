"""Whole runs in which a hospital drops out in round 2: each way to continue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dropping_app import DroppingApp
from experiments import experiment
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from local_grid import LocalGrid, simulated_nodes
from patients import write_csv

from fl_he import client_app, server_app
from fl_he.config.composition import compose
from fl_he.config.run import Config
from fl_he.experiment import open_run
from fl_he.experiment.data import with_sites
from fl_he.experiment.ray_engine import run_in_ray
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.run_files.checkpoint import load_checkpoint
from fl_he.strategies.dropouts import DropoutError

Engine = Callable[[Config, DroppingApp, Callable[[Grid], Any]], Any]


def in_ray(config: Config, app: DroppingApp, main: Callable[[Grid], Any]) -> Any:
    return run_in_ray(main, app, config.hospitals + 1)


def in_process(config: Config, app: DroppingApp, main: Callable[[Grid], Any]) -> Any:
    return main(LocalGrid(app, simulated_nodes(config.hospitals)))


def runs(fold_in_ray: pytest.MarkDecorator) -> pytest.MarkDecorator:
    """Return the cases of a test, of which a fold in Ray has this mark."""
    ray = pytest.mark.waits, pytest.mark.xdist_group("ray")
    return pytest.mark.parametrize(
        ("engine", "topology"),
        [
            (in_process, "fold"),
            (in_process, "chain"),
            pytest.param(in_ray, "fold", marks=[*ray, fold_in_ray]),
            pytest.param(in_ray, "chain", marks=[*ray, pytest.mark.release]),
        ],
    )


def dropping(engine: Engine, folder: Path, config: Config, times: int = 2) -> Any:
    """Run an experiment of four hospitals, one of which does not answer in round 2."""
    folder.mkdir(exist_ok=True)
    app = DroppingApp(client_app.build(lambda _: config), folder, times)
    output = Path(config.output_dir or "")
    return engine(config, app, lambda grid: server_app.train(grid, config, output))


def settings(folder: Path, topology: str, way: str) -> Config:
    return experiment(
        *("hospitals=4", "rounds=3", "scaling=none", "optimizer.lr=1e-5"),
        *(f"topology={topology}", f"on_dropout={way}"),
        folder=folder / "run",
    )


def coefficients(folder: Path) -> Any:
    model = LogisticModel.load(folder / "run" / "model.json")
    return np.array([*model.coefficients, model.intercept])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("undisturbed")
    dropping(in_process, folder, settings(folder, "fold", "stop"), times=0)
    return coefficients(folder)


@pytest.mark.slow
@runs(fold_in_ray=pytest.mark.slow)
def test_a_run_that_waits_has_the_same_coefficients(
    tmp_path: Path,
    undisturbed: Any,
    caplog: pytest.LogCaptureFixture,
    engine: Engine,
    topology: str,
) -> None:
    metrics = dropping(engine, tmp_path, settings(tmp_path, topology, "wait"))
    assert [entry["contributors"] for entry in metrics["rounds"]] == [4, 4, 4]
    assert [entry["skipped"] for entry in metrics["rounds"]] == [[], [], []]
    np.testing.assert_allclose(coefficients(tmp_path), undisturbed, rtol=0, atol=1e-12)
    assert "waiting for hospital-2, " in caplog.text
    assert len(list(tmp_path.glob("asked-*"))) == 3 + 2


@runs(fold_in_ray=pytest.mark.release)
def test_a_run_that_stops_is_resumed(
    tmp_path: Path, undisturbed: Any, engine: Engine, topology: str
) -> None:
    config = settings(tmp_path, topology, "stop")
    with pytest.raises(DropoutError, match="without hospital-2: ClientApp stopped") as stopped:
        dropping(engine, tmp_path, config)
    output = tmp_path / "run"
    assert f"resume={output} continues the run" in "".join(stopped.value.__notes__)
    assert len(load_checkpoint(output).rounds) == 1
    resumed = replace(compose("config", [f"resume={output}"]), output_dir=str(output))
    metrics = dropping(engine, tmp_path, resumed, times=0)
    assert [entry["contributors"] for entry in metrics["rounds"]] == [4, 4, 4]
    np.testing.assert_allclose(coefficients(tmp_path), undisturbed, rtol=0, atol=1e-12)


def test_a_dropout_of_a_run_that_diverges_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_run, "divergence", lambda *_: "the loss rises")
    with pytest.raises(DropoutError, match="all hospitals answer") as caught:
        dropping(in_process, tmp_path, settings(tmp_path, "fold", "stop"))
    assert "the loss rises" not in str(caught.value)


@runs(fold_in_ray=pytest.mark.release)
def test_a_run_that_continues_does_without(
    tmp_path: Path, undisturbed: Any, engine: Engine, topology: str
) -> None:
    way = "auto" if engine is in_process else "continue"  # the same without a manifest
    metrics = dropping(engine, tmp_path, settings(tmp_path, topology, way), times=1)
    assert [entry["contributors"] for entry in metrics["rounds"]] == [4, 3, 4]
    assert [entry["skipped"] for entry in metrics["rounds"]] == [[], ["hospital-2"], []]
    assert np.abs(coefficients(tmp_path) - undisturbed).max() > 1e-9


class OtherHospitals(ClientApp):
    """An app whose first hospital misses the first round, and the second all further rounds."""

    def __init__(self, app: ClientApp) -> None:
        super().__init__()
        self.app, self.asked = app, [0, 0]

    def __call__(self, message: Message, context: Context) -> Message:
        number = int(context.node_config["partition-id"])
        if message.metadata.message_type == "train" and number < 2:
            self.asked[number] += 1
            if (self.asked[number] > 1) == bool(number):
                error = Error(ErrorCode.CLIENT_APP_CRASHED, "ClientApp stopped responding.")
                return Message(error, reply_to=message)
        return self.app(message, context)


def test_a_null_model_of_other_hospitals_of_the_same_size_is_not_compared(tmp_path: Path) -> None:
    ages = np.tile(np.linspace(30.0, 60.0, 20), 4)
    sick = np.tile([0, 0, 1, 0, 0, 1, 0, 1, 0, 1], 8)
    sick[20:28] = 1
    sites = np.repeat(["a", "b", "c", "d"], 20)
    write_csv(tmp_path / "table.csv", {"age": ages, "sick": sick, "site": sites})
    config = experiment(
        *("data=csv", f"data.path={tmp_path}/table.csv", "data.target=sick", "data.positive=1"),
        *("partition=column", "partition.column=site", "test_size=0", "optimizer=newton"),
        *("on_dropout=continue", "rounds=20", "crypto.scheme=masks"),
        folder=tmp_path / "run",
    )
    config = with_sites(config)
    app = OtherHospitals(client_app.build(lambda _: config))
    grid = LocalGrid(app, simulated_nodes(config.hospitals))
    metrics = server_app.train(grid, config, tmp_path / "run")
    skipped = [entry["skipped"] for entry in metrics["rounds"]]
    assert (skipped[0], skipped[-1]) == (["a"], ["b"])
    inference = metrics["inference"]
    assert (inference["withheld"], metrics["federated"]["examples"]) == (None, 60)
    assert inference["events"] is None
    assert inference["fit"]["null_log_likelihood"] is None
    assert inference["fit"]["likelihood_ratio"] is None
