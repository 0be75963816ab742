"""Real SuperLink and SuperNode processes that are killed in the middle of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from federation_processes import (
    ENOUGH,
    HOLDER,
    HOSPITALS,
    PATIENCE,
    Federation,
    descent,
    rounds_of,
    wait_for,
)

from fl_he.checkpoint import load_checkpoint
from fl_he.learning.model import LogisticModel

LR = 0.5
SEALED = ("topology=chain", "sealed=true")

pytestmark = pytest.mark.slow


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    federation = Federation(tmp_path)
    yield federation
    federation.stop()


def begin(federation: Federation, folder: Path, *overrides: str) -> Any:
    settings = (f"hospitals={len(HOSPITALS)}", f"min_contributors={ENOUGH}", f"optimizer.lr={LR}")
    return federation.run(*settings, "hop_timeout=60", f"output_dir={folder}", *overrides)


def after_round(federation: Federation, folder: Path, number: int) -> None:
    wait_for(
        lambda: rounds_of(folder) >= number,
        f"round {number} does not end: {federation.log('run')}",
    )


def check_models(federation: Federation, metrics: Any, rounds: list[tuple[str, ...]]) -> None:
    """Compare every hospital's model with descent on the patients of who took part."""
    w, b = descent(rounds, LR)
    for name in HOSPITALS:
        model = LogisticModel.load(federation.folder / f"{name}.json")
        np.testing.assert_allclose(model.coefficients, w, atol=1e-6)
        assert model.intercept == pytest.approx(b, abs=1e-6)
    numbers = list(range(1, len(rounds) + 1))
    assert [entry["round"] for entry in metrics["rounds"]] == numbers
    assert [entry["contributors"] for entry in metrics["rounds"]] == [len(r) for r in rounds]


@pytest.mark.parametrize(
    "topology",
    [("topology=fold",), ("topology=chain",), SEALED],
    ids=["fold", "chain", "sealed chain"],
)
def test_a_hospital_is_killed_in_a_round_and_comes_back(
    federation: Federation, tmp_path: Path, topology: tuple[str, ...]
) -> None:
    folder = tmp_path / "run"
    process = begin(federation, folder, "rounds=3", *topology)
    after_round(federation, folder, 1)
    federation.kill("st-john")
    federation.start_node("st-john")
    metrics: Any = federation.finish(folder, process)
    without = tuple(name for name in HOSPITALS if name != "st-john")
    check_models(federation, metrics, [HOSPITALS, without, HOSPITALS])
    assert metrics["rounds"][1]["skipped"] == ["st-john"]


@pytest.mark.parametrize("topology", [("topology=fold",), SEALED], ids=["fold", "sealed chain"])
def test_company_x_is_away_for_20_seconds(
    federation: Federation, tmp_path: Path, topology: tuple[str, ...]
) -> None:
    folder = tmp_path / "run"
    process = begin(federation, folder, "rounds=2", *topology)
    after_round(federation, folder, 1)
    federation.kill(HOLDER)
    time.sleep(20)
    federation.start_node(HOLDER)
    check_models(federation, federation.finish(folder, process), [HOSPITALS] * 2)
    assert "the key holder is back as node" in federation.log("run")


@pytest.mark.parametrize("topology", [("topology=fold",), SEALED], ids=["fold", "sealed chain"])
def test_the_coordinator_is_killed_and_resumed(
    federation: Federation, tmp_path: Path, topology: tuple[str, ...]
) -> None:
    folder = tmp_path / "run"
    process = begin(federation, folder, "rounds=2", *topology)
    after_round(federation, folder, 1)
    federation.kill_server_app()
    process.wait(PATIENCE)
    checkpoint = load_checkpoint(folder)
    resumed = federation.run(f"resume={folder}")
    check_models(federation, federation.finish(folder, resumed), [HOSPITALS] * 2)
    opened = (federation.folder / "private-key.json.opened.jsonl").read_text()
    assert checkpoint.session in opened
