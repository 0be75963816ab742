"""Small batches: numbers of few queries, whose ciphertexts are mostly empty, put into one.

Numbers lie side by side, each with all its queries. Whoever opens them then decrypts one ciphertext
for as many numbers as have room, in place of one for each. Where a number's queries fill half of a
ciphertext or more there is nothing to merge.
"""

from __future__ import annotations

from collections.abc import Sequence

import gmpy2
from gmpy2 import mpz

from fl_he.crypto.errors import CryptoError
from fl_he.crypto.public_key import PublicKey
from fl_he.crypto.slot_layout import SlotLayout


def merged_count(layout: SlotLayout, numbers: int, queries: int) -> int:
    """Return how many ciphertexts so many numbers are, merged if they can be."""
    together = layout.together(queries)
    return -(-numbers // together) if together > 1 else numbers * layout.packs(queries)


def grouped(layout: SlotLayout, rows: Sequence[Sequence[int]], queries: int) -> list[list[int]]:
    """Return each number's integers, one for each query, in the lists that share a ciphertext."""
    together = layout.together(queries)
    return [
        [integer for row in rows[start : start + together] for integer in row]
        for start in range(0, len(rows), together)
    ]


def merge(
    public_key: PublicKey, layout: SlotLayout, numbers: Sequence[mpz], queries: int
) -> list[mpz]:
    """Put ciphertexts of signed numbers together, `layout.together` of them in each.

    Parameters
    ----------
    public_key : PublicKey
    layout : SlotLayout
    numbers : sequence of mpz
        One ciphertext for each number.
    queries : int
        At most half of the layout's slots.
    """
    together, n_squared = layout.together(queries), public_key.n_squared
    shift = 1 << (layout.bits * queries)
    merged = []
    for start in range(0, len(numbers), together):
        total = mpz(1)
        for number in reversed(numbers[start : start + together]):
            total = gmpy2.powmod(total, shift, n_squared) * number % n_squared
        merged.append(total)
    return merged


def split_merged(
    layout: SlotLayout, plaintexts: Sequence[int], numbers: int, queries: int
) -> list[int]:
    """Take non-negative integers out of `merged_count` plaintexts, by number, then by query.

    Raises
    ------
    CryptoError
        If the plaintexts do not hold exactly so many.
    """
    if len(plaintexts) != merged_count(layout, numbers, queries):
        raise CryptoError(
            f"plaintexts must be {merged_count(layout, numbers, queries)} for {numbers} numbers of "
            f"{queries} queries, got {len(plaintexts)}"
        )
    together, packs = layout.together(queries), layout.packs(queries)
    integers = []
    for group, start in enumerate(range(0, numbers, together)):
        count = min(together, numbers - start) * queries
        integers += layout.split(plaintexts[group * packs : (group + 1) * packs], count)
    return integers
