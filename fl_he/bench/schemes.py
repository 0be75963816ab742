"""The unit of comparison, and three ways to encrypt it.

A unit encrypts three updates, adds them up and decrypts their sum. The schemes are phe element by
element, fl-he's packed Paillier encryption, and TenSEAL's CKKS: approximate arithmetic on vectors
under lattice-based encryption.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from phe import paillier

from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey

Vector = NDArray[np.float64]
Encrypted = TypeVar("Encrypted")

#: How many updates a unit has: one for each hospital of the default experiment.
UPDATES = 3
_SEED = 10

#: Stands in place of CKKS's figures where TenSEAL is missing.
INSTALL = "not installed: pip install fl-he[bench]"
_POLY_MODULUS_DEGREE = 8192
_COEFF_MOD_BIT_SIZES = [60, 40, 60]
_GLOBAL_SCALE = 2.0**40
_SLOTS = _POLY_MODULUS_DEGREE // 2

Numbers = list[Any]  # of phe's EncryptedNumber; phe has no types
Chunks = list[Any]  # of TenSEAL's CKKSVector; TenSEAL has no types


class Scheme(Protocol[Encrypted]):
    """A way to sum vectors under encryption."""

    def encrypt(self, values: Vector) -> Encrypted:
        """Encrypt one update of shape (d,)."""

    def add(self, total: Encrypted, update: Encrypted) -> Encrypted:
        """Return the sum of two; ``total`` may be overwritten."""

    def decrypt(self, total: Encrypted) -> Vector:
        """Decrypt to shape (d,)."""

    def size(self, update: Encrypted) -> int:
        """Return the bytes of one update as it would travel."""


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
    """

    encrypt: float
    add: float
    decrypt: float
    bytes: int
    result: Vector
    start: float = 0.0

    @property
    def total(self) -> float:
        """Seconds of the whole unit."""
        return UPDATES * self.encrypt + (UPDATES - 1) * self.add + self.decrypt


def run_unit(scheme: Scheme[Encrypted], updates: Sequence[Vector]) -> UnitRun:
    """Encrypt, add and decrypt once."""
    start = perf_counter()
    encrypted = [scheme.encrypt(values) for values in updates]
    encrypt_seconds = perf_counter() - start
    size = scheme.size(encrypted[0])  # to serialise is no part of the unit
    total, *others = encrypted
    start = perf_counter()
    for update in others:
        total = scheme.add(total, update)
    added = perf_counter()
    result = scheme.decrypt(total)
    return UnitRun(
        encrypt=encrypt_seconds / len(updates),
        add=(added - start) / len(others),
        decrypt=perf_counter() - added,
        bytes=size,
        result=result,
    )


def example_updates(length: int) -> list[Vector]:
    """Return the updates for every scheme: standard normal values, always the same."""
    rng = np.random.default_rng(_SEED)
    return [rng.standard_normal(length) for _ in range(UPDATES)]


def largest_error(result: Vector, updates: Sequence[Vector]) -> float:
    """Return the largest difference from the sum, which is rounded correctly (`math.fsum`)."""
    sums = (math.fsum(values) for values in zip(*updates, strict=True))
    exact = np.fromiter(sums, dtype=np.float64, count=len(result))
    return float(np.abs(result - exact).max())


class PackedScheme:
    """fl-he's packed Paillier encryption with its default packing.

    Parameters
    ----------
    key : PrivateKey
        The key holder's.
    cores : int
        How many cores it may use.
    """

    def __init__(self, key: PrivateKey, cores: int) -> None:
        self._key = key
        self._cores = cores
        self._packing = Packing()

    def encrypt(self, values: Vector) -> EncryptedVector:
        """See Scheme."""
        return EncryptedVector.encrypt(
            self._key.public_key, self._packing, values, cores=self._cores
        )

    def add(self, total: EncryptedVector, update: EncryptedVector) -> EncryptedVector:
        """See Scheme."""
        total.add_in_place(update, self._key.public_key)
        return total

    def decrypt(self, total: EncryptedVector) -> Vector:
        """See Scheme."""
        return self._key.decrypt_vector(total, cores=self._cores)

    def size(self, update: EncryptedVector) -> int:
        """See Scheme."""
        return update.nbytes


class PheScheme:
    """phe in a loop, as scripts use it: one ciphertext and one exponent for each value.

    Parameters
    ----------
    key_bits : int
        Length of the modulus.
    """

    def __init__(self, key_bits: int) -> None:
        self._public_key, self._private_key = paillier.generate_paillier_keypair(n_length=key_bits)
        self._ciphertext_bytes = key_bits // 4

    def encrypt(self, values: Vector) -> Numbers:
        """See Scheme."""
        return [self._public_key.encrypt(value) for value in values.tolist()]

    def add(self, total: Numbers, update: Numbers) -> Numbers:
        """See Scheme."""
        return [mine + theirs for mine, theirs in zip(total, update, strict=True)]

    def decrypt(self, total: Numbers) -> Vector:
        """See Scheme."""
        return np.array([self._private_key.decrypt(number) for number in total])

    def size(self, update: Numbers) -> int:
        """Return the bytes of the ciphertexts alone: how exponents travel is up to the script."""
        return len(update) * self._ciphertext_bytes


class CkksScheme:
    """CKKS with the parameters of TenSEAL's tutorials, encrypting with the public key.

    Vectors are cut into chunks of 4,096 values, as many as a ciphertext has slots.

    Raises
    ------
    ImportError
        If TenSEAL is not installed.
    """

    def __init__(self) -> None:
        import tenseal  # noqa: PLC0415 - an extra, and the other schemes work without it

        self._vector = tenseal.ckks_vector
        self._context = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS,
            _POLY_MODULUS_DEGREE,
            coeff_mod_bit_sizes=_COEFF_MOD_BIT_SIZES,
        )
        self._context.global_scale = _GLOBAL_SCALE

    def encrypt(self, values: Vector) -> Chunks:
        """See Scheme."""
        return [
            self._vector(self._context, values[start : start + _SLOTS].tolist())
            for start in range(0, len(values), _SLOTS)
        ]

    def add(self, total: Chunks, update: Chunks) -> Chunks:
        """See Scheme."""
        for mine, theirs in zip(total, update, strict=True):
            mine.add_(theirs)
        return total

    def decrypt(self, total: Chunks) -> Vector:
        """See Scheme."""
        return np.concatenate([chunk.decrypt() for chunk in total])

    def size(self, update: Chunks) -> int:
        """See Scheme."""
        return sum(len(chunk.serialize()) for chunk in update)
