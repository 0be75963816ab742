"""examples/deployment/run.sh leaves nothing behind; `make commands ALL=1` runs it to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flower_command import processes_with
from quick import release

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "deployment" / "run.sh"


@pytest.mark.slow
@pytest.mark.parametrize(("running", "closed"), [("stranger", True), *release(("refused", False))])
def test_an_interrupted_example_leaves_nothing_behind(running: str, *, closed: bool) -> None:
    """Interrupt a node that waits for the SuperLink, where nobody reads any more, and a run."""
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
        log = folder / f"{running}.log"
        try:
            while not (log.exists() and log.stat().st_size):
                assert script.poll() is None
                time.sleep(0.1)
            if closed:
                script.stdout.close()
        finally:
            os.killpg(script.pid, signal.SIGINT)
            script.communicate(timeout=45)  # before a node ends that hears no SIGINT
    assert script.returncode == 130
    assert not processes_with(f"FLWR_HOME={folder}/flwr".encode())
    assert not folder.exists()
