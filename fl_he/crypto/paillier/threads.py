"""Threads for calls that release the interpreter lock, such as gmpy2's powmod on lists."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_all(calls: Iterable[Callable[[], Result]]) -> list[Result]:
    """Run calls side by side, the first in the calling thread; return their results in order."""
    first, *others = calls
    with ThreadPoolExecutor(max(1, len(others))) as pool:  # starts a thread for each call only
        futures = [pool.submit(call) for call in others]
        return [first(), *(future.result() for future in futures)]
