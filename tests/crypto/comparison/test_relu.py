from __future__ import annotations

import secrets

import numpy as np

from fl_he.crypto.comparison.blinding import blind
from fl_he.crypto.comparison.comparison import Batch, Digits, bits, compare, results
from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.comparison.relu import products, rectified
from fl_he.crypto.comparison.slot_layout import SlotLayout
from fl_he.crypto.paillier.private_key import PrivateKey


def test_units_become_what_numpy_makes_of_them(
    small_key: PrivateKey, small_dgk: DgkPrivateKey
) -> None:
    public, value_bits, queries = small_key.public_key, 20, 11
    layout, primes = SlotLayout(value_bits, public.key_bits), small_dgk.public_key.primes
    batch = Batch(Digits(value_bits), primes, 3 * queries)
    units = np.random.default_rng(0).integers(-(2**20), 2**20, size=(3, queries))
    units[0, :4] = [0, -1, 1, -(2**20)]
    encrypted = [public.encrypt(layout.join(row)) for row in units.tolist()]
    blinded, masks = blind(public, layout, encrypted, queries)
    opened = [z for row in blinded for z in layout.split(small_key.decrypt(row), queries)]
    coins = [[secrets.randbits(1) for _ in row] for row in masks]
    compared = compare(
        small_dgk.public_key,
        batch,
        bits(small_dgk, batch, opened),
        [mask for row in masks for mask in row],
        [coin for row in coins for coin in row],
    )
    signs = results(small_dgk, batch, compared)
    assert 0 < sum(signs) < len(signs)
    factors = products(public, layout, opened, signs, queries)
    found = rectified(public, layout, factors, masks, coins)
    assert [layout.split(small_key.decrypt(packs), queries) for packs in found] == np.maximum(
        units, 0
    ).tolist()


def test_bobs_bit_says_nothing_of_a_sign(small_key: PrivateKey, small_dgk: DgkPrivateKey) -> None:
    batch = Batch(Digits(6), small_dgk.public_key.primes, 200)
    masks = [secrets.randbits(47) for _ in range(200)]
    coins = [secrets.randbits(1) for _ in masks]
    encrypted = bits(small_dgk, batch, [(1 << 6) + 5 + mask for mask in masks])
    compared = compare(small_dgk.public_key, batch, encrypted, masks, coins)
    assert 60 < sum(results(small_dgk, batch, compared)) < 140
