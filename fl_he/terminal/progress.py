"""How the terminal follows a run: a live view, or plain lines where nobody watches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from rich.console import Console

from fl_he.terminal.live_view import live_view, short_name
from fl_he.wire.hop import OnHop

_COMPARING = "comparing and saving"


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
        with live_view(console, rounds) as view:

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
        with live_view(console, steps) as view:
            done = 0

            def show_step(entry: Mapping[str, Any]) -> None:
                nonlocal done
                done += 1
                view.advance(done, f"{short_name(entry['step'])}, {took():.1f} s")

            yield Followed(show_step, view.on_hop, lambda: view.wait(starting))
        return

    def print_step(entry: Mapping[str, Any]) -> None:
        line = f"done: {short_name(entry['step'])}, {took():.1f} s"
        console.print(line, highlight=False, soft_wrap=True, markup=False)

    yield Followed(print_step, lambda _: None, lambda: console.print(starting))


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
