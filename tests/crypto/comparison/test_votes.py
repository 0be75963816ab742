from __future__ import annotations

import secrets

import numpy as np
import pytest

from fl_he.capc.terms import VOTE_BITS, VOTE_PACKING
from fl_he.crypto.comparison.slot_layout import SlotLayout
from fl_he.crypto.comparison.votes import (
    by_class,
    collect_votes,
    encrypt_counts,
    encrypt_winners,
    vote_length,
)
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.key_kind import uniform_exponent_bytes
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey


def test_votes_and_noise_are_summed_class_by_class(small_key: PrivateKey) -> None:
    public, classes, queries = small_key.public_key, 3, 10
    layout = SlotLayout(VOTE_BITS, public.key_bits)
    assert layout.packs(queries) == 2
    rng = np.random.default_rng(0)
    noise = rng.integers(-50, 50, size=(classes, queries))
    total = encrypt_counts(public, layout, VOTE_PACKING, noise)
    counts = noise.copy()
    for _ in range(4):
        orders = [rng.permutation(classes).tolist() for _ in range(queries)]
        winners = rng.integers(0, classes, size=queries).tolist()
        positions = encrypt_winners(public, layout, classes, winners)
        votes = collect_votes(public, layout, VOTE_PACKING, positions, orders)
        total.add_in_place(votes, public)
        for query, (order, position) in enumerate(zip(orders, winners, strict=True)):
            counts[order[position], query] += 1
    opened = small_key.decrypt_integers(total).reshape(classes, -1)
    assert opened[:, :queries].tolist() == counts.tolist()
    assert not opened[:, queries:].any()
    rows = by_class(total, classes)
    assert [len(row) for row in rows] == [2] * classes


def test_collected_votes_are_fresh_ciphertexts(small_key: PrivateKey) -> None:
    public = small_key.public_key
    layout = SlotLayout(VOTE_BITS, public.key_bits)
    positions = encrypt_winners(public, layout, 2, [secrets.randbelow(2)])
    orders = [[0, 1]]
    seen = {
        collect_votes(public, layout, VOTE_PACKING, positions, orders).to_bytes() for _ in range(3)
    }
    assert len(seen) == 3


def test_masked_votes_have_randomness_that_is_uniform(
    small_key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the key's owner and the author of the positions could trace each position."""
    public, layout = small_key.public_key, SlotLayout(VOTE_BITS, small_key.public_key.key_bits)
    positions = encrypt_winners(public, layout, 2, [1])
    requested: list[int] = []
    token_bytes = secrets.token_bytes

    def keep(count: int) -> bytes:
        requested.append(count)
        return token_bytes(count)

    monkeypatch.setattr(secrets, "token_bytes", keep)
    added = [int(public.n) - 5, 7]
    votes = collect_votes(
        public, layout, VOTE_PACKING, positions, [[0, 1]], masks=lambda count: added[:count]
    )
    assert requested == [2 * uniform_exponent_bytes(public.key_kind, public.key_bits)]
    opened = [int(one) % int(public.n) for one in small_key.decrypt(votes.to_integers())]
    assert opened == [int(public.n) - 5, 8]


def test_other_slots_than_the_sum_has_are_refused(small_key: PrivateKey) -> None:
    public = small_key.public_key
    with pytest.raises(CryptoError, match="slots must be"):
        vote_length(public, SlotLayout(VOTE_BITS, public.key_bits), Packing(), 2, 5)
