"""Sums over examples as limbs, so that a fixed-point sum of them is as exact as float64.

A fixed-point number of 48 bits holds no sum of squares of an area in square millimetres together
with one of a fractal dimension. So a hospital writes each of its sums in base ``2**bits``, from
``2**lowest`` up, and sends the digits, which are integers that fit. Digits are added place by
place, and the pooled sum is put together from the pooled digits. Carries lie in the headroom
of the slots.

The variance takes two passes, the mean first and then the squares of what remains: one pass would
lose the leading digits that ``mean(x^2)`` and ``mean(x)^2`` have in common. Chan, Golub and
LeVeque 1983, "Algorithms for computing the sample variance: analysis and recommendations",
section 1, equation 1.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array

#: More bits than these would not survive a product and a quotient of float64.
_MOST_BITS = 47
#: Room above the largest float64 for a sum of 2**60 of them.
_ROOM = 60


@dataclass(frozen=True, slots=True)
class Limbs:
    """Digits of a sum, each of which fits a fixed-point number.

    Parameters
    ----------
    fraction_bits, integer_bits
        Of the fixed-point numbers, as the packing has them.
    lowest, span
        Sums are cut off below ``2**lowest``, and must be below ``2**(lowest + span)``. The default
        is for sums in any unit: 5e-29 to 2e28.
    """

    fraction_bits: int
    integer_bits: int
    lowest: int = -94
    span: int = 188

    @property
    def bits(self) -> int:
        """Bits of one digit, at least 1."""
        return max(1, min(_MOST_BITS, self.fraction_bits + self.integer_bits - 1))

    @property
    def count(self) -> int:
        """Digits of one sum."""
        return -(-self.span // self.bits)

    def of_derivatives(self, *, scaled: bool) -> Limbs:
        """Return how sums of derivatives are written: 2e-19 to 4e9 where features are scaled.

        Scaled features are about 1 in size, so that half the digits are enough.
        """
        return replace(self, lowest=-62, span=94) if scaled else self

    @property
    def least(self) -> float:
        """Sums of squares must be this number, if not 0, for a root of six digits."""
        return 2.0 ** (self.lowest + 20)

    @property
    def limit(self) -> float:
        """Sums must be below this number in size."""
        return 2.0 ** (self.lowest + self.span)

    def split(self, sums: Array, rest: Array | None = None) -> Array:
        """Write sums as digits, the lowest first.

        A digit is an integer times ``2**-fraction_bits`` and has the sign of its sum. The highest
        takes all that is left, and is too large for its slot if the sum is too large.

        Parameters
        ----------
        sums
            Shape (d,), finite.
        rest
            Shape (d,), what the rounding of the sums has left out; ``None``: nothing.

        Returns
        -------
        NDArray[np.float64]
            Shape (count, d).

        Raises
        ------
        DataError
            If a sum is not finite.
        """
        if not np.isfinite(sums).all():
            raise DataError("sums over a hospital's examples must be finite numbers")
        digits = np.zeros((self.count, len(sums)))
        # Powers of two and differences of leading digits are exact; an infinite digit fits no slot.
        with np.errstate(over="ignore", invalid="ignore"):
            for left in (sums,) if rest is None else (sums, rest):
                for row in reversed(range(self.count)):
                    place = self.lowest + self.bits * row
                    digit = np.trunc(np.ldexp(left, -place))
                    left = left - np.ldexp(digit, place)  # noqa: PLW2901 - remainder of a division
                    digits[row] += digit
            for row in range(self.count - 1):
                carried = np.trunc(np.ldexp(digits[row], -self.bits))
                digits[row] -= np.ldexp(carried, self.bits)
                digits[row + 1] += carried
        scaled: Array = np.ldexp(digits, -self.fraction_bits)
        return scaled

    def join(self, totals: Array) -> Array:
        """Return the sums of :meth:`join_parts`, rounded; shape (d,)."""
        return self.join_parts(totals)[0]

    def join_parts(self, totals: Array) -> tuple[Array, Array]:
        """Put sums together from added digits, each rounded to the nearest integer it stands for.

        Parameters
        ----------
        totals
            Shape (count, d).

        Returns
        -------
        sums, rest : NDArray[np.float64]
            Shape (d,): the sums, correctly rounded, and what the rounding leaves out.

        Raises
        ------
        DataError
            If the shape is another one.
        """
        if totals.ndim != 2 or len(totals) != self.count:
            raise DataError(f"digits must have shape ({self.count}, d), got {totals.shape}")
        digits = np.rint(np.ldexp(totals, self.fraction_bits))
        places = self.lowest + self.bits * np.arange(self.count)
        terms = np.ldexp(digits, places[:, None])
        sums = column_sums(terms)
        return sums, column_sums(np.vstack([terms, -sums]))


def column_sums(values: Array) -> Array:
    """Return the sum of each column of an array of shape (m, d), infinite if it is no float64.

    It is correctly rounded, but for numbers so large that parts of their sum overflow.
    """
    return np.array([_sum(column) for column in values.T])


def _sum(column: Array) -> float:
    try:
        return math.fsum(column)
    except OverflowError:
        return math.fsum(np.ldexp(column, -_ROOM)) * 2.0**_ROOM


def squared_deviations(features: Array, mean: Array) -> Array:
    """Return ``sum((x - mean)^2)`` of each column of an array of shape (m, d)."""
    with np.errstate(over="ignore"):
        return column_sums(np.square(features - mean))


def class_counts(labels: Array, classes: int) -> Array:
    """Return how many labels are 0, 1, ...; shape (classes,)."""
    return np.bincount(labels.astype(np.intp), minlength=classes).astype(np.float64)


def balanced_weights(counts: Array) -> Array:
    """Return scikit-learn's ``balanced`` class weights, ``n / (classes * counts)``.

    Source: King and Zeng 2001, "Logistic Regression in Rare Events Data", section 4.

    Parameters
    ----------
    counts
        Shape (classes,), of all hospitals together.

    Raises
    ------
    DataError
        If a class has no examples.
    """
    if not (counts > 0).all():
        raise DataError(
            "balanced class weights must be of classes that have examples, got "
            f"{int(np.count_nonzero(counts <= 0))} of {len(counts)} without"
        )
    weights: Array = counts.sum() / (len(counts) * counts)
    return weights
