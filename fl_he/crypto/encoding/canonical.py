"""Byte fields with their lengths in front: different sequences never give the same bytes."""

from __future__ import annotations

import hashlib
import struct

from fl_he.crypto.errors import CryptoError

_LENGTH = struct.Struct(">I")


def encode_fields(*fields: bytes) -> bytes:
    """Return each field behind its length, a big-endian number of 4 bytes."""
    return b"".join(part for field in fields for part in (_LENGTH.pack(len(field)), field))


def integers_digest(label: bytes, *integers: int) -> str:
    """Return SHA-256 of a label and of non-negative integers as 64 hexadecimal digits.

    Parameters
    ----------
    label : bytes
        What the integers are; no label may be the beginning of another.
    *integers : int
        Each becomes a field, big-endian without leading zeros.
    """
    fields = (number.to_bytes((number.bit_length() + 7) // 8, "big") for number in integers)
    return hashlib.sha256(label + encode_fields(*fields)).hexdigest()


def decode_fields(data: bytes, what: str) -> list[bytes]:
    """Read what `encode_fields` wrote.

    Parameters
    ----------
    data : bytes
        The encoding; whoever calls bounds its size.
    what : str
        Name of the data for messages.

    Raises
    ------
    CryptoError
        If the data are no whole number of fields.
    """
    fields: list[bytes] = []
    position = 0
    while position < len(data):
        start = position + _LENGTH.size
        if start > len(data):
            raise CryptoError(f"{what} must be a sequence of whole fields")
        position = start + _LENGTH.unpack_from(data, position)[0]
        if position > len(data):
            raise CryptoError(f"{what} must be a sequence of whole fields")
        fields.append(data[start:position])
    return fields
