"""Peak memory of a process and its children."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from threading import Event, Thread

_PROC = Path("/proc")
_INTERVAL = 0.05  # seconds between two looks
#: ru_maxrss is in KiB on Linux and in bytes on macOS.
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


class PeakMemory:
    """Watches a process and all that descend from it; a context manager.

    The memory of a process is its resident set, at its highest so far: a short peak between two
    looks counts too. Pages that processes share count once for each of them.

    Parameters
    ----------
    pid : int
        The process.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._peak = 0

    @property
    def bytes(self) -> int:
        """Largest sum so far; 0 where the system does not tell (it does on Linux)."""
        return self._peak

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(_INTERVAL):
            self._look()

    def _look(self) -> None:
        family = [self._pid, *descendants(self._pid)]
        self._peak = max(self._peak, sum(_high_water_mark(pid) for pid in family))


def own_peak() -> int:
    """Return the peak of this process plus that of its largest finished child, in bytes."""
    parts = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(part).ru_maxrss for part in parts) * _MAXRSS_UNIT


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and theirs; none without ``/proc``."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        for tasks in _PROC.glob(f"{parent}/task/*/children"):
            children = [int(child) for child in _read(tasks).split()]
            found += children
            waiting += children
    return found


def _high_water_mark(pid: int) -> int:
    for line in _read(_PROC / str(pid) / "status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended
        return ""
