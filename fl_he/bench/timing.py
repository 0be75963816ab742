"""Calls measured in turn, and the spread of their seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, TypeVar

import numpy as np

Result = TypeVar("Result")

#: Calls of less are measured with warm caches.
SHORT_SECONDS = 0.1


class Follow(Protocol):
    """Shows what is being measured; may be called from any thread."""

    def __call__(self, text: str, done: int = 0, total: int | None = None) -> None:
        """Show what is at work.

        Parameters
        ----------
        text : str
            What it is.
        done, total : int
            How far it is; without a total that is unknown.
        """


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Return median and quartiles of at least one value, by their names in bench.json."""
    lower, median, upper = np.quantile(seconds, (0.25, 0.5, 0.75)).tolist()
    return {"median_seconds": median, "lower_quartile": lower, "upper_quartile": upper}


@dataclass(frozen=True, slots=True)
class Effort:
    """Fewest and most runs of a call, and their seconds.

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
        """Tell whether this many runs that took so long are sufficient."""
        enough = runs >= self.most or (runs >= self.least and seconds >= self.enough)
        return runs > 0 and (enough or seconds >= self.limit)


def in_turn(
    calls: Mapping[str, Callable[[], Result]], effort: Effort, follow: Follow
) -> dict[str, list[Result]]:
    """Call in turn, A B A B, so that a noisy minute of the machine hits all calls alike.

    The call before it fills the processor's caches with other data, which is a large part of a
    short call's time. A call of less than `SHORT_SECONDS` is made twice in its turn, and the
    second one is measured.

    Parameters
    ----------
    calls : mapping of str to callable
        By the name under which ``follow`` shows them.
    effort : Effort
        How often each is called.
    follow : Follow
        Is told the name of each call before it runs.

    Returns
    -------
    dict of str to list
        Results of the measured runs of each call.
    """
    results: dict[str, list[Result]] = {name: [] for name in calls}
    seconds = dict.fromkeys(calls, 0.0)
    while waiting := [
        name for name in calls if not effort.is_done(len(results[name]), seconds[name])
    ]:
        for name in waiting:
            follow(name)
            start = perf_counter()
            result = calls[name]()
            if perf_counter() - start < SHORT_SECONDS:
                result = calls[name]()
            results[name].append(result)
            seconds[name] += perf_counter() - start
    return results
