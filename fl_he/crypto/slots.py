"""Signed integers side by side in one large integer, and back.

joined = sum over i of integer[i] * 2**(slot_bits * i)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fl_he.crypto.errors import CryptoError

_BLOCK = 256  # rows at a time: a bit takes a byte meanwhile


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


def _half_in_each(slots: int, slot_bits: int) -> int:
    ones = ((1 << (slot_bits * slots)) - 1) // ((1 << slot_bits) - 1)
    return ones << (slot_bits - 1)
