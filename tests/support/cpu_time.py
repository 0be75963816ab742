"""Limits on CPU time that hold on slow machines, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import process_time


@contextmanager
def at_most(millions: float) -> Iterator[None]:
    """Fail if the body takes more CPU time than a loop of that many million steps after it."""
    start = process_time()
    yield
    taken, start, total = process_time() - start, process_time(), 0
    for step in range(1_000_000):
        total += step * step
    assert taken < millions * (process_time() - start)
