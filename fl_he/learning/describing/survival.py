"""Kaplan-Meier estimates and the log-rank test on a grid of times.

A time counts as the first one of the grid that is not earlier, so the estimates are those of times
that were rounded up to the grid, and rows withdrawn at a time are at risk at it. Kaplan, Meier
1958, "Nonparametric estimation from incomplete observations"; Greenwood 1926, "The natural duration
of cancer"; Mantel 1966, "Evaluation of survival data and two new rank order statistics".
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
        At each time.
    survival
        Estimated share without an event up to and including each time.
    standard_error
        By Greenwood's formula; ``None`` where nobody is left.
    median
        First time with a survival of at most a half; ``None`` if there is none.
    """

    at_risk: tuple[int, ...]
    events: tuple[int, ...]
    survival: tuple[float, ...]
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
        Shape (groups, 2, times): events and withdrawals at each time.
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
        starts = [start for start, _ in ranges]
        held = np.add.reduceat(groups, starts, axis=2)
        ends = tuple(times[stop - 1] for _, stop in ranges)
        curves = [curve_of(held.sum(axis=0), ends)]
        if len(groups) == 1:
            return Survival(ends, tuple(curves), None)
        curves += [curve_of(one, ends) for one in held]
        return Survival(ends, tuple(curves), log_rank(held))
    return None


def at_risk(counts: Array) -> Array:
    """Return how many rows are at risk at each time, of events and withdrawals (..., 2, times)."""
    leaving = counts.sum(axis=-2)
    found: Array = np.flip(np.cumsum(np.flip(leaving, axis=-1), axis=-1), axis=-1)
    return found


def curve_of(counts: Array, times: Sequence[float]) -> Curve:
    """Return the estimate of events and withdrawals, shape (2, times)."""
    risk, events = at_risk(counts), counts[0]
    share = np.divide(events, risk, out=np.zeros_like(risk), where=risk > 0)
    surviving = np.cumprod(1.0 - share)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(risk > 0, events / (risk * (risk - events)), 0.0)
        errors = surviving * np.sqrt(np.cumsum(terms))
    median = next((t for t, s in zip(times, surviving.tolist(), strict=True) if s <= _HALF), None)
    return Curve(
        tuple(risk.astype(int).tolist()),
        tuple(events.astype(int).tolist()),
        tuple(surviving.tolist()),
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
