"""How the terminal follows a run: a progress bar, or plain lines where nobody watches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def follow_rounds(
    console: Console, hospitals: int, rounds: int
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Show the rounds of a run while the context is open.

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
    start = f"starting Ray and {hospitals} hospitals"
    if not console.is_terminal or os.environ.get("CI", "").lower() not in ("", "0", "false"):
        console.print(start)
        yield lambda entry: console.print(
            f"round {entry['round']}/{rounds}: {_quality(entry)}", highlight=False
        )
        return
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with bar:
        # Without a total the bar pulses; the first round makes it one of known length.
        task = bar.add_task(start, total=None)
        yield lambda entry: bar.update(
            task, total=rounds, completed=entry["round"], description=_quality(entry)
        )


def _quality(entry: Mapping[str, Any]) -> str:
    return f"loss {entry['loss']:.4f}, accuracy {entry['accuracy']:.3f}"
