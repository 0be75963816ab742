"""Real runs on Flower's Ray engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from experiments import check_equals_pooled_descent, experiment, on_round
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from ray._private import node, services

from fl_he import simulation
from fl_he.config.constraints import ConfigError
from fl_he.experiment.ray_engine import run_in_ray
from fl_he.learning.errors import DataError

pytestmark = [pytest.mark.waits, pytest.mark.xdist_group("ray")]


def descendants(pid: int) -> set[int]:
    """Return the processes that a process has started, and theirs."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(entry.name))
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.add(child)
            waiting.append(child)
    return found


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until_gone(processes: set[int]) -> None:
    """Wait for processes that were told to end; a busy machine takes its time."""
    deadline = time.monotonic() + 60
    while alive := [pid for pid in processes if is_alive(pid)]:
        assert time.monotonic() < deadline, alive
        time.sleep(0.2)


@pytest.mark.slow
def test_default_experiment_at_2048_bits(tmp_path: Path) -> None:
    before = descendants(os.getpid())
    config = experiment(folder=tmp_path, key_bits=2048)
    rounds: list[object] = []
    metrics = simulation.run(config, tmp_path, on_round(rounds.append))
    check_equals_pooled_descent(config, metrics)
    assert metrics["federated"]["accuracy"] >= 0.95
    assert len(rounds) == config.rounds == 15
    assert metrics["crypto"]["ciphertexts_per_update"] == 1
    assert metrics["crypto"]["bytes_per_update"] <= 512 + 64
    model = (tmp_path / "model.json").read_text()
    for number in (1, 2, 3):
        assert (tmp_path / "hospitals" / f"hospital-{number}" / "model.json").read_text() == model
    wait_until_gone(descendants(os.getpid()) - before)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    saved = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)
    assert saved["version"] == 1


@pytest.mark.release
@pytest.mark.parametrize(
    "overrides",
    [
        "topology=chain hospitals=10 partition=uneven rounds=3",
        "topology=fold hospitals=50 partition=uneven rounds=3",
        "topology=chain hospitals=50 rounds=2",
    ],
)
def test_more_hospitals(tmp_path: Path, overrides: str) -> None:
    config = experiment(*overrides.split(), folder=tmp_path)
    check_equals_pooled_descent(config, simulation.run(config, tmp_path))


def test_a_refusal_ends_the_run(tmp_path: Path) -> None:
    before = descendants(os.getpid())
    config = experiment(
        "data=csv",
        f"data.path={tmp_path}/no.csv",
        "data.target=y",
        "data.positive=1",
        folder=tmp_path,
    )
    told: list[object] = []
    with pytest.raises(DataError, match=r"no\.csv"):
        simulation.run(config, tmp_path, told.append)
    assert told == []
    assert descendants(os.getpid()) <= before


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, marks=pytest.mark.release),
        pytest.param(signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
def test_a_signal_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "fl_he.cli", "run", "rounds=100000", "tolerance=1e-12"]
    with subprocess.Popen(
        [*command, "optimizer=gd", "crypto.key_bits=1024", "output_dir=run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("round 3/"):
                break
        started = descendants(process.pid)
        assert started, "".join(lines)
        process.send_signal(number)
        end = time.monotonic()
        if number == signal.SIGKILL:
            assert process.wait() == -number
            wait_until_gone(started)
            assert time.monotonic() < end + 30, "Ray's own way takes a minute"
            return
        rest = process.stdout.read()
        assert process.wait() == 128 + number, "".join(lines) + rest
    *rounds, last = rest.splitlines()
    assert all(line.startswith("round ") for line in rounds), "no stack of Ray's"
    assert last == f"fl-he: interrupted; `fl-he run resume={tmp_path}/run` continues it"
    wait_until_gone(started)


@pytest.mark.slow
def test_a_second_run_into_the_folder_is_refused_before_ray_starts(tmp_path: Path) -> None:
    def started(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "fl_he.cli", "run", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tmp_path,
        )

    settings = ("simulation.engine=local", "crypto.key_bits=1024", "output_dir=run")
    with started("rounds=100000", "tolerance=1e-12", "optimizer=gd", *settings) as first:
        try:
            assert first.stdout is not None
            while not (line := first.stdout.readline()).startswith("round 2/"):
                assert line
            for again in (settings, ("resume=run",)):
                with started(*again) as second:
                    assert second.stdout is not None
                    words = f"fl-he: another run is at work in '{tmp_path}/run': wait until it has"
                    printed = second.stdout.read()
                    assert printed.startswith(words)
                    assert printed.count("\n") == 1
                    assert second.wait() == 1
            assert first.poll() is None
        finally:
            first.kill()


@pytest.mark.slow
@pytest.mark.parametrize("slow_starts", [1, 3])
def test_a_start_of_ray_that_is_too_slow_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, slow_starts: int
) -> None:
    before = descendants(os.getpid())
    late = list[str]()
    found: Callable[[str, str], object] = services.get_node

    def get_node(address: str, name: str) -> object:
        if len(late) < slow_starts and name not in late:
            late.append(name)
            raise RuntimeError("not there yet")
        return found(address, name)

    # Ray waits for 30 seconds; half a minute passes with each late start.
    clock = SimpleNamespace(**vars(time))
    clock.monotonic = lambda: time.monotonic() + 31 * len(late)
    monkeypatch.setattr(node, "time", clock)

    def nodes(grid: Grid) -> int:
        # The processes of starts that failed are gone.
        names = [psutil.Process(child).name() for child in descendants(os.getpid()) - before]
        assert names.count("raylet") == 1
        return len(list(grid.get_node_ids()))

    monkeypatch.setattr(services, "get_node", get_node)
    if slow_starts == 1:
        assert run_in_ray(nodes, ClientApp(), 2) in range(3)  # Flower registers them meanwhile
    else:
        with pytest.raises(ConfigError, match="must be local on a machine as busy as this"):
            run_in_ray(nodes, ClientApp(), 2)
    assert len(late) == slow_starts
    wait_until_gone(descendants(os.getpid()) - before)
