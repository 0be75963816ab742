"""The unit of comparison, and the ways to encrypt it.

A unit encrypts three updates, adds them up and decrypts their sum. The schemes are phe element by
element, HEU's Paillier, fl-he's packed Paillier encryption, fl-he's masks with tickets, and two of
TenSEAL's on vectors under lattice-based encryption: CKKS, whose arithmetic is approximate, and BFV.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from time import perf_counter, process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from phe import paillier

from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.opening import opened, require_tickets, value_key_of
from fl_he.crypto.tickets.ticket import Ticket
from fl_he.crypto.tickets.ticketed_sum import TicketedSum

Vector = NDArray[np.float64]

#: How many updates a unit has: one for each hospital of the default experiment.
UPDATES = 3
_SEED = 10

#: Stands in place of the figures of CKKS and BFV where TenSEAL is missing.
INSTALL = "not installed: pip install fl-he[bench]"
#: Stands in place of HEU's.
INSTALL_HEU = f"{INSTALL}, with Python 3.11 on Linux (x86-64) or macOS (ARM)"
_HEU_PADDING_BITS = 32
_CKKS_DEGREE, _CKKS_PRIMES = 8192, (60, 40, 60)
_BFV_DEGREE, _BFV_PRIMES = 4096, (40, 40, 29)
#: The plain modulus of BFV: a prime.
BFV_MODULUS = 2**58 + 49153

#: One encrypted update: an EncryptedVector, a TicketedSum, or what phe, HEU and TenSEAL make, which
#: has no types.
Encrypted = Any


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way to sum vectors under encryption.

    Attributes
    ----------
    encrypt : callable
        Encrypts one update of shape (d,).
    add : callable
        Returns the sum of a total and an update; may overwrite the total.
    decrypt : callable
        Decrypts a total to shape (d,).
    size : callable
        Returns the bytes of one update as it would travel.
    """

    encrypt: Callable[[Vector], Encrypted]
    add: Callable[[Encrypted, Encrypted], Encrypted]
    decrypt: Callable[[Encrypted], Vector]
    size: Callable[[Encrypted], int]


@dataclass(frozen=True, slots=True)
class UnitRun:
    """Seconds, size and result of one run of the unit.

    Attributes
    ----------
    encrypt, add, decrypt : float
        Seconds for one encryption (mean of three), one addition (mean of two), one decryption.
    bytes : int
        Size of one encrypted update.
    result : float64 array of shape (d,)
        The decrypted sum.
    start : float
        Seconds that one fresh process took to start and import, 0 where there was none.
    cpu : float
        Seconds of CPU time that the unit took in this process and its workers, on all cores.
    """

    encrypt: float
    add: float
    decrypt: float
    bytes: int
    result: Vector
    start: float = 0.0
    cpu: float = 0.0

    @property
    def total(self) -> float:
        """Seconds of the whole unit."""
        return UPDATES * self.encrypt + (UPDATES - 1) * self.add + self.decrypt


def run_unit(scheme: Scheme, updates: Sequence[Vector]) -> UnitRun:
    """Encrypt, add and decrypt once."""
    start, cpu = perf_counter(), _cpu_time()
    encrypted = [scheme.encrypt(values) for values in updates]
    encrypt_seconds, cpu = perf_counter() - start, _cpu_time() - cpu
    size = scheme.size(encrypted[0])  # to serialise is no part of the unit
    total, *others = encrypted
    start, cpu = perf_counter(), _cpu_time() - cpu
    for update in others:
        total = scheme.add(total, update)
    added = perf_counter()
    result = scheme.decrypt(total)
    decrypted, cpu = perf_counter(), _cpu_time() - cpu
    return UnitRun(
        encrypt=encrypt_seconds / len(updates),
        add=(added - start) / len(others),
        decrypt=decrypted - added,
        bytes=size,
        result=result,
        cpu=cpu,
    )


def _cpu_time() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return process_time() + children.ru_utime + children.ru_stime


def example_updates(length: int) -> list[Vector]:
    """Return the updates for every scheme: standard normal values, always the same."""
    rng = np.random.default_rng(_SEED)
    return [rng.standard_normal(length) for _ in range(UPDATES)]


def largest_error(results: Iterable[Vector], updates: Sequence[Vector]) -> float:
    """Return the largest difference from the sum, which is rounded correctly (`math.fsum`)."""
    sums = (math.fsum(values) for values in zip(*updates, strict=True))
    exact = np.fromiter(sums, dtype=np.float64, count=len(updates[0]))
    return max(float(np.abs(result - exact).max()) for result in results)


def packed_scheme(key: PrivateKey, cores: int) -> Scheme:
    """Return fl-he's packed Paillier encryption with its default packing, on ``cores`` cores."""

    def add(total: EncryptedVector, update: EncryptedVector) -> EncryptedVector:
        total.add_in_place(update, key.public_key)
        return total

    return Scheme(
        encrypt=partial(EncryptedVector.encrypt, key.public_key, Packing(), cores=cores),
        add=add,
        decrypt=partial(key.decrypt_vector, cores=cores),
        size=lambda update: update.nbytes,
    )


def ticketed_scheme(key: PrivateKey, scheme: str, *, manifest: bool) -> Scheme:
    """Return one of fl-he's schemes with its default packing: all that hospitals and company X do.

    Tickets are made, travel, and are checked and opened.

    Parameters
    ----------
    key : PrivateKey
        Company X's.
    scheme : {"paillier", "masks"}
        See `fl_he.crypto.schemes`.
    manifest : bool
        Whether hospitals sign their tickets, and tags under the value key cover the values.
    """
    public_key, packing = key.public_key, Packing()
    value_key = value_key_of(key) if manifest else None
    names = [f"hospital-{number}" for number in range(UPDATES)]
    identities = {name: Identity.generate(name, "hospital") for name in names if manifest}
    hospitals = cycle(names)

    def occasion(length: int) -> Occasion:
        numbers = (1, bytes(32), packing, length)
        return Occasion(public_key.fingerprint, "bench", "train", *numbers, scheme=scheme)

    def verifies(ticket: Ticket, statement: bytes) -> bool:
        return identities[ticket.hospital].public.verifies(ticket.signature, statement)

    def encrypt(values: Vector) -> TicketedSum:
        integers, name = packing.encode(values), next(hospitals)
        sign = identities[name].sign if manifest else None
        own = occasion(len(values))
        return TicketedSum.encrypt(public_key, integers, own, name, value_key=value_key, sign=sign)

    def add(total: TicketedSum, update: TicketedSum) -> TicketedSum:
        total.add_in_place(update, public_key)
        return total

    def decrypt(total: TicketedSum) -> Vector:
        own = occasion(len(total.vector))
        require_tickets(total.tickets, own, verifies if manifest else None)
        return packing.decode(opened(total, key, own, value_key))

    return Scheme(encrypt, add, decrypt, size=lambda update: len(update.to_bytes()))


def phe_scheme(key_bits: int) -> Scheme:
    """Return phe in a loop, as scripts use it: one ciphertext and one exponent for each value.

    Sizes are those of the ciphertexts alone: how exponents travel is up to the script.

    Parameters
    ----------
    key_bits : int
        Length of the modulus.
    """
    public_key, private_key = paillier.generate_paillier_keypair(n_length=key_bits)
    return Scheme(
        encrypt=lambda values: [public_key.encrypt(value) for value in values.tolist()],
        add=lambda total, update: [a + b for a, b in zip(total, update, strict=True)],
        decrypt=lambda total: np.array([private_key.decrypt(number) for number in total]),
        size=lambda update: len(update) * key_bits // 4,
    )


def heu_scheme(key_bits: int) -> Scheme:
    """Return HEU's Paillier by its numpy interface, on as many cores as HEU takes.

    ZPaillier is the fastest of HEU's Paillier variants: Damgard, Jurik and Nielsen's encryption
    with precomputed powers. HEU's OU is faster still, and rests on another assumption. HEU's
    batches hold two numbers in a plaintext, with 32 bits for their sums; the numbers are the
    fixed-point integers of the default packing.

    Raises
    ------
    ImportError
        If HEU is not installed.
    """
    from heu import numpy as heu  # noqa: PLC0415 - lazy: an extra
    from heu.phe import SchemaType  # noqa: PLC0415 - lazy: an extra

    kit, packing = heu.setup(SchemaType.ZPaillier, key_bits), Packing()
    encoder = kit.batch_integer_encoder(1, _HEU_PADDING_BITS)

    def encrypt(values: Vector) -> Encrypted:
        pairs = np.zeros((-(-len(values) // 2), 2), dtype=np.int64)
        pairs.reshape(-1)[: len(values)] = packing.encode(values)
        return kit.encryptor().encrypt(kit.array(pairs, encoder)), len(values)

    def decrypt(total: Encrypted) -> Vector:
        pairs = kit.decryptor().decrypt(total[0]).to_numpy(encoder)
        return packing.decode(pairs.reshape(-1)[: total[1]])

    return Scheme(
        encrypt=encrypt,
        add=lambda total, update: (kit.evaluator().add(total[0], update[0]), total[1]),
        decrypt=decrypt,
        size=lambda update: len(update[0].serialize()),
    )


def ckks_scheme() -> Scheme:
    """Return CKKS with the parameters of TenSEAL's tutorials, encrypting with the public key.

    Vectors are cut into chunks of 4,096 values, as many as a ciphertext has slots.

    Raises
    ------
    ImportError
        If TenSEAL is not installed.
    """
    import tenseal  # noqa: PLC0415 - lazy: an extra, and the other schemes work without it

    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS, _CKKS_DEGREE, coeff_mod_bit_sizes=_CKKS_PRIMES
    )
    context.global_scale = 2.0**40

    return _in_chunks(
        partial(tenseal.ckks_vector, context), _CKKS_DEGREE // 2, lambda values: values, np.asarray
    )


def bfv_scheme() -> Scheme:
    """Return TenSEAL's BFV, encrypting with the public key: exact sums of fixed-point integers.

    The integers are those of the default packing, whole range and 512 contributors included: its
    slots have 58 bits, and the plain modulus is the least prime above ``2**58`` that is 1 modulo
    ``2 * 4096``, as batches need. Vectors are cut into chunks of 4,096 values. The ciphertext
    modulus of 40 + 40 + 29 bits is the largest for 128-bit security at N=4096 (Homomorphic
    Encryption Standard 2018, table 1, ternary secrets: 109 bits), and leaves room for the noise of
    512 updates.

    Raises
    ------
    ImportError
        If TenSEAL is not installed.
    """
    import tenseal  # noqa: PLC0415 - lazy: an extra, and the other schemes work without it

    context = tenseal.context(
        tenseal.SCHEME_TYPE.BFV, _BFV_DEGREE, BFV_MODULUS, coeff_mod_bit_sizes=_BFV_PRIMES
    )
    packing = Packing()
    return _in_chunks(
        partial(tenseal.bfv_vector, context), _BFV_DEGREE, packing.encode, packing.decode
    )


def _in_chunks(
    encrypt_chunk: Callable[[list[Any]], Any],
    slots: int,
    encode: Callable[[Vector], NDArray[Any]],
    decode: Callable[[NDArray[Any]], Vector],
) -> Scheme:
    """Return a scheme of TenSEAL for vectors of any length.

    Parameters
    ----------
    encrypt_chunk : callable
        Encrypts at most ``slots`` numbers.
    slots : int
    encode, decode : callable
        Values to the numbers that are encrypted, and back.
    """

    def encrypt(values: Vector) -> Encrypted:
        numbers = encode(values)
        chunks = (numbers[at : at + slots] for at in range(0, len(numbers), slots))
        return [encrypt_chunk(chunk.tolist()) for chunk in chunks]

    def add(total: Encrypted, update: Encrypted) -> Encrypted:
        for mine, theirs in zip(total, update, strict=True):
            mine.add_(theirs)
        return total

    return Scheme(
        encrypt=encrypt,
        add=add,
        decrypt=lambda total: decode(np.concatenate([chunk.decrypt() for chunk in total])),
        size=lambda update: sum(len(chunk.serialize()) for chunk in update),
    )
