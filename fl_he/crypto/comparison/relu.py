"""The ReLU of encrypted numbers: a secure comparison and one masked multiplication.

Alice has numbers x of units and queries under Bob's Paillier key, and wants ``max(x, 0)`` under it.
Nobody learns a sign: Bob gets ``delta = (x >= 0) xor coin`` with a coin of Alice's (see
`comparison`), so that one of delta and ``1 - delta`` is the sign, and Alice knows which.

    A  blind, compare   as for a comparison, Bob keeps z = x + 2**l + r
    B  products         [[delta]], [[delta * z]], [[(1 - delta) * z]]          -> A
    A  rectified        sign * x = sign * z - sign * (2**l + r)

All numbers are in the slots of their queries, so that the results again hold many queries each.
"""

from __future__ import annotations

from collections.abc import Sequence

import gmpy2
from gmpy2 import mpz

from fl_he.crypto.comparison.slot_layout import SlotLayout
from fl_he.crypto.paillier.public_key import PublicKey

#: Ciphertexts of Bob's for each number.
PRODUCTS = 3


def products(
    public_key: PublicKey,
    layout: SlotLayout,
    opened: Sequence[int],
    results: Sequence[int],
    queries: int,
) -> list[int]:
    """Bob's step.

    Parameters
    ----------
    public_key : PublicKey
        His own.
    layout : SlotLayout
    opened : sequence of int, length units * queries
        z, by unit, then by query.
    results : sequence of int
        delta of each.
    queries : int

    Returns
    -------
    list of int
        `PRODUCTS` ciphertexts for each number.
    """
    plaintexts = []
    for index, (z, delta) in enumerate(zip(opened, results, strict=True)):
        place = layout.place(index % queries)[1]
        plaintexts += [delta * place, delta * z * place, (1 - delta) * z * place]
    return public_key.encrypt(plaintexts)


def rectified(
    public_key: PublicKey,
    layout: SlotLayout,
    factors: Sequence[int],
    masks: Sequence[Sequence[int]],
    coins: Sequence[Sequence[int]],
) -> list[list[int]]:
    """Alice's step.

    Parameters
    ----------
    public_key : PublicKey
        Bob's.
    layout : SlotLayout
    factors : sequence of int
        Bob's `products`.
    masks, coins : sequence of sequence of int, shape (units, queries)
        r and coin of each number.

    Returns
    -------
    list of list of int, shape (units, packs)
        Not rerandomised: whoever gets them next must not be Bob.
    """
    n, n_squared = mpz(public_key.n), public_key.n_squared
    offset = 1 << layout.value_bits
    units = []
    at = 0
    for unit_masks, unit_coins in zip(masks, coins, strict=True):
        packs = [mpz(1)] * layout.packs(len(unit_masks))
        plain = [0] * len(packs)
        for query, (mask, coin) in enumerate(zip(unit_masks, unit_coins, strict=True)):
            pack, place = layout.place(query)
            delta, times_z, times_z_else = factors[at : at + PRODUCTS]
            at += PRODUCTS
            shift = offset + mask
            if coin:  # the sign is 1 - delta
                term = times_z_else * gmpy2.powmod(delta, shift, n_squared)
                plain[pack] -= shift * place
            else:
                term = times_z * gmpy2.invert(gmpy2.powmod(delta, shift, n_squared), n_squared)
            packs[pack] = packs[pack] * term % n_squared
        units.append(
            [int(p * (1 + n * (c % n)) % n_squared) for p, c in zip(packs, plain, strict=True)]
        )
    return units
