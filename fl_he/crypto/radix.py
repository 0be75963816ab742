"""Exponents in digits, and how long a digit should be, for tables of powers of a fixed base.

A table holds ``base**(digit * 2**(window * position))`` of all positions and digits, so that a
power is one product over the positions, without any squaring: the radix method of Brickell, Gordon,
McCurley and Wilson, "Fast exponentiation with precomputation", EUROCRYPT '92, with the powers of
all digits stored.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def positions(exponent_bits: int, window: int) -> int:
    """Return how many digits of `window` bits such an exponent has."""
    return -(-exponent_bits // window)


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
        Shape (count, positions), the lowest digit first.
    """
    width = positions(exponent_bits, window)
    bits = np.unpackbits(exponents, axis=1, count=exponent_bits, bitorder="little")
    padded = np.zeros((len(exponents), width * window), dtype=np.uint8)
    padded[:, :exponent_bits] = bits
    weights = 1 << np.arange(window)
    digits: list[list[int]] = (padded.reshape(len(exponents), width, window) @ weights).tolist()
    return digits


def cheapest_window(
    exponent_bits: int,
    count: int,
    *,
    build_cost: float,
    most_entries: int,
    cheapest: float,
    window_now: int = 0,
) -> int:
    """Choose the window that makes `count` exponentiations cheapest, building included.

    Parameters
    ----------
    exponent_bits : int
        Length of the exponents.
    count : int
        Expected number of exponentiations.
    build_cost : float
        Of one entry, relative to one step of an exponentiation.
    most_entries : int
        That a table may have.
    cheapest : float
        What it would cost, in steps, without a new table.
    window_now : int
        Window of the table that is there already; 0 for none.

    Returns
    -------
    int
        A window above `window_now` if building that table repays itself, else `window_now`.
    """
    best = window_now
    for window in range(window_now + 1, exponent_bits + 1):
        width = positions(exponent_bits, window)
        entries = width * 2**window
        if entries > most_entries:
            break
        cost = entries * build_cost + count * width
        if cost < cheapest:
            best, cheapest = window, cost
    return best
