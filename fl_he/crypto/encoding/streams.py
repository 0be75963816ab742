"""Keys and key streams from a secret."""

from __future__ import annotations

from typing import Protocol

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32


def derive(secret: bytes, info: bytes) -> bytes:
    """Return 32 bytes for one use of a secret: HKDF with SHA-256 (RFC 5869), without salt.

    Parameters
    ----------
    secret : bytes
        Uniformly random, at least 32 bytes.
    info : bytes
        The use; no two uses of a secret have the same.
    """
    return HKDF(SHA256(), KEY_BYTES, None, info).derive(secret)


class Stream(Protocol):
    """Bytes one after another."""

    def read(self, length: int) -> bytes:
        """Return the next bytes."""


class KeyStream:
    """Stream of bytes for one use of a secret: AES-256 in counter mode under a derived key.

    Parameters
    ----------
    secret, info : bytes
        See `derive`.
    """

    __slots__ = ("_encryptor",)

    def __init__(self, secret: bytes, info: bytes) -> None:
        cipher = Cipher(algorithms.AES(derive(secret, info)), modes.CTR(bytes(16)))
        self._encryptor = cipher.encryptor()

    def read(self, length: int) -> bytes:
        """Return the next bytes of the stream."""
        return self._encryptor.update(bytes(length))


def key_stream(secret: bytes, info: bytes, length: int) -> bytes:
    """Return the first bytes of a `KeyStream`."""
    return KeyStream(secret, info).read(length)
