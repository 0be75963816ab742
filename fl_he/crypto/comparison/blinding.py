"""Blinding of ciphertexts before the key's owner decrypts them.

    z = d + 2**l + r,    r random, 40 bits longer than d

The ciphertext, too, shows z alone: its randomness is uniform (see `PublicKey.owner_masker`).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from fl_he.crypto.comparison.slot_layout import SlotLayout
from fl_he.crypto.paillier.public_key import PublicKey


def random_masks(layout: SlotLayout, count: int) -> list[int]:
    """Return this many r."""
    return [secrets.randbits(layout.mask_bits) for _ in range(count)]


def mask_plaintexts(layout: SlotLayout, masks: Sequence[int]) -> list[int]:
    """Return the plaintexts that hide one number per query: ``2**l + r`` in each slot."""
    return layout.join([(1 << layout.value_bits) + mask for mask in masks])


def blind(
    public_key: PublicKey,
    layout: SlotLayout,
    numbers: Sequence[Sequence[int]],
    queries: int,
    constant: int = 0,
) -> tuple[list[list[int]], list[list[int]]]:
    """Hide numbers (step 1 of Veugen's protocol 2).

    Parameters
    ----------
    public_key : PublicKey
        Of whoever opens them.
    layout : SlotLayout
    numbers : sequence of sequence of int, shape (numbers, packs)
        Ciphertexts; ``number + constant`` is in ``[-2**l, 2**l)`` for each query.
    queries : int
    constant : int
        Is added to each number.

    Returns
    -------
    blinded : list of list of int, shape (numbers, packs)
    masks : list of list of int, shape (numbers, queries)
    """
    masker = public_key.owner_masker
    blinded, masks = [], []
    for packs in numbers:
        mask = random_masks(layout, queries)
        added = masker.encrypt(mask_plaintexts(layout, [r + constant for r in mask]))
        masks.append(mask)
        blinded.append([public_key.add(a, b) for a, b in zip(packs, added, strict=True)])
    return blinded, masks
