"""Flower's own command in a test: a home and ports of its own, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PATIENCE = 15.0  # seconds, for processes to end


@dataclass(frozen=True)
class Flower:
    """Runs apps on one local SuperLink.

    Attributes
    ----------
    home : Path
        FLWR_HOME.
    ports : tuple of int
        Of the control API and the HTTP API.
    """

    home: Path
    ports: tuple[int, int]

    def run(self, app: Path, cwd: Path, nodes: int, run_config: str) -> str:
        """Run an app in the current environment and return what Flower printed."""
        scripts = Path(sys.executable).parent
        command = [str(scripts / "flwr"), "run", str(app), "--stream"]
        command += ["--federation-config", f"num-supernodes={nodes}", "--run-config", run_config]
        environment = {
            **os.environ,
            # flwr starts flower-superlink by name, and on ports that somebody may be using.
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "FLWR_LOCAL_CONTROL_API_PORT": str(self.ports[0]),
            "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(self.ports[1]),
            "FLWR_HOME": str(self.home),
            "FLWR_TELEMETRY_ENABLED": "0",
            # What the app needs is installed: the run must not need a network.
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        }
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.stdout + done.stderr


@contextmanager
def flower(home: Path) -> Iterator[Flower]:
    """Give a Flower of one's own; ends the SuperLink that ``flwr run`` leaves running."""
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
        ports = first.getsockname()[1], second.getsockname()[1]
    try:
        yield Flower(home, ports)
    finally:
        end_processes_with(f"FLWR_HOME={home}".encode())


def end_processes_with(variable: bytes) -> None:
    """End the processes, but for this one, whose environment holds the variable."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in processes_with(variable):
            os.kill(pid, number)
        deadline = time.monotonic() + _PATIENCE
        while processes_with(variable) and time.monotonic() < deadline:
            time.sleep(0.2)
    assert not processes_with(variable)


def processes_with(variable: bytes) -> set[int]:
    """Return the processes, but for this one, whose environment holds the variable."""
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
