"""One row of section `kernel`: what one way to encrypt took and gave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median

from fl_he.bench.scheme import UnitRun, Vector, largest_error
from fl_he.bench.timing import Spread

PHE, FL_HE, CKKS = "phe", "fl-he", "ckks"
WARM, COLD = "warm", "cold"


@dataclass(frozen=True, slots=True)
class KernelRow:
    """What one way to encrypt took; seconds are medians.

    Attributes
    ----------
    key_bits, length : int
        Modulus and number of values; CKKS has no modulus and is measured beside each.
    scheme : {"phe", "fl-he", "ckks"}
    state : {"warm", "cold"}
        ``cold``: a fresh process for each step.
    cores : int
        How many it may use.
    note : str
        Why there are no figures, where there are none.
    encrypt_seconds, add_seconds, decrypt_seconds : float or None
        One update; one addition; one sum.
    total_seconds, lower_quartile, upper_quartile : float or None
        Three encryptions, two additions and one decryption.
    start_seconds : float or None
        Start of a fresh process with its imports, mean; no part of the total.
    bytes : int or None
        One encrypted update.
    largest_error : float or None
        Against the exact sum of the three updates, over the timed values.
    timed_values : int or None
        Values that were timed; where fewer than ``length``, seconds and bytes are scaled up.
    scaled : bool
        Whether they are.
    runs : int
    times_faster_than_phe, times_faster_than_ckks : float or None
        Ratios of ``total_seconds``; below 1 it is slower.
    """

    key_bits: int
    length: int
    scheme: str
    state: str
    cores: int
    note: str = ""
    encrypt_seconds: float | None = None
    add_seconds: float | None = None
    decrypt_seconds: float | None = None
    total_seconds: float | None = None
    lower_quartile: float | None = None
    upper_quartile: float | None = None
    start_seconds: float | None = None
    bytes: int | None = None
    largest_error: float | None = None
    timed_values: int | None = None
    scaled: bool = False
    runs: int = 0
    times_faster_than_phe: float | None = None
    times_faster_than_ckks: float | None = None

    def filled(self, runs: Sequence[UnitRun], updates: Sequence[Vector]) -> KernelRow:
        """Return the row with the figures of its runs.

        Parameters
        ----------
        runs : sequence of UnitRun
            At least one; of the first values of the updates, as many as their results have.
        updates : sequence of float64 arrays of shape (length,)
            The updates.
        """
        timed = len(runs[0].result)
        scale = self.length / timed
        total = Spread.of([run.total * scale for run in runs])
        heads = [values[:timed] for values in updates]
        return replace(
            self,
            encrypt_seconds=median(run.encrypt for run in runs) * scale,
            add_seconds=median(run.add for run in runs) * scale,
            decrypt_seconds=median(run.decrypt for run in runs) * scale,
            total_seconds=total.median,
            lower_quartile=total.lower,
            upper_quartile=total.upper,
            start_seconds=fmean(run.start for run in runs) if self.state == COLD else None,
            bytes=round(runs[0].bytes * scale),
            largest_error=max(largest_error(run.result, heads) for run in runs),
            timed_values=timed,
            scaled=timed < self.length,
            runs=total.runs,
        )


def with_ratios(rows: Sequence[KernelRow]) -> list[KernelRow]:
    """Return rows of the same key and length with their ratios to phe and CKKS."""
    totals = {row.scheme: row.total_seconds for row in rows if row.scheme != FL_HE}

    def ratio(row: KernelRow, scheme: str) -> float | None:
        other = totals.get(scheme)
        return other / row.total_seconds if other and row.total_seconds else None

    return [
        replace(row, times_faster_than_phe=ratio(row, PHE), times_faster_than_ckks=ratio(row, CKKS))
        for row in rows
    ]
