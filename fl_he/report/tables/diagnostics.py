"""Findings about columns and classes, in sentences for the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from fl_he.report.blocks import Block, Note, Points, Section
from fl_he.report.figures import sentence
from fl_he.run_files.convergence import (
    carried_by,
    combination,
    listed,
    separation,
    unseen_separation,
)
from fl_he.run_files.metrics import Metrics

_NOTHING = "In the training data no column is constant or a linear combination of others"
_UNKNOWN = "Whether columns are linear combinations of others is not known"


def columns_left_out(metrics: Metrics) -> Iterator[str]:
    """Yield sentences of columns without a coefficient of their own."""
    found = metrics.get("diagnostics") or {}
    if constant := found.get("constant"):
        vary, are = ("does", "is") if len(constant) == 1 else ("do", "are")
        yield f"{listed(constant)} {vary} not vary in the training data and {are} left out."
    penalised = metrics["config"].get("C") is not None
    by_what = dict[tuple[str, ...], list[str]]()
    for name, earlier in (found.get("aliased") or {}).items():
        by_what.setdefault(tuple(earlier), []).append(name)
    for earlier, names in by_what.items():
        are = "is" if len(names) == 1 else "are each"
        then = "kept, as the penalty divides the effect among them"
        if not penalised:
            then = f"left out, and {carried_by(earlier, len(names))}"
        yield f"{listed(names)} {are} {combination(earlier)}: {then}."


def findings(metrics: Metrics) -> Iterator[str]:
    """Yield what a statistician has to know before the coefficients are read."""
    found = metrics.get("diagnostics") or {}
    yield from columns_left_out(metrics)
    if words := separation(metrics):
        yield sentence(words)
    if unique := found.get("unique"):
        yield (
            f"Almost all values of {listed(unique)} differ and are integers, as those of "
            "identifiers: leave them out with data.drop if they name patients and measure nothing."
        )


def findings_text(metrics: Metrics) -> Text | None:
    """Return what the terminal does not say elsewhere: ``None`` if that is nothing.

    The table of coefficients gives the reason for each NA. Separation is a warning at the end, and
    identifiers are one at the start.
    """
    inference = metrics.get("inference")
    if inference is not None and inference["withheld"] is None:
        return None
    lines = list(columns_left_out(metrics))
    return Text("\n".join(lines)) if lines else None


def diagnostics(metrics: Metrics) -> Section | None:
    """Return the section of the page; ``None`` for a run of an earlier release."""
    found = metrics.get("diagnostics")
    if not found:
        return None
    lines = list(findings(metrics))
    blocks: list[Block] = [Points(lines)] if lines else []
    if found["aliased"] is None:
        # Privacy lets nobody find out.
        remedy = "" if metrics.get("privacy") else ": optimizer=newton finds out"
        blocks.append(Note(f"{_UNKNOWN}{remedy}."))
    unseen = unseen_separation(metrics)
    if not blocks:
        blocks.append(Note(f"{_NOTHING}{'' if unseen else ', and no separation shows'}."))
    return Section("Diagnostics", [*blocks, *([Note(sentence(unseen))] if unseen else [])])
