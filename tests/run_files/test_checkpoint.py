"""Runs that are cut off and resumed from checkpoint.json, without Ray and with it."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_nodes import deployed_nodes
from experiments import check_equals_pooled_descent, experiment, on_round
from flwr.app import Message
from local_grid import LocalGrid, simulated_nodes
from quick import slow

from fl_he import client_app, server_app
from fl_he.config.composition import compose
from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config, Penalty
from fl_he.run_files.checkpoint import (
    VERSION,
    Checkpoint,
    CheckpointError,
    CheckpointFile,
    first_difference,
    load_checkpoint,
)
from fl_he.wire.encrypted_sum import DECRYPT, MOMENTS
from fl_he.wire.records import ProtocolError

FILES = ["checkpoint.json", "checkpoint.opened.jsonl", "checkpoint.rounds.jsonl"]


class KilledError(Exception):
    """Stand-in for the end of the coordinator's process."""


def kill_after(rounds: int) -> Any:
    def kill(entry: Mapping[str, Any]) -> None:
        if entry["round"] == rounds:
            raise KilledError

    return on_round(kill)


def grid_of(config: Config) -> LocalGrid:
    return LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))


def resumed(folder: Path, *overrides: str) -> Config:
    return compose("config", [f"resume={folder}", *overrides])


def cut_off(folder: Path, *overrides: str, after: int = 2) -> Config:
    """Begin a run that ends after the given round; of equal runs only the first is trained."""
    config = experiment("rounds=5", *overrides, folder=folder)
    kept = _cut_off(overrides, after)
    shutil.copytree(kept.name, folder, dirs_exist_ok=True)
    return config


@functools.cache
def _cut_off(overrides: tuple[str, ...], after: int) -> tempfile.TemporaryDirectory[str]:
    kept = tempfile.TemporaryDirectory()
    config = experiment("rounds=5", *overrides, folder=Path(kept.name))
    with pytest.raises(KilledError):
        server_app.train(grid_of(config), config, Path(kept.name), kill_after(after))
    assert sorted(path.name for path in Path(kept.name).iterdir()) == FILES
    return kept


@functools.cache
def _unbroken(*overrides: str) -> tuple[dict[str, Any], str]:
    """Return the metrics and the model of a run that is not cut off."""
    with tempfile.TemporaryDirectory() as name:
        config = experiment("rounds=5", *overrides, folder=Path(name))
        metrics = server_app.train(grid_of(config), config, Path(name))
        return metrics, (Path(name) / "model.json").read_text()


def made(folder: Path, **changes: Any) -> Checkpoint:
    checkpoint = replace(Checkpoint({}, ["age"], "s", "f"), **changes)
    CheckpointFile(folder).write(checkpoint)
    return checkpoint


def test_what_is_left_of_a_half_written_checkpoint_does_no_harm(tmp_path: Path) -> None:
    half = tmp_path / ".checkpoint.json.0123456789abcdef"
    half.write_text("{" * 5000)
    half.chmod(0o644)
    checkpoint = made(tmp_path)
    assert load_checkpoint(tmp_path) == checkpoint
    path = tmp_path / "checkpoint.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    other = tmp_path / "other"
    other.write_text("kept")
    path.unlink()
    path.symlink_to(other)
    checkpoint = made(tmp_path)
    assert load_checkpoint(tmp_path) == checkpoint
    assert other.read_text() == "kept"


def test_numbers_too_large_for_a_float_are_damage(tmp_path: Path) -> None:
    made(tmp_path)
    path = tmp_path / "checkpoint.json"
    members = json.loads(path.read_text())
    members["class_counts"] = [-1e300, 0.0]
    path.write_text(json.dumps(members).replace("-1e+300", "-1e999"))
    with pytest.raises(CheckpointError, match=r"class_counts\[0\] must be a finite number"):
        load_checkpoint(tmp_path)


def test_a_setting_that_the_run_did_not_have_is_a_difference() -> None:
    words = "a.b must be null as in the run that is resumed, got 1"
    assert first_difference({"x": 1}, {"x": 1, "a": {"b": 1}}) == words


@pytest.mark.parametrize(
    "after", [1, *(pytest.param(after, marks=pytest.mark.slow) for after in (2, 4, 5))]
)
def test_a_resumed_run_ends_with_the_model_of_an_unbroken_one(tmp_path: Path, after: int) -> None:
    folder = tmp_path / "run"
    config = cut_off(folder, "C=2.0", after=after)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    metrics = server_app.train(grid_of(config), resumed(folder), folder)
    check_equals_pooled_descent(config, metrics)
    unbroken, model = _unbroken("C=2.0")
    assert metrics["federated"] == unbroken["federated"], "bit for bit"
    assert [entry["round"] for entry in metrics["rounds"]] == [1, 2, 3, 4, 5]
    figures = ("round", "loss", "test_loss", "contributors")
    assert [[e[key] for key in figures] for e in metrics["rounds"]] == [
        [e[key] for key in figures] for e in unbroken["rounds"]
    ]
    assert metrics["seconds"] >= sum(entry["seconds"] for entry in metrics["rounds"])
    assert (folder / "model.json").read_text() == model
    assert json.loads((folder / "metrics.json").read_text())["crypto"]["ciphertexts_per_update"]


def test_only_the_rounds_that_are_left_are_run(tmp_path: Path) -> None:
    config = cut_off(tmp_path / "run", after=3)
    seen: list[Any] = []
    folder = tmp_path / "run"
    server_app.train(grid_of(config), resumed(folder), folder, on_round(seen.append))
    assert [entry["round"] for entry in seen] == [4, 5]


@pytest.mark.parametrize("scheme", ["masks", *slow(("auto",))])
def test_masks_end_with_the_model_of_an_unbroken_run_with_paillier(
    tmp_path: Path, scheme: str
) -> None:
    config = cut_off(tmp_path, "C=2.0", f"crypto.scheme={scheme}")
    metrics = server_app.train(grid_of(config), resumed(tmp_path), tmp_path)
    unbroken, model = _unbroken("C=2.0")
    assert metrics["crypto"]["scheme"] == "masks"
    assert unbroken["crypto"]["scheme"] == "paillier"
    assert metrics["federated"] == unbroken["federated"], "bit for bit"
    assert (tmp_path / "model.json").read_text() == model


def test_a_resumed_run_keeps_its_scheme(tmp_path: Path) -> None:
    cut_off(tmp_path, "C=2.0", "crypto.scheme=masks")
    with pytest.raises(ConfigError, match="crypto"):
        resumed(tmp_path, "crypto.scheme=paillier")


@pytest.mark.slow
def test_a_run_that_is_cut_off_twice(tmp_path: Path) -> None:
    config = cut_off(tmp_path, after=1)
    with pytest.raises(KilledError):
        server_app.train(grid_of(config), resumed(tmp_path), tmp_path, kill_after(3))
    metrics = server_app.train(grid_of(config), resumed(tmp_path), tmp_path)
    check_equals_pooled_descent(config, metrics)
    assert len(metrics["rounds"]) == 5


def test_a_finished_run_is_not_resumed(tmp_path: Path) -> None:
    config = experiment("rounds=1", folder=tmp_path)
    server_app.train(grid_of(config), config, tmp_path)
    with pytest.raises(ConfigError, match=r"a run that was cut off, got .* of a finished one"):
        resumed(tmp_path)
    again = replace(config, resume=str(tmp_path))
    with pytest.raises(CheckpointError, match="of a finished one"):
        server_app.train(grid_of(config), again, tmp_path)


def test_a_run_that_ends_before_its_first_sum_leaves_nothing(tmp_path: Path) -> None:
    config = experiment("hop_timeout=1", folder=tmp_path / "run")
    grid = grid_of(config)
    grid.tamper = lambda reply: None if reply.metadata.message_type == MOMENTS else reply
    with pytest.raises(ProtocolError, match=r"^hospital-.*, got 0$"):
        server_app.train(grid, config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"resume must be the folder of a run with a checkpoint"):
        resumed(tmp_path)


def test_the_configuration_is_the_folders(tmp_path: Path) -> None:
    config = cut_off(tmp_path, "hospitals=4", "C=0.5", "partition=uneven")
    again = resumed(tmp_path)
    folder = str(tmp_path.resolve())
    assert again == replace(config, resume=folder, output_dir=folder)
    same = resumed(tmp_path, "hospitals=4", "rounds=5", "partition=uneven", "data=breast_cancer")
    assert same == again
    assert resumed(tmp_path, "hop_timeout=7", "verbose=true") == replace(
        again, hop_timeout=7.0, verbose=True
    )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("rounds=15", "rounds must be 5 as in the run that is resumed, got 15"),
        ("optimizer.lr=0.1", r"optimizer\.lr must be 0\.05 as in .*, got 0\.1"),
        ("experiment=newton", "experiment must be left out with resume: the settings"),
        *slow(
            ("hospitals=3", "hospitals must be 4 as in .*, got 3"),
            ("partition=by_label", r"partition\.scheme must be 'even' as in .*, got 'by_label'"),
            ("C=1", "C must be null as in .*, got 1"),
        ),
    ],
)
def test_an_override_that_contradicts_is_refused_by_name(
    tmp_path: Path, override: str, words: str
) -> None:
    config = cut_off(tmp_path, "hospitals=4")
    with pytest.raises(ConfigError, match=words):
        resumed(tmp_path, override)
    key, _, value = override.partition("=")
    if key == "rounds":
        other = replace(config, resume=str(tmp_path), rounds=int(value))
        with pytest.raises(CheckpointError, match=words):
            server_app.train(grid_of(config), other, tmp_path)


def test_other_features_are_refused(tmp_path: Path) -> None:
    config = cut_off(tmp_path)
    path = tmp_path / "checkpoint.json"
    members = json.loads(path.read_text())
    members["features"].reverse()
    path.write_text(json.dumps(members))
    with pytest.raises(CheckpointError, match="the features must be as in the run that is"):
        server_app.train(grid_of(config), resumed(tmp_path), tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"version": None},
        {"more": 1},
        {"session": 1},
        {"finished": 0},
        {"training": [1.0]},
        {"class_counts": ["1"]},
        {"rounds": [{"round": 1}]},
        {"rounds": -1},
        {"rounds": True},
        {"rounds": 2},
        {"opened": 9},
        {"unopened": 3},
        {"features": [1] * 30},
        {"seconds": float("inf")},
    ],
    ids=str,
)
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    cut_off(tmp_path, after=1)
    path = tmp_path / "checkpoint.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({**whole, **change}))
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(CheckpointError, match="must be a checkpoint"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"theta": [0.5] * 30}, "theta must be of the task's features and classes"),
        ({"theta": [[1.0], 2.0]}, "theta must be numbers"),
        ({"optimizer": None}, "optimizer must be an object"),
        ({"constant": [30]}, "constant must be numbers of features"),
    ],
    ids=str,
)
def test_a_damaged_training_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    cut_off(tmp_path, after=1)
    path = tmp_path / "checkpoint.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({**whole, "training": {**whole["training"], **change}}))
    config = resumed(tmp_path)
    with pytest.raises(CheckpointError, match=f"the checkpoint in .*: the training's {words}"):
        server_app.train(grid_of(config), config, tmp_path)


@pytest.mark.parametrize("version", [2, VERSION - 1])
def test_a_checkpoint_of_an_earlier_release_is_refused_plainly(
    tmp_path: Path, version: int
) -> None:
    made(tmp_path)
    path = tmp_path / "checkpoint.json"
    members = json.loads(path.read_text())
    path.write_text(json.dumps({**members, "version": version, "rounds": [{"round": 1}]}))
    words = rf"is of version {version}, .*: continue with the fl-he that began"
    with pytest.raises(ConfigError, match=words):
        resumed(tmp_path)


def test_a_setting_of_a_later_release_must_have_its_default(tmp_path: Path) -> None:
    config = cut_off(tmp_path, after=2)
    path = tmp_path / "checkpoint.json"
    members = json.loads(path.read_text())
    for name in ("penalty", "inference"):
        del members["config"][name]
    path.write_text(json.dumps(members))
    with pytest.raises(CheckpointError, match="penalty must be 'l2' as in the run that is resumed"):
        load_checkpoint(tmp_path, replace(config, penalty=Penalty.firth))
    metrics = server_app.train(grid_of(config), resumed(tmp_path), tmp_path)
    check_equals_pooled_descent(config, metrics)


ROUNDS = [{"round": number, "loss": 1.0} for number in range(1, 6)]


def lines_of(folder: Path) -> list[str]:
    return (folder / "checkpoint.rounds.jsonl").read_text().splitlines(keepends=True)


@pytest.mark.parametrize("count", [10, 1000])
def test_a_round_costs_the_same_however_many_came_before(tmp_path: Path, count: int) -> None:
    rounds = [{"round": number, "loss": 0.1} for number in range(1, count + 1)]
    opened = [{"number": number, "totals": {"a": "x" * 1000}} for number in range(1, count + 1)]
    kept = Checkpoint({}, ["age"], "s", "f", rounds=rounds, opened=opened)
    file = CheckpointFile(tmp_path)
    file.write(kept)
    before = sum(path.stat().st_size for path in tmp_path.iterdir())
    files = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    later = replace(
        kept,
        rounds=[*rounds, {"round": count + 1, "loss": 0.1}],
        opened=[*opened, {"number": count + 5, "totals": {}}],
    )
    file.write(later)
    assert (tmp_path / "checkpoint.json").stat().st_size < 1000
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < before + 100
    for name in ("checkpoint.rounds.jsonl", "checkpoint.opened.jsonl"):
        assert files[name] == (tmp_path / name).stat().st_ino, "added to, not replaced"
    assert load_checkpoint(tmp_path) == later


def test_a_round_that_changes_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    file, kept = CheckpointFile(tmp_path), Checkpoint({}, ["age"], "s", "f")
    file.write(replace(kept, rounds=ROUNDS))
    file.write(replace(kept, rounds=ROUNDS))
    assert len(lines_of(tmp_path)) == 5
    changed = [*ROUNDS[:-1], {"round": 5, "loss": 2.0}]
    file.write(replace(kept, rounds=changed))
    assert len(lines_of(tmp_path)) == 6
    assert load_checkpoint(tmp_path).rounds == changed


@pytest.mark.parametrize("name", ["checkpoint.rounds.jsonl", "checkpoint.opened.jsonl"])
def test_no_checkpoint_counts_entries_that_were_not_written(tmp_path: Path, name: str) -> None:
    """A link in the place of a list does not make the run write to another file."""
    opened = [{"number": number} for number in range(1, 6)]
    file, kept = CheckpointFile(tmp_path), Checkpoint({}, ["age"], "s", "f")
    file.write(replace(kept, rounds=ROUNDS[:4], opened=opened[:4]))
    before = load_checkpoint(tmp_path)
    moved = (tmp_path / name).rename(tmp_path / "moved")
    whole = moved.read_bytes()
    (tmp_path / name).symlink_to(moved)
    with pytest.raises(OSError, match=name):
        file.write(replace(kept, rounds=ROUNDS, opened=opened))
    assert moved.read_bytes() == whole
    moved.replace(tmp_path / name)
    assert load_checkpoint(tmp_path) == before


@pytest.mark.parametrize("torn", ["", '{"round": 6, "lo'])
def test_rounds_that_no_checkpoint_has_ended_are_begun_again(tmp_path: Path, torn: str) -> None:
    """The coordinator dies between the round's line and the checkpoint, or within the line."""
    made(tmp_path, rounds=ROUNDS[:4])
    path = tmp_path / "checkpoint.rounds.jsonl"
    path.write_text(f"{path.read_text()}{json.dumps(ROUNDS[4])}\n{torn}")
    assert load_checkpoint(tmp_path).rounds == ROUNDS[:4]
    again = [*ROUNDS[:4], {"round": 5, "loss": 3.0}]
    made(tmp_path, rounds=again)
    assert len(lines_of(tmp_path)) == 5
    assert load_checkpoint(tmp_path).rounds == again


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "rounds.jsonl must be there: .*No such file"),
        (b"", "rounds.jsonl must hold 2 entries, got 0"),
        (b'{"round": 1}\n{"round": 2}', "must hold 2 entries, got 1"),
        (b'{"round": 1}\n{"round": 1}\n', "must hold 2 entries, got 1"),
        (b'{"round": 2}\n{"round": 1}\n', "rounds must be all from the first to the last"),
        (b'{"round": 1}\n{}\n', "line 2 of checkpoint.rounds.jsonl must have a whole number round"),
        (b'{"round": true}\n[]\n', "line 1 of checkpoint.rounds.jsonl must have a whole number"),
        (b"{\n{\n", "must be a checkpoint of version 4"),
        (b"\xff\n\n", "must be there: .*utf-8"),
    ],
)
def test_a_damaged_list_of_rounds_is_refused(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    made(tmp_path, rounds=ROUNDS[:2])
    path = tmp_path / "checkpoint.rounds.jsonl"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(tmp_path)


def deployed_experiment(folder: Path, scaling: str, key_holder_timeout: float) -> Config:
    config = experiment("rounds=4", "optimizer.lr=0.5", f"scaling={scaling}", folder=folder)
    return replace(config, key_holder_timeout=key_holder_timeout)


@functools.cache
def _unbroken_deployed(scaling: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        config = deployed_experiment(Path(name) / "run", scaling, key_holder_timeout=600.0)
        grid = LocalGrid(client_app.build(lambda _: config), deployed_nodes(Path(name)), run_id=3)
        return server_app.train(grid, config, Path(name) / "run")


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize(
    ("scaling", "before"),
    [
        *(pytest.param(scaling, 1, marks=pytest.mark.slow) for scaling in ("none", "federated")),
        ("federated", 3),
    ],
)
def test_a_deployed_run_goes_on_in_its_session(
    tmp_path: Path, lost: str, scaling: str, before: int
) -> None:
    """The coordinator dies while company X has the sum that follows `before` others."""
    folder, nodes = tmp_path / "run", deployed_nodes(tmp_path)
    preparation = 2 if scaling == "federated" else 0
    config = deployed_experiment(folder, scaling, key_holder_timeout=0.1)

    def grid(run_id: int) -> LocalGrid:
        return LocalGrid(client_app.build(lambda _: config), nodes, run_id=run_id)

    first = grid(1)
    opened: list[Message] = []

    def away(reply: Message) -> Message | None:
        if reply.metadata.message_type == DECRYPT:
            opened.append(reply)
            if len(opened) == before + 1 and lost == "answer":
                return None
            if len(opened) == before and lost == "request":
                first.leave(1003)
        return reply

    first.tamper = away
    with pytest.raises(ProtocolError, match="company X must open a sum within"):
        server_app.train(first, config, folder)
    checkpoint = load_checkpoint(folder)
    assert len(checkpoint.rounds) == max(0, before - preparation)
    assert checkpoint.unopened is not None

    second = grid(2)
    metrics = server_app.train(second, resumed(folder, "key_holder_timeout=600"), folder)
    sent = [m for m in first.sent + second.sent if m.metadata.message_type == DECRYPT]
    sums = [m.content.array_records["fl-he.sum"]["sum"].data for m in sent]
    assert len(set(sums)) == 4 + preparation, "no round has two sums"
    assert {str(m.content["fl-he"]["session"]) for m in sent} == {checkpoint.session}
    unbroken = _unbroken_deployed(scaling)
    assert metrics["federated"] == unbroken["federated"]
    assert [entry["round"] for entry in metrics["rounds"]] == [1, 2, 3, 4]
    assert metrics["crypto"] == unbroken["crypto"]


def test_a_checkpoint_is_replaced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = cut_off(tmp_path, after=2)
    before = (tmp_path / "checkpoint.json").read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left") as raised:
        server_app.train(grid_of(config), resumed(tmp_path), tmp_path)
    (note,) = raised.value.__notes__
    assert note == f"once that is fixed, resume={tmp_path} continues the run"
    assert (tmp_path / "checkpoint.json").read_bytes() == before


def run_command(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fl_he.cli", "run", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
        start_new_session=True,
    )


@pytest.mark.slow
def test_a_masked_run_is_interrupted_and_resumed_by_command(tmp_path: Path) -> None:
    descent = ("optimizer=gd", "C=2.0", "stratify=false", "rounds=40", "crypto.key_bits=1024")
    settings = ("simulation.engine=local", "crypto.scheme=masks", "output_dir=run")
    with run_command(tmp_path, *descent, *settings) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("round 2/"):
                process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    done = len(load_checkpoint(tmp_path / "run").rounds)
    assert 2 <= done < 40
    with run_command(tmp_path, "resume=run") as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        assert process.wait() == 0, printed
    assert f"round {done}/40" not in printed
    config = experiment("rounds=40", "C=2.0", folder=tmp_path / "paillier")
    unbroken = server_app.train(grid_of(config), config, tmp_path / "paillier")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    schemes = [one["crypto"]["scheme"] for one in (metrics, unbroken)]
    assert schemes == ["masks", "paillier"]
    models = [(tmp_path / name / "model.json").read_text() for name in ("run", "paillier")]
    assert models[0] == models[1], "bit for bit"


@pytest.mark.release
def test_kill_9_and_resume_in_ray(tmp_path: Path) -> None:
    descent = ("optimizer=gd", "C=null", "stratify=false", "rounds=5")
    settings = (*descent, "crypto.key_bits=1024", "output_dir=run")
    with run_command(tmp_path, *settings) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("round 2/5"):
                os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    records = (tmp_path / "run" / ".hydra" / "overrides.yaml").read_text()
    with run_command(tmp_path, "resume=run") as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        assert process.wait() == 0, printed
    assert "a new key and a new session" in printed
    assert "round 1/5" not in printed
    assert "round 5/5" in printed
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    config = experiment("rounds=5", folder=tmp_path / "run")
    check_equals_pooled_descent(config, metrics)
    assert [entry["round"] for entry in metrics["rounds"]] == [1, 2, 3, 4, 5]
    assert np.isfinite(metrics["seconds"])
    saved = tmp_path / "run" / "hospitals" / "hospital-1" / "model.json"
    assert saved.read_text() == (tmp_path / "run" / "model.json").read_text()
    assert (tmp_path / "run" / ".hydra" / "overrides.yaml").read_text() == records
    assert not (tmp_path / "outputs").exists()
    with run_command(tmp_path, "resume=run") as process:
        assert process.stdout is not None
        assert "got" in process.stdout.read()
        assert process.wait() == 1
