"""Progress of a run on the terminal: a live view, or plain lines without a terminal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
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

from fl_he.wire.events import (
    Event,
    Finishing,
    HopBegan,
    HopEnded,
    Listener,
    OptimizerChosen,
    ProfileAdvanced,
    RoundEnded,
    Starting,
    StepEnded,
)

_PREFIXES = ("query.capc_", "query.", "train.")
#: Nodes that the view names; more are counted.
_NAMED = 3


@contextmanager
def follow(
    console: Console, hospitals: int, steps: int, *, capc: bool = False
) -> Iterator[Listener]:
    """Show the start, the rounds or steps, and the end of a run while the context is open.

    Parameters
    ----------
    console : rich.console.Console
        Where to show them: as a live view on a terminal, else, and where the environment
        variable ``CI`` is set, as one line for each round or step.
    hospitals : int
        Of the run.
    steps : int
        Rounds of a training. About how many steps CaPC will take; models with hidden layers take
        more.
    capc : bool
        Whether the run is one of CaPC.

    Yields
    ------
    callable
        Is to be told the events of the run, from any thread.
    """
    done, last = 0, monotonic()
    with _screen(console, steps) as screen:

        def show(event: Event) -> None:
            nonlocal done, last
            match event:
                case Starting() if capc:
                    screen.wait(f"starting {hospitals} parties and the privacy guardian")
                case Starting(engine):
                    ray = "Ray and " if engine == "ray" else ""
                    screen.wait(f"starting {ray}{hospitals} hospitals")
                case OptimizerChosen(name, reason):
                    why = "" if reason == f"optimizer={name}" else f" ({reason})"
                    console.print(f"optimizer: {name}{why}", highlight=False, markup=False)
                case HopBegan() | HopEnded():
                    screen.show_hop(event)
                case RoundEnded(entry):
                    done, words = entry["round"], quality(entry) or "no figure of quality"
                    line = f"round {done}/{steps}: {words}{_contributions(entry)}"
                    screen.advance(done, words, line)
                case ProfileAdvanced(iteration, ended, bounds):
                    screen.wait(
                        f"profile likelihoods, iteration {iteration}: {ended} of {bounds} bounds"
                    )
                case StepEnded(step):
                    before, last = last, monotonic()
                    done, words = done + 1, f"{short_name(step)}, {last - before:.1f} s"
                    screen.advance(done, words, f"done: {words}")
                case Finishing() if not capc:
                    screen.wait("comparing and saving")

        yield show


class _Lines:
    """One line for each step, in place of a `LiveView`."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def wait(self, words: str) -> None:
        """Print what is waited for."""
        self._console.print(words)

    def advance(self, _: int, __: str, line: str) -> None:
        """Print how a step went, and what a live view shows of its hops."""
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def show_hop(self, hop: HopBegan | HopEnded) -> None:
        """Print nothing."""


@contextmanager
def _screen(console: Console, steps: int) -> Iterator[LiveView | _Lines]:
    """Give a live view where somebody watches, else lines."""
    if console.is_terminal and os.environ.get("CI", "").lower() in ("", "0", "false"):
        view = LiveView(steps)
        with Live(view, console=console, transient=True, refresh_per_second=8) as live:
            view.refresh = live.refresh
            yield view
    else:
        yield _Lines(console)


def quality(entry: Mapping[str, Any]) -> str | None:
    """Say how good a round's model is; None if nobody knows."""
    # With privacy hospitals tell neither; a simulation has its test set, unless it holds none out.
    of, key = ("", "") if entry["loss"] is not None else ("test ", "test_")
    loss, accuracy = entry[f"{key}loss"], entry[f"{key}accuracy"]
    if loss is None:
        return None
    said = f"{of}loss {loss:.4f}"  # of an outcome that is a number there is no accuracy
    return said if accuracy is None else f"{said}, {of}accuracy {accuracy:.3f}"


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


class LiveView:
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
        self._wait = self._waiting.add_task("loading the data")
        self._steps = self._bar.add_task("", total=steps)
        self._at_work: dict[str, tuple[str, float]] = {}
        self._answered: dict[str, HopEnded] = {}
        self._running = False
        #: Shows a change at once. Never called under the lock, which Rich takes when it draws.
        self.refresh: Callable[[], None] = lambda: None

    def __rich__(self) -> RenderableType:
        """Return what is there to be seen now: Rich asks several times a second."""
        with self._lock:
            if not self._running:
                return Group(self._waiting, self._hops()) if self._at_work else self._waiting
            return Group(self._bar, self._hops())

    def advance(self, done: int, description: str, _: str) -> None:
        """Show that this many steps are done; the hops have been shown."""
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

    def show_hop(self, hop: HopBegan | HopEnded) -> None:
        """Show who is at work and who has answered."""
        with self._lock:
            if isinstance(hop, HopBegan):
                self._at_work[hop.node] = hop.action, monotonic()
                self._answered.pop(hop.node, None)
            else:
                self._at_work.pop(hop.node, None)
                self._answered[hop.node] = hop

    def _hops(self) -> Text:
        """Say in a line or two who has answered in which time, and who is at work."""
        now, parts = monotonic(), []
        if self._answered:
            slowest = sorted(self._answered.values(), key=lambda hop: -hop.seconds)
            took = (
                f"{hop.node} {'failed after ' if hop.failed else ''}{hop.seconds:.2f} s"
                for hop in slowest
            )
            parts.append(f"{len(slowest)} answered: {_first(took, 'faster')}")
        if self._at_work:
            longest = sorted(self._at_work.items(), key=lambda item: item[1][1])
            waited = (
                f"{node} ({short_name(action)} {now - start:.0f} s)"
                for node, (action, start) in longest
            )
            parts.append(f"at work: {_first(waited, 'more')}")
        return Text("\n".join(f"  {part}" for part in parts), style="dim")


def _first(nodes: Iterable[str], others: str) -> str:
    """Return the first nodes, and how many others there are."""
    named = list(nodes)
    more = f" and {len(named) - _NAMED} {others}" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more


def short_name(action: str) -> str:
    """Return an action's or a step's name without what all of them begin with."""
    for prefix in _PREFIXES:
        action = action.removeprefix(prefix)
    return action.replace("_", " ")
