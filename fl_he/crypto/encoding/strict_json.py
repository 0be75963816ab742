"""Hostile JSON text to checked members.

The parsers never chain the standard library's exceptions: a ``JSONDecodeError`` holds the whole
document, and that may be a private key.

Bytes as text in JSON: unpadded base64url (RFC 4648, section 5) of one spelling only.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress

from fl_he.crypto.errors import CryptoError


def bytes_to_base64url(data: bytes) -> str:
    """Encode bytes as unpadded base64url text."""
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def bytes_from_base64url(value: object, what: str, length: int | None = None) -> bytes:
    """Decode bytes from unpadded base64url text.

    Parameters
    ----------
    value : object
        The JSON value.
    what : str
        Name of the member for messages.
    length : int, optional
        How many bytes it must be, checked before decoding; by default any number.

    Raises
    ------
    CryptoError
        If the value is not such text. It shows nothing of it.
    """
    if not isinstance(value, str):
        raise CryptoError(f"{what} must be base64url text, got {type(value).__name__}")
    if length is not None and len(value) != (expected := -(-4 * length // 3)):
        raise CryptoError(
            f"{what} must be base64url text of {expected} characters, got {len(value)}"
        )
    data = b""
    with suppress(ValueError):  # refused below, as nothing encodes differently
        data = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    if bytes_to_base64url(data) != value:
        raise CryptoError(f"{what} must be base64url text without padding")
    return data


def parse_object(text: str, what: str, members: Sequence[str], limit: int) -> dict[str, object]:
    """Parse a JSON object that has exactly the given members.

    Parameters
    ----------
    text : str
        The JSON text.
    what : str
        Name of the object for messages.
    members : sequence of str
        The names that must be there; any other is refused.
    limit : int
        Largest accepted number of characters, checked before parsing.

    Returns
    -------
    dict
        The members; their values are not checked yet.

    Raises
    ------
    CryptoError
        If the text is not such an object.
    """
    if not isinstance(text, str):
        raise CryptoError(f"{what} must be JSON text, got {type(text).__name__}")
    if len(text) > limit:
        raise CryptoError(f"{what} must have at most {limit} characters, got {len(text)}")
    parsed: object = None
    with suppress(ValueError, RecursionError):  # refused below
        parsed = json.loads(text, object_pairs_hook=_without_duplicates)
    if not isinstance(parsed, dict):
        raise CryptoError(f"{what} must be a JSON object without duplicate names")
    require_members(parsed, what, members)
    return parsed


def require_members(members_found: Mapping[str, object], what: str, members: Sequence[str]) -> None:
    """Raise CryptoError unless the object has exactly the given members."""
    if set(members_found) != set(members):
        missing = sorted(set(members) - set(members_found))
        unknown = len(set(members_found) - set(members))
        raise CryptoError(
            f"{what} must have exactly the members {sorted(members)}, "
            f"got {unknown} unknown, missing {missing}"
        )


def require_equal(value: object, expected: object, what: str) -> None:
    """Raise CryptoError unless the value is the expected one."""
    if value != expected:
        raise CryptoError(f"{what} must be {expected!r}, got another value")


def integer_from_base64url(value: object, what: str, maximum_bits: int) -> int:
    """Decode an unsigned big-endian integer from unpadded base64url.

    phe's key format writes integers like this (``phe.util.int_to_base64``). Only the shortest
    encoding is accepted, so that equal keys have equal texts.

    Parameters
    ----------
    value : object
        The JSON value.
    what : str
        Name of the member for messages.
    maximum_bits : int
        Longest accepted integer, checked before decoding.

    Raises
    ------
    CryptoError
        If the value is not such text.
    """
    if isinstance(value, str) and 6 * len(value) > maximum_bits + 12:
        raise CryptoError(f"{what} must have at most {maximum_bits} bits, got a longer text")
    integer = int.from_bytes(bytes_from_base64url(value, what), "big")
    if integer_to_base64url(integer) != value:
        raise CryptoError(f"{what} must be base64url text in its shortest form")
    if integer.bit_length() > maximum_bits:
        raise CryptoError(
            f"{what} must have at most {maximum_bits} bits, got {integer.bit_length()}"
        )
    return integer


def integer_to_base64url(value: int) -> str:
    """Encode a non-negative integer as the shortest unpadded base64url text."""
    return bytes_to_base64url(value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members
