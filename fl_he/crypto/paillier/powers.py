"""Powers of a fixed base from tables: `FixedBaseTable` modulo n**2, `PowerTable` modulo any number.

A table holds ``base**(digit * 2**(window * position))`` of all positions and digits, so that a
power is one product over the positions, without any squaring: the radix method of Brickell, Gordon,
McCurley and Wilson, "Fast exponentiation with precomputation", EUROCRYPT '92, with the powers of
all digits stored.

In `FixedBaseTable` an element of the group modulo n**2 is kept as (residue, lift):

    element = residue * (1 + lift * n)  mod n**2,    0 <= residue, lift < n

As ``(1 + n)**k = 1 + k * n mod n**2``, lifts add up under multiplication. What is left to multiply
is half as long as the element, which makes a step about 1.7 times faster.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace

import gmpy2
import numpy as np
from gmpy2 import mpz
from numpy.typing import NDArray

_INTEGER_OVERHEAD = 56  # bytes of a gmpy2 integer without its limbs, with the list's pointer
_BLOCK = 4096  # exponents that are cut into digits at a time


def exponent_digits(
    exponents: NDArray[np.uint8], exponent_bits: int, window: int
) -> list[list[int]]:
    """Cut exponents into digits.

    Parameters
    ----------
    exponents : uint8 array of shape (count, ceil(exponent_bits / 8))
        Little-endian bytes of one exponent per row, each below ``2**exponent_bits``.
    exponent_bits, window : int

    Returns
    -------
    list of lists of int
        Shape (count, ceil(exponent_bits / window)), the lowest digit first.
    """
    width = -(-exponent_bits // window)
    bits = np.unpackbits(exponents, axis=1, count=exponent_bits, bitorder="little")
    padded = np.zeros((len(exponents), width * window), dtype=np.uint8)
    padded[:, :exponent_bits] = bits
    weights = 1 << np.arange(window)
    digits: list[list[int]] = (padded.reshape(len(exponents), width, window) @ weights).tolist()
    return digits


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs of powers, relative to one step of an exponentiation by a table.

    Attributes
    ----------
    entry : float
        Of building one entry.
    powmod : float
        Of one exponent bit without a table.
    integers : int
        In one entry, each as long as the modulus.
    most_bytes : int
        That a table may have.
    """

    entry: float
    powmod: float
    integers: int
    most_bytes: int


#: Of `FixedBaseTable`, measured at 2048 and 3072 bits (docs/performance.md).
FIXED_BASE = Costs(entry=2.2, powmod=1.9, integers=2, most_bytes=64 * 2**20)
_POWERS = Costs(entry=1.0, powmod=math.inf, integers=1, most_bytes=16 * 2**20)
#: Modulo one prime a product is so short that waiting for a larger table takes longer.
_POWERS_OF_OWNER = replace(_POWERS, most_bytes=7 * 2**20)


def best_window(
    exponent_bits: int,
    modulus_bits: int,
    count: int,
    window_now: int = 0,
    *,
    threads: int = 1,
    costs: Costs = FIXED_BASE,
) -> int:
    """Choose the window that makes `count` exponentiations cheapest, building included.

    Parameters
    ----------
    exponent_bits, modulus_bits : int
        Lengths of the exponents and of the modulus, which decides how large a table may become.
    count : int
        Expected number of exponentiations.
    window_now : int
        Window of the table that is there already; 0 for none.
    threads : int
        Number of threads that ``gmpy2.powmod`` would run on if there is no table.
    costs : Costs

    Returns
    -------
    int
        A window above `window_now` if building that table repays itself, else `window_now`.
    """
    most_entries = costs.most_bytes // (costs.integers * (modulus_bits // 8 + _INTEGER_OVERHEAD))
    if window_now:
        cheapest: float = count * -(-exponent_bits // window_now)
    else:
        cheapest = max(count, 1) * exponent_bits * costs.powmod / min(threads, max(count, 1))
    best = window_now
    for window in range(window_now + 1, exponent_bits + 1):
        width = -(-exponent_bits // window)
        entries = width * 2**window
        if entries > most_entries:
            break
        cost = entries * costs.entry + count * width
        if cost < cheapest:
            best, cheapest = window, cost
    return best


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

    def split_power(self, digits: Sequence[int]) -> tuple[mpz, mpz]:
        """Raise the base to an exponent given by its digits.

        Parameters
        ----------
        digits : sequence of int
            One digit per position, the lowest first, as `exponent_digits` makes them.

        Returns
        -------
        product : mpz
            In ``[0, n**2)``.
        lift : mpz
            Not reduced; the power is ``product * (1 + lift * n) mod n**2``.
        """
        # All entries are fetched before the first product, so that the processor waits for several
        # at once; they seldom are in its caches. Two residues are as long as n**2.
        factors = [row[digit] for row, digit in zip(self._residues, digits, strict=True)]
        lift = sum([row[digit] for row, digit in zip(self._lifts, digits, strict=True)], mpz(0))
        product, n_squared = mpz(1) if len(factors) % 2 == 0 else factors.pop(), self._n_squared
        for first, second in zip(factors[::2], factors[1::2], strict=True):
            product = product * (first * second) % n_squared
        return product, lift


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


def first_powers(base: mpz, modulus: mpz, count: int) -> list[mpz]:
    """Return ``base**0, ..., base**(count - 1)`` modulo a number."""
    powers = [mpz(1)]
    for _ in range(count - 1):
        powers.append(powers[-1] * base % modulus)
    return powers


class PowerTable:
    """Powers of a base.

    The table is built when powers are first asked for. It is built anew with longer digits when
    one request is large enough that a second one like it would repay the longer table.

    Parameters
    ----------
    base, modulus : int
    exponent_bytes : int
        Length of the exponents, at least 1.
    order : int, optional
        A multiple of the base's order: exponents are reduced modulo it, for fewer products.

    Attributes
    ----------
    window : int
        Bits of a digit; 0 while there is no table.
    """

    __slots__ = ("_base", "_exponent_bytes", "_modulus", "_order", "_rows", "window")

    def __init__(
        self, base: int, modulus: int, exponent_bytes: int, order: int | None = None
    ) -> None:
        self._modulus = mpz(modulus)
        self._base = mpz(base) % self._modulus
        self._exponent_bytes = exponent_bytes
        self._order = None if order is None else int(order)
        self._rows: list[list[mpz]] = []
        self.window = 0

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
        if not self.window:
            self._prepare(len(exponents))
        modulus, powers = self._modulus, []
        for digits in exponent_digits(self._reduced(exponents), self._exponent_bits, self.window):
            # All entries are fetched first, as in `FixedBaseTable.split_power`.
            product, *factors = [row[digit] for row, digit in zip(self._rows, digits, strict=True)]
            for factor in factors:
                product = product * factor % modulus
            powers.append(product)
        return powers

    @property
    def _exponent_bits(self) -> int:
        return 8 * self._exponent_bytes if self._order is None else self._order.bit_length()

    def _reduced(
        self, exponents: np.ndarray[tuple[int, int], np.dtype[np.uint8]]
    ) -> NDArray[np.uint8]:
        if self._order is None:
            return exponents
        size = -(-self._order.bit_length() // 8)
        reduced = b"".join(
            (int.from_bytes(row, "little") % self._order).to_bytes(size, "little")
            for row in exponents
        )
        return np.frombuffer(reduced, dtype=np.uint8).reshape(len(exponents), size)

    def _prepare(self, count: int) -> None:
        bits, modulus = self._exponent_bits, self._modulus
        length = modulus.bit_length()
        costs = _POWERS if self._order is None else _POWERS_OF_OWNER
        window = best_window(bits, length, 2 * count, self.window, costs=costs)
        if window == self.window:
            return
        rows, power = [], self._base
        for _ in range(0, bits, window):
            rows.append(first_powers(power, modulus, 2**window))
            power = rows[-1][-1] * power % modulus
        self._rows, self.window = rows, window
