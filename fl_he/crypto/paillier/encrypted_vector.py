"""Packed ciphertexts of one vector: add, bytes with their header, validation."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from cryptography.utils import Buffer
from gmpy2 import mpz
from numpy.typing import ArrayLike, NDArray

from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.paillier.summed_vector import SummedVector
from fl_he.crypto.paillier.workers import encrypt_blocks
from fl_he.crypto.schemes import PAILLIER, Scheme
from fl_he.errors import kind_in_words

# In this order: magic, version, fraction_bits, integer_bits, 1 for a vector with tags, or 0,
# max_contributors, key_bits, length and the key's fingerprint.
_LAYOUT = struct.Struct(">4s4BIIQ32s")
#: First bytes of a Paillier vector.
MAGIC = b"FLHE"
_VERSION = 1

HEADER_BYTES = _LAYOUT.size


@dataclass(frozen=True, slots=True)
class VectorHeader:
    """Header of an encrypted vector's bytes.

    Parameters
    ----------
    fingerprint : str
        Fingerprint of its key, 64 hexadecimal digits.
    key_bits : int
        Length of the key's modulus.
    packing : Packing
        How values lie in plaintexts.
    length : int
        Number of values, at least 1.
    tagged : bool
        Whether each ciphertext holds a tag above its values.
    """

    fingerprint: str
    key_bits: int
    packing: Packing
    length: int
    tagged: bool = False

    def __post_init__(self) -> None:
        if self.length < 1:
            raise CryptoError(
                f"an encrypted vector must have at least one value, got {self.length}"
            )

    @property
    def ciphertext_bytes(self) -> int:
        """Width of a ciphertext."""
        return -(-2 * self.key_bits // 8)

    @property
    def body_bytes(self) -> int:
        """Size of all ciphertexts."""
        rows = self.packing.ciphertexts(self.length, self.key_bits, tagged=self.tagged)
        return rows * self.ciphertext_bytes

    def to_bytes(self) -> bytes:
        """Return the header's 56 bytes."""
        packing = self.packing
        bits = (packing.fraction_bits, packing.integer_bits, self.tagged)
        numbers = (*bits, packing.max_contributors, self.key_bits, self.length)
        return _LAYOUT.pack(MAGIC, _VERSION, *numbers, bytes.fromhex(self.fingerprint))

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> VectorHeader:
        """Read the header at the start of data that another node sent.

        Raises
        ------
        CryptoError
            If there is none.
        """
        if len(data) < HEADER_BYTES:
            raise CryptoError(
                f"an encrypted vector must have at least {HEADER_BYTES} bytes, got {len(data)}"
            )
        magic, version, fraction_bits, integer_bits, tagged, *rest = _LAYOUT.unpack_from(data)
        contributors, key_bits, length, digest = rest
        if magic != MAGIC:
            raise CryptoError(f"an encrypted vector must start with {MAGIC!r}, got {magic!r}")
        if version != _VERSION:
            raise CryptoError(f"the version must be {_VERSION}, got {version}")
        if tagged not in (0, 1):
            raise CryptoError(f"the mark of a vector with tags must be 0 or 1, got {tagged}")
        packing = Packing(fraction_bits, integer_bits, contributors)
        return cls(digest.hex(), key_bits, packing, length, bool(tagged))


_BLOCK = 128  # ciphertexts encrypted at a time: bounds memory, paces `progress`

Progress = Callable[[int, int], None]


class EncryptedVector(SummedVector):
    """A vector of totals under encryption.

    Made by `encrypt`, `encrypt_integers` or `from_bytes`.

    Parameters
    ----------
    public_key : PublicKey
        The key of the ciphertexts; only its fingerprint and length are kept.
    packing : Packing
        How values lie in plaintexts.
    length : int
        Number of values.
    body : bytearray
        ``packing.ciphertexts(length, key_bits)`` big-endian ciphertexts of
        ``public_key.ciphertext_bytes`` bytes each.
    tagged : bool
        Whether each ciphertext holds a tag above its values.

    Attributes
    ----------
    fingerprint, key_bits
        Of the key; see `VectorHeader`.
    packing : Packing
    tagged : bool
    """

    __slots__ = ("_body", "_header", "key_bits")
    scheme: ClassVar[Scheme] = PAILLIER

    def __init__(
        self,
        public_key: PublicKey,
        packing: Packing,
        length: int,
        body: bytearray,
        *,
        tagged: bool = False,
    ) -> None:
        header = VectorHeader(public_key.fingerprint, public_key.key_bits, packing, length, tagged)
        if len(body) != header.body_bytes:
            raise CryptoError(f"body must have {header.body_bytes} bytes, got {len(body)}")
        super().__init__(header.fingerprint, packing, tagged=tagged)
        self._header, self._body, self.key_bits = header, body, header.key_bits

    @property
    def ciphertexts(self) -> int:
        """Number of ciphertexts."""
        return len(self._body) // self._header.ciphertext_bytes

    def __len__(self) -> int:
        return self._header.length

    def __repr__(self) -> str:
        return (
            f"EncryptedVector({len(self)} values, {self.ciphertexts} ciphertexts, "
            f"key {self.fingerprint[:16]})"
        )

    def to_integers(self) -> list[int]:
        """Return the ciphertexts as integers."""
        body, width = self._body, self._header.ciphertext_bytes
        return [int.from_bytes(body[at : at + width], "big") for at in range(0, len(body), width)]

    @classmethod
    def encrypt(
        cls,
        public_key: PublicKey,
        packing: Packing,
        values: ArrayLike,
        *,
        cores: int | None = None,
        progress: Progress | None = None,
    ) -> EncryptedVector:
        """Encrypt the values of one contributor.

        Parameters
        ----------
        public_key : PublicKey
            The key.
        packing : Packing
            How to lay the values into plaintexts.
        values : array_like of real numbers
            At least one value. An array of any shape is encrypted in C order: `decrypt_vector`
            returns it flat.
        cores : int, optional
            How many cores a long vector may use; all that the process has by default.
        progress : callable, optional
            Called as ``progress(values done, values in all)`` by the calling thread.

        Raises
        ------
        RangeError
            If a value is not finite or does not fit the packing.
        CryptoError
            If `values` are no real numbers, or integers that float64 cannot hold.

        Examples
        --------
        >>> from fl_he import EncryptedVector, Packing, PrivateKey
        >>> key = PrivateKey.generate(2048)
        >>> vector = EncryptedVector.encrypt(key.public_key, Packing(), [[1.5, -2.0], [0.25, 4.0]])
        >>> key.decrypt_vector(vector).tolist()
        [1.5, -2.0, 0.25, 4.0]
        """
        integers = packing.encode(_real_numbers(values))
        return cls.encrypt_integers(public_key, packing, integers, cores=cores, progress=progress)

    @classmethod
    def encrypt_integers(
        cls,
        public_key: PublicKey,
        packing: Packing,
        integers: NDArray[np.int64],
        *,
        tags: Sequence[int] | None = None,
        masks: Sequence[int] | None = None,
        cores: int | None = None,
        progress: Progress | None = None,
    ) -> EncryptedVector:
        """Encrypt fixed-point integers, as `Packing.encode` makes them, with a tag each or without.

        See `encrypt` and `Packing.pack`. ``masks``, one for each ciphertext, are added to the
        plaintexts modulo n: see :mod:`fl_he.crypto.tickets.pairs`.
        """
        packing.check(integers)
        length, tagged = len(integers), tags is not None
        key_bits, width = public_key.key_bits, public_key.ciphertext_bytes
        rows = packing.ciphertexts(length, key_bits, tagged=tagged)
        body = bytearray(rows * width)
        step = _BLOCK * packing.values_per_ciphertext(key_bits, tagged=tagged)

        def source(block: int) -> list[int]:
            own = None if tags is None else tags[block * _BLOCK : (block + 1) * _BLOCK]
            packed = packing.pack(integers[block * step : (block + 1) * step], key_bits, own)
            if masks is None:
                return packed
            added = masks[block * _BLOCK : (block + 1) * _BLOCK]
            return [plain + mask for plain, mask in zip(packed, added, strict=True)]

        def sink(block: int, ciphertexts: list[int]) -> None:
            at = block * _BLOCK * width
            data = public_key.to_bytes(ciphertexts)
            body[at : at + len(data)] = data

        def report(blocks: int) -> None:
            if progress is not None:
                progress(min(blocks * step, length), length)

        blocks = -(-length // step)
        encrypt_blocks(public_key.masker, rows, blocks, source, sink, cores=cores, progress=report)
        return cls(public_key, packing, length, body, tagged=tagged)

    def add(self, other: EncryptedVector, public_key: PublicKey) -> EncryptedVector:
        """Return the encrypted sum of two vectors.

        Parameters
        ----------
        other : EncryptedVector
            Of the same key, packing and length.
        public_key : PublicKey
            Their key.

        Raises
        ------
        CryptoError
            If key, packing or length differ.
        """
        self.require_key(public_key)
        total = EncryptedVector(
            public_key, self.packing, len(self), bytearray(self._body), tagged=self.tagged
        )
        total.add_in_place(other, public_key)
        return total

    def _add(self, other: EncryptedVector, public_key: PublicKey) -> None:
        n_squared, width = public_key.n_squared, self._header.ciphertext_bytes
        mine, theirs = self._body, other._body
        for start in range(0, len(mine), width):
            end = start + width
            product = mpz.from_bytes(mine[start:end]) * mpz.from_bytes(theirs[start:end])
            mine[start:end] = (product % n_squared).to_bytes(width, "big")

    def parts(self) -> tuple[Buffer, ...]:
        """Return a header of 56 bytes, and the ciphertexts."""
        return self._header.to_bytes(), self._body

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, public_key: PublicKey) -> EncryptedVector:
        """Read a vector that another node sent; see `SummedVector.from_bytes`.

        Raises
        ------
        CryptoError
            If the data is anything else, or a ciphertext is outside ``[1, n**2)`` or not coprime
            to n.
        """
        if not isinstance(data, bytes | memoryview):
            raise CryptoError(f"an encrypted vector must be bytes, got {kind_in_words(data)}")
        header = VectorHeader.from_bytes(data)
        if header.fingerprint != public_key.fingerprint:
            raise CryptoError(f"the key must be {public_key.fingerprint}, got {header.fingerprint}")
        if header.key_bits != public_key.key_bits:
            raise CryptoError(f"key_bits must be {public_key.key_bits}, got {header.key_bits}")
        # The constructor compares the declared length with the bytes that are there; nothing is
        # allocated by what the header claims.
        body = bytearray(data[HEADER_BYTES:])
        vector = cls(public_key, header.packing, header.length, body, tagged=header.tagged)
        public_key.check(vector.to_integers())
        return vector


def _real_numbers(values: ArrayLike) -> NDArray[np.float64]:
    try:
        given = np.asarray(values)
    except ValueError:
        raise CryptoError("values must be an array, got lists of different lengths") from None
    if given.dtype.kind not in "biuf":
        raise CryptoError(f"values must be real numbers, got {given.dtype}")
    # Before the conversion, which rounds 2**53 + 1 to 2**53.
    if given.dtype.kind in "iu" and ((given > 2**53) | (given < -(2**53))).any():
        raise CryptoError("values must be integers of at most 2**53 in size, or floats")
    flat: NDArray[np.float64] = given.ravel().astype(np.float64)
    return flat
