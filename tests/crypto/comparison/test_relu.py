from __future__ import annotations

import secrets

import numpy as np
import pytest
from gmpy2 import mpz

from fl_he.crypto.comparison.blinding import blind
from fl_he.crypto.comparison.comparison import Batch, Digits, bits, compare, results
from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.comparison.relu import (
    COMPARED_BITS,
    highest_bits,
    products,
    rectified,
    unit_batch,
)
from fl_he.crypto.comparison.slot_layout import STATISTICAL_BITS, SlotLayout
from fl_he.crypto.paillier.private_key import PrivateKey


def relus(
    paillier: PrivateKey, dgk: DgkPrivateKey, layout: SlotLayout, units: list[list[int]]
) -> list[list[int]]:
    """Return the ReLUs of units, both roles played here; shape (units, queries)."""
    public, queries = paillier.public_key, len(units[0])
    blinded, masks = blind(
        public, layout, [public.encrypt(layout.join(row)) for row in units], queries
    )
    opened = [z for row in blinded for z in layout.split(paillier.decrypt(row), queries)]
    coins = [[secrets.randbits(1) for _ in row] for row in masks]
    flat = [mask for row in masks for mask in row]
    assert max(flat) < 2 ** (layout.value_bits + 1 + STATISTICAL_BITS)
    batch = unit_batch(dgk.public_key, layout, len(flat))
    compared = compare(
        dgk.public_key,
        batch,
        bits(dgk, batch, highest_bits(layout, opened)),
        highest_bits(layout, flat),
        [coin for row in coins for coin in row],
    )
    signs = results(dgk, batch, compared)
    assert 0 < sum(signs) < len(signs)
    factors = products(public, layout, opened, signs, queries)
    half = 1 << layout.value_bits
    up = public.encrypt(layout.join([half] * queries))
    return [
        [
            number - half
            for number in layout.split(
                paillier.decrypt([public.add(*two) for two in zip(packs, up, strict=True)]), queries
            )
        ]
        for packs in rectified(public, layout, factors, masks, coins)
    ]


@pytest.mark.parametrize("value_bits", [6, COMPARED_BITS, 20])
def test_units_become_what_numpy_makes_of_them(
    value_bits: int, small_key: PrivateKey, small_dgk: DgkPrivateKey
) -> None:
    # the slots of longer numbers, so that two plaintexts hold the queries
    layout = SlotLayout(40, small_key.public_key.key_bits).narrowed(value_bits)
    error = 2 ** max(0, value_bits - COMPARED_BITS)
    largest = 2**value_bits - error
    units = np.random.default_rng(0).integers(-largest, largest + 1, size=(3, 11))
    units[0, :5] = [0, -error - 1, 1, -largest, largest - 1]
    assert layout.packs(11) > 1
    found = np.array(relus(small_key, small_dgk, layout, units.tolist()))
    exact = (units >= 0) | (units < -error)
    assert (found == np.maximum(units, 0))[exact].all()
    assert ((found == units) | (found == 0)).all()


def test_a_unit_near_zero_passes_or_not_by_its_mask(
    small_key: PrivateKey, small_dgk: DgkPrivateKey
) -> None:
    layout = SlotLayout(24, small_key.public_key.key_bits)
    # half of the skipped comparisons: half of all masks carry
    (found,) = relus(small_key, small_dgk, layout, [[-128] * 100])
    assert {0, -128} == set(found)
    assert 20 < found.count(0) < 80


def test_bobs_bit_says_nothing_of_a_sign(small_dgk: DgkPrivateKey) -> None:
    batch = Batch(Digits(6), small_dgk.public_key.primes, 200)
    masks = [secrets.randbits(47) for _ in range(200)]
    coins = [secrets.randbits(1) for _ in masks]
    encrypted: list[mpz] = bits(small_dgk, batch, [(1 << 6) + 5 + mask for mask in masks])
    compared = compare(small_dgk.public_key, batch, encrypted, masks, coins)
    assert 60 < sum(results(small_dgk, batch, compared)) < 140
