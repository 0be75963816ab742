"""Public keys of the DGK scheme: small plaintexts, cheap tests for zero.

    ciphertext = g**plaintext * h**r  mod n,    plaintext modulo a small prime u

Damgard, Geisler, Kroigaard, "Efficient and Secure Comparison for On-Line Auctions", ACISP 2007,
section 3, with their "A correction to ...", International Journal of Applied Cryptography 1
(2009), pages 323-324: v_p and v_q divide p - 1 and q - 1, g is of order ``u * v_p * v_q`` and h
of order ``v_p * v_q``.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
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

#: The plaintext space unless a test wants another: room for numbers of 84 bits, see `comparison`.
PLAINTEXT_PRIME = 257
_MAXIMUM_PRIME_BITS = 128


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class DgkPublicKey(PublicNumbers):
    """A DGK public key; see `PublicNumbers`.

    Parameters
    ----------
    g, h : int
        Bases of plaintexts and of randomness, in ``[2, n - 2]``.
    u : int
        A prime; plaintexts count modulo u.
    """

    DOCUMENT: ClassVar[Document] = Document(
        "DGK public key",
        {
            "kty": constant("DGK"),
            **dict.fromkeys(("n", "g", "h"), base64url_integer(MAXIMUM_KEY_BITS)),
            "u": base64url_integer(_MAXIMUM_PRIME_BITS),
            "kid": derived("fingerprint"),
        },
        limit=8192,
    )
    LABEL: ClassVar[bytes] = b"fl-he DGK public key 1\0"
    CIPHERTEXT: ClassVar[str] = "DGK ciphertext"
    POWER: ClassVar[int] = 1

    g: int
    h: int
    u: int = PLAINTEXT_PRIME

    def check_numbers(self) -> None:
        """See the base."""
        _check(self.n, self.g, self.h, self.u)

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
    if u.bit_length() > _MAXIMUM_PRIME_BITS or u < 3 or not gmpy2.is_prime(u):
        raise CryptoError("u must be an odd prime of at most 128 bits")
    if gmpy2.gcd(n, gmpy2.primorial(1000)) != 1 or gmpy2.is_strong_prp(n, 2):
        raise CryptoError("n must be a product of two large primes")
    for name, base in (("g", g), ("h", h)):
        if not 2 <= base <= n - 2 or gmpy2.gcd(base, n) != 1:
            raise CryptoError(f"{name} must be in [2, n - 2] and coprime to n")
    # Under an h of small order everybody could read, under such a g nobody. It holds modulo both
    # factors of n.
    for name, base in (("g", gmpy2.powmod(g, u, n)), ("h", h)):
        if gmpy2.gcd(gmpy2.powmod(base, gmpy2.primorial(200) ** 2, n) - 1, n) != 1:
            raise CryptoError(f"{name} must be of large order modulo both factors of n")


# Public numbers only, so all nodes of one process may share them.
@functools.lru_cache(maxsize=4)
def _table(h: int, n: int, key_bits: int) -> PowerTable:
    return PowerTable(h, n, -(-5 * order_bits(key_bits) // 16))
