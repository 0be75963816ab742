"""A table of powers of one base modulo any number, for random exponents of so many bytes.

See `radix` for the method; `fixed_base` has the table for ``n**2``.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

import numpy as np
from gmpy2 import mpz

from fl_he.crypto.radix import cheapest_window, exponent_digits, positions

_MAXIMUM_TABLE_BYTES = 32 * 2**20
_INTEGER_OVERHEAD = 56  # bytes of a gmpy2 integer beside its limbs, with the list's pointer
_BLOCK = 4096  # exponents that are cut into digits at a time


class PowerTable:
    """Powers of a base.

    The table is built when powers are asked for, and anew with longer digits when so many are asked
    for at once that they repay it, should they be asked for twice.

    Parameters
    ----------
    base, modulus : int
    exponent_bytes : int
        Length of the exponents, at least 1.
    """

    __slots__ = ("_base", "_exponent_bytes", "_modulus", "_rows", "_window")

    def __init__(self, base: int, modulus: int, exponent_bytes: int) -> None:
        self._modulus = mpz(modulus)
        self._base = mpz(base) % self._modulus
        self._exponent_bytes = exponent_bytes
        self._window = 0
        self._rows: list[list[mpz]] = []

    @property
    def window(self) -> int:
        """Bits of a digit; 0 while there is no table."""
        return self._window

    def random_powers(self, count: int) -> list[mpz]:
        """Return powers with independent uniform exponents of `exponent_bytes` bytes."""
        width, powers = self._exponent_bytes, []
        self._prepare(count)
        for start in range(0, count, _BLOCK):
            block = min(_BLOCK, count - start)
            exponents = np.frombuffer(secrets.token_bytes(block * width), dtype=np.uint8)
            powers += self.powers(exponents.reshape(block, width))
        return powers

    def powers(self, exponents: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> list[mpz]:
        """Raise the base to exponents, each a row of little-endian bytes."""
        if not self._window:
            self._prepare(len(exponents))
        digits = exponent_digits(exponents, 8 * self._exponent_bytes, self._window)
        return [self._product(row) for row in digits]

    def _product(self, digits: Iterable[int]) -> mpz:
        modulus = self._modulus
        product = mpz(1)
        for row, digit in zip(self._rows, digits, strict=True):
            product = product * row[digit] % modulus
        return product

    def _prepare(self, count: int) -> None:
        bits = 8 * self._exponent_bytes
        now = 2 * count * float(positions(bits, self._window)) if self._window else float("inf")
        entry_bytes = -(-self._modulus.bit_length() // 8) + _INTEGER_OVERHEAD
        window = cheapest_window(
            bits,
            2 * count,
            build_cost=1.0,
            most_entries=_MAXIMUM_TABLE_BYTES // entry_bytes,
            cheapest=now,
            window_now=self._window,
        )
        if window > self._window:
            self._rows, self._window = self._built(window), window

    def _built(self, window: int) -> list[list[mpz]]:
        rows, power = [], self._base
        for _ in range(positions(8 * self._exponent_bytes, window)):
            row = [mpz(1)]
            for _ in range(2**window - 1):
                row.append(row[-1] * power % self._modulus)
            rows.append(row)
            power = row[-1] * power % self._modulus
        return rows
