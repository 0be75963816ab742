"""The live view of a run on a terminal: what it waits for, how far it is, and who is at work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import RLock
from time import monotonic

from rich.console import Group, RenderableType
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

from fl_he.wire.events import HopBegan, HopEnded

_LOADING = "loading the data"
_PREFIXES = ("query.capc_", "query.", "train.")
#: Nodes that the view names; more are counted.
_NAMED = 3


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
        self._wait = self._waiting.add_task(_LOADING)
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

    def advance(self, done: int, description: str, _: str = "") -> None:
        """Show that so many steps are done; the hops have been shown."""
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
