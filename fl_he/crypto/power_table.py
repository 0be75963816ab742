"""A table of powers of one base modulo any number, for exponents given as bytes.

For every byte position it holds ``base**(digit * 256**position)`` of all 256 digits, so that a
power is one product over the positions, without any squaring (Brickell, Gordon, McCurley, Wilson,
"Fast exponentiation with precomputation", EUROCRYPT '92). `fixed_base` has the one for ``n**2``.
"""

from __future__ import annotations

import secrets

from gmpy2 import mpz

_DIGITS = 256


class PowerTable:
    """Powers of a base.

    Parameters
    ----------
    base, modulus : int
    exponent_bytes : int
        Longest exponent, at least 1.
    """

    __slots__ = ("_modulus", "_rows")

    def __init__(self, base: int, modulus: int, exponent_bytes: int) -> None:
        self._modulus = mpz(modulus)
        self._rows: list[list[mpz]] = []
        power = mpz(base) % self._modulus
        for _ in range(exponent_bytes):
            row = [mpz(1)]
            for _ in range(_DIGITS - 1):
                row.append(row[-1] * power % self._modulus)
            self._rows.append(row)
            power = row[-1] * power % self._modulus

    def random_powers(self, count: int) -> list[mpz]:
        """Return powers with independent uniform exponents of `exponent_bytes` bytes."""
        width = len(self._rows)
        exponents = secrets.token_bytes(count * width)
        return [self.power(exponents[at : at + width]) for at in range(0, len(exponents), width)]

    def power(self, exponent: bytes) -> mpz:
        """Raise the base to an exponent given by its little-endian bytes."""
        modulus = self._modulus
        product = mpz(1)
        for row, digit in zip(self._rows, exponent, strict=True):
            product = product * row[digit] % modulus
        return product
