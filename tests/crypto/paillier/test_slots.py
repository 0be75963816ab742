from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.packing import join, split


@given(st.integers(1, 64), st.integers(1, 6), st.data())
def test_join_is_the_sum_and_split_its_inverse(
    slot_bits: int, slots: int, data: st.DataObject
) -> None:
    low, high = -(2 ** (slot_bits - 1)), 2 ** (slot_bits - 1) - 1
    slot = st.integers(low, high) | st.sampled_from([low, high])
    row = st.lists(slot, min_size=slots, max_size=slots)
    integers = data.draw(st.lists(row, min_size=1, max_size=5))
    joined = join(np.array(integers, dtype=np.int64), slot_bits)
    assert joined == [sum(v << (slot_bits * i) for i, v in enumerate(row)) for row in integers]
    assert split(joined, slots, slot_bits).tolist() == integers


def test_many_rows() -> None:
    integers = np.random.default_rng(5).integers(-(2**40), 2**40, (700, 3))
    joined = join(integers, 42)
    assert joined[699] == sum(int(v) << (42 * i) for i, v in enumerate(integers[699]))
    assert split(joined, 3, 42).tolist() == integers.tolist()


def test_nothing() -> None:
    assert join(np.empty((0, 3), dtype=np.int64), 8) == []
    assert split([], 3, 8).shape == (0, 3)


def test_what_does_not_fit_is_refused() -> None:
    # Two slots of 8 bits hold a number of 16 bits, half a slot lower in each.
    lowest, highest = -0x8080, 0x7F7F
    assert split([lowest, highest], 2, 8).tolist() == [[-128, -128], [127, 127]]
    for integer in (lowest - 1, highest + 1):
        with pytest.raises(CryptoError, match="plaintext 1 must fit 2 slots of 8 bits"):
            split([0, integer], 2, 8)
