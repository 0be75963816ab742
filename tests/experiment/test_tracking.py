from __future__ import annotations

import posixpath
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_metrics import make_private
from example_pages import make_capc

from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config, Tracking
from fl_he.experiment import tracking
from fl_he.experiment.tracking import MLFLOW_STORE, TENSORBOARD_FOLDER, Tracker
from fl_he.wire.events import RoundEnded


def logged(choice: Tracking, folder: Path, metrics: dict[str, Any]) -> None:
    with Tracker(Config(tracking=choice, rounds=4), folder) as tracker:
        for entry in metrics.get("rounds", ()):
            tracker.hear(RoundEnded(entry))
        tracker.end(metrics)


def fail_after_a_round(folder: Path) -> None:
    with Tracker(Config(tracking=Tracking.mlflow), folder) as tracker:
        tracker.hear(RoundEnded(make_private()["rounds"][0]))
        raise ZeroDivisionError


def mlflow_runs(store: Path) -> list[Any]:
    from mlflow import MlflowClient  # noqa: PLC0415 - slow

    client = MlflowClient(tracking_uri=f"sqlite:///{store}")
    experiment = client.get_experiment_by_name("fl-he")
    assert experiment is not None
    return [
        (run, {m: client.get_metric_history(run.info.run_id, m) for m in run.data.metrics})
        for run in client.search_runs([experiment.experiment_id])
    ]


def tensorboard_figures(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import (  # noqa: PLC0415
        EventAccumulator,
    )

    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(event.step, event.tensor_proto.float_val[0]) for event in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }


@pytest.mark.slow
def test_what_was_logged_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    metrics = make_private()
    logged(Tracking.both, tmp_path / "run", metrics)
    curve = [(entry["round"], entry["test_loss"]) for entry in metrics["rounds"]]

    figures = tensorboard_figures(tmp_path / "run" / TENSORBOARD_FOLDER)
    np.testing.assert_allclose(figures["test_loss"], curve)
    np.testing.assert_allclose(figures["privacy/epsilon"], [(4, 1.25)])
    np.testing.assert_allclose(figures["federated/accuracy"], [(4, 0.81)])
    assert "loss" not in figures, "nobody knows it"

    ((run, history),) = mlflow_runs(tmp_path / MLFLOW_STORE)
    assert run.info.status == "FINISHED"
    assert (run.data.params["rounds"], run.data.params["crypto.key_bits"]) == ("4", "2048")
    assert (run.data.params["stratify"], run.data.params["resume"]) == ("true", "null")
    assert [(one.step, one.value) for one in history["test_loss"]] == curve
    assert history.keys() == figures.keys()
    assert set(run.data.tags) == {"mlflow.runName"}, "neither user nor command line"


@pytest.mark.slow
def test_capc_and_failed_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    metrics = make_capc()
    metrics["querying"][0]["party"] = "<St. Mary's>"
    logged(Tracking.mlflow, tmp_path, metrics)
    with pytest.raises(ZeroDivisionError):
        fail_after_a_round(tmp_path)
    (failed, _), (capc, _) = mlflow_runs(tmp_path / MLFLOW_STORE)
    assert capc.data.metrics["_St. Mary_s_/after/accuracy"] == 0.625
    assert (capc.info.status, failed.info.status) == ("FINISHED", "FAILED")


class NamesOnly:
    """A log that keeps the names of figures, and whether it was closed."""

    def __init__(self, _: Config, folder: Path) -> None:
        self.names, self.ends = list[str](), list[bool]()
        if folder.name == "full":
            raise OSError(folder)

    def figure(self, name: str, *_: object) -> None:
        self.names.append(name)

    def close(self, *, finished: bool) -> None:
        self.ends.append(finished)


@pytest.mark.parametrize("party", ["..", ".", "", "/etc", "a//b", "a/../b"])
def test_the_name_of_a_party_is_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, party: str
) -> None:
    log = NamesOnly(Config(), tmp_path)
    monkeypatch.setattr(tracking, "require_packages", lambda _: None)
    monkeypatch.setattr(tracking, "_LOGS", {Tracking.mlflow: lambda *_: log})
    metrics = make_capc()
    metrics["querying"][0]["party"] = party
    logged(Tracking.mlflow, tmp_path, metrics)
    assert any("after/accuracy" in name for name in log.names)
    for name in log.names:
        assert posixpath.normpath(name) == name
        assert not name.startswith(("/", ".."))


def test_a_log_is_closed_if_the_next_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = NamesOnly(Config(), tmp_path)
    monkeypatch.setattr(tracking, "require_packages", lambda _: None)
    logs = {Tracking.mlflow: lambda *_: log, Tracking.tensorboard: NamesOnly}
    monkeypatch.setattr(tracking, "_LOGS", logs)
    with pytest.raises(OSError, match="full"):
        logged(Tracking.both, tmp_path / "full", make_private())
    assert log.ends == [False]


def test_it_is_off_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    logged(Config().tracking, tmp_path, make_private())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("choice", ["mlflow", "tensorboard"])
def test_a_missing_package_is_refused_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str
) -> None:
    def without(name: str) -> ModuleSpec | None:
        return None if name == choice else sys.modules[__name__].__spec__

    monkeypatch.setattr(tracking, "find_spec", without)
    for asked in (choice, "both"):
        with (
            pytest.raises(ConfigError, match=rf"got {asked}: pip install 'fl-he\[{choice}\]'$"),
            Tracker(Config(tracking=Tracking(asked)), tmp_path),
        ):
            pytest.fail("it must not begin")
