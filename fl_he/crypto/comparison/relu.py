"""The ReLU of encrypted numbers: a secure comparison and one masked multiplication.

Alice has numbers x of units and queries under Bob's Paillier key, and wants ``max(x, 0)`` under it.
Nobody learns a sign: Bob gets ``delta = (x >= 0) xor coin`` with a coin of Alice's (see
`comparison`), so that one of delta and ``1 - delta`` is the sign, and Alice knows which.

    A  blind, compare   as for a comparison, Bob keeps z = x + 2**l + r
    B  products         [[delta]], [[delta * z]], [[(1 - delta) * z]]          -> A
    A  rectified        sign * x = sign * z - sign * (2**l + r)

A unit of more than COMPARED_BITS bits is compared by its highest ones: of z and r the lowest t bits
are left out. Those may carry, so a unit from ``-2**t`` to -1 may pass as if it were not below 0.
That is an error of at most ``2**-COMPARED_BITS`` of ``2**l``. A unit must be at most
``2**l - 2**t``.

All numbers are in the slots of their queries, so that the results again hold many queries each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import gmpy2
from gmpy2 import mpz

from fl_he.crypto.comparison.comparison import Batch, Digits
from fl_he.crypto.comparison.dgk_key import DgkPublicKey
from fl_he.crypto.comparison.linear_map import linear_map
from fl_he.crypto.comparison.slot_layout import SlotLayout
from fl_he.crypto.paillier.public_key import PublicKey

#: Ciphertexts of Bob's for each number.
PRODUCTS = 3
COMPARED_BITS = 16


def unit_batch(dgk_key: DgkPublicKey, layout: SlotLayout, count: int) -> Batch:
    """Return the comparisons of units with 0."""
    return Batch(Digits(min(layout.value_bits, COMPARED_BITS)), dgk_key.primes, count)


def highest_bits(layout: SlotLayout, numbers: Iterable[int]) -> list[int]:
    """Return the part of each z or r that is compared."""
    left_out = max(0, layout.value_bits - COMPARED_BITS)
    return [number >> left_out for number in numbers]


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
    rest = iter(factors)
    for unit_masks, unit_coins in zip(masks, coins, strict=True):
        packs = []
        for start in range(0, len(unit_masks), layout.slots):
            end = start + layout.slots
            shifts = [offset + mask for mask in unit_masks[start:end]]
            total, negative = mpz(1), []  # negative holds [[1 - sign]]
            for slot, coin in enumerate(unit_coins[start:end]):
                place = layout.place(slot)[1]
                delta, times_z, times_z_else = next(rest), next(rest), next(rest)
                if coin:  # the sign is 1 - delta
                    negative.append(delta)
                else:
                    inverse = gmpy2.invert(delta, n_squared)
                    negative.append(inverse * (1 + n * place) % n_squared)
                total = total * (times_z_else if coin else times_z) % n_squared
            # - sign * shift = shift * (1 - sign) - shift
            shifted = linear_map(public_key, [shifts], negative, [-layout.join(shifts)[0]])
            packs.append(int(total * shifted[0] % n_squared))
        units.append(packs)
    return units
