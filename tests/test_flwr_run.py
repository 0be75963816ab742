"""The repository root as a Flower app, started by Flower's own command."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from experiment import check_equals_pooled_descent, experiment

ROOT = Path(__file__).parents[1]


def processes_with(variable: bytes) -> set[int]:
    """Return the processes whose environment holds the variable."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if variable in environment:
                found.add(int(entry.name))
    return found


@pytest.fixture(scope="module")
def flower_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a FLWR_HOME of our own; stops the SuperLink that ``flwr run`` leaves behind."""
    home = tmp_path_factory.mktemp("flwr-home")
    yield home
    variable = f"FLWR_HOME={home}".encode()
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in processes_with(variable):
            os.kill(pid, number)
        deadline = time.monotonic() + 15
        while processes_with(variable) and time.monotonic() < deadline:
            time.sleep(0.2)
    assert not processes_with(variable)


@pytest.fixture(scope="module")
def ports() -> list[int]:
    """Return two free ports."""
    with socket.socket() as first, socket.socket() as second:
        sockets = [first, second]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def flwr_run(home: Path, ports: list[int], cwd: Path, nodes: int, overrides: str) -> str:
    """Run the app of the repository root and return what Flower printed."""
    scripts = Path(sys.executable).parent
    command = [str(scripts / "flwr"), "run", str(ROOT), "--stream"]
    command += ["--federation-config", f"num-supernodes={nodes}"]
    command += ["--run-config", f"overrides='{overrides}'"]
    environment = {
        **os.environ,
        # flwr starts flower-superlink by name, and on ports that somebody may be using.
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "FLWR_LOCAL_CONTROL_API_PORT": str(ports[0]),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(ports[1]),
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        # What the app needs is installed: the run must not need a network.
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    }
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return done.stdout + done.stderr


def test_the_same_experiment(flower_home: Path, ports: list[int], tmp_path: Path) -> None:
    overrides = f"hospitals=4 rounds=3 crypto.key_bits=1024 output_dir={tmp_path}/run"
    printed = flwr_run(flower_home, ports, tmp_path, 5, overrides)
    assert (tmp_path / "run" / "metrics.json").exists(), printed
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    config = experiment("hospitals=4", "rounds=3", folder=tmp_path / "run")
    check_equals_pooled_descent(config, metrics)
    assert (tmp_path / "run" / "hospitals" / "hospital-4" / "model.json").exists()
    assert "round 3: loss" in printed


def test_another_number_of_nodes_is_refused(
    flower_home: Path, ports: list[int], tmp_path: Path
) -> None:
    overrides = f"hospitals=5 output_dir={tmp_path}/run"
    printed = flwr_run(flower_home, ports, tmp_path, 2, overrides)
    assert "hospitals=5 needs 6 simulated SuperNodes" in printed
    assert "num-supernodes=6" in printed
    assert not (tmp_path / "run").exists()
