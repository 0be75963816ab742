"""Blinded ciphertexts that the key's owner decrypts."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial

import gmpy2
import pytest

from fl_he.crypto.comparison.argmax import blind_pairs
from fl_he.crypto.comparison.blinding import blind
from fl_he.crypto.comparison.conditional_answer import encrypt_coins, release
from fl_he.crypto.comparison.slot_layout import STATISTICAL_BITS, SlotLayout
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey


def test_blinded_numbers_hold_number_mask_and_offset(small_key: PrivateKey) -> None:
    public = small_key.public_key
    layout = SlotLayout(20, public.key_bits)
    numbers = [5, -7, 0, 2**19, -(2**19), 3, 4, 5, 6, -1]
    encrypted = public.encrypt(layout.join(numbers))
    blinded, masks = blind(public, layout, [encrypted], len(numbers), constant=-3)
    opened = layout.split(small_key.decrypt(blinded[0]), len(numbers))
    assert opened == [d - 3 + 2**20 + r for d, r in zip(numbers, masks[0], strict=True)]
    assert all(0 <= r < 2 ** (20 + 1 + STATISTICAL_BITS) for r in masks[0])
    assert len(set(masks[0])) == len(numbers)


HandOver = Callable[[], list[int]]


def _blind(public: PublicKey) -> HandOver:
    layout, numbers = SlotLayout(20, public.key_bits), [public.encrypt([1])]
    return lambda: blind(public, layout, numbers, 1)[0][0]


def _blind_pairs(queries: int, public: PublicKey) -> HandOver:
    layout = SlotLayout(20, public.key_bits)
    classes = [public.encrypt(layout.join([1] * queries)) for _ in range(3)]
    return lambda: blind_pairs(public, layout, classes, queries)[0]


def _release(public: PublicKey) -> HandOver:
    coins = encrypt_coins(public, [1])
    return lambda: release(public, [7], [1], coins)


@pytest.mark.parametrize(
    "prepare",
    [_blind, partial(_blind_pairs, 1), partial(_blind_pairs, 5), _release],
    ids=["blind", "few queries", "many", "release"],
)
def test_its_randomness_is_fresh_and_uniform_to_the_keys_owner(
    small_key: PrivateKey,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[PublicKey], HandOver],
) -> None:
    """The owner sees the power of h_s: it must reveal nothing about the combined ciphertexts."""
    public, requested = small_key.public_key, []
    hand_over, token_bytes = prepare(public), secrets.token_bytes

    def keep(count: int) -> bytes:
        requested.append(count)
        return token_bytes(count)

    monkeypatch.setattr(secrets, "token_bytes", keep)
    first, second = hand_over(), hand_over()
    # the order of h_s has as many bits as n, here 512: 40 more make its power uniform to 2**-40
    assert {size % ((512 + 40) // 8) for size in requested} == {0}
    assert sum(requested) >= 2 * (512 + 40) // 8
    powers = [
        ciphertext * gmpy2.invert(1 + public.n * plaintext, public.n_squared) % public.n_squared
        for ciphertext, plaintext in zip(
            first + second, small_key.decrypt(first + second), strict=True
        )
    ]
    assert len(set(powers)) == len(powers)
