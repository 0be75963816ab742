"""Real SuperLink and SuperNode processes that are killed in the middle of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federation_processes import HOLDER, HOSPITALS, Federation, descent, rounds_of, wait_for

from fl_he.checkpoint import load_checkpoint

LR = 0.5


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    federation = Federation(tmp_path_factory.mktemp("federation"))
    yield federation
    federation.stop()


def begin(federation: Federation, folder: Path, *overrides: str) -> Any:
    settings = ("hospitals=4", "rounds=3", f"optimizer.lr={LR}", "hop_timeout=40")
    return federation.run(*settings, f"output_dir={folder}", *overrides)


def after_round(federation: Federation, folder: Path, number: int) -> None:
    wait_for(
        lambda: rounds_of(folder) >= number,
        f"round {number} does not end: {federation.log('run')}",
    )


def check_model(metrics: Any, rounds: list[tuple[str, ...]]) -> None:
    w, b = descent(rounds, LR)
    np.testing.assert_allclose(metrics["federated"]["coefficients"], w, atol=1e-6)
    assert metrics["federated"]["intercept"] == pytest.approx(b, abs=1e-6)
    assert [entry["round"] for entry in metrics["rounds"]] == [1, 2, 3]
    assert [entry["contributors"] for entry in metrics["rounds"]] == [len(r) for r in rounds]


@pytest.mark.parametrize("topology", ["fold", "chain"])
def test_a_hospital_is_killed_in_a_round_and_comes_back(
    federation: Federation, tmp_path: Path, topology: str
) -> None:
    process = begin(federation, tmp_path, f"topology={topology}")
    after_round(federation, tmp_path, 1)
    federation.kill("st-john")
    federation.start_node("st-john")
    metrics = federation.finish(tmp_path, process)
    without = tuple(name for name in HOSPITALS if name != "st-john")
    check_model(metrics, [HOSPITALS, without, HOSPITALS])
    assert metrics["rounds"][1]["skipped"] == ["st-john"]  # type: ignore[index]
    assert "st-john is skipped in this round" in federation.log("run")


def test_company_x_is_away_for_20_seconds(federation: Federation, tmp_path: Path) -> None:
    process = begin(federation, tmp_path)
    after_round(federation, tmp_path, 1)
    federation.kill(HOLDER)
    time.sleep(20)
    federation.start_node(HOLDER)
    check_model(federation.finish(tmp_path, process), [HOSPITALS] * 3)
    assert "the key holder is back as node" in federation.log("run")


def test_the_coordinator_is_killed_and_resumed(federation: Federation, tmp_path: Path) -> None:
    process = begin(federation, tmp_path)
    after_round(federation, tmp_path, 2)
    federation.kill_server_app()
    process.wait(60)
    session = load_checkpoint(tmp_path).session
    resumed = federation.run(f"resume={tmp_path}")
    check_model(federation.finish(tmp_path, resumed), [HOSPITALS] * 3)
    assert session in (federation.folder / "private-key.json.opened.jsonl").read_text()
