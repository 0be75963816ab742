from __future__ import annotations

import numpy as np
import pytest

from fl_he.crypto.comparison.linear_map import linear_map
from fl_he.crypto.comparison.slot_layout import SlotLayout
from fl_he.crypto.paillier.private_key import PrivateKey


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
