"""Real SuperLink and SuperNode processes, also some that are killed in the middle of a run."""

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
from quick import release, slow
from session_keys import key_files

from fl_he.learning.regression.logistic import LogisticModel
from fl_he.run_files.checkpoint import load_checkpoint

LR = 0.5
WITHOUT_ONE = tuple(name for name in HOSPITALS if name != "st-john")
SEALED = ("topology=chain", "sealed=true", "scaling=none")


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    federation = Federation(tmp_path)
    yield federation
    federation.stop()


def begin(
    federation: Federation, folder: Path, *overrides: str, on_dropout: str = "continue"
) -> Any:
    settings = (
        *(f"hospitals={len(HOSPITALS)}", f"min_contributors={ENOUGH}"),
        f"on_dropout={on_dropout}",
    )
    descent = ("optimizer=gd", f"optimizer.lr={LR}", "C=null")
    return federation.run(
        *settings, *descent, "hop_timeout=120", f"output_dir={folder}", *overrides
    )


def after_round(federation: Federation, folder: Path, number: int) -> None:
    wait_for(
        lambda: rounds_of(folder) >= number,
        lambda: f"round {number} does not end: {federation.log('run')}",
    )


def check_models(federation: Federation, metrics: Any, rounds: list[tuple[str, ...]]) -> None:
    """Compare every hospital's model with descent on the participants' patients."""
    w, b = descent(rounds, LR, scaled=metrics["config"]["scaling"] == "federated")
    for name in HOSPITALS:
        model = LogisticModel.load(federation.folder / f"{name}.json")
        np.testing.assert_allclose(model.coefficients, w, atol=1e-6)
        assert model.intercept == pytest.approx(b, abs=1e-6)
    numbers = list(range(1, len(rounds) + 1))
    assert [entry["round"] for entry in metrics["rounds"]] == numbers
    assert [entry["contributors"] for entry in metrics["rounds"]] == [len(r) for r in rounds]


def killed_hospital(federation: Federation, folder: Path, number: int) -> None:
    """Kill a hospital during the round after this one; it is back for the next."""
    after_round(federation, folder, number)
    federation.kill("st-john")
    federation.start_node("st-john")


@pytest.mark.release
def test_nobody_is_killed(federation: Federation, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = begin(federation, folder, "rounds=1", "topology=fold", "scaling=none")
    metrics: Any = federation.finish(folder, process)
    check_models(federation, metrics, [HOSPITALS])
    assert not key_files(federation.folder)
    for name in (*HOSPITALS, HOLDER):
        supernode, worker = federation.children(name)
        assert "fl_he.supernode.child" in supernode.cmdline()
        assert not supernode.children() + worker.children()


@pytest.mark.release
@pytest.mark.parametrize("topology", [("topology=fold",), SEALED], ids=["fold", "sealed chain"])
def test_one_after_the_other_is_killed(
    federation: Federation, tmp_path: Path, topology: tuple[str, ...]
) -> None:
    folder = tmp_path / "run"
    process = begin(federation, folder, "rounds=4", *topology)

    killed_hospital(federation, folder, 1)

    after_round(federation, folder, 2)
    federation.kill(HOLDER)
    time.sleep(20)
    federation.start_node(HOLDER)

    after_round(federation, folder, 3)
    federation.kill_server_app()
    process.wait(PATIENCE)
    printed, checkpoint = federation.log("run"), load_checkpoint(folder)
    assert len(key_files(federation.folder)) == 1, "a run that can be resumed keeps its key"
    metrics: Any = federation.finish(folder, federation.run(f"resume={folder}"))

    check_models(federation, metrics, [HOSPITALS, WITHOUT_ONE, *[HOSPITALS] * 2])
    assert metrics["rounds"][1]["skipped"] == ["st-john"]
    assert "company X is back as node" in printed
    opened = (federation.folder / f"{HOLDER}.identity.json.opened.jsonl").read_text()
    assert checkpoint.session in opened
    assert not key_files(federation.folder)
    assert f'{{"deleted":"{checkpoint.session}","reason":"end"}}' in opened


@pytest.mark.release
def test_a_hospital_of_a_chain_is_killed(federation: Federation, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = begin(federation, folder, "rounds=3", "topology=chain")
    killed_hospital(federation, folder, 1)
    metrics: Any = federation.finish(folder, process)
    check_models(federation, metrics, [HOSPITALS, WITHOUT_ONE, HOSPITALS])
    assert metrics["rounds"][1]["skipped"] == ["st-john"]


@pytest.mark.waits
@pytest.mark.xdist_group("federation")
@pytest.mark.parametrize(
    "topology",
    [*slow((("topology=fold",),)), *release((("topology=chain",),), (SEALED,))],
    ids=["fold", "chain", "sealed chain"],
)
def test_a_hospital_that_is_started_again_is_waited_for(
    federation: Federation, tmp_path: Path, topology: tuple[str, ...]
) -> None:
    """With a manifest nobody has to ask for that."""
    folder = tmp_path / "run"
    process = begin(federation, folder, "rounds=3", *topology, on_dropout="auto")
    after_round(federation, folder, 1)
    federation.kill("st-john")
    words = "waiting for st-john, "
    wait_for(lambda: words in federation.log("run"), lambda: federation.log("run"))
    assert rounds_of(folder) <= 2, "the round continues without st-john"
    federation.start_node("st-john")
    metrics: Any = federation.finish(folder, process)
    check_models(federation, metrics, [HOSPITALS] * 3)
    assert [entry["skipped"] for entry in metrics["rounds"]] == [[]] * 3
