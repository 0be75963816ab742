"""Keys and key streams from a secret."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32


def derive(secret: bytes, info: bytes) -> bytes:
    """Return 32 bytes for one use of a secret: HKDF with SHA-256 (RFC 5869), without salt.

    Parameters
    ----------
    secret : bytes
        Uniformly random, 32 bytes.
    info : bytes
        The use; no two uses of a secret have the same.
    """
    return HKDF(SHA256(), KEY_BYTES, None, info).derive(secret)


def key_stream(secret: bytes, info: bytes, length: int) -> bytes:
    """Return as many bytes for one use of a secret: AES-256 in counter mode under a derived key."""
    cipher = Cipher(algorithms.AES(derive(secret, info)), modes.CTR(bytes(16)))
    return cipher.encryptor().update(bytes(length))
