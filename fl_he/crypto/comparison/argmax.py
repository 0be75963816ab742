"""Secure argmax over classes by comparing all pairs, as pure step functions.

Alice has, for each query, one number per class under Bob's Paillier key. At the end Bob knows an
order of the classes under a permutation that only Alice knows, so it is a uniformly random order
to him; Alice knows nothing new. All pairs of all queries are compared at once, so there are as many
hops as for one comparison (see `comparison`), for any number of classes.

Equal numbers would show in the order. So Alice makes room below the numbers' last bit and puts a
random order of the classes there, for each query another: of tied classes each is as likely to win.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import gmpy2
from gmpy2 import mpz

from fl_he.crypto.comparison.blinding import mask_plaintexts, random_masks
from fl_he.crypto.comparison.comparison import Batch, Digits, compare
from fl_he.crypto.comparison.dgk_key import DgkPublicKey
from fl_he.crypto.comparison.slot_layout import SlotLayout, grouped, merge
from fl_he.crypto.paillier.public_key import PublicKey

_random = secrets.SystemRandom()

#: Ciphertexts of the classes: [class][pack], with the queries in slots.
Classes = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class PairSecrets:
    """Alice's secrets between two hops. They serve once.

    Attributes
    ----------
    masks : list of list of int
        [pair][query]
    permutations : list of list of int
        [query][position]: the class at that position.
    """

    masks: list[list[int]] = field(repr=False)
    permutations: list[list[int]] = field(repr=False)


def pairs(classes: int) -> list[tuple[int, int]]:
    """Return all pairs of classes, the smaller first."""
    return list(combinations(range(classes), 2))


def tie_bits(classes: int) -> int:
    """Return how many bits below a number's last one the random order takes."""
    return (classes - 1).bit_length()


def largest_difference(classes: int, value_bits: int) -> int:
    """Return how far apart two classes' numbers may be at most for numbers of l bits."""
    return (1 << (value_bits - tie_bits(classes))) - 2


def blind_pairs(
    public_key: PublicKey, layout: SlotLayout, classes: Classes, queries: int
) -> tuple[list[int], PairSecrets]:
    """Alice's first step.

    Parameters
    ----------
    public_key : PublicKey
        Bob's.
    layout : SlotLayout
    classes : sequence of sequence of int, shape (classes, packs)
        Ciphertexts; no two classes' numbers of a query are farther apart than
        `largest_difference`.
    queries : int

    Returns
    -------
    blinded : list of int
        For Bob: `slot_layout.merged_count` ciphertexts of all pairs' numbers.
    kept : PairSecrets
    """
    n, n_squared = mpz(public_key.n), public_key.n_squared
    masker = public_key.owner_masker
    ranked, small = _ranked(public_key, layout, classes, queries), layout.together(queries) > 1
    # Bob must not tell from the randomness of his queries' ciphertexts how they were combined: that
    # of a zero is uniform to him. There are fewest of them on the classes, or after merging.
    if not small:
        zeros = iter(masker.encrypt([0] * len(classes) * layout.packs(queries)))
        ranked = [[number * next(zeros) % n_squared for number in packs] for packs in ranked]
    minus = [[gmpy2.invert(number, n_squared) for number in packs] for packs in ranked]
    numbers = [
        a * b % n_squared
        for first, second in pairs(len(classes))
        for a, b in zip(ranked[first], minus[second], strict=True)
    ]
    masks = [random_masks(layout, queries) for _ in pairs(len(classes))]
    added = [
        plain
        for group in grouped(layout, masks, queries)
        for plain in mask_plaintexts(layout, group)
    ]
    if small:
        numbers = merge(public_key, layout, numbers, queries)
        fresh: Iterable[mpz | int] = masker.encrypt(added)
    else:
        fresh = (1 + n * plain for plain in added)
    blinded = [int(a * b % n_squared) for a, b in zip(numbers, fresh, strict=True)]
    return blinded, PairSecrets(masks, _random_orders(len(classes), queries))


def _ranked(
    public_key: PublicKey, layout: SlotLayout, classes: Classes, queries: int
) -> list[list[mpz]]:
    """Return the classes' numbers with a random order of the classes below their last bit."""
    n, n_squared, shift = mpz(public_key.n), public_key.n_squared, 1 << tie_bits(len(classes))
    ranks = _random_orders(len(classes), queries)
    return [
        [
            gmpy2.powmod(number, shift, n_squared) * (1 + n * rank) % n_squared
            for number, rank in zip(packs, layout.join([o[label] for o in ranks]), strict=True)
        ]
        for label, packs in enumerate(classes)
    ]


def pair_batch(dgk_key: DgkPublicKey, value_bits: int, classes: int, queries: int) -> Batch:
    """Return the comparisons of all pairs of classes, by pair, then by query.

    A query has the same slot in all pairs, so that Alice may choose an order of its pairs.
    """
    count = len(pairs(classes)) * queries
    return Batch(Digits(value_bits), dgk_key.primes, count, queries)


def compare_permuted(
    dgk_key: DgkPublicKey, batch: Batch, encrypted_bits: Sequence[int | mpz], kept: PairSecrets
) -> list[mpz]:
    """Alice's second step: the comparisons of each query's classes in her random order.

    Parameters
    ----------
    dgk_key : DgkPublicKey
        Bob's.
    batch : Batch
        See `pair_batch`.
    encrypted_bits : sequence of int
        Bob's answer to `blind_pairs`.
    kept : PairSecrets
        Serves once.

    Returns
    -------
    list of mpz
        By pair of positions, then by query: is the first one's class larger?
    """
    queries, count = len(kept.permutations), len(kept.permutations[0])
    number_of = {pair: index for index, pair in enumerate(pairs(count))}
    order, coins = [], [0] * batch.count
    for first, second in pairs(count):
        for query, classes in enumerate(kept.permutations):
            pair = classes[first], classes[second]
            number = number_of[min(pair), max(pair)] * queries + query
            order.append(number)
            coins[number] = int(pair[0] > pair[1])
    masks = [mask for row in kept.masks for mask in row]
    return compare(dgk_key, batch, encrypted_bits, masks, coins, order=order)


def winners(classes: int, queries: int, results: Sequence[int]) -> list[int]:
    """Return Bob's result for each query, from the results of `compare_permuted`; see `winner`."""
    return [winner(classes, results[query::queries]) for query in range(queries)]


def winner(classes: int, results: Sequence[int]) -> int:
    """Return Bob's result for one query: the position that wins against all others.

    Parameters
    ----------
    classes : int
    results : sequence of int
        One bit for each pair of positions.

    Returns
    -------
    int
        Without such a position, a random one. No honest Alice has such results, and a refusal would
        tell a deviating one something of the numbers.
    """
    wins = [0] * classes
    for (first, second), result in zip(pairs(classes), results, strict=True):
        wins[first if result else second] += 1
    is_order = sorted(wins) == list(range(classes))
    return wins.index(classes - 1) if is_order else secrets.randbelow(classes)


def _random_orders(count: int, queries: int) -> list[list[int]]:
    return [_random.sample(range(count), count) for _ in range(queries)]
