"""How the terminal follows a run: a progress bar, or plain lines where nobody watches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
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

_COMPARING = "comparing with each hospital and the pooled data"


@contextmanager
def follow_rounds(
    console: Console, hospitals: int, rounds: int
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Show the start, the rounds and the comparison of a run while the context is open.

    Parameters
    ----------
    console : rich.console.Console
        Where to show them: as a progress bar on a terminal, else, and where the environment
        variable ``CI`` is set, as one line for each round.
    hospitals, rounds : int
        Of the run.

    Yields
    ------
    callable
        To be called after each round with its entry of ``rounds`` in metrics.json; from any thread.
    """
    starting = f"starting Ray and {hospitals} hospitals"
    if console.is_terminal and os.environ.get("CI", "").lower() in ("", "0", "false"):
        with _live(console, starting, rounds) as on_round:
            yield on_round
        return

    def print_round(entry: Mapping[str, Any]) -> None:
        console.print(f"round {entry['round']}/{rounds}: {_quality(entry)}", highlight=False)
        if _is_last(entry, rounds):
            console.print(_COMPARING)

    console.print(starting)
    yield print_round


@contextmanager
def follow_steps(console: Console, parties: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Show the steps of a run of CaPC while the context is open.

    Parameters
    ----------
    console : rich.console.Console
    parties : int
        Of the run.

    Yields
    ------
    callable
        To be called after each step with its name as ``step``; from any thread.
    """

    def tell(entry: Mapping[str, Any]) -> None:
        console.print(f"done: {entry['step'].removeprefix('query.capc_')}", highlight=False)

    console.print(f"starting {parties} parties and the privacy guardian")
    yield tell


@contextmanager
def _live(
    console: Console, starting: str, rounds: int
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Show one line: a spinner before and after the rounds, a bar while they run."""
    waiting = Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        expand=True,  # the bar takes what the figures leave
    )
    wait, step = waiting.add_task(starting), bar.add_task("", total=rounds)
    with Live(waiting, console=console, transient=True) as live:

        def show_round(entry: Mapping[str, Any]) -> None:
            bar.update(step, completed=entry["round"], description=_quality(entry))
            if not _is_last(entry, rounds):
                live.update(bar, refresh=True)
            else:
                waiting.update(wait, description=_COMPARING)
                live.update(waiting, refresh=True)

        yield show_round


def _quality(entry: Mapping[str, Any]) -> str:
    if entry["loss"] is not None:
        return f"loss {entry['loss']:.4f}, accuracy {entry['accuracy']:.3f}"
    # With privacy hospitals tell neither; a simulation has its test set.
    return f"test loss {entry['test_loss']:.4f}, test accuracy {entry['test_accuracy']:.3f}"


def _is_last(entry: Mapping[str, Any], rounds: int) -> bool:
    return entry["round"] == rounds or bool(entry.get("converged"))
