from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_he.crypto.comparison.slot_layout import SlotLayout
from fl_he.crypto.errors import CryptoError


@given(
    value_bits=st.integers(1, 80),
    key_bits=st.integers(200, 2048),
    data=st.data(),
)
def test_slots_hold_what_was_joined(value_bits: int, key_bits: int, data: st.DataObject) -> None:
    layout = SlotLayout(value_bits, key_bits)
    numbers = data.draw(st.lists(st.integers(0, (1 << layout.bits) - 1), min_size=1, max_size=30))
    joined = layout.join(numbers)
    assert len(joined) == layout.packs(len(numbers))
    assert all(plaintext < 1 << (key_bits - 2) for plaintext in joined)
    assert layout.split(joined, len(numbers)) == numbers
    for query, number in enumerate(numbers):
        pack, place = layout.place(query)
        assert joined[pack] // place % (1 << layout.bits) == number


def test_narrowed_slots_keep_their_width_and_shorten_masks() -> None:
    layout = SlotLayout(40, 1024)
    narrowed = layout.narrowed(12)
    assert (narrowed.bits, narrowed.slots, narrowed.value_bits) == (82, layout.slots, 12)
    assert narrowed.mask_bits == 12 + 41
    assert narrowed.narrowed(12) == narrowed
    for wrong in (41, 0):
        with pytest.raises(CryptoError, match="bits"):
            layout.narrowed(wrong)


def test_what_does_not_fit_the_slots_is_refused() -> None:
    layout = SlotLayout(10, 200)
    with pytest.raises(CryptoError, match="key_bits must be at least"):
        SlotLayout(80, 120)
    with pytest.raises(CryptoError, match="value_bits"):
        SlotLayout(81, 2048)
    with pytest.raises(CryptoError, match="plaintexts must be 1"):
        layout.split([1, 2], 2)
    with pytest.raises(CryptoError, match="empty after its last slot"):
        layout.split([1 << (2 * layout.bits)], 2)
