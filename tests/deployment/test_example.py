"""examples/deployment/run.sh: a real deployment on loopback, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flower_command import processes_with

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "deployment" / "run.sh"
_PATIENCE = 1500.0  # seconds


@contextmanager
def running() -> Iterator[subprocess.Popen[str]]:
    """Start the script; nothing of it may be left at the end."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    with subprocess.Popen(
        [str(SCRIPT)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as script:
        assert script.stdout is not None
        folder = Path(script.stdout.readline().split()[3])
        assert folder.is_dir()
        try:
            yield script
        finally:
            if script.poll() is None:
                os.killpg(script.pid, signal.SIGINT)
            script.communicate(timeout=60)
    assert not processes_with(f"FLWR_HOME={folder}/flwr".encode())
    assert not folder.exists()


@pytest.mark.slow
def test_the_example_passes() -> None:
    with running() as script:
        printed, _ = script.communicate(timeout=_PATIENCE)
    assert script.returncode == 0, printed
    assert "FAILED" not in printed
    assert printed.count("\nok ") == 12, printed
    assert "a stranger is turned away" in printed
    assert "\nthe packing must be the key holder's\n" in printed
    assert printed.count("our own code, per hop") == 2


@pytest.mark.slow
def test_an_interrupted_example_leaves_nothing_behind() -> None:
    with running() as script:
        assert script.stdout is not None
        assert any("== a run that is refused" in line for line in script.stdout)
        os.killpg(script.pid, signal.SIGINT)
        script.communicate(timeout=60)
    assert script.returncode == 130
