"""Section `kernel`: phe element by element, HEU, fl-he's schemes, CKKS and BFV on the same vectors.

Each way to encrypt is a `KernelRow`; the rows of one key and one vector length are measured in
turn. The cost of tickets is measured apart. A long vector is encrypted, added and decrypted within
a memory limit, in a fresh process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import fmean, median
from time import perf_counter
from typing import Any

from fl_he.bench.fresh import BenchError, FreshProcess, PeakMemory, report, run_cold_unit
from fl_he.bench.schemes import (
    INSTALL,
    INSTALL_HEU,
    UPDATES,
    Scheme,
    UnitRun,
    Vector,
    bfv_scheme,
    ckks_scheme,
    example_updates,
    heu_scheme,
    largest_error,
    packed_scheme,
    phe_scheme,
    run_unit,
    ticketed_scheme,
)
from fl_he.bench.tickets import measure_tickets
from fl_he.bench.timing import Effort, Follow, in_turn, spread
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.key_kind import KeyKind
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.threads import available_cores
from fl_he.crypto.schemes import PAILLIER

PHE, HEU, FL_HE, CKKS, BFV = "phe", "heu", "fl-he", "ckks", "bfv"
TAGGED, DJN = "fl-he, tags", "fl-he, djn"
MASKS, TAGGED_MASKS = "masks", "masks, tags"
#: Ways to encrypt that can be chosen; ``masks`` has two rows, ``fl-he`` six.
ROWS = (PHE, HEU, FL_HE, MASKS, CKKS, BFV)
_UNDER_A_KEY = {PHE, HEU, FL_HE}
WARM, COLD = "warm", "cold"
#: Most memory that one million values are promised to need.
LIMIT_BYTES = 2 * 2**30
#: Encryptions for which a warm key has its table, or those of one unit if they are more.
_WARM_COUNT = 1000
_PROBE = 6  # values that tell how long phe or HEU takes for one


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One way to encrypt, and its figures once it is measured; seconds are medians.

    Attributes
    ----------
    key_bits, length : int
        Modulus and number of values. Masks, CKKS and BFV have no modulus, and are measured with
        each.
    scheme : {"phe", "heu", "fl-he", "fl-he, tags", "fl-he, djn", "masks", "masks, tags", "ckks", \
"bfv"}
        ``tags``: with signed tickets and value tags, as with a manifest; ``djn``: with a key of
        that kind, where all others of fl-he's have one of kind ``short``.
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
    cpu_seconds : float or None
        CPU time of the same unit, warm, that of encryption workers included.
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
    times_less_cpu_than_phe, times_less_cpu_than_djn, times_less_cpu_than_ckks : float or None
        Ratios of ``cpu_seconds``.
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
    cpu_seconds: float | None = None
    start_seconds: float | None = None
    bytes: int | None = None
    largest_error: float | None = None
    timed_values: int | None = None
    scaled: bool = False
    runs: int = 0
    times_faster_than_phe: float | None = None
    times_faster_than_ckks: float | None = None
    times_less_cpu_than_phe: float | None = None
    times_less_cpu_than_djn: float | None = None
    times_less_cpu_than_ckks: float | None = None

    @property
    def name(self) -> str:
        """Key length, number of values, scheme, state and cores, for people."""
        cores = "core" if self.cores == 1 else "cores"
        return (
            f"{self.key_bits} bits, {self.length:,} values: {self.scheme}, {self.state}, "
            f"{self.cores} {cores}"
        )

    def filled(self, runs: Sequence[UnitRun], updates: Sequence[Vector]) -> KernelRow:
        """Return the row with the figures of its runs.

        Parameters
        ----------
        runs : sequence of UnitRun
            At least one. They may be of the first values of the updates only.
        updates : sequence of float64 arrays of shape (length,)
            The updates.
        """
        timed = len(runs[0].result)
        scale = self.length / timed
        total = spread([run.total * scale for run in runs])
        heads = [values[:timed] for values in updates]
        return replace(
            self,
            encrypt_seconds=median(run.encrypt for run in runs) * scale,
            add_seconds=median(run.add for run in runs) * scale,
            decrypt_seconds=median(run.decrypt for run in runs) * scale,
            total_seconds=total["median_seconds"],
            lower_quartile=total["lower_quartile"],
            upper_quartile=total["upper_quartile"],
            cpu_seconds=median(run.cpu for run in runs) * scale if self.state == WARM else None,
            start_seconds=fmean(run.start for run in runs) if self.state == COLD else None,
            bytes=round(runs[0].bytes * scale),
            largest_error=largest_error([run.result for run in runs], heads),
            timed_values=timed,
            scaled=timed < self.length,
            runs=len(runs),
        )


#: A row without figures, and its unit where the scheme is installed.
Contestant = tuple[KernelRow, Callable[[], UnitRun] | None]


def with_ratios(rows: Sequence[KernelRow]) -> list[KernelRow]:
    """Return rows of the same key and length with their ratios to phe, CKKS and kind ``djn``."""
    others = {row.scheme: row for row in rows if row.scheme in (PHE, CKKS, DJN)}

    def ratio(row: KernelRow, scheme: str, figure: str = "total_seconds") -> float | None:
        other, own = getattr(others.get(scheme), figure, None), getattr(row, figure)
        return other / own if other and own else None

    return [
        replace(
            row,
            times_faster_than_phe=ratio(row, PHE),
            times_faster_than_ckks=ratio(row, CKKS),
            times_less_cpu_than_phe=ratio(row, PHE, "cpu_seconds"),
            times_less_cpu_than_djn=ratio(row, DJN, "cpu_seconds"),
            times_less_cpu_than_ckks=ratio(row, CKKS, "cpu_seconds"),
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class KernelPlan:
    """Extent of the section.

    Attributes
    ----------
    key_bits, lengths : tuple of int
        Every key with every vector length.
    long_lengths : tuple of int
        Lengths for masks, CKKS and BFV alone, with the first key.
    effort : Effort
        For each row.
    limit : float
        Seconds that one unit of phe or HEU may take with all values.
    sample : int
        Values that either is timed on where it would take longer.
    long_vector : int or None
        Length of the vector whose memory is measured, with the first key.
    rows : tuple of str
        Of `ROWS`.
    """

    key_bits: tuple[int, ...]
    lengths: tuple[int, ...]
    long_lengths: tuple[int, ...]
    effort: Effort
    limit: float
    sample: int
    long_vector: int | None
    rows: tuple[str, ...] = ROWS

    def only(self, rows: Sequence[str]) -> KernelPlan:
        """Return the plan for some rows; nothing else is measured with them.

        Without a row that has a modulus there is one key, and without fl-he's Paillier neither
        tickets nor long vector.

        Raises
        ------
        BenchError
            If a row is not of `ROWS`.
        """
        for row in rows:
            if row not in ROWS:
                raise BenchError(f"a row must be one of {', '.join(ROWS)}, got {row}")
        return replace(
            self,
            rows=tuple(rows),
            key_bits=self.key_bits if _UNDER_A_KEY.intersection(rows) else self.key_bits[:1],
            long_vector=self.long_vector if FL_HE in rows else None,
        )


FULL = KernelPlan(
    key_bits=(2048, 3072),
    lengths=(31, 1_000, 10_000, 100_000),
    long_lengths=(1_000_000,),
    effort=Effort(least=5, most=30, enough=3.0, limit=60.0),
    limit=60.0,
    sample=100,
    long_vector=1_000_000,
)
QUICK = KernelPlan(
    key_bits=(2048,),
    lengths=(31, 1_000, 10_000),
    long_lengths=(),
    effort=Effort(least=2, most=10, enough=0.3, limit=2.0),
    limit=3.0,
    sample=20,
    long_vector=None,
)


def measure(plan: KernelPlan, follow: Follow) -> dict[str, Any]:
    """Measure every scheme for every key and length.

    Returns
    -------
    dict
        ``updates``: how many make a unit; ``rows``: of `KernelRow`; ``tables``: seconds to build
        the tables that warm rows have; ``tickets``: see `measure_tickets`; ``long_vector``: see
        `measure_long_vector`, or None.
    """
    rows: list[KernelRow] = []
    tables: list[dict[str, Any]] = []
    tickets: list[dict[str, Any]] = []
    long_vector = None
    vectors = _made({CKKS: ckks_scheme, BFV: bfv_scheme}, plan.rows)
    for key_bits in plan.key_bits:
        follow(f"{key_bits} bits: making keys")
        key, djn = (
            PrivateKey.generate(key_bits, kind=kind) for kind in (KeyKind.short, KeyKind.djn)
        )
        numbers = {PHE: partial(phe_scheme, key_bits), HEU: partial(heu_scheme, key_bits)}
        single = _made(numbers, plan.rows)
        first = key_bits == plan.key_bits[0]
        for length in (*plan.lengths, *(plan.long_lengths if first else ())):
            follow(f"{key_bits} bits, {length:,} values")
            updates = example_updates(length)
            found = [*_masks(plan, key, updates), *_vectors(key_bits, vectors, updates)]
            if length in plan.lengths:
                if FL_HE in plan.rows:
                    tables += [_build_table(one, length) for one in (key, djn)]
                    tickets.append(measure_tickets(key, updates, plan.effort, follow))
                    found = [*_paillier(key, djn, updates), *found]
                found = [*_singles(plan, key_bits, single, updates), *found]
            runs = in_turn({row.name: run for row, run in found if run}, plan.effort, follow)
            rows += with_ratios(
                [row.filled(runs[row.name], updates) if run else row for row, run in found]
            )
        if long_vector is None and plan.long_vector is not None:
            long_vector = measure_long_vector(key, plan.long_vector, follow)
    return {
        "updates": UPDATES,
        "rows": [asdict(row) for row in rows],
        "tables": tables,
        "tickets": tickets,
        "long_vector": long_vector,
    }


def _made(
    makes: Mapping[str, Callable[[], Scheme]], rows: Sequence[str]
) -> dict[str, Scheme | None]:
    """Return the schemes of chosen rows, None where the package is not installed."""
    made: dict[str, Scheme | None] = {}
    for name, make in makes.items():
        if name in rows:
            try:
                made[name] = make()
            except ImportError:
                made[name] = None
    return made


def _singles(
    plan: KernelPlan, key_bits: int, schemes: Mapping[str, Scheme | None], updates: Sequence[Vector]
) -> Iterator[Contestant]:
    """Yield phe and HEU, which have a ciphertext for each value or two: rows without figures."""
    for name, scheme in schemes.items():
        cores = available_cores() if name == HEU else 1
        row = KernelRow(key_bits, len(updates[0]), name, WARM, cores)
        if scheme is None:
            yield replace(row, note=INSTALL_HEU), None
            continue
        probe = run_unit(scheme, [values[:_PROBE] for values in updates])
        whole = probe.total * len(updates[0]) / len(probe.result) <= plan.limit
        heads = updates if whole else [values[: plan.sample] for values in updates]
        yield row, partial(run_unit, scheme, heads)


def _paillier(key: PrivateKey, djn: PrivateKey, updates: Sequence[Vector]) -> Iterator[Contestant]:
    """Yield fl-he's Paillier warm and cold, on one core and on all, with tags, and of kind djn."""
    other = partial(KernelRow, key.public_key.key_bits, len(updates[0]), state=WARM)
    row = partial(KernelRow, key.public_key.key_bits, len(updates[0]), FL_HE)
    both = sorted({1, available_cores()})
    for cores in both:
        yield row(WARM, cores), partial(run_unit, packed_scheme(key, cores), updates)
    for cores in both:
        yield row(COLD, cores), partial(run_cold_unit, key, cores, updates)
    tagged = ticketed_scheme(key, PAILLIER, manifest=True)
    yield other(scheme=TAGGED, cores=both[-1]), partial(run_unit, tagged, updates)
    yield other(scheme=DJN, cores=1), partial(run_unit, packed_scheme(djn, 1), updates)


def _masks(plan: KernelPlan, key: PrivateKey, updates: Sequence[Vector]) -> Iterator[Contestant]:
    """Yield masks without and with value tags."""
    row = partial(KernelRow, key.public_key.key_bits, len(updates[0]), state=WARM, cores=1)
    for scheme, manifest in ((MASKS, False), (TAGGED_MASKS, True)):
        if MASKS in plan.rows:
            ticketed = ticketed_scheme(key, MASKS, manifest=manifest)
            yield row(scheme), partial(run_unit, ticketed, updates)


def _vectors(
    key_bits: int, schemes: Mapping[str, Scheme | None], updates: Sequence[Vector]
) -> Iterator[Contestant]:
    """Yield CKKS and BFV."""
    for name, scheme in schemes.items():
        # TenSEAL has threads, but not for one vector after another: one core is what it uses.
        row = KernelRow(key_bits, len(updates[0]), name, WARM, 1, note="" if scheme else INSTALL)
        yield row, partial(run_unit, scheme, updates) if scheme else None


def _build_table(key: PrivateKey, length: int) -> dict[str, Any]:
    public_key = key.public_key
    needed = UPDATES * Packing().ciphertexts(length, public_key.key_bits)
    before = public_key.masker.window
    start = perf_counter()
    public_key.masker.prepare(max(_WARM_COUNT, needed))
    seconds = perf_counter() - start
    window = public_key.masker.window
    return {
        "key_bits": public_key.key_bits,
        "key_kind": public_key.key_kind.value,
        "length": length,
        "window": window,
        "build_seconds": seconds if window != before else 0.0,
    }


def measure_long_vector(key: PrivateKey, length: int, follow: Follow) -> dict[str, Any]:
    """Measure time and memory of two encryptions, one addition and one decryption.

    Returns
    -------
    dict
        ``key_bits``, ``length``, ``bytes`` of one update, seconds of one encryption, of the
        addition and of the decryption, ``largest_error``, ``limit_bytes`` and ``peak_bytes``: the
        largest memory at any time of the process and its workers together, interpreters included.
    """
    key_bits = key.public_key.key_bits
    about = f"{key_bits} bits, {length:,} values"
    follow(about)
    with (
        FreshProcess(lambda text, *done: follow(f"{about}: {text}", *done)) as process,
        PeakMemory(process.pid) as peak,
    ):
        figures = process.do(_long_vector, key.to_json(), length)
    return {
        "key_bits": key_bits,
        "length": length,
        **figures,
        "peak_bytes": peak.bytes,
        "limit_bytes": LIMIT_BYTES,
    }


def _long_vector(private: str, length: int) -> dict[str, Any]:
    """Encrypt two long vectors, add them and decrypt the sum: the job of a fresh process."""
    key = PrivateKey.from_json(private)
    public_key, packing = key.public_key, Packing()
    updates = example_updates(length)[:2]
    marks = [perf_counter()]
    total, other = (
        EncryptedVector.encrypt(
            public_key, packing, values, progress=partial(report, f"encrypting {number} of 2")
        )
        for number, values in enumerate(updates, start=1)
    )
    marks.append(perf_counter())
    total.add_in_place(other, public_key)
    marks.append(perf_counter())
    del other  # decryption is to be measured without it
    result = key.decrypt_vector(total, progress=partial(report, "decrypting"))
    marks.append(perf_counter())
    return {
        "encrypt_seconds": (marks[1] - marks[0]) / len(updates),
        "add_seconds": marks[2] - marks[1],
        "decrypt_seconds": marks[3] - marks[2],
        "bytes": total.nbytes,
        "largest_error": largest_error([result], updates),
    }
