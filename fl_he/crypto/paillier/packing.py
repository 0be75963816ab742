"""float64 vectors to slots of Paillier plaintexts and back.

A value becomes a fixed-point integer, and several signed integers lie side by side in one
plaintext:

    plaintext = sum over i of integer[i] * 2**(slot_bits * i)

A slot keeps room for the sum of `max_contributors` integers, so adding plaintexts adds slot by slot
and never carries into a neighbour.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from fl_he.crypto.encoding.fields import between, check_fields, form_of
from fl_he.crypto.encoding.strict_json import Document, Documented
from fl_he.crypto.errors import CryptoError, RangeError

_BLOCK = 256  # rows at a time: a bit takes a byte meanwhile
_ENCODED = 2**14  # values encoded at a time: they stay in the processor's cache

#: Tags count modulo this prime; see :mod:`fl_he.crypto.tickets`.
TAG_MODULUS = 2**96 + 61
#: A tag has a random multiple of the prime added, and stays below this.
TAG_LIMIT = TAG_MODULUS << 48


def join(integers: NDArray[np.int64], slot_bits: int) -> list[int]:
    """Join each row's integers into one.

    Parameters
    ----------
    integers : int64 array of shape (rows, slots)
        In ``[-2**(slot_bits - 1), 2**(slot_bits - 1))``.
    slot_bits : int
        Width of a slot, 1 to 64.

    Returns
    -------
    list of int
        One signed integer per row.
    """
    rows, slots = integers.shape
    # With half a slot added every digit is non-negative, and digits can be laid side by side as
    # bits; the same constant is then taken off the whole.
    digits = integers.astype(np.uint64) + np.uint64(1 << (slot_bits - 1))
    offset = _half_in_each(slots, slot_bits)
    joined: list[int] = []
    for start in range(0, rows, _BLOCK):
        block = digits[start : start + _BLOCK].astype("<u8")[:, :, np.newaxis].view(np.uint8)
        bits = np.unpackbits(block, axis=2, count=slot_bits, bitorder="little")
        packed = np.packbits(bits.reshape(len(block), -1), axis=1, bitorder="little")
        joined.extend(int.from_bytes(row.tobytes(), "little") - offset for row in packed)
    return joined


def split(joined: Sequence[int], slots: int, slot_bits: int) -> NDArray[np.int64]:
    """Undo `join`.

    Parameters
    ----------
    joined : sequence of int
        Signed integers.
    slots : int
        Number of slots of each.
    slot_bits : int
        Width of a slot, 1 to 64.

    Returns
    -------
    int64 array of shape (len(joined), slots)
        The slots.

    Raises
    ------
    CryptoError
        If an integer needs more slots.
    """
    offset = _half_in_each(slots, slot_bits)
    row_bits = slots * slot_bits
    row_bytes = (row_bits + 7) // 8
    buffer = bytearray()
    for row, integer in enumerate(joined):
        shifted = integer + offset
        if shifted < 0 or shifted.bit_length() > row_bits:
            raise CryptoError(f"plaintext {row} must fit {slots} slots of {slot_bits} bits")
        buffer += shifted.to_bytes(row_bytes, "little")
    packed = np.frombuffer(buffer, dtype=np.uint8).reshape(-1, row_bytes)
    integers = np.empty((len(packed), slots), dtype=np.int64)
    for start in range(0, len(packed), _BLOCK):
        block = packed[start : start + _BLOCK]
        bits = np.unpackbits(block, axis=1, count=row_bits, bitorder="little")
        wide = np.zeros((len(block), slots, 64), dtype=np.uint8)
        wide[:, :, :slot_bits] = bits.reshape(len(block), slots, slot_bits)
        digits = np.packbits(wide, axis=2, bitorder="little").view("<u8")[:, :, 0]
        shifted_back = digits.astype(np.uint64) - np.uint64(1 << (slot_bits - 1))
        integers[start : start + len(block)] = shifted_back.view(np.int64)
    return integers


def within(integers: NDArray[np.int64], limit: int) -> bool:
    """Tell whether all integers are at most `limit` in size, without another array."""
    return bool(integers.max(initial=0) <= limit and integers.min(initial=0) >= -limit)


def _half_in_each(slots: int, slot_bits: int) -> int:
    ones = ((1 << (slot_bits * slots)) - 1) // ((1 << slot_bits) - 1)
    return ones << (slot_bits - 1)


_MAXIMUM_SLOT_BITS = 64  # a slot's total must fit int64


@dataclass(frozen=True, slots=True)
class Packing(Documented):
    """Layout of a float64 vector in plaintexts.

    Parameters
    ----------
    fraction_bits : int
        Bits after the binary point, at least 0: the fixed-point step is ``2**-fraction_bits``.
    integer_bits : int
        Bits before the binary point, at least 1: values are below ``2**integer_bits`` in size.
    max_contributors : int
        How many vectors may be added, at least 1, at most 2**32 - 1.

    Raises
    ------
    CryptoError
        If a setting is not an integer in its range, or a slot would exceed 64 bits.

    Examples
    --------
    >>> packing = Packing(fraction_bits=24, integer_bits=24, max_contributors=10)
    >>> packing.slot_bits, packing.slots_per_ciphertext(2048), packing.ciphertexts(1_000, 2048)
    (53, 38, 27)
    >>> packing.encode(np.array([0.5, -1.0])).tolist()
    [8388608, -16777216]
    """

    fraction_bits: Annotated[int, between(0, 63)] = 24
    integer_bits: Annotated[int, between(1, 63)] = 24
    max_contributors: Annotated[int, between(1, 2**32 - 1)] = 512

    def __post_init__(self) -> None:
        check_fields(self)
        if self.slot_bits > _MAXIMUM_SLOT_BITS:
            raise CryptoError(
                "1 + integer_bits + fraction_bits + the bits of max_contributors must be at most "
                f"{_MAXIMUM_SLOT_BITS}, got {self.slot_bits}"
            )

    @property
    def headroom(self) -> int:
        """Bits of a slot that keep room for the contributors."""
        return (self.max_contributors - 1).bit_length()

    @property
    def slot_bits(self) -> int:
        """Width of a slot: sign, integer and fraction bits, room for the contributors."""
        return 1 + self.integer_bits + self.fraction_bits + self.headroom

    @property
    def most_integer_bits(self) -> int:
        """Largest `integer_bits` with the same `fraction_bits` and `max_contributors`."""
        return self.integer_bits + _MAXIMUM_SLOT_BITS - self.slot_bits

    @property
    def maximum_integer(self) -> int:
        """Largest fixed-point integer of one contributor; the smallest is its negative.

        ``max_contributors`` times this is below ``2**(slot_bits - 1)``, so a total of range-edge
        values still fits its slot.
        """
        return (1 << (self.integer_bits + self.fraction_bits)) - 1

    @property
    def maximum(self) -> float:
        """Value of one contributor that surely fits; no larger one by more than two steps does."""
        return float(np.nextafter(2.0**self.integer_bits, 0.0)) - 2.0**-self.fraction_bits

    def slots_per_ciphertext(self, key_bits: int) -> int:
        """Return how many slots a plaintext of a key of `key_bits` bits holds.

        The plaintext's size stays below ``2**(key_bits - 2)``, and a modulus of `key_bits` bits
        is at least ``2**(key_bits - 1)``: half of it tells positive from negative.
        """
        slots = (key_bits - 1) // self.slot_bits
        if slots < 1:
            raise CryptoError(
                f"key_bits must exceed slot_bits, got {key_bits} and {self.slot_bits}"
            )
        return slots

    @property
    def tag_bits(self) -> int:
        """Number of bits, the highest ones, that the sum of the contributors' tags takes."""
        return (self.max_contributors * (TAG_LIMIT - 1)).bit_length() + 1

    def values_per_ciphertext(self, key_bits: int, *, tagged: bool = False) -> int:
        """Return how many values a plaintext holds, with a tag or without."""
        if not tagged:
            return self.slots_per_ciphertext(key_bits)
        slots = (key_bits - 1 - self.tag_bits) // self.slot_bits
        if slots < 1:
            raise CryptoError(f"a plaintext of {key_bits} bits must hold a value and a tag")
        return slots

    def ciphertexts(self, length: int, key_bits: int, *, tagged: bool = False) -> int:
        """Return how many ciphertexts a vector of `length` values needs."""
        return -(-length // self.values_per_ciphertext(key_bits, tagged=tagged))

    def encode(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Round values to the nearest fixed-point step, ties to even.

        Parameters
        ----------
        values : float64 array of shape (length,)
            Finite, below ``2**integer_bits`` in size.

        Returns
        -------
        int64 array of shape (length,)
            ``round(value * 2**fraction_bits)``.

        Raises
        ------
        RangeError
            For the first value that is not finite or does not fit; it is named by its index.
        """
        integers, misfits = self.saturate(values)
        if len(misfits):
            index = int(misfits[0])
            if not np.isfinite(values[index]):
                raise RangeError(index, "", f"value {index} must be finite")
            raise self._too_large(index)
        return integers

    def saturate(self, values: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
        """Round values as `encode` does; give those that do not fit the nearest integer that does.

        Parameters
        ----------
        values : float64 array of shape (length,)
            Any; NaN becomes 0.

        Returns
        -------
        int64 array of shape (length,)
            The fixed-point integers.
        intp array
            Positions of the values that do not fit, in order.
        """
        _require_vector(values, np.float64, "values")
        integers = np.empty(len(values), dtype=np.int64)
        # As a float: maximum_integer itself may not be representable, maximum_integer + 1 is.
        edge, largest = float(self.maximum_integer + 1), self.maximum_integer
        misfits = [np.empty(0, dtype=np.intp)]
        for at in range(0, len(values), _ENCODED):
            with np.errstate(over="ignore"):
                scaled = values[at : at + _ENCODED] * 2.0**self.fraction_bits
            np.rint(scaled, out=scaled)
            block = integers[at : at + _ENCODED]
            if scaled.max(initial=0.0) < edge and scaled.min(initial=0.0) > -edge:  # no NaN
                block[:] = scaled
                continue
            fits = np.abs(scaled) < edge
            block[:] = np.where(fits, scaled, 0.0)
            block[scaled >= edge], block[scaled <= -edge] = largest, -largest
            misfits.append(np.flatnonzero(~fits) + at)
        return integers, np.concatenate(misfits)

    def random(
        self, length: int, read: Callable[[int], bytes] = secrets.token_bytes
    ) -> NDArray[np.int64]:
        """Return random integers of one contributor, which hide the others' in a sum.

        Parameters
        ----------
        length : int
        read : callable
            Returns this many random bytes.

        Returns
        -------
        int64 array of shape (length,)
            From ``-maximum_integer``, which is twice as likely, to ``maximum_integer``.
        """
        bits = self.integer_bits + self.fraction_bits + 1
        numbers = np.frombuffer(read(8 * length), np.uint64) >> np.uint64(64 - bits)
        integers = (numbers - np.uint64(1 << (bits - 1))).view(np.int64)
        return np.maximum(integers, np.int64(-self.maximum_integer))

    def check(self, integers: NDArray[np.int64]) -> None:
        """Raise RangeError unless every fixed-point integer is one contributor's."""
        _require_vector(integers, np.int64, "integers")
        if not within(integers, self.maximum_integer):
            misfits = (integers > self.maximum_integer) | (integers < -self.maximum_integer)
            raise self._too_large(int(np.argmax(misfits)))

    def decode(self, integers: NDArray[np.int64]) -> NDArray[np.float64]:
        """Turn fixed-point integers back into values.

        Exact up to 53 significant bits, beyond them rounded to the nearest float64.
        """
        _require_vector(integers, np.int64, "integers")
        return np.multiply(integers, 2.0**-self.fraction_bits, dtype=np.float64)

    def rows(
        self, integers: NDArray[np.int64], key_bits: int, *, tagged: bool = False
    ) -> NDArray[np.int64]:
        """Return integers by ciphertext and slot, with 0 in slots that are not used."""
        slots = self.values_per_ciphertext(key_bits, tagged=tagged)
        rows = np.zeros((-(-integers.size // slots), slots), dtype=np.int64)
        rows.reshape(-1)[: integers.size] = integers
        return rows

    def pack(
        self, integers: NDArray[np.int64], key_bits: int, tags: Sequence[int] | None = None
    ) -> list[int]:
        """Lay one contributor's integers into plaintexts.

        Parameters
        ----------
        integers : int64 array of shape (length,)
            At most `maximum_integer` in size.
        key_bits : int
            Length of the modulus.
        tags : sequence of int or None
            One for each plaintext, below `TAG_LIMIT`, to be laid above its values.

        Returns
        -------
        list of int
            ``ciphertexts(length, key_bits)`` signed plaintexts.

        Raises
        ------
        RangeError
            If an integer is out of range.
        """
        self.check(integers)
        rows = self.rows(integers, key_bits, tagged=tags is not None)
        plaintexts = join(rows, self.slot_bits)
        if tags is None:
            return plaintexts
        shift = rows.shape[1] * self.slot_bits
        return [row + (tag << shift) for row, tag in zip(plaintexts, tags, strict=True)]

    def unpack(self, plaintexts: Sequence[int], length: int, key_bits: int) -> NDArray[np.int64]:
        """Take the slots' totals out of plaintexts.

        Parameters
        ----------
        plaintexts : sequence of int
            Signed, as `pack` makes them, or sums of at most `max_contributors` of such.
        length : int
            Number of values, at least 0.
        key_bits : int
            Length of the modulus.

        Returns
        -------
        int64 array of shape (length,)
            The totals.

        Raises
        ------
        CryptoError
            If the number of plaintexts does not fit the length, a plaintext or a total is larger
            than any sum of `max_contributors` vectors, or an unused slot is not empty.
        """
        slots = self.slots_per_ciphertext(key_bits)
        rows = -(-length // slots)
        if len(plaintexts) != rows:
            raise CryptoError(
                f"plaintexts must be {rows} for a length of {length}, got {len(plaintexts)}"
            )
        totals = split(plaintexts, slots, self.slot_bits).reshape(-1)
        fits = self._are_sums(totals)
        if not fits.all():
            raise CryptoError(
                f"slot {int(np.argmin(fits))} holds a larger number than a sum of "
                f"{self.max_contributors} contributors can have"
            )
        if totals[length:].any():
            raise CryptoError(f"slots from {length} on must be empty")
        return totals[:length]

    def unpack_tagged(
        self, plaintexts: Sequence[int], length: int, key_bits: int
    ) -> tuple[NDArray[np.int64], list[int], bool]:
        """Take totals and sums of tags out of any plaintexts; see `unpack`.

        Nothing is refused, so that neither an error nor the time tells anything of plaintexts whose
        tags do not fit.

        Returns
        -------
        int64 array of shape (length,)
            The totals.
        list of int
            The number above the values of each plaintext, a sum of tags.
        bool
            Whether the totals are of at most `max_contributors`, and unused slots empty.
        """
        slots = self.values_per_ciphertext(key_bits, tagged=True)
        shift, half = slots * self.slot_bits, _half_in_each(slots, self.slot_bits)
        values = [(plaintext + half) % (1 << shift) - half for plaintext in plaintexts]
        tags = [(whole - low) >> shift for whole, low in zip(plaintexts, values, strict=True)]
        totals = split(values, slots, self.slot_bits).reshape(-1)
        fits = bool(self._are_sums(totals).all() & ~totals[length:].any())
        return totals[:length], tags, fits

    def _are_sums(self, totals: NDArray[np.int64]) -> NDArray[np.bool_]:
        limit = self.max_contributors * self.maximum_integer
        return (totals <= limit) & (totals >= -limit)

    def _too_large(self, index: int) -> RangeError:
        return RangeError(
            index,
            "integer_bits",
            f"value {index} (withheld) must be below 2**{self.integer_bits} in size: "
            "raise integer_bits",
        )


Packing.DOCUMENT = Document("packing", form_of(Packing).members, limit=256)


def _require_vector(array: NDArray[np.generic], dtype: type[np.generic], what: str) -> None:
    if array.ndim != 1 or array.dtype != dtype:
        raise CryptoError(
            f"{what} must be a one-dimensional {np.dtype(dtype)} array, "
            f"got {array.ndim} dimensions of {array.dtype}"
        )
