"""How the terminal follows a run: a live view, or plain lines where nobody watches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Any

from rich.console import Console
from rich.live import Live

from fl_he.terminal.live_view import LiveView, short_name
from fl_he.wire.events import (
    Event,
    Finishing,
    HopBegan,
    HopEnded,
    Listener,
    RoundEnded,
    Starting,
    StepEnded,
)

_COMPARING = "comparing and saving"


@contextmanager
def follow_rounds(console: Console, hospitals: int, rounds: int) -> Iterator[Listener]:
    """Show the start, the rounds and the comparison of a run while the context is open.

    Parameters
    ----------
    console : rich.console.Console
        Where to show them: as a live view on a terminal, else, and where the environment
        variable ``CI`` is set, as one line for each round.
    hospitals, rounds : int
        Of the run.

    Yields
    ------
    callable
        Is to be told the events of the run, from any thread.
    """
    with _screen(console, rounds, lambda done: f"round {done}/{rounds}: ") as screen:

        def show(event: Event) -> None:
            match event:
                case Starting(engine):
                    ray = "Ray and " if engine == "ray" else ""
                    screen.wait(f"starting {ray}{hospitals} hospitals")
                case HopBegan() | HopEnded():
                    screen.show_hop(event)
                case RoundEnded(entry):
                    screen.advance(entry["round"], _quality(entry), _contributions(entry))
                case Finishing():
                    screen.wait(_COMPARING)

        yield show


@contextmanager
def follow_steps(console: Console, parties: int, steps: int) -> Iterator[Listener]:
    """Show the steps of a run of CaPC while the context is open.

    Parameters
    ----------
    console : rich.console.Console
        As in `follow_rounds`.
    parties : int
        Of the run.
    steps : int
        About how many there will be; models with hidden layers take more.

    Yields
    ------
    callable
        Is to be told the events of the run, from any thread.
    """
    times = _StepTimes()
    with _screen(console, steps, lambda _: "done: ") as screen:

        def show(event: Event) -> None:
            match event:
                case Starting():
                    screen.wait(f"starting {parties} parties and the privacy guardian")
                case HopBegan() | HopEnded():
                    screen.show_hop(event)
                case StepEnded(step):
                    words = times.end(step)
                    screen.advance(times.done, words)

        yield show


class _Lines:
    """One line for each step, in place of a `LiveView`."""

    def __init__(self, console: Console, label: Callable[[int], str]) -> None:
        self._console, self._label = console, label

    def wait(self, words: str) -> None:
        """Print what is waited for."""
        self._console.print(words)

    def advance(self, done: int, words: str, more: str = "") -> None:
        """Print how a step went, and what a live view shows of its hops."""
        line = f"{self._label(done)}{words}{more}"
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def show_hop(self, hop: HopBegan | HopEnded) -> None:
        """Print nothing."""


@contextmanager
def _screen(
    console: Console, steps: int, label: Callable[[int], str]
) -> Iterator[LiveView | _Lines]:
    """Give a live view where somebody watches, else lines."""
    if console.is_terminal and os.environ.get("CI", "").lower() in ("", "0", "false"):
        view = LiveView(steps)
        with Live(view, console=console, transient=True, refresh_per_second=8) as live:
            view.refresh = live.refresh
            yield view
    else:
        yield _Lines(console, label)


class _StepTimes:
    """Counts steps, and takes the time from the end of one to the end of the next."""

    def __init__(self) -> None:
        self.done = 0
        self._last = monotonic()

    def end(self, step: str) -> str:
        """Return a step's name and how long it took."""
        before, self._last = self._last, monotonic()
        self.done += 1
        return f"{short_name(step)}, {self._last - before:.1f} s"


def _quality(entry: Mapping[str, Any]) -> str:
    if entry["loss"] is not None:
        return f"loss {entry['loss']:.4f}, accuracy {entry['accuracy']:.3f}"
    # With privacy hospitals tell neither; a simulation has its test set, unless it holds none out.
    if entry["test_loss"] is None:
        return "no figure of quality"
    return f"test loss {entry['test_loss']:.4f}, test accuracy {entry['test_accuracy']:.3f}"


def _contributions(entry: Mapping[str, Any]) -> str:
    """Say who is in the total, and how long the longest hop took."""
    parts = []
    if entry.get("contributors") is not None:
        parts.append(f"{entry['contributors']} in the total")
    if entry.get("skipped"):
        parts.append(f"without {', '.join(entry['skipped'])}")
    if entry.get("hops"):
        longest = max(entry["hops"], key=lambda hop: hop["seconds"])
        parts.append(f"longest hop {longest['seconds']:.2f} s ({longest['node']})")
    return "".join(f", {part}" for part in parts)
