"""Flower's SuperNode in a process that ends with the one that started it.

``python -m fl_he.supernode.child OPTIONS``: standard input is the reading end of a pipe, whose
writing end the parent holds and never writes to.
"""

from __future__ import annotations

import os
import signal
import sys
from threading import Thread


def end_with(lifeline: int) -> None:
    """Kill this process and all of its group as soon as nobody holds the pipe's writing end."""

    def wait() -> None:
        os.read(lifeline, 1)
        os.killpg(0, signal.SIGKILL)

    Thread(target=wait, daemon=True, name="lifeline").start()


def main() -> None:
    """Run Flower's SuperNode."""
    from fl_he.supernode.flower import run_supernode  # noqa: PLC0415 - lazy: not for who imports us

    end_with(sys.stdin.fileno())
    run_supernode()


if __name__ == "__main__":
    main()
