"""Bytes as text in JSON: unpadded base64url (RFC 4648, section 5) of one spelling only."""

from __future__ import annotations

import base64
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
