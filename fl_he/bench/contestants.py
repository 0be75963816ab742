"""Who takes part in section `kernel` for one key and one vector length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from fl_he.bench.ckks_scheme import INSTALL, CkksScheme
from fl_he.bench.cold_scheme import run_cold_unit
from fl_he.bench.kernel_row import CKKS, COLD, FL_HE, PHE, WARM, KernelRow
from fl_he.bench.packed_scheme import PackedScheme
from fl_he.bench.phe_scheme import PheScheme
from fl_he.bench.scheme import UnitRun, Vector, run_unit
from fl_he.crypto.private_key import PrivateKey
from fl_he.crypto.threads import available_cores

_PROBE = 5  # values that tell how long phe takes for one


@dataclass(frozen=True, slots=True)
class Contestant:
    """A row in the making.

    Attributes
    ----------
    row : KernelRow
        Without figures.
    run : callable or None
        Runs the unit once; None where there is nothing to run.
    """

    row: KernelRow
    run: Callable[[], UnitRun] | None

    @property
    def name(self) -> str:
        """What is at work, for people."""
        row = self.row
        cores = "core" if row.cores == 1 else "cores"
        return (
            f"{row.key_bits} bits, {row.length:,} values: {row.scheme}, {row.state}, "
            f"{row.cores} {cores}"
        )


def contestants(
    key: PrivateKey,
    phe: PheScheme,
    ckks: CkksScheme | None,
    updates: Sequence[Vector],
    *,
    phe_limit: float,
    phe_sample: int,
) -> list[Contestant]:
    """Return phe, fl-he on one core and on all, warm and cold, and CKKS.

    Parameters
    ----------
    key : PrivateKey
        For fl-he.
    phe : PheScheme
        With a key of the same length.
    ckks : CkksScheme or None
        None where TenSEAL is not installed.
    updates : sequence of float64 arrays of shape (d,)
        What is encrypted.
    phe_limit : float
        Seconds that one unit of phe may take with all values.
    phe_sample : int
        Values that phe is timed on where it would take longer.
    """
    row = partial(KernelRow, key.public_key.key_bits, len(updates[0]))
    whole = _phe_seconds(phe, updates) <= phe_limit
    heads = updates if whole else [values[:phe_sample] for values in updates]
    found = [Contestant(row(PHE, WARM, 1), lambda: run_unit(phe, heads))]
    both = sorted({1, available_cores()})
    found += [
        Contestant(row(FL_HE, WARM, cores), partial(run_unit, PackedScheme(key, cores), updates))
        for cores in both
    ]
    found += [
        Contestant(row(FL_HE, COLD, cores), partial(run_cold_unit, key, cores, updates))
        for cores in both
    ]
    if ckks is None:
        found.append(Contestant(row(CKKS, WARM, 1, note=INSTALL), None))
    else:
        # TenSEAL has threads, but not for one vector after another: one core is what it uses.
        found.append(Contestant(row(CKKS, WARM, 1), partial(run_unit, ckks, updates)))
    return found


def _phe_seconds(phe: PheScheme, updates: Sequence[Vector]) -> float:
    """Return about how long a unit of all values takes."""
    heads = [values[:_PROBE] for values in updates]
    return run_unit(phe, heads).total * len(updates[0]) / len(heads[0])
