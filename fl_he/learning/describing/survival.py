"""Kaplan-Meier estimates and the log-rank test on a grid of times.

A time counts as the first one of the grid that is not earlier, so the estimates are those of times
that were rounded up to the grid, and rows withdrawn at a time are at risk at it. Kaplan, Meier
1958, "Nonparametric estimation from incomplete observations"; Greenwood 1926, "The natural duration
of cancer"; Mantel 1966, "Evaluation of survival data and two new rank order statistics".

The estimate of exact times is not known from such counts, but it has bounds. Between two times of
the grid let n rows enter, d have the event and c be withdrawn. If all events come first, the
factors of the exact estimate multiply to ``1 - d / n``, which is the rounded estimate's factor. If
all withdrawals come first, they multiply to ``1 - d / (n - c)``. Every other order is between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fl_he.learning.regression.disclosure import merged
from fl_he.learning.tables.arrays import Array

#: Half, and more than the rounding of an estimate: a product of 1,000 shares that is a half.
_HALF = 0.5 + 1e-12


@dataclass(frozen=True, slots=True)
class Curve:
    """Kaplan-Meier estimate of one group.

    Attributes
    ----------
    at_risk, events
        At each time, of times rounded up to the grid.
    remaining
        Rows with a later time; ``None`` where small counts hide it.
    survival
        Estimated share without an event up to and including each time.
    least
        Lower bound of the estimate of exact times, whose upper bound is ``survival``.
    standard_error
        By Greenwood's formula; ``None`` where nobody is left.
    median
        First time with a survival of at most a half; ``None`` if there is none.
    """

    at_risk: tuple[int, ...]
    events: tuple[int, ...]
    remaining: tuple[int | None, ...]
    survival: tuple[float, ...]
    least: tuple[float, ...]
    standard_error: tuple[float | None, ...]
    median: float | None


@dataclass(frozen=True, slots=True)
class LogRank:
    """Log-rank test of all groups that have rows."""

    chi2: float
    df: int
    p_value: float


@dataclass(frozen=True, slots=True)
class Survival:
    """Curves of all rows and of each group, at the times that are given out.

    Attributes
    ----------
    times
        Of the grid, without those that were merged into the next one.
    curves
        Of all rows first; no groups where these are withheld.
    log_rank
        ``None`` without groups.
    """

    times: tuple[float, ...]
    curves: tuple[Curve, ...]
    log_rank: LogRank | None


def survival(counts: Array, times: Sequence[float], min_cell: int) -> Survival | None:
    """Return estimates without small counts.

    Parameters
    ----------
    counts
        Shape (groups, 2, times + 1): see `by_time`.
    times
        Of the grid.
    min_cell
        Neighbouring times are merged until no group has 1 to ``min_cell`` - 1 events or withdrawals
        at any. If its groups cannot be merged so, all rows are one group.

    Returns
    -------
    Survival or None
        ``None`` if not even all rows can be merged.
    """
    last = int(np.flatnonzero(counts.any(axis=(0, 1))).max(initial=0)) + 1
    counts = counts[..., :last]
    joint = counts.sum(axis=0, keepdims=True)
    for groups in (counts, joint) if len(counts) > 1 else (joint,):
        kinds = groups.reshape(-1, groups.shape[-1])
        ranges = merged(kinds, min_cell)
        if ranges is None:
            continue
        held = np.add.reduceat(groups, [start for start, _ in ranges], axis=2)
        filled = [
            start + int(groups[..., start:stop].any(axis=(0, 1)).argmax()) for start, stop in ranges
        ]
        ends = tuple(
            times[min(stop, len(times)) - 1]
            for (_, stop), first in zip(ranges, filled, strict=True)
            if first < len(times)
        )
        if not ends:  # all rows have later times
            held, ends = np.pad(held, ((0, 0), (0, 0), (1, 0))), (times[-1],)
        hidden = filled[-1] < len(times) < ranges[-1][1]
        curves = [curve_of(held.sum(axis=0), ends, hidden=hidden)]
        if len(groups) == 1:
            return Survival(ends, tuple(curves), None)
        curves += [curve_of(one, ends, hidden=hidden) for one in held]
        return Survival(ends, tuple(curves), log_rank(held))
    return None


def by_time(cells: Array) -> Array:
    """Return events and withdrawals at each time of the grid, and later than all of them.

    Parameters
    ----------
    cells
        Shape (groups, 2 * times + 1): events at each time, withdrawals at each, and rows with a
        later time, which count as withdrawals.

    Returns
    -------
    NDArray[np.float64]
        Shape (groups, 2, times + 1).
    """
    events, withdrawn = np.split(cells, [cells.shape[1] // 2], axis=1)
    return np.stack([np.pad(events, ((0, 0), (0, 1))), withdrawn], axis=1)


def at_risk(counts: Array) -> Array:
    """Return how many rows are at risk at each time, of events and withdrawals (..., 2, times)."""
    leaving = counts.sum(axis=-2)
    found: Array = np.flip(np.cumsum(np.flip(leaving, axis=-1), axis=-1), axis=-1)
    return found


def curve_of(counts: Array, times: Sequence[float], *, hidden: bool = False) -> Curve:
    """Return the estimate of events and withdrawals, shape (2, times) or (2, times + 1).

    ``hidden``: later rows, if there are any, count as withdrawn at the last time.
    """
    risk = at_risk(counts)
    later = np.append(risk[1:], 0.0)[: len(times)]
    risk, events = risk[: len(times)], counts[0, : len(times)]
    share = np.divide(events, risk, out=np.zeros_like(risk), where=risk > 0)
    surviving = np.cumprod(1.0 - share)
    staying = later + events
    least = np.cumprod(np.divide(later, staying, out=np.ones_like(later), where=events > 0))
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(risk > 0, events / (risk * (risk - events)), 0.0)
        errors = surviving * np.sqrt(np.cumsum(terms))
    median = next((t for t, s in zip(times, surviving.tolist(), strict=True) if s <= _HALF), None)
    return Curve(
        tuple(risk.astype(int).tolist()),
        tuple(events.astype(int).tolist()),
        (*later[:-1].astype(int).tolist(), None if hidden else int(later[-1])),
        tuple(surviving.tolist()),
        tuple(least.tolist()),
        tuple(error if math.isfinite(error) else None for error in errors.tolist()),
        median,
    )


def log_rank(counts: Array) -> LogRank | None:
    """Return the log-rank test of events and withdrawals (groups, 2, times).

    ``None`` if fewer than two groups have rows, or nothing can differ.
    """
    counts = counts[counts.any(axis=(1, 2))]
    if len(counts) < 2:
        return None
    risk, events = at_risk(counts), counts[:, 0]
    all_risk, all_events = risk.sum(axis=0), events.sum(axis=0)
    share = np.divide(risk, all_risk, out=np.zeros_like(risk), where=all_risk > 0)
    expected = (share * all_events).sum(axis=1)
    spread = all_events * (all_risk - all_events)
    spread = np.divide(spread, all_risk - 1, out=np.zeros_like(spread), where=all_risk > 1)
    covariance = np.diag((spread * share).sum(axis=1)) - (spread * share) @ share.T
    difference, kept = (events.sum(axis=1) - expected)[:-1], covariance[:-1, :-1]
    if np.linalg.matrix_rank(kept) < len(kept):
        return None
    from scipy.stats import chi2  # noqa: PLC0415 - lazy: only tests of groups need it

    statistic = float(difference @ np.linalg.solve(kept, difference))
    return LogRank(statistic, len(difference), float(chi2.sf(statistic, len(difference))))
