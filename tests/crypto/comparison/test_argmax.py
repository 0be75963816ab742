"""Secure argmax against numpy's, with both roles played here."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from argmax_roles import VALUE_BITS, labels, winners

from fl_he.crypto.comparison.argmax import largest_difference, winner
from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.paillier.private_key import PrivateKey


# Of two queries, several pairs' numbers lie in one ciphertext for Bob, of four just two, of twelve
# those of one pair.
@pytest.mark.parametrize("queries", [2, 4, 12])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_class_with_the_largest_number_wins(
    small_key: PrivateKey, small_dgk: DgkPrivateKey, classes: int, queries: int
) -> None:
    rng = np.random.default_rng(classes)
    limit = largest_difference(classes, VALUE_BITS) // 2
    numbers = rng.integers(-limit, limit, size=(queries, classes))
    numbers[0] = [limit, *[-limit] * (classes - 1)]
    numbers[1] = [-limit, *[limit - 1] * (classes - 2), limit]
    won, kept, _ = winners(small_key, small_dgk, numbers)
    assert labels(won, kept) == numbers.argmax(axis=1).tolist()


def test_of_tied_classes_each_wins_and_bob_sees_a_uniform_order(
    small_key: PrivateKey, small_dgk: DgkPrivateKey
) -> None:
    numbers = np.tile([7, 7, -3], (150, 1))
    won, kept, _ = winners(small_key, small_dgk, numbers)
    chosen = Counter(labels(won, kept))
    assert set(chosen) == {0, 1}
    assert min(chosen.values()) > 45
    positions = Counter(won)  # Bob's view
    assert all(positions[position] > 20 for position in range(3))


def test_bob_opens_numbers_that_their_masks_hide(
    small_key: PrivateKey, small_dgk: DgkPrivateKey
) -> None:
    numbers = np.tile([5, 9], (20, 1))
    _, kept, opened = winners(small_key, small_dgk, numbers)
    assert len({z for row in opened for z in row}) == 20
    differences = {z - r - (1 << VALUE_BITS) for z, r in zip(opened[0], kept.masks[0], strict=True)}
    # twice -4, for the room that ties need, and the random order there
    assert differences == {-8 + 1, -8 - 1}


def test_orders_differ_between_queries_and_runs(
    small_key: PrivateKey, small_dgk: DgkPrivateKey
) -> None:
    numbers = np.zeros((30, 5), dtype=np.int64)
    orders = [
        tuple(order)
        for _ in range(2)
        for order in winners(small_key, small_dgk, numbers)[1].permutations
    ]
    assert len(set(orders)) > 30  # of 120


def test_results_that_are_no_order_have_a_random_winner() -> None:
    """A refusal would tell an answering party that deviates a bit of its choice."""
    assert winner(3, [1, 1, 0]) == 0
    assert winner(3, [0, 0, 0]) == 2
    assert {winner(3, [1, 0, 1]) for _ in range(100)} == {0, 1, 2}
