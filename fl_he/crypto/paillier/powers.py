"""A table of powers of a public base, for exponentiation modulo n**2.

See `radix` for the method.

An element of the group modulo n**2 is kept as (residue, lift):

    element = residue * (1 + lift * n)  mod n**2,    0 <= residue, lift < n

As ``(1 + n)**k = 1 + k * n mod n**2``, lifts add up under multiplication. What is left to multiply
is half as long as the element, which makes a step about 1.7 times faster.
"""

from __future__ import annotations

from collections.abc import Iterable

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

from fl_he.crypto.radix import cheapest_window, exponent_digits, positions

# Costs relative to one step of `split_power`, measured at 2048 and 3072 bits (docs/performance.md).
_BUILD_COST = 2.2  # one table entry
_POWMOD_COST = 1.9  # one exponent bit of gmpy2.powmod
_MAXIMUM_TABLE_BYTES = 64 * 2**20
_INTEGER_OVERHEAD = 48  # bytes of a gmpy2 integer beside its limbs, with the list's pointer


class FixedBaseTable:
    """Powers of one base modulo ``n**2``.

    Parameters
    ----------
    base : int
        In ``[1, n**2)``, coprime to `n`.
    n : int
        Paillier modulus.
    exponent_bits : int
        Longest exponent, at least 1.
    window : int
        Bits of a digit, at least 1. The table has ``ceil(exponent_bits / window) * 2**window``
        entries of the size of ``n**2``.
    """

    __slots__ = ("_lifts", "_n_squared", "_residues", "exponent_bits", "window")

    def __init__(self, base: int, n: int, exponent_bits: int, window: int) -> None:
        self.exponent_bits = exponent_bits
        self.window = window
        modulus = mpz(n)
        self._n_squared = modulus * modulus
        self._residues: list[list[mpz]] = []
        self._lifts: list[list[mpz]] = []
        power = mpz(base)
        for position in range(0, exponent_bits, window):
            digits = 2 ** min(window, exponent_bits - position)
            residues, lifts = _powers(power, modulus, digits)
            self._residues.append(residues)
            self._lifts.append(lifts)
            last = residues[-1] * (1 + lifts[-1] * modulus) % self._n_squared
            power = last * power % self._n_squared

    def split_power(self, digits: Iterable[int]) -> tuple[mpz, mpz]:
        """Raise the base to an exponent given by its digits.

        Parameters
        ----------
        digits : iterable of int
            One digit per position, the lowest first, as `exponent_digits` makes them.

        Returns
        -------
        product : mpz
            In ``[0, n**2)``.
        lift : mpz
            Not reduced; the power is ``product * (1 + lift * n) mod n**2``.
        """
        n_squared = self._n_squared
        product = mpz(1)
        lift = mpz(0)
        for residues, lifts, digit in zip(self._residues, self._lifts, digits, strict=True):
            product = product * residues[digit] % n_squared
            lift += lifts[digit]
        return product, lift

    def exponent_digits(self, exponents: NDArray[np.uint8]) -> list[list[int]]:
        """Cut exponents into digits for `split_power`; see `radix.exponent_digits`."""
        return exponent_digits(exponents, self.exponent_bits, self.window)


def best_window(
    exponent_bits: int, modulus_bits: int, count: int, window_now: int = 0, threads: int = 1
) -> int:
    """Choose the window that makes `count` exponentiations cheapest, building included.

    Parameters
    ----------
    exponent_bits : int
        Length of the exponents.
    modulus_bits : int
        Length of n: it decides how large a table may become.
    count : int
        Expected number of exponentiations.
    window_now : int
        Window of the table that is there already; 0 for none.
    threads : int
        Number of threads that ``gmpy2.powmod`` would run on if there is no table.

    Returns
    -------
    int
        A window above `window_now` if building that table repays itself, else `window_now`.
    """
    if window_now:
        cheapest = float(count * positions(exponent_bits, window_now))
    else:
        cheapest = count * exponent_bits * _POWMOD_COST / min(threads, max(count, 1))
    return cheapest_window(
        exponent_bits,
        count,
        build_cost=_BUILD_COST,
        most_entries=_MAXIMUM_TABLE_BYTES // (modulus_bits // 4 + 2 * _INTEGER_OVERHEAD),
        cheapest=cheapest,
        window_now=window_now,
    )


def _powers(base: mpz, n: mpz, count: int) -> tuple[list[mpz], list[mpz]]:
    """Return residues and lifts of ``base**0, ..., base**(count - 1)``."""
    step, quotient = gmpy2.f_mod(base, n), gmpy2.f_div(base, n)
    step_inverse = gmpy2.invert(step, n)
    step_lift = quotient * step_inverse % n
    residue, lift, inverse = mpz(1), mpz(0), mpz(1)
    residues, lifts = [residue], [lift]
    for _ in range(count - 1):
        # residue * step = quotient * n + rest = rest * (1 + quotient / rest * n)  mod n**2
        quotient, residue = gmpy2.f_divmod(residue * step, n)
        inverse = inverse * step_inverse % n
        lift = (lift + step_lift + quotient * inverse) % n
        residues.append(residue)
        lifts.append(lift)
    return residues, lifts
