"""Processes that this one has started, directly or through others."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil


def children() -> list[psutil.Process]:
    """Return all descendants of this process that are there now."""
    import psutil  # noqa: PLC0415 - lazy: few commands need it

    return list(psutil.Process().children(recursive=True))


def kill_children(spared: Collection[psutil.Process] = ()) -> None:
    """Kill all descendants of this process.

    Parameters
    ----------
    spared : collection of psutil.Process
        Of `children`: these are left alone.
    """
    import psutil  # noqa: PLC0415 - lazy: few commands need it

    # Stopped before they are killed: Ray starts what has ended again.
    for end in (psutil.Process.suspend, psutil.Process.kill):
        for child in children():
            if child not in spared:
                with suppress(psutil.Error):
                    end(child)
