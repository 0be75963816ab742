"""Public keys of the DGK scheme: small plaintexts, cheap tests for zero.

    ciphertext = g**plaintext * h**r  mod n,    plaintext modulo u, a product of small primes

A plaintext modulo u is one number modulo each prime (Chinese remainders): a slot for each, as in
Naccache and Stern, "A new public key cryptosystem based on higher residues", CCS 1998, section 2.
With one prime it is the paper's scheme.

Damgard, Geisler, Kroigaard, "Efficient and Secure Comparison for On-Line Auctions", ACISP 2007,
section 3, with their "A correction to ...", International Journal of Applied Cryptography 1
(2009), pages 323-324: v_p and v_q divide p - 1 and q - 1, g is of order ``u * v_p * v_q`` and h
of order ``v_p * v_q``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import ClassVar

import gmpy2
from gmpy2 import mpz

from fl_he.crypto.encoding.fields import constant, derived
from fl_he.crypto.encoding.strict_json import Document, base64url_integer
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.key_checks import MAXIMUM_KEY_BITS, PublicNumbers
from fl_he.crypto.paillier.key_kind import order_bits
from fl_he.crypto.paillier.powers import PowerTable

#: The plaintext space of new keys: eight slots with room for numbers of 84 bits, see `comparison`.
PLAINTEXT_PRIMES = (131, 137, 139, 149, 151, 157, 163, 167)
_MAXIMUM_BITS = 128
_PRIME_LIMIT = 2048


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class DgkPublicKey(PublicNumbers):
    """A DGK public key; see `PublicNumbers`.

    Parameters
    ----------
    g, h : int
        Bases of plaintexts and of randomness, in ``[2, n - 2]``.
    u : int
        Product of different odd primes; plaintexts count modulo u.
    """

    DOCUMENT: ClassVar[Document] = Document(
        "DGK public key",
        {
            "kty": constant("DGK"),
            **dict.fromkeys(("n", "g", "h"), base64url_integer(MAXIMUM_KEY_BITS)),
            "u": base64url_integer(_MAXIMUM_BITS),
            "kid": derived("fingerprint"),
        },
        limit=8192,
    )
    LABEL: ClassVar[bytes] = b"fl-he DGK public key 1\0"
    CIPHERTEXT: ClassVar[str] = "DGK ciphertext"
    POWER: ClassVar[int] = 1

    g: int
    h: int
    u: int = math.prod(PLAINTEXT_PRIMES)

    def check_numbers(self) -> None:
        """See the base."""
        _check(self.n, self.g, self.h, self.u)

    @property
    def primes(self) -> tuple[int, ...]:
        """Prime factors of u, the smallest first: the moduli of the slots."""
        return _primes(self.u)

    @property
    def slot_bases(self) -> tuple[mpz, ...]:
        """For each slot the power of g that holds 1 in it and 0 in all others."""
        return _slot_bases(self.g, self.n, self.u)

    def masks(self, count: int) -> list[mpz]:
        """Return fresh encryptions of 0, uniform to the owner of the key as well.

        The exponents have 2.5 t bits and the order of h has 2 t (section 3 of the paper).
        """
        return _table(self.h, self.n, self.key_bits).random_powers(count)

    def encrypt(self, plaintexts: Sequence[int]) -> list[int]:
        """Encrypt integers; they count modulo u."""
        g, n, u = mpz(self.g), self.n, self.u
        return [
            int(gmpy2.powmod(g, plaintext % u, n) * mask % n)
            for plaintext, mask in zip(plaintexts, self.masks(len(plaintexts)), strict=True)
        ]


# A node parses the same key in every message; exceptions are not kept.
@functools.lru_cache(maxsize=16)
def _check(n: int, g: int, h: int, u: int) -> None:
    if u.bit_length() > _MAXIMUM_BITS or u < 3 or math.prod(_primes(u)) != u:
        raise CryptoError("u must be a product of different odd primes, of at most 128 bits")
    if gmpy2.gcd(n, gmpy2.primorial(1000)) != 1 or gmpy2.is_strong_prp(n, 2):
        raise CryptoError("n must be a product of two large primes")
    for name, base in (("g", g), ("h", h)):
        if not 2 <= base <= n - 2 or gmpy2.gcd(base, n) != 1:
            raise CryptoError(f"{name} must be in [2, n - 2] and coprime to n")
    # Under an h of small order everybody could read, under such a g nobody. It holds modulo both
    # factors of n.
    for name, base in (("g", gmpy2.powmod(g, u, n)), ("h", h)):
        if gmpy2.gcd(gmpy2.powmod(base, gmpy2.primorial(1000) ** 8, n) - 1, n) != 1:
            raise CryptoError(f"{name} must be of large order modulo both factors of n")


@functools.lru_cache(maxsize=4)
def _primes(u: int) -> tuple[int, ...]:
    return tuple(p for p in range(3, _PRIME_LIMIT, 2) if u % p == 0 and gmpy2.is_prime(p))


@functools.lru_cache(maxsize=4)
def _slot_bases(g: int, n: int, u: int) -> tuple[mpz, ...]:
    others = [(u // prime, prime) for prime in _primes(u)]
    return tuple(gmpy2.powmod(g, rest * pow(rest, -1, prime), n) for rest, prime in others)


def separated(
    power: mpz, primes: Sequence[int], modulus: mpz, wanted: Collection[int]
) -> dict[int, mpz]:
    """Raise a power to the product of all primes but one, for each of the wanted primes.

    Of slots with these primes as moduli each result holds one: its number times that product.
    """
    if len(primes) == 1:
        return {primes[0]: power}
    half = len(primes) // 2
    found: dict[int, mpz] = {}
    for own, other in ((primes[:half], primes[half:]), (primes[half:], primes[:half])):
        if any(prime in wanted for prime in own):
            without = gmpy2.powmod(power, math.prod(other), modulus)
            found |= separated(without, own, modulus, wanted)
    return found


# Public numbers only, so all nodes of one process may share them.
@functools.lru_cache(maxsize=4)
def _table(h: int, n: int, key_bits: int) -> PowerTable:
    return PowerTable(h, n, -(-5 * order_bits(key_bits) // 16))
