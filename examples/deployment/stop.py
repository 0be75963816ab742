"""End all processes of one Flower home: ``python stop.py FLWR_HOME``.

Every process of the example has it in its environment, also those that Flower starts by itself and
leaves behind when it is ended.
"""

from __future__ import annotations

import contextlib
import os
import sys

import psutil

_PATIENCE = 10.0  # seconds to end by oneself


def processes_of(home: str) -> list[psutil.Process]:
    """Return the processes, but for this one, that were started with this Flower home."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # gone, or somebody else's
            if process.pid != os.getpid() and process.environ().get("FLWR_HOME") == home:
                found.append(process)
    return found


def main() -> None:
    """Ask them to end, then end them, until there is none."""
    end = psutil.Process.terminate
    while processes := processes_of(sys.argv[1]):
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                end(process)
        if psutil.wait_procs(processes, timeout=_PATIENCE)[1]:
            end = psutil.Process.kill


if __name__ == "__main__":
    main()
