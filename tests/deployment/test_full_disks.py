"""Disks that fill up under company X, a hospital and the coordinator, and have room again later."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deployed_nodes import deployed_nodes
from experiments import experiment
from full_disk import FullDisks
from local_grid import LocalGrid

from fl_he import client_app, server_app
from fl_he.config.composition import compose
from fl_he.config.run import Config
from fl_he.run_files.checkpoint import load_checkpoint
from fl_he.wire.events import Event, Listener, OptimizerChosen, RoundEnded, unheard
from fl_he.wire.records import ProtocolError


class Deployment:
    """Three hospitals and company X, and a coordinator; a disk is full until round 1 or 2 ends."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.run = folder / "run"
        self.nodes = deployed_nodes(folder)
        self.nodes[-1]["min-contributors"] = 2
        self.disks = FullDisks(monkeypatch)
        whole = experiment("rounds=3", "optimizer.lr=0.5", "scaling=none", folder=self.run)
        self.config = replace(whole, min_contributors=2)

    def train(
        self,
        hear: Listener = unheard,
        full: Path | None = None,
        config: Config | None = None,
        run_id: int = 1,
    ) -> dict[str, Any]:
        """Train; the disk of a file is full during round 2."""
        config = self.config if config is None else config
        grid = LocalGrid(client_app.build(lambda _: config), self.nodes, run_id=run_id)

        def tell(event: Event) -> None:
            hear(event)
            if isinstance(event, RoundEnded):
                first = event.entry["round"] == 1
                self.disks.files = {full} if full is not None and first else set()

        return server_app.train(grid, config, self.run, tell)

    def resume(self) -> dict[str, Any]:
        self.disks.files = set()
        return self.train(config=compose("config", [f"resume={self.run}"]), run_id=2)


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    return Deployment(tmp_path, monkeypatch)


def test_company_x(
    deployment: Deployment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = tmp_path / "private-key.json.opened.jsonl"
    with pytest.raises(ProtocolError, match="this node cannot write to its ledger") as raised:
        deployment.train(full=ledger)
    assert f"cannot write to the ledger {ledger}: No space left on device" in caplog.text
    assert ledger.read_bytes().endswith(b"}\n"), "no part of a line"
    assert raised.value.__notes__ == [
        f"once that is fixed, resume={deployment.run} continues the run"
    ]
    checkpoint = load_checkpoint(deployment.run)
    assert (len(checkpoint.rounds), checkpoint.unopened is None) == (1, False)
    metrics = deployment.resume()
    assert [entry["round"] for entry in metrics["rounds"]] == [1, 2, 3]
    opened = [json.loads(line) for line in ledger.read_text().splitlines() if "purpose" in line]
    assert [(one["session"], one["round"]) for one in opened] == [
        (checkpoint.session, number) for number in (1, 2, 3)
    ]


def test_the_coordinator(deployment: Deployment, tmp_path: Path) -> None:
    """The list of rounds grows before the checkpoint's file is replaced."""
    with pytest.raises(OSError, match="No space left on device") as raised:
        deployment.train(full=deployment.run / "checkpoint.rounds.jsonl")
    assert raised.value.filename == str(deployment.run / "checkpoint.rounds.jsonl")
    assert raised.value.__notes__ == [
        f"once that is fixed, resume={deployment.run} continues the run"
    ]
    names = {path.name for path in deployment.run.iterdir()}
    lists = {"checkpoint.opened.jsonl", "checkpoint.rounds.jsonl"}
    assert names == {"checkpoint.json", *lists}, "nothing half written"
    assert len(load_checkpoint(deployment.run).rounds) == 1
    metrics = deployment.resume()
    assert [entry["round"] for entry in metrics["rounds"]] == [1, 2, 3]


def test_a_hospital(
    deployment: Deployment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A hospital that cannot note the session is left out of the round, and is back later."""
    sessions = tmp_path / "2.csv.sessions.jsonl"

    def fill(event: Event) -> None:
        if isinstance(event, OptimizerChosen):
            deployment.disks.files = {sessions}

    metrics = deployment.train(fill)
    assert [entry["contributors"] for entry in metrics["rounds"]] == [2, 3, 3]
    assert metrics["rounds"][0]["skipped"] == ["clinic-2"]
    assert f"cannot write to the ledger {sessions}: No space left on device" in caplog.text
    assert all(line.startswith("{") for line in sessions.read_text().splitlines())


def test_a_hospital_that_cannot_save_the_model(
    deployment: Deployment, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run is as good as with it; the hospital's own log has the system's words."""

    def occupy(event: Event) -> None:
        if isinstance(event, RoundEnded):
            (tmp_path / "model-2.json").mkdir(exist_ok=True)

    metrics = deployment.train(occupy)
    assert len(metrics["rounds"]) == 3
    assert "clinic-2 has not saved the final model: this node refused" in caplog.text
    assert ": Is a directory" in caplog.text
