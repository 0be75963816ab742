"""Kinds of Paillier keys: the group of a ciphertext's randomness and the length of its exponents.

``djn``: p and q are any primes that are 3 modulo 4 (Damgard, Jurik, Nielsen 2010; see `masking`).

``short``: p = 2 * p1 * k + 1 and q alike, with secret primes p1 and q1, and the published base is
of order ``2 * p1 * q1``. Paillier 1999, section 6; the parameters are those of Ma, Han and Lei,
"Optimized Paillier's cryptosystem with fast encryption and decryption", ACSAC '21. The best known
attack on the group takes about ``2**(t / 2)`` steps for p1 of t bits (Coron, Joux, Mandal,
Naccache, Tibouchi, "Cryptanalysis of the RSA subgroup assumption from TCC 2005", PKC 2011).
docs/security.md has the argument.
"""

from __future__ import annotations

from enum import StrEnum

#: By how much a random exponent must exceed an order to be uniform to 2**-40.
SURPLUS_BYTES = 5


class KeyKind(StrEnum):
    """The kind of a Paillier key; see the module."""

    short = "short"
    djn = "djn"


def order_bits(key_bits: int) -> int:
    """Return the length t of the secret primes whose product is the order of a hidden group.

    A group whose order has t bits modulo each prime resists for ``2**(t / 2)`` steps, so t is twice
    the strength that the modulus has: NIST SP 800-57 part 1 revision 5, table 2.
    """
    if key_bits < 2048:
        return 160
    if key_bits < 3072:
        return 224
    return 256 if key_bits < 7680 else 384


def short_order_bits(key_bits: int) -> int:
    """Return the length of p1 and q1; the keys of tests have no room for all of `order_bits`."""
    return min(order_bits(key_bits), key_bits // 4)


def exponent_bytes(kind: KeyKind, key_bits: int) -> int:
    """Return the length of the random exponents of ciphertexts.

    Examples
    --------
    >>> 8 * exponent_bytes(KeyKind.short, 2048), 8 * exponent_bytes(KeyKind.djn, 2048)
    (448, 1024)
    """
    bits = 2 * short_order_bits(key_bits) if kind is KeyKind.short else -(-key_bits // 2)
    return -(-bits // 8)


def uniform_exponent_bytes(kind: KeyKind, key_bits: int) -> int:
    """Return the length of exponents whose power of the published base is uniform to 2**-40.

    The base is of an order below ``2**(2 * t + 1)``, or below ``2**key_bits``.
    """
    bits = 2 * short_order_bits(key_bits) + 1 if kind is KeyKind.short else key_bits
    return -(-bits // 8) + SURPLUS_BYTES
