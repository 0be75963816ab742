"""The header of an encrypted vector's bytes."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from fl_he.crypto.errors import CryptoError
from fl_he.crypto.packing import Packing

# In this order: magic, version, fraction_bits, integer_bits, zero, max_contributors, key_bits,
# length and the key's fingerprint.
_LAYOUT = struct.Struct(">4s4BIIQ32s")
_MAGIC = b"FLHE"
_VERSION = 1

HEADER_BYTES = _LAYOUT.size


@dataclass(frozen=True, slots=True)
class VectorHeader:
    """What an encrypted vector says of itself.

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
    """

    fingerprint: str
    key_bits: int
    packing: Packing
    length: int

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
        return self.packing.ciphertexts(self.length, self.key_bits) * self.ciphertext_bytes

    def to_bytes(self) -> bytes:
        """Return the header's 56 bytes."""
        return _LAYOUT.pack(
            _MAGIC,
            _VERSION,
            self.packing.fraction_bits,
            self.packing.integer_bits,
            0,
            self.packing.max_contributors,
            self.key_bits,
            self.length,
            bytes.fromhex(self.fingerprint),
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> VectorHeader:
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
        (
            magic,
            version,
            fraction_bits,
            integer_bits,
            zero,
            contributors,
            key_bits,
            length,
            digest,
        ) = _LAYOUT.unpack_from(data)
        if magic != _MAGIC:
            raise CryptoError(f"an encrypted vector must start with {_MAGIC!r}, got {magic!r}")
        if (version, zero) != (_VERSION, 0):
            raise CryptoError(f"the version must be {_VERSION}, got {version} and {zero}")
        packing = Packing(fraction_bits, integer_bits, contributors)
        return cls(digest.hex(), key_bits, packing, length)
