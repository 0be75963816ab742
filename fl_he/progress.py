"""How the terminal follows a run: a live view, or plain lines where nobody watches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from time import monotonic
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from fl_he.hop import Hop, OnHop

_LOADING, _COMPARING = "loading the data", "comparing and saving"
_PREFIXES = ("query.capc_", "query.", "train.")
#: Nodes that the live view names; more are counted.
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Followed:
    """What a run is to call while it goes on, from any thread.

    Attributes
    ----------
    on_round : callable
        After each round with its entry of ``rounds`` in metrics.json, or, in a run of CaPC, after
        each step with its name as ``step``.
    on_hop : callable
        When a message goes out to a node, and when its answer comes.
    on_start : callable
        When the data are loaded and the nodes are about to be started.
    """

    on_round: Callable[[Mapping[str, Any]], None]
    on_hop: OnHop
    on_start: Callable[[], None]


@contextmanager
def follow_rounds(console: Console, hospitals: int, rounds: int) -> Iterator[Followed]:
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
    Followed
    """
    starting = f"starting Ray and {hospitals} hospitals"
    if _is_watched(console):
        with _live(console, rounds) as view:

            def show_round(entry: Mapping[str, Any]) -> None:
                view.advance(entry["round"], _quality(entry))
                if _is_last(entry, rounds):
                    view.wait(_COMPARING)

            yield Followed(show_round, view.on_hop, lambda: view.wait(starting))
        return

    def print_round(entry: Mapping[str, Any]) -> None:
        line = f"round {entry['round']}/{rounds}: {_quality(entry)}{_contributions(entry)}"
        console.print(line, highlight=False, soft_wrap=True, markup=False)
        if _is_last(entry, rounds):
            console.print(_COMPARING)

    yield Followed(print_round, lambda _: None, lambda: console.print(starting))


@contextmanager
def follow_steps(console: Console, parties: int, steps: int) -> Iterator[Followed]:
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
    Followed
    """
    starting = f"starting {parties} parties and the privacy guardian"
    last = monotonic()

    def took() -> float:
        nonlocal last
        before, last = last, monotonic()
        return last - before

    if _is_watched(console):
        with _live(console, steps) as view:
            done = 0

            def show_step(entry: Mapping[str, Any]) -> None:
                nonlocal done
                done += 1
                view.advance(done, f"{_short(entry['step'])}, {took():.1f} s")

            yield Followed(show_step, view.on_hop, lambda: view.wait(starting))
        return

    def print_step(entry: Mapping[str, Any]) -> None:
        line = f"done: {_short(entry['step'])}, {took():.1f} s"
        console.print(line, highlight=False, soft_wrap=True, markup=False)

    yield Followed(print_step, lambda _: None, lambda: console.print(starting))


class _View:
    """The live view: a spinner before and after the steps, a bar and the hops while they run."""

    def __init__(self, steps: int) -> None:
        self._waiting = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        )
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            expand=True,  # the bar takes what the figures leave
        )
        self._lock = RLock()
        self._wait = self._waiting.add_task(_LOADING)
        self._steps = self._bar.add_task("", total=steps)
        self._at_work: dict[str, tuple[str, float]] = {}
        self._answered: dict[str, Hop] = {}
        self._running = False
        #: Shows a change at once. Never called under the lock, which Rich takes when it draws.
        self.refresh: Callable[[], None] = lambda: None

    def __rich__(self) -> RenderableType:
        """Return what is there to be seen now: Rich asks several times a second."""
        with self._lock:
            if not self._running:
                return Group(self._waiting, self._hops()) if self._at_work else self._waiting
            return Group(self._bar, self._hops())

    def advance(self, done: int, description: str) -> None:
        """Show that so many steps are done."""
        with self._lock:
            self._running = True
            self._at_work.clear()
            self._answered.clear()
            total = max(done, self._bar.tasks[0].total or 0)
            self._bar.update(self._steps, completed=done, total=total, description=description)
        self.refresh()

    def wait(self, words: str) -> None:
        """Show what is waited for before or after the steps."""
        with self._lock:
            self._running = False
            self._at_work.clear()
            self._waiting.update(self._wait, description=words)
        self.refresh()

    def on_hop(self, hop: Hop) -> None:
        """Show who is at work and who has answered."""
        with self._lock:
            if hop.seconds is None:
                self._at_work[hop.node] = hop.action, monotonic()
                self._answered.pop(hop.node, None)
            else:
                self._at_work.pop(hop.node, None)
                self._answered[hop.node] = hop

    def _hops(self) -> Text:
        """Say in a line or two who has answered in which time, and who is at work."""
        parts = []
        if self._answered:
            slowest = sorted(self._answered.values(), key=lambda hop: -(hop.seconds or 0.0))
            named = ", ".join(
                f"{hop.node} {'failed after ' if hop.failed else ''}{hop.seconds:.2f} s"
                for hop in slowest[:_NAMED]
            )
            more = f" and {len(slowest) - _NAMED} faster" if len(slowest) > _NAMED else ""
            parts.append(f"{len(slowest)} answered: {named}{more}")
        if self._at_work:
            now = monotonic()
            longest = sorted(self._at_work.items(), key=lambda item: item[1][1])
            named = ", ".join(
                f"{node} ({_short(action)} {now - start:.0f} s)"
                for node, (action, start) in longest[:_NAMED]
            )
            more = f" and {len(longest) - _NAMED} more" if len(longest) > _NAMED else ""
            parts.append(f"at work: {named}{more}")
        return Text("\n".join(f"  {part}" for part in parts), style="dim")


@contextmanager
def _live(console: Console, steps: int) -> Iterator[_View]:
    view = _View(steps)
    with Live(view, console=console, transient=True, refresh_per_second=8) as live:
        view.refresh = live.refresh
        yield view


def _is_watched(console: Console) -> bool:
    return console.is_terminal and os.environ.get("CI", "").lower() in ("", "0", "false")


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


def _is_last(entry: Mapping[str, Any], rounds: int) -> bool:
    return entry["round"] == rounds or bool(entry.get("converged"))


def _short(action: str) -> str:
    """Return an action's or a step's name without what all of them begin with."""
    for prefix in _PREFIXES:
        action = action.removeprefix(prefix)
    return action.replace("_", " ")
