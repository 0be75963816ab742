"""Runs whose hospitals mask pairwise: dropouts at each step, topologies, privacy and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import experiment
from flwr.app import Message
from local_grid import LocalGrid, simulated_nodes
from lost_replies import crash
from quick import release, slow

from fl_he import client_app, server_app
from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config
from fl_he.crypto.schemes import MASKS
from fl_he.strategies.dropouts import DropoutError
from fl_he.wire.encrypted_sum import DECRYPT
from fl_he.wire.pairing import PAIR, SEEDS
from fl_he.wire.records import ProtocolError

MASKED = "crypto.collusion=resistant"


def federation(folder: Path, *overrides: str) -> tuple[LocalGrid, Config]:
    config = experiment("rounds=3", *overrides, folder=folder)
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))
    return grid, config


def trained(folder: Path, *overrides: str) -> dict[str, Any]:
    grid, config = federation(folder, *overrides)
    return server_app.train(grid, config, folder)


def lose(grid: LocalGrid, action: str, node: int = 1001, times: int = 1) -> None:
    """Have a hospital crash the given number of times when it gets a request."""
    lost: list[Message] = []

    def tamper(reply: Message) -> Message | None:
        metadata = reply.metadata
        if (metadata.message_type, metadata.src_node_id) != (action, node) or len(lost) >= times:
            return reply
        lost.append(reply)
        return crash(reply)

    grid.tamper = tamper


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "topology"),
    [(MASKS, "chain"), ("paillier", "fold"), *release((MASKS, "fold"), ("paillier", "chain"))],
)
@pytest.mark.parametrize("action", [SEEDS, PAIR, "train.moments", "train", "evaluate.figures"])
def test_a_hospital_that_drops_out_is_waited_for(
    tmp_path: Path, clock: list[float], scheme: str, topology: str, action: str
) -> None:
    settings = (f"crypto.scheme={scheme}", f"topology={topology}", "evaluate=true")
    grid, config = federation(tmp_path / "masked", MASKED, *settings)
    lose(grid, action)
    masked = server_app.train(grid, config, tmp_path / "masked")
    plain = trained(tmp_path / "plain", *settings)
    assert [one["loss"] for one in masked["rounds"]] == [one["loss"] for one in plain["rounds"]]
    assert masked["evaluation"] == plain["evaluation"]
    assert {one["contributors"] for one in masked["rounds"]} == {3}
    assert (masked["crypto"]["masked_set"], plain["crypto"]["masked_set"]) == (3, 0)
    assert clock[0] > 0.5


@pytest.mark.parametrize("action", [SEEDS, PAIR, "train"])
def test_a_run_without_one_of_them_stops(tmp_path: Path, clock: list[float], action: str) -> None:
    grid, config = federation(tmp_path, MASKED, "on_dropout=stop", "scaling=none")
    lose(grid, action)
    with pytest.raises((DropoutError, ProtocolError), match="hospital-2"):
        server_app.train(grid, config, tmp_path)
    assert not any(message.metadata.message_type == DECRYPT for message in grid.sent)
    assert clock[0] < 5


@pytest.mark.parametrize(
    "settings",
    [
        ("topology=chain", "segments=2", "hospitals=5"),
        ("optimizer=newton", "C=1"),
        *slow((("experiment=firth", "rounds=6"),)),
    ],
    ids=str,
)
def test_totals_are_exact(tmp_path: Path, settings: tuple[str, ...]) -> None:
    masked, plain = (
        trained(tmp_path / name, *settings, *more) for name, more in (("a", [MASKED]), ("b", []))
    )
    one, other = ([entry["loss"] for entry in run["rounds"]] for run in (masked, plain))
    np.testing.assert_array_equal(one, other)


def test_private_releases_have_masks(tmp_path: Path, clock: list[float]) -> None:
    """The same release is sent when a reply is lost."""
    grid, config = federation(tmp_path, "experiment=private", "rounds=2", MASKED)
    lose(grid, "train")
    metrics = server_app.train(grid, config, tmp_path)
    assert [one["contributors"] for one in metrics["rounds"]] == [3, 3]
    assert clock[0] > 0.5


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("on_dropout=continue",), "on_dropout must be wait or stop"),
        (("hospitals=2", "min_contributors=2"), "hospitals must be 3 to 300"),
    ],
)
def test_what_cannot_be_masked_is_refused(
    tmp_path: Path, overrides: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        trained(tmp_path, MASKED, *overrides)
