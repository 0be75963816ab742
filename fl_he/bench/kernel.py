"""Section `kernel`: phe element by element, fl-he and CKKS on the same vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from fl_he.bench.ckks_scheme import CkksScheme
from fl_he.bench.contestants import Contestant, contestants
from fl_he.bench.follow import Follow
from fl_he.bench.kernel_row import KernelRow, with_ratios
from fl_he.bench.long_vector import measure_long_vector
from fl_he.bench.phe_scheme import PheScheme
from fl_he.bench.scheme import UPDATES, Vector, example_updates
from fl_he.bench.timing import Effort, Measured, in_turn
from fl_he.crypto.packing import Packing
from fl_he.crypto.private_key import PrivateKey

#: Encryptions for which a warm key has its table, or those of one unit if they are more.
_WARM_COUNT = 1000


@dataclass(frozen=True, slots=True)
class KernelPlan:
    """What the section measures.

    Attributes
    ----------
    key_bits, lengths : tuple of int
        Every key with every vector length.
    effort : Effort
        For each row.
    phe_limit : float
        Seconds that one unit of phe may take with all values.
    phe_sample : int
        Values that phe is timed on where it would take longer.
    long_vector : int or None
        Length of the vector whose memory is measured, with the first key.
    """

    key_bits: tuple[int, ...]
    lengths: tuple[int, ...]
    effort: Effort
    phe_limit: float
    phe_sample: int
    long_vector: int | None


FULL_KERNEL = KernelPlan(
    key_bits=(2048, 3072),
    lengths=(31, 1_000, 10_000, 100_000),
    effort=Effort(least=5, most=30, enough=3.0, limit=60.0),
    phe_limit=60.0,
    phe_sample=100,
    long_vector=1_000_000,
)
QUICK_KERNEL = KernelPlan(
    key_bits=(2048,),
    lengths=(31, 1_000),
    effort=Effort(least=2, most=10, enough=0.3, limit=2.0),
    phe_limit=3.0,
    phe_sample=20,
    long_vector=None,
)


def measure_kernel(plan: KernelPlan, follow: Follow) -> dict[str, Any]:
    """Measure every scheme for every key and length.

    Parameters
    ----------
    plan : KernelPlan
    follow : Follow
        Is told what is at work.

    Returns
    -------
    dict
        ``updates``: how many make a unit; ``rows``: of `KernelRow`; ``tables``: what it took to
        build the tables that warm rows have; ``long_vector``: see `long_vector`, or None.
    """
    rows: list[KernelRow] = []
    tables: list[dict[str, Any]] = []
    long_vector = None
    ckks = _ckks()
    for key_bits in plan.key_bits:
        follow(f"{key_bits} bits: making keys")
        key, phe = PrivateKey.generate(key_bits), PheScheme(key_bits)
        for length in plan.lengths:
            follow(f"{key_bits} bits, {length:,} values")
            tables.append(_build_table(key, length))
            updates = example_updates(length)
            found = contestants(
                key,
                phe,
                ckks,
                updates,
                phe_limit=plan.phe_limit,
                phe_sample=plan.phe_sample,
            )
            rows += with_ratios(_measure(found, updates, plan.effort, follow))
        if long_vector is None and plan.long_vector is not None:
            long_vector = measure_long_vector(key, plan.long_vector, follow)
    return {
        "updates": UPDATES,
        "rows": [asdict(row) for row in rows],
        "tables": tables,
        "long_vector": long_vector,
    }


def _measure(
    found: Sequence[Contestant], updates: Sequence[Vector], effort: Effort, follow: Follow
) -> list[KernelRow]:
    measured = [Measured(c.name, c.run) if c.run else None for c in found]
    for each in in_turn([m for m in measured if m], effort):
        follow(each.name)
    return [
        contestant.row.filled(m.results, updates) if m else contestant.row
        for contestant, m in zip(found, measured, strict=True)
    ]


def _build_table(key: PrivateKey, length: int) -> dict[str, Any]:
    public_key = key.public_key
    needed = UPDATES * Packing().ciphertexts(length, public_key.key_bits)
    before = public_key.masker.window
    start = perf_counter()
    public_key.prepare(max(_WARM_COUNT, needed))
    seconds = perf_counter() - start
    window = public_key.masker.window
    return {
        "key_bits": public_key.key_bits,
        "length": length,
        "window": window,
        "build_seconds": seconds if window != before else 0.0,
    }


def _ckks() -> CkksScheme | None:
    try:
        return CkksScheme()
    except ImportError:
        return None
