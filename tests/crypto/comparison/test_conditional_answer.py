from __future__ import annotations

import itertools
import secrets
from collections import Counter

import gmpy2
import numpy as np
import pytest
from dgk_decryption import slot_numbers
from gmpy2 import mpz

from fl_he.crypto.comparison.conditional_answer import (
    ANSWERS,
    answer_layout,
    answers,
    any_of,
    encrypt_coins,
    release,
)
from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.private_key import PrivateKey


def told(
    paillier: PrivateKey, dgk: DgkPrivateKey, hidden: list[list[int]], numbers: list[int]
) -> tuple[list[int | None], list[int], list[int]]:
    """Return Alice's answers, Bob's results, and Alice's plaintexts."""
    count = len(hidden[0])
    coins = [[secrets.randbits(1) for _ in row] for row in hidden]
    shares = [
        b ^ c for row, own in zip(hidden, coins, strict=True) for b, c in zip(row, own, strict=True)
    ]
    compared, secret = any_of(dgk.public_key, dgk.encrypt_bits(shares), coins)
    zero = np.array(dgk.are_zero(compared)).reshape(-1, count)
    assert zero.sum(axis=1).max() <= 1
    results = zero.any(axis=1).astype(int).tolist()
    public = paillier.public_key
    ciphertexts = release(public, numbers, results, encrypt_coins(public, secret))
    plaintexts = paillier.decrypt(ciphertexts)
    layout = answer_layout(public)
    return (
        answers(layout, plaintexts, len(numbers)),
        results,
        layout.split(plaintexts, len(numbers)),
    )


def test_the_number_is_told_exactly_if_a_bit_is_set(
    small_key: PrivateKey, small_dgk: DgkPrivateKey
) -> None:
    hidden = [list(row) for row in itertools.product((0, 1), repeat=3)] * 3
    numbers = [i % 7 for i in range(len(hidden))]
    numbers[0] = numbers[1] = ANSWERS - 1
    given, _, _ = told(small_key, small_dgk, hidden, numbers)
    assert given == [
        number if any(row) else None for number, row in zip(numbers, hidden, strict=True)
    ]


@pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")
def test_only_one_slot_can_be_tested() -> None:
    """Bob could put shares of his choice into each slot, and learn a coin from each."""
    key = DgkPrivateKey.generate(512, primes=(131, 137, 139), minimum_bits=512)
    first, *others = key.public_key.primes
    shares = key.encrypt_slots([[secrets.randbelow(2) for _ in range(3)] for _ in range(8)])
    compared, _ = any_of(key.public_key, shares, [[secrets.randbits(1) for _ in range(8)]])
    rows = [slot_numbers(key, ciphertext) for ciphertext in compared]
    assert [[row[prime] for prime in others] for row in rows] == [[0, 0]] * 8
    assert len({row[first] for row in rows}) > 3


def test_numbers_from_the_limit_on_are_no_answers(small_key: PrivateKey) -> None:
    layout = answer_layout(small_key.public_key)
    told = layout.join([0, ANSWERS - 1, ANSWERS, ANSWERS + 1])
    assert answers(layout, told, 4) == [0, ANSWERS - 1, None, None]


def test_bob_cannot_tell_the_two_cases_apart(
    small_key: PrivateKey, small_dgk: DgkPrivateKey
) -> None:
    hidden = [[0, 0]] * 150 + [[0, 1]] * 150
    _, results, _ = told(small_key, small_dgk, hidden, [1] * 300)
    for case in (results[:150], results[150:]):
        assert 45 < Counter(case)[1] < 105


def test_alice_sees_a_random_number_instead_of_one_that_is_not_hers(
    small_key: PrivateKey, small_dgk: DgkPrivateKey
) -> None:
    _, _, plain = told(small_key, small_dgk, [[0, 0]] * 20, [3] * 20)
    assert len(set(plain)) == 20
    assert min(plain) > 2**40  # fails once in a million


def test_the_randomness_of_an_answer_does_not_tell_what_hides_it(small_key: PrivateKey) -> None:
    """Alice knows the randomness of her coin; times Bob's random number it would give him away."""
    public = small_key.public_key
    coins = encrypt_coins(public, [1])
    (ciphertext,) = release(public, [7], [0], coins)
    (plaintext,) = small_key.decrypt([ciphertext])
    random = plaintext - 7
    assert random >= ANSWERS

    def power(ciphertext: int, plaintext: int) -> mpz:
        without = gmpy2.invert(1 + public.n * plaintext, public.n_squared)
        return ciphertext * without % public.n_squared

    known = gmpy2.powmod(power(coins[0], 1), random, public.n_squared)
    assert power(ciphertext, plaintext) != known


def test_what_does_not_fit_is_refused(small_key: PrivateKey, small_dgk: DgkPrivateKey) -> None:
    with pytest.raises(CryptoError, match="u must be above"):
        any_of(small_dgk.public_key, [], [[0] * 257])
    with pytest.raises(CryptoError, match="numbers must be from 0"):
        release(small_key.public_key, [ANSWERS], [0], [1])
