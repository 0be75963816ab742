"""Medians of repeated runs.

What the figures were measured on: hardware and versions, nothing that names the machine.

What the terminal shows while something is measured.

bench.json: what a benchmark measured, on what, and how it was called.

``version`` of this format, ``fl_he``, ``command``, ``quick`` (fewer runs and cases: for a look,
not for comparison), ``machine`` (see `machine`), ``seconds`` of the whole benchmark, and
``sections`` with one member for each that was run: ``kernel``, ``federation``, ``hospitals``,
``capc``.
Names that end in ``_seconds`` are seconds, others with ``bytes`` are bytes. There is no host name,
no user and no path in it.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fl_he.atomic import replace_file
from fl_he.bench.fresh import BenchError
from fl_he.crypto.paillier.threads import available_cores
from fl_he.version import __version__

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, quartiles and mean of some seconds.

    Attributes
    ----------
    median, lower, upper, mean : float
        Seconds; ``lower`` and ``upper`` are the quartiles.
    runs : int
        How many values they are of.
    """

    median: float
    lower: float
    upper: float
    mean: float
    runs: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Summarise at least one value."""
        lower, median, upper = np.quantile(seconds, (0.25, 0.5, 0.75))
        return cls(float(median), float(lower), float(upper), fmean(seconds), len(seconds))


@dataclass(frozen=True, slots=True)
class Effort:
    """How often something is measured.

    Attributes
    ----------
    least, most : int
        Fewest and most runs.
    enough : float
        Seconds that all runs together should take, within these limits.
    limit : float
        Seconds after which there is no further run, even if there were fewer than ``least``.
    """

    least: int
    most: int
    enough: float
    limit: float

    def is_done(self, runs: int, seconds: float) -> bool:
        """Tell whether so many runs that took so long are sufficient."""
        if runs == 0:
            return False
        return (
            runs >= self.most
            or seconds >= self.limit
            or (runs >= self.least and seconds >= self.enough)
        )


@dataclass
class Measured(Generic[Result]):
    """A call that is measured several times.

    Attributes
    ----------
    name : str
        For people.
    call : callable
        What is measured.
    results : list
        One entry for each run so far.
    seconds : float
        What all runs took.
    """

    name: str
    call: Callable[[], Result]
    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0

    def run(self) -> None:
        """Call once more."""
        start = perf_counter()
        self.results.append(self.call())
        self.seconds += perf_counter() - start


def in_turn(calls: Sequence[Measured[Result]], effort: Effort) -> Iterator[Measured[Result]]:
    """Measure calls in turn, so that a noisy minute of the machine hits all of them alike.

    Parameters
    ----------
    calls : sequence of Measured
        Their results are filled in.
    effort : Effort
        How often to run each.

    Yields
    ------
    Measured
        Each one before it runs.
    """
    waiting = list(calls)
    while waiting:
        for call in waiting:
            yield call
            call.run()
        waiting = [call for call in waiting if not effort.is_done(len(call.results), call.seconds)]


_LIBRARIES = ("flwr", "ray", "phe", "gmpy2", "numpy", "tenseal")
_CPUINFO = Path("/proc/cpuinfo")


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory, system, Python and library versions.

    Returns
    -------
    dict
        ``libraries`` maps names to versions, None where one is not installed. ``load_average``
        is that of the last minute: above about 0.3 other jobs were running.
    """
    return {
        "cpu": _cpu(),
        "cores": available_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "load_average": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


class Follow(Protocol):
    """Tells what is being measured; may be called from any thread."""

    def __call__(self, text: str, done: int = 0, total: int | None = None) -> None:
        """Show what is at work.

        Parameters
        ----------
        text : str
            What it is.
        done, total : int
            How far it is; without a total that is unknown.
        """


@contextmanager
def follow(console: Console) -> Iterator[Follow]:
    """Show measurements while the context is open.

    Parameters
    ----------
    console : rich.console.Console
        A terminal gets one line that moves, anything else a line for each new text.

    Yields
    ------
    Follow
    """
    if not console.is_terminal:
        yield _Lines(console)
        return
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task("", total=None)

        def show(text: str, done: int = 0, total: int | None = None) -> None:
            bar.update(task, description=text, completed=done, total=total)

        yield show


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: set[str] = set()

    def __call__(self, text: str, done: int = 0, total: int | None = None) -> None:
        if text not in self._shown:
            self._console.print(text, highlight=False)
            self._shown.add(text)


VERSION = 1


def check_out(path: Path) -> None:
    """Raise BenchError unless a file can be written there: before an hour's work, not after."""
    if path.is_dir() or not path.parent.is_dir():
        raise BenchError(f"out must be a file in a folder that exists, got {path}")


def write_bench(path: Path, bench: Mapping[str, Any]) -> None:
    """Write bench.json, at once or not at all.

    Parameters
    ----------
    path : Path
        Where; replaced if it exists.
    bench : mapping
        ``command``, ``quick``, ``machine``, ``seconds`` and ``sections``.
    """
    document = {"version": VERSION, "fl_he": __version__, **bench}
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)
    replace_file(path, f"{text}\n".encode())
