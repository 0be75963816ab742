"""DGK private keys: generation, fast encryption by the owner, the test for zero.

The owner works modulo the two primes apart, where the group that randomness comes from has only t
bits: encryption is about four times as fast as with the public key.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import ClassVar

import gmpy2
import numpy as np
from gmpy2 import mpz

from fl_he.crypto.comparison.dgk_key import PLAINTEXT_PRIMES, DgkPublicKey, separated
from fl_he.crypto.encoding.fields import constant, derived, scalar
from fl_he.crypto.encoding.strict_json import Document, base64url_integer
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.key_files import Secret, Uncopied
from fl_he.crypto.paillier.key_checks import MAXIMUM_KEY_BITS, MINIMUM_KEY_BITS, prime_bits
from fl_he.crypto.paillier.key_kind import SURPLUS_BYTES, order_bits
from fl_he.crypto.paillier.powers import PowerTable

_SIEVE_LIMIT = 1 << 16
_SIEVE_WIDTH = 1 << 18


class DgkPrivateKey(Secret):
    """A DGK private key.

    Its numbers are in no repr, exception or pickle, and it refuses to be copied.

    Parameters
    ----------
    public_key : DgkPublicKey
        The public half.
    p, q : int
        The prime factors of n.
    v_p, v_q : int
        The orders of h modulo p and q, primes.

    Raises
    ------
    CryptoError
        If the numbers are not such a key.
    """

    __slots__ = ("__p", "__p_inverse", "__q", "public_key")
    KIND: ClassVar[str] = "dgk-private-key"
    DOCUMENT: ClassVar[Document] = Document(
        "DGK private key",
        {
            "kty": constant("DGK-private"),
            **dict.fromkeys(("p", "q", "v_p", "v_q"), base64url_integer(MAXIMUM_KEY_BITS)),
            "pub": scalar(str),
            "kid": derived("public_key.fingerprint"),
        },
        limit=24576,
    )

    def __init__(self, public_key: DgkPublicKey, p: int, q: int, v_p: int, v_q: int) -> None:
        if p * q != public_key.n or p == q:
            raise CryptoError("p and q must be the factors of n")
        primes = public_key.primes
        for prime, v in ((p, v_p), (q, v_q)):
            if not (gmpy2.is_prime(prime) and gmpy2.is_prime(v)):
                raise CryptoError("p, q, v_p and v_q must be primes")
            half = gmpy2.powmod(public_key.g, v, prime)
            if (
                gmpy2.powmod(public_key.h, v, prime) != 1
                or gmpy2.powmod(half, public_key.u, prime) != 1
                or any(power == 1 for power in separated(half, primes, mpz(prime), primes).values())
            ):
                raise CryptoError("g and h must be of the orders u * v_p * v_q and v_p * v_q")
        self.public_key = public_key
        self.__p = _Half(p, v_p, public_key)
        self.__q = _Half(q, v_q, public_key)
        self.__p_inverse = gmpy2.invert(p, q)

    @classmethod
    def generate(
        cls,
        key_bits: int = 2048,
        *,
        primes: Sequence[int] = PLAINTEXT_PRIMES,
        minimum_bits: int = MINIMUM_KEY_BITS,
    ) -> DgkPrivateKey:
        """Make a new key: some seconds at 2048 bits.

        Raises
        ------
        CryptoError
            If `key_bits` is out of range or odd.
        """
        half, u = prime_bits(key_bits, minimum_bits), math.prod(primes)
        p, v_p = _prime(half, order_bits(key_bits), u)
        while (found := _prime(half, order_bits(key_bits), u))[0] == p:
            pass
        q, v_q = found
        n = p * q
        g = _join(
            _of_order(p, u * v_p, (*primes, v_p)), _of_order(q, u * v_q, (*primes, v_q)), p, q
        )
        h = _join(_of_order(p, v_p, (v_p,)), _of_order(q, v_q, (v_q,)), p, q)
        return cls(DgkPublicKey(n, g, h, u, minimum_bits=minimum_bits), p, q, v_p, v_q)

    def encrypt_bits(self, bits: Sequence[int]) -> list[mpz]:
        """Encrypt plaintexts that are 0 or 1."""
        return self.encrypt_slots([[bit] * len(self.public_key.primes) for bit in bits])

    def encrypt_slots(self, rows: Sequence[Sequence[int]]) -> list[mpz]:
        """Encrypt rows of bits, each a slot's number; slots behind the end of a row hold 0."""
        bases, n = self.public_key.slot_bases, mpz(self.public_key.n)
        p, q, inverse = self.__p, self.__q, self.__p_inverse
        masks_p, masks_q = (half.powers_of_h.random_powers(len(rows)) for half in (p, q))
        ciphertexts = []
        for row, mask_p, mask_q in zip(rows, masks_p, masks_q, strict=True):
            ciphertext = mask_p + (mask_q - mask_p) * inverse % q.prime * p.prime
            for bit, base in zip(row, bases, strict=False):
                if bit:
                    ciphertext = ciphertext * base % n
            ciphertexts.append(ciphertext)
        return ciphertexts

    def are_zero(self, ciphertexts: Sequence[int | mpz]) -> list[bool]:
        """Tell of each ciphertext whether it holds 0: ``c**v_p mod p`` is 1 (section 3)."""
        return [power == 1 for power in self._plain_powers(ciphertexts)]

    def zero_slots(self, ciphertexts: Sequence[int | mpz], used: int) -> list[list[bool]]:
        """Tell of each ciphertext which of the slots in use, the first ones, hold 0."""
        p, primes = self.__p.prime, self.public_key.primes[:used]
        return [
            [power == 1 for power in separated(base, primes, p, primes).values()]
            for base in self._plain_powers(ciphertexts)
        ]

    def _plain_powers(self, ciphertexts: Sequence[int | mpz]) -> list[mpz]:
        """Return powers modulo p that depend on the plaintexts alone."""
        p, v_p = self.__p.prime, self.__p.order
        residues = [mpz(ciphertext) % p for ciphertext in ciphertexts]
        return list(gmpy2.powmod_base_list(residues, v_p, p))

    def to_json(self) -> str:
        """Return the key as JSON text. It is secret."""
        p, q = self.__p, self.__q
        return self.DOCUMENT.dumps(
            self, p=p.prime, q=q.prime, v_p=p.order, v_q=q.order, pub=self.public_key.to_json()
        )

    @classmethod
    def from_json(cls, text: str, *, minimum_bits: int = MINIMUM_KEY_BITS) -> DgkPrivateKey:
        """Read what `to_json` returned; CryptoError for anything else."""

        def build(p: int, q: int, v_p: int, v_q: int, pub: str) -> DgkPrivateKey:
            return cls(DgkPublicKey.from_json(pub, minimum_bits=minimum_bits), p, q, v_p, v_q)

        return cls.DOCUMENT.loads(text, build)

    def __repr__(self) -> str:
        return f"DgkPrivateKey({self.public_key!r})"


class _Half(Uncopied):
    """A prime factor of n with what is done modulo it."""

    __slots__ = ("order", "powers_of_h", "prime")

    def __init__(self, prime: int, order: int, public_key: DgkPublicKey) -> None:
        self.prime, self.order = mpz(prime), mpz(order)
        exponent_bytes = -(-order.bit_length() // 8) + SURPLUS_BYTES
        self.powers_of_h = PowerTable(public_key.h, prime, exponent_bytes, order)


def _prime(bits: int, v_bits: int, u: int) -> tuple[int, int]:
    """Return a prime p = 2 u v r + 1 of this many bits with primes v and r, and v.

    r is looked for in a row from a random start, where neither r nor p has a small factor.
    """
    v = _random_prime(v_bits)
    step = 2 * u * v
    low, high = (1 << (bits - 1)) + (1 << (bits - 2)), 1 << bits  # so that p * q has all bits
    primes = [3]
    while primes[-1] < _SIEVE_LIMIT:
        primes.append(int(gmpy2.next_prime(primes[-1])))
    while True:
        start = (low // step + secrets.randbelow((high - low) // step - 2 * _SIEVE_WIDTH)) | 1
        # candidates r = start + 2 i
        good = np.ones(_SIEVE_WIDTH, dtype=np.bool_)
        for prime in primes:
            half = (prime + 1) // 2
            good[-start * half % prime :: prime] = False
            if step % prime:
                root = (-pow(step, -1, prime) - start) * half % prime  # step * r + 1 = 0
                good[root::prime] = False
        for index in np.flatnonzero(good):
            r = mpz(start + 2 * int(index))
            if not gmpy2.is_strong_prp(r, 2) or not gmpy2.is_strong_prp(p := step * r + 1, 2):
                continue
            if low <= p < high and gmpy2.is_prime(r, 40) and gmpy2.is_prime(p, 40):
                return int(p), v


def _random_prime(bits: int) -> int:
    while not gmpy2.is_prime(found := secrets.randbits(bits) | 1 | (1 << (bits - 1)), 40):
        pass
    return found


def _of_order(prime: int, order: int, factors: tuple[int, ...]) -> int:
    """Return an element of an order whose prime factors are given."""
    while True:
        element = gmpy2.powmod(secrets.randbelow(prime - 3) + 2, (prime - 1) // order, prime)
        if all(gmpy2.powmod(element, order // factor, prime) != 1 for factor in factors):
            return int(element)


def _join(a: int, b: int, p: int, q: int) -> int:
    return int(a + (b - a) * pow(p, -1, q) % q * p)
