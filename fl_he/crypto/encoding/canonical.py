"""Byte fields with their lengths in front: different sequences never give the same bytes."""

from __future__ import annotations

import hashlib
import struct
from typing import TypeVar

from fl_he.crypto.errors import CryptoError

_LENGTH = struct.Struct(">I")
_LONGEST = 2**32 - 1

_Bytes = TypeVar("_Bytes", bytes, memoryview)


def length_of_field(length: int) -> bytes:
    """Return the bytes in front of a field; raises CryptoError for a field of 4 GiB or more."""
    if length > _LONGEST:
        raise CryptoError(f"a field must have at most {_LONGEST} bytes, got {length}")
    return _LENGTH.pack(length)


def encode_fields(*fields: bytes) -> bytes:
    """Return each field behind its length, a big-endian number of 4 bytes."""
    return b"".join(part for field in fields for part in (length_of_field(len(field)), field))


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


def decode_fields(data: _Bytes, what: str, most: int) -> list[_Bytes]:
    """Read what `encode_fields` wrote.

    Parameters
    ----------
    data : bytes or memoryview
        The encoding; whoever calls bounds its size. The fields of a view are views.
    what : str
        Name of the data for messages.
    most : int
        Largest number of fields. Empty fields would take far more memory than their bytes.

    Raises
    ------
    CryptoError
        If the data are no whole number of fields, or more than `most`.
    """
    fields: list[_Bytes] = []
    position = 0
    while position < len(data):
        if len(fields) == most:
            raise CryptoError(f"{what} has more than {most} fields")
        start = position + _LENGTH.size
        if start > len(data):
            raise CryptoError(f"{what} must be a sequence of whole fields")
        position = start + _LENGTH.unpack_from(data, position)[0]
        if position > len(data):
            raise CryptoError(f"{what} must be a sequence of whole fields")
        fields.append(data[start:position])
    return fields
