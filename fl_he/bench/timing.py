"""Medians of repeated runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from time import perf_counter
from typing import Generic, TypeVar

import numpy as np

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
