from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_he.crypto.errors import CryptoError
from fl_he.crypto.linear_map import linear_map
from fl_he.crypto.private_key import PrivateKey
from fl_he.crypto.slot_layout import SlotLayout


@pytest.mark.parametrize("size", [1, 15, 16, 40_000])
def test_all_queries_get_the_matrix_product(small_key: PrivateKey, size: int) -> None:
    rng = np.random.default_rng(size)
    public = small_key.public_key
    layout = SlotLayout(40, public.key_bits)
    queries = layout.slots
    features = rng.integers(-1000, 1000, size=(queries, 6))
    weights = rng.integers(-size, size + 1, size=(3, 6))
    weights[0] = 0
    weights[:, 2] = 0  # a feature that no class uses
    weights[1, 0] = -size
    offsets = rng.integers(-(10**9), 10**9, size=3)
    encrypted = public.encrypt([layout.join(column)[0] for column in features.T.tolist()])
    mapped = linear_map(
        public,
        weights.tolist(),
        encrypted,
        [layout.join([offset] * queries)[0] for offset in offsets.tolist()],
    )
    wanted = features @ weights.T + offsets
    shift = layout.join([1 << 40] * queries)[0]  # `split` takes numbers from 0 on
    for label, ciphertext in enumerate(mapped):
        plaintext = (small_key.decrypt([ciphertext])[0] + shift) % public.n
        found = np.array(layout.split([plaintext], queries)) - (1 << 40)
        assert found.tolist() == wanted[:, label].tolist()


def test_nothing_is_mapped_to_nothing_and_no_inputs_to_the_offsets(small_key: PrivateKey) -> None:
    public = small_key.public_key
    assert linear_map(public, [], [], []) == []
    assert small_key.decrypt(linear_map(public, [[], []], [], [3, -4])) == [3, public.n - 4]


def test_shapes_that_do_not_fit_are_refused(small_key: PrivateKey) -> None:
    public = small_key.public_key
    features = public.encrypt([1, 2])
    for weights, offsets in (
        ([[1, 2], [3, 4]], [5]),
        ([[1, 2]], [5, 6]),
        ([[1, 2, 3]], [5]),
    ):
        with pytest.raises(ValueError, match="zip"):
            linear_map(public, weights, features, offsets)


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
