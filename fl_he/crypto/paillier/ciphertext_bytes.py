"""Lists of Paillier ciphertexts as bytes, without a header: both sides know key and number."""

from __future__ import annotations

from collections.abc import Sequence

from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.public_key import PublicKey


def ciphertexts_to_bytes(public_key: PublicKey, ciphertexts: Sequence[int]) -> bytes:
    """Return big-endian bytes, ``public_key.ciphertext_bytes`` for each ciphertext."""
    width = public_key.ciphertext_bytes
    return b"".join(int(ciphertext).to_bytes(width, "big") for ciphertext in ciphertexts)


def ciphertexts_from_bytes(public_key: PublicKey, data: bytes, count: int) -> list[int]:
    """Read ciphertexts that another node sent.

    Raises
    ------
    CryptoError
        If there are not so many, or one is outside ``[1, n**2)`` or not coprime to n.
    """
    width = public_key.ciphertext_bytes
    if len(data) != count * width:
        raise CryptoError(f"{count} ciphertexts must be {count * width} bytes, got {len(data)}")
    ciphertexts = [
        int.from_bytes(data[at : at + width], "big") for at in range(0, len(data), width)
    ]
    public_key.check(ciphertexts)
    return ciphertexts
