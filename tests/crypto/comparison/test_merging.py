from __future__ import annotations

import numpy as np
import pytest
from gmpy2 import mpz

from fl_he.crypto.comparison.slot_layout import (
    SlotLayout,
    grouped,
    merge,
    merged_count,
    split_merged,
)
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.private_key import PrivateKey

VALUE_BITS = 14


@pytest.mark.parametrize("queries", [1, 2, 4, 5, 9, 20])
def test_merged_numbers_come_apart_as_they_went_in(small_key: PrivateKey, queries: int) -> None:
    public = small_key.public_key
    layout = SlotLayout(VALUE_BITS, public.key_bits)
    assert layout.slots == 9
    rng = np.random.default_rng(queries)
    numbers = rng.integers(-(2**VALUE_BITS), 2**VALUE_BITS, size=(7, queries))
    masks = rng.integers(2**VALUE_BITS, 2**40, size=(7, queries))
    ciphertexts = [mpz(c) for row in numbers.tolist() for c in public.encrypt(layout.join(row))]
    together = layout.together(queries)
    assert together == max(1, 9 // queries)
    merged = merge(public, layout, ciphertexts, queries) if together > 1 else ciphertexts
    assert len(merged) == merged_count(layout, 7, queries)
    added = [p for group in grouped(layout, masks.tolist(), queries) for p in layout.join(group)]
    plain = small_key.decrypt(
        [public.add(int(c), m) for c, m in zip(merged, public.encrypt(added), strict=True)]
    )
    assert split_merged(layout, plain, 7, queries) == (numbers + masks).reshape(-1).tolist()


def test_too_few_plaintexts_or_too_full_ones_are_refused() -> None:
    layout = SlotLayout(VALUE_BITS, 512)
    for wrong in ([1, 2, 3], [1]):
        with pytest.raises(CryptoError, match="plaintexts must be 2 for 5 numbers of 2 queries"):
            split_merged(layout, wrong, 5, 2)
    assert split_merged(layout, [1, 2], 5, 2) == [1, *[0] * 7, 2, 0]
    with pytest.raises(CryptoError, match="must be empty after its last slot"):
        split_merged(layout, [1, 1 << (2 * layout.bits)], 5, 2)
