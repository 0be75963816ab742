"""What the terminal shows while something is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


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
