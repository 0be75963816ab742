"""Secure argmax with both roles played in one process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fl_he.crypto.comparison.argmax import (
    PairSecrets,
    blind_pairs,
    compare_permuted,
    pair_batch,
    pairs,
)
from fl_he.crypto.comparison.argmax import winners as winning
from fl_he.crypto.comparison.comparison import bits, results
from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.comparison.slot_layout import SlotLayout, split_merged
from fl_he.crypto.paillier.private_key import PrivateKey

VALUE_BITS = 14


def winners(
    paillier: PrivateKey, dgk: DgkPrivateKey, numbers: NDArray[np.int64]
) -> tuple[list[int], PairSecrets, list[list[int]]]:
    """Return winning positions, Alice's secrets, and Bob's plaintexts.

    numbers : shape (queries, classes)
    """
    queries, classes = numbers.shape
    public = paillier.public_key
    layout = SlotLayout(VALUE_BITS, public.key_bits)
    batch = pair_batch(dgk.public_key, VALUE_BITS, classes, queries)
    encrypted = [public.encrypt(layout.join(column)) for column in numbers.T.tolist()]
    blinded, kept = blind_pairs(public, layout, encrypted, queries)
    each = len(pairs(classes))
    opened = split_merged(layout, paillier.decrypt(blinded), each, queries)
    sent = bits(dgk, batch, opened)
    answer = compare_permuted(dgk.public_key, batch, sent, kept)
    return (
        winning(classes, queries, results(dgk, batch, answer)),
        kept,
        [opened[at : at + queries] for at in range(0, len(opened), queries)],
    )


def labels(won: Sequence[int], kept: PairSecrets) -> list[int]:
    return [order[position] for position, order in zip(won, kept.permutations, strict=True)]
