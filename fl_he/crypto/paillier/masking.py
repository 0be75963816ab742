"""Encryption of plaintexts under the published base h_s.

    ciphertext = (1 + n)**plaintext * h_s**r  mod n**2,    r random, as `key_kind` says

after Damgard, Jurik and Nielsen, "A generalization of Paillier's public-key system with
applications to electronic voting", International Journal of Information Security 9 (2010),
pages 371-385. They choose the base as h_s = h**n mod n**2 with h = -x**2 mod n for a random x. In
keys of kind ``short`` h is -x**(2 * k), with the k that leaves the order ``2 * p1 * q1``; see
`key_kind`.
"""

from __future__ import annotations

import functools
import secrets
import threading
from collections.abc import Sequence

import gmpy2
import numpy as np
from gmpy2 import mpz

from fl_he.crypto.paillier.powers import FixedBaseTable, best_window, exponent_digits
from fl_he.crypto.paillier.threads import available_cores, run_all


class Masker:
    """Encrypts under one key and keeps the table that makes it fast.

    A table is built when the exponentiations asked for, plus as many as this object has done
    before, repay it; until then `gmpy2.powmod` serves. So a node that encrypts once pays for no
    table, and one that keeps encrypting soon has a large one.

    Parameters
    ----------
    n : int
        Paillier modulus.
    h_s : int
        Published base.
    exponent_bytes : int
        Length of r.
    """

    def __init__(self, n: int, h_s: int, exponent_bytes: int) -> None:
        self.n = n
        self.h_s = h_s
        self._n = mpz(n)
        self._n_squared = self._n * self._n
        self._h_s = mpz(h_s)
        self.exponent_bytes = exponent_bytes
        self._done = 0
        self._table: FixedBaseTable | None = None
        self._building = threading.Lock()

    @property
    def window(self) -> int:
        """Window of the table; 0 while there is none."""
        return 0 if self._table is None else self._table.window

    def prepare(self, count: int, cores: int = 1) -> None:
        """Build the table for `count` exponentiations to come, if one repays itself.

        Encryption does so by itself once it has done enough; a caller that knows better can be
        earlier.
        """
        bits = 8 * self.exponent_bytes
        with self._building:
            expected = self._done + count
            window = best_window(bits, self._n.bit_length(), expected, self.window, threads=cores)
            if window > self.window:
                self._table = FixedBaseTable(self._h_s, self._n, bits, window)

    def encrypt(self, plaintexts: Sequence[int], cores: int | None = None) -> list[int]:
        """Encrypt plaintexts.

        Parameters
        ----------
        plaintexts : sequence of int
            Any integers; they count modulo n.
        cores : int, optional
            How many threads may run while there is no table; all cores by default.

        Returns
        -------
        list of int
            One ciphertext per plaintext, in ``[1, n**2)``.
        """
        count = len(plaintexts)
        if not count:
            return []
        cores = cores or available_cores()
        self.prepare(count, cores)
        self._done += count
        exponents = np.frombuffer(
            secrets.token_bytes(count * self.exponent_bytes), dtype=np.uint8
        ).reshape(count, self.exponent_bytes)
        n, n_squared = self._n, self._n_squared
        table = self._table
        if table is None:
            masks = self._powers(
                [int.from_bytes(row.tobytes(), "little") for row in exponents], cores
            )
            return [
                int(mask * (1 + n * (plaintext % n)) % n_squared)
                for mask, plaintext in zip(masks, plaintexts, strict=True)
            ]
        ciphertexts = []
        rows = exponent_digits(exponents, table.exponent_bits, table.window)
        for digits, plaintext in zip(rows, plaintexts, strict=True):
            product, lift = table.split_power(digits)
            ciphertexts.append(int(product * (1 + n * ((lift + plaintext) % n)) % n_squared))
        return ciphertexts

    def _powers(self, exponents: Sequence[int], cores: int) -> list[mpz]:
        """Raise h_s to the exponents without a table; powmod_exp_list releases the GIL."""
        shares = [exponents[start::cores] for start in range(min(cores, len(exponents)))]
        powers: list[mpz] = [None] * len(exponents)
        results = run_all(
            functools.partial(gmpy2.powmod_exp_list, self._h_s, share, self._n_squared)
            for share in shares
        )
        for start, result in enumerate(results):
            powers[start::cores] = result
        return powers


# Shared by all nodes that run in one process, as Flower's simulation has it: a Masker holds a
# public key, powers of its public base and a counter, and nothing of who encrypted what. Two
# entries, because a table may take 64 MiB.
masker = functools.lru_cache(maxsize=2)(Masker)


# The same for ciphertexts that say nothing to the key's owner but their plaintexts. The owner can
# look at a ciphertext's power of h_s, and a computation that multiplies ciphertexts of the owner's
# leaves its traces there. All of these are powers of h_s, as the owner encrypts with h_s too, and
# `uniform_exponent_bytes` makes the new power uniform, to 2**-40, among all powers of h_s.
owner_masker = functools.lru_cache(maxsize=2)(Masker)
