"""Flower's own command in a test: a separate home and ports, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PATIENCE = 60.0  # seconds, for processes to end
#: Starts the SuperLink as `flwr run` does, which gives up after 15 s however busy the machine is.
_START = """
from flwr.cli import local_superlink
local_superlink.LOCAL_SUPERLINK_STARTUP_TIMEOUT = 600.0
local_superlink._start_local_superlink()
"""


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
        """Run an app in the current environment and return Flower's output."""
        command = ["flwr", "run", str(app), "--stream"]
        command += ["--federation-config", f"num-supernodes={nodes}", "--run-config", run_config]
        self._start(cwd)
        return self._printed(command, cwd, 1200).stdout

    def shell(self, script: Path, cwd: Path) -> str:
        """Run a script of bash that ends with its first failing command; return its output."""
        self._start(cwd)
        done = self._printed(["bash", "-e", str(script)], cwd, 2400)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def running(self) -> set[int]:
        """Return the processes that Flower has left."""
        return processes_with(f"FLWR_HOME={self.home}".encode())

    def _start(self, cwd: Path) -> None:
        if not self.running():
            done = self._printed([sys.executable, "-c", _START], cwd, 700)
            assert done.returncode == 0, done.stdout

    def _printed(
        self, command: list[str], cwd: Path, seconds: float
    ) -> subprocess.CompletedProcess[str]:
        scripts = Path(sys.executable).parent
        environment = {
            **os.environ,
            # flwr starts flower-superlink by name, and on ports that somebody may be using.
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "FLWR_LOCAL_CONTROL_API_PORT": str(self.ports[0]),
            "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(self.ports[1]),
            "FLWR_HOME": str(self.home),
            "FLWR_TELEMETRY_ENABLED": "0",
            # The app's packages are installed: the run must not need a network.
            "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        }
        return subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
        )


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
            with suppress(ProcessLookupError):  # it has ended by itself
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
