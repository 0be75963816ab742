"""Paillier decryption modulo the two primes, side by side on two cores.

Paillier 1999, "Decryption using Chinese-remaindering":

    m_p = L_p(c**(p - 1) mod p**2) * h_p mod p,    L_p(x) = (x - 1) / p

and the same for q; the Chinese remainder theorem joins m_p and m_q.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NoReturn

import gmpy2
from gmpy2 import mpz

from fl_he.crypto.threads import available_cores, run_all


class CrtDecryption:
    """The private numbers and what is done with them.

    Parameters
    ----------
    p, q : int
        The prime factors of n.
    """

    __slots__ = ("_p", "_p_inverse", "_q")

    def __init__(self, p: int, q: int) -> None:
        smaller, larger = sorted((mpz(p), mpz(q)))
        self._p = _Prime(smaller, larger)
        self._q = _Prime(larger, smaller)
        self._p_inverse = gmpy2.invert(smaller, larger)

    @property
    def primes(self) -> tuple[int, int]:
        """The two primes, the smaller first."""
        return int(self._p.value), int(self._q.value)

    def decrypt(self, ciphertexts: Sequence[int], cores: int | None = None) -> list[int]:
        """Decrypt ciphertexts that are coprime to n.

        Parameters
        ----------
        ciphertexts : sequence of int
            In ``[1, n**2)``.
        cores : int, optional
            How many threads may run; by default as many as this process has cores.

        Returns
        -------
        list of int
            Plaintexts in ``[0, n)``.
        """
        if not ciphertexts:
            return []
        cores = cores or available_cores()
        # Each share is decrypted by two threads, one per prime.
        count = min(max(1, cores // 2), len(ciphertexts))
        calls = [
            functools.partial(prime.decrypt, ciphertexts[at::count])
            for at in range(count)
            for prime in (self._p, self._q)
        ]
        halves = run_all(calls) if cores > 1 else [call() for call in calls]
        p, q = self._p.value, self._q.value
        plaintexts = [0] * len(ciphertexts)
        for at in range(count):
            plaintexts[at::count] = [
                int(m_p + (m_q - m_p) * self._p_inverse % q * p)
                for m_p, m_q in zip(halves[2 * at], halves[2 * at + 1], strict=True)
            ]
        return plaintexts

    def __repr__(self) -> str:
        return "CrtDecryption()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("private numbers must not be copied or pickled")


class _Prime:
    """A prime factor of n with what decryption modulo its square needs.

    Paillier's h_p is the inverse of ``L_p(g**(p - 1) mod p**2)``. For g = n + 1 that power is
    ``1 + (p - 1) * n = 1 - q * p  mod p**2``, so h_p is the inverse of -q.
    """

    __slots__ = ("_h", "_square", "value")

    def __init__(self, value: mpz, other: mpz) -> None:
        self.value = value
        self._square = value * value
        self._h = gmpy2.invert(-other, value)

    def decrypt(self, ciphertexts: Sequence[int]) -> list[mpz]:
        """Decrypt modulo this prime; powmod_base_list releases the interpreter lock."""
        residues = [ciphertext % self._square for ciphertext in ciphertexts]
        powers = gmpy2.powmod_base_list(residues, self.value - 1, self._square)
        return [(power - 1) // self.value * self._h % self.value for power in powers]

    def __reduce__(self) -> NoReturn:
        raise TypeError("private numbers must not be copied or pickled")
