"""Checks of public keys on Curve25519.

The library takes any 32 bytes. Two spellings of one key would pass for two keys, and a point of
small order is a key under which everybody can read or sign; all zeros, say, are one of each kind.
"""

from __future__ import annotations

from contextlib import suppress

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from fl_he.crypto.errors import CryptoError

KEY_BYTES = 32

_P = 2**255 - 19


def check_x25519(data: bytes, what: str) -> None:
    """Refuse a u-coordinate that is not the shortest one or of small order.

    Parameters
    ----------
    data : bytes of length 32
        The public key as RFC 7748, section 5, encodes it.
    what : str
        Name of the key for messages.

    Raises
    ------
    CryptoError
        If it is refused.
    """
    if int.from_bytes(data, "little") >= _P:  # the top bit, which X25519 ignores, included
        raise CryptoError(f"{what} must be a u-coordinate below 2**255 - 19")
    if _is_of_small_order(data):
        raise CryptoError(f"{what} must be a point of large order")


def check_ed25519(data: bytes, what: str) -> None:
    """Refuse a y-coordinate (RFC 8032, section 5.1.2) likewise; see `check_x25519`."""
    y = int.from_bytes(data, "little") & (2**255 - 1)
    if y >= _P:
        raise CryptoError(f"{what} must be a y-coordinate below 2**255 - 19")
    # The map to Curve25519 of RFC 7748, section 4.1, keeps the order; it sends y = 1, where its
    # denominator is 0, to infinity, and this formula to 0, which is of small order too.
    u = (1 + y) * pow(1 - y, _P - 2, _P) % _P
    if _is_of_small_order(u.to_bytes(KEY_BYTES, "little")):
        raise CryptoError(f"{what} must be a point of large order")


def _is_of_small_order(u: bytes) -> bool:
    """Tell whether X25519 gives zero, as RFC 7748, section 6.1, lets one check.

    Scalars are multiples of the cofactor 8, so it does for points whose order divides 8 only.
    """
    with suppress(ValueError):
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(u))
        return False
    return True
