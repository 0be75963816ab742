"""Products of matrices with more digits than float64 has.

The information of nearly collinear columns is known in their directions only by its last digits: of
columns that are equal but for noise of 1e-4 float64 keeps half of them. So a product is a pair of
matrices here, the rounded product and the rest that rounding leaves out.

Each matrix is divided into slices of few bits, whose products are exact in float64 in any
order of the additions. Ozaki, Ogita, Oishi and Rump 2012, "Error-free transformations of matrix
multiplication by using fast routines of matrix multiplication and its applications", algorithm 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.tables.arrays import Array

#: This many rows times two slices of this many bits are 52 bits.
_ROWS, _BITS = 1 << 12, 20
#: Of a matrix: 80 bits of the largest number of each column.
_SLICES = 4


def product(left: Array, right: Array) -> tuple[Array, Array]:
    """Return ``left' right`` of matrices of shapes (m, p) and (m, q).

    Returns
    -------
    rounded, rest : NDArray[np.float64]
        Shape (p, q). Their sum is the product, but for about ``2**-80`` of the largest terms; of
        numbers that are not finite the rest is 0.

    Examples
    --------
    >>> ones, column = np.ones((2, 1)), np.array([[1.0], [2.0**-60]])
    >>> [part.item() == size for part, size in zip(product(ones, column), (1.0, 2.0**-60))]
    [True, True]
    """
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        rounded = np.asarray(left.T @ right, dtype=np.float64)
        return rounded, np.zeros_like(rounded)
    rounded = np.zeros((left.shape[1], right.shape[1]))
    rest, exponents = rounded, [_exponents(one) for one in (left, right)]
    for start in range(0, len(left), _ROWS):
        rows = slice(start, start + _ROWS)
        ones = _slices(np.ldexp(left[rows], -exponents[0]))
        others = ones if left is right else _slices(np.ldexp(right[rows], -exponents[1]))
        parts = dict[tuple[int, int], Array]()
        for i in range(_SLICES):
            for j in range(_SLICES - i):
                same = left is right and i > j
                whole = parts[j, i].T if same else ones[i].T @ others[j]
                parts[i, j] = whole
                rounded, left_out = _added(rounded, np.ldexp(whole, -_BITS * (i + j + 2)))
                rest = rest + left_out
    rounded, rest = _added(rounded, rest)
    scale = exponents[0][:, None] + exponents[1]
    return np.ldexp(rounded, scale), np.ldexp(rest, scale)


def less(one: Sequence[Array], other: Sequence[Array]) -> tuple[Array, Array]:
    """Return the difference of two products, each with its rest."""
    rounded, left_out = _added(one[0], -other[0])
    return rounded, left_out + (one[1] - other[1])


def within(matrix: Array, rest: Array | None, columns: Array) -> Array:
    """Return ``W' (A + rest) W`` to the digits of float64 although large terms cancel in it.

    Parameters
    ----------
    matrix
        A, symmetric, its diagonal not below 0, shape (p, p).
    rest
        What the rounding of A leaves out, shape (p, p); ``None``: nothing.
    columns
        W, shape (p, r).
    """
    # Powers of two, which round nothing: columns in units far apart have their digits.
    exponents = np.frexp(np.diag(matrix))[1] // 2
    both, columns = -exponents[:, None] - exponents, np.ldexp(columns, exponents[:, None])
    half, left = product(np.ldexp(matrix, both), columns)
    whole, small = product(columns, half)
    if rest is not None:
        left = left + np.ldexp(rest, both) @ columns
    return np.asarray(whole + (small + columns.T @ left), dtype=np.float64)


def _added(one: Array, other: Array) -> tuple[Array, Array]:
    """Return a sum and what its rounding leaves out.

    Source: Knuth 1997, "The Art of Computer Programming", volume 2, section 4.2.2, theorem B.
    """
    total = one + other
    back = total - one
    return total, (one - (total - back)) + (other - back)


def _exponents(matrix: Array) -> NDArray[np.int32]:
    """Return the exponent above the largest number of each column."""
    largest = np.abs(matrix).max(axis=0, initial=0.0)
    return np.asarray(np.frexp(largest)[1], dtype=np.int32)


def _slices(matrix: Array) -> list[Array]:
    """Divide numbers below 1 into slices of integers, the leading bits first."""
    slices = []
    for _ in range(_SLICES):
        matrix = matrix * 2.0**_BITS
        slices.append(np.trunc(matrix))
        matrix = matrix - slices[-1]
    return slices
