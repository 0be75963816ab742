"""Checks of a public key's numbers and of ciphertexts, without the private key.

Whoever makes a key knows how to open what is encrypted under it, so these checks cannot tell a
good key from one of an impostor; that is what pinning a fingerprint is for. They refuse numbers
under which everybody could read, or nobody.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence

import gmpy2
from gmpy2 import mpz

from fl_he.crypto.errors import CryptoError, ShortKeyWarning

MINIMUM_KEY_BITS = 1024
RECOMMENDED_KEY_BITS = 2048
MAXIMUM_KEY_BITS = 8192

_SMALL_PRIMES = gmpy2.primorial(1000)
_SMALL_ORDERS = functools.reduce(gmpy2.lcm, range(1, 129), mpz(1))


def check_key_bits(key_bits: int, minimum_bits: int) -> None:
    """Refuse a modulus length outside `minimum_bits` to 8192, warn below 2048.

    Raises
    ------
    CryptoError
        If the length is refused.

    Warns
    -----
    ShortKeyWarning
        If the length is accepted but below 2048 bits.
    """
    if not minimum_bits <= key_bits <= MAXIMUM_KEY_BITS:
        raise CryptoError(
            f"a key must have between {minimum_bits} and {MAXIMUM_KEY_BITS} bits, got {key_bits}"
        )
    if key_bits < RECOMMENDED_KEY_BITS:
        warnings.warn(
            f"a key should have at least {RECOMMENDED_KEY_BITS} bits, got {key_bits}",
            ShortKeyWarning,
            stacklevel=5,
        )


def check_longest(n: int, maximum_bits: int) -> None:
    """Refuse a modulus of more bits, before checks that take the longer, the longer it is."""
    if n.bit_length() > maximum_bits:
        raise CryptoError(f"n must have at most {maximum_bits} bits, got {n.bit_length()}")


# The results are kept because a node parses the same key in every message; exceptions are not.
@functools.lru_cache(maxsize=8)
def check_modulus(n: int) -> None:
    """Refuse a modulus that cannot be a product of two large primes that are 3 modulo 4.

    Parameters
    ----------
    n : int
        Modulus, of a length that `check_key_bits` accepts.

    Raises
    ------
    CryptoError
        If n is not 1 modulo 4, has a prime factor below 1000, is a square or is a prime.
    """
    if n % 4 != 1:
        raise CryptoError("n must be 1 modulo 4, as a product of two primes that are 3 modulo 4")
    if gmpy2.gcd(n, _SMALL_PRIMES) != 1:
        raise CryptoError("n must have no prime factor below 1000")
    if gmpy2.is_square(n):
        raise CryptoError("n must be a product of two different primes, got a square")
    # A prime always passes the test; that a product of two large primes does is negligible.
    if gmpy2.is_strong_prp(n, 2):
        raise CryptoError("n must be a product of two primes, got a prime")


@functools.lru_cache(maxsize=8)
def check_base(h_s: int, n: int) -> None:
    """Refuse a published base that cannot be an n-th power of -x**2 or that hides nothing.

    Parameters
    ----------
    h_s : int
        Published base.
    n : int
        Modulus that `check_modulus` accepts.

    Raises
    ------
    CryptoError
        If h_s is outside ``[2, n**2 - 2]``, shares a factor with n, has a Jacobi symbol other
        than 1 (-1 has 1 here, because both primes are 3 modulo 4), or is of an order modulo a
        prime factor of n that divides the least common multiple of 1 to 128. The last holds for
        1, -1 and all of ``1 + k * n``.
    """
    if not 2 <= h_s <= n * n - 2:
        raise CryptoError("h_s must be in [2, n**2 - 2]")
    if gmpy2.gcd(h_s, n) != 1:
        raise CryptoError("h_s must be coprime to n")
    if gmpy2.jacobi(h_s, n) != 1:
        raise CryptoError("h_s must have the Jacobi symbol 1 modulo n")
    if gmpy2.gcd(gmpy2.powmod(h_s, _SMALL_ORDERS, n) - 1, n) != 1:
        raise CryptoError("h_s must be of large order modulo both factors of n")


def check_units(ciphertexts: Sequence[int], n: int, modulus: int, what: str) -> None:
    """Refuse ciphertexts outside ``[1, modulus)`` or not coprime to n; `what` names them."""
    product = mpz(1)
    for index, ciphertext in enumerate(ciphertexts):
        if not 1 <= ciphertext < modulus:
            limit = "n" if modulus == n else "n**2"
            raise CryptoError(f"{what} {index} must be in [1, {limit})")
        product = product * ciphertext % n
    # One gcd for all: a product is coprime to n exactly if each factor is.
    if gmpy2.gcd(product, n) != 1:
        index = next(i for i, c in enumerate(ciphertexts) if gmpy2.gcd(c, n) != 1)
        raise CryptoError(f"{what} {index} must be coprime to n")


def units_to_bytes(ciphertexts: Sequence[int], width: int) -> bytes:
    """Return ciphertexts as big-endian bytes of `width` each."""
    return b"".join(int(ciphertext).to_bytes(width, "big") for ciphertext in ciphertexts)


def units_from_bytes(data: object, count: int, width: int, what: str) -> list[int]:
    """Undo `units_to_bytes` on bytes that another node sent; `check_units` is the caller's.

    Raises
    ------
    CryptoError
        If the data are not bytes of so many ciphertexts.
    """
    if not isinstance(data, bytes) or len(data) != count * width:
        got = len(data) if isinstance(data, bytes) else type(data).__name__
        raise CryptoError(f"{count} {what} must be {count * width} bytes, got {got}")
    return [int.from_bytes(data[at : at + width], "big") for at in range(0, len(data), width)]
