"""Secure comparison against plain comparison, with both roles played here."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence

import pytest
from dgk_decryption import decrypted, slot_numbers
from gmpy2 import mpz
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_he.crypto.comparison.comparison import (
    Batch,
    Digits,
    bits,
    compare,
    inverses_of,
    results,
)
from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.comparison.slot_layout import STATISTICAL_BITS
from fl_he.crypto.errors import CryptoError


def compared(
    key: DgkPrivateKey, digits: Digits, numbers: Sequence[int], coins: Sequence[int]
) -> tuple[list[int], list[bool]]:
    """Return Bob's results, and which of the ciphertexts that he got hold 0."""
    masks = [secrets.randbits(digits.value_bits + 1 + STATISTICAL_BITS) for _ in numbers]
    blinded = [d + (1 << digits.value_bits) + r for d, r in zip(numbers, masks, strict=True)]
    batch = Batch(digits, key.public_key.primes, len(numbers))
    encrypted = bits(key, batch, blinded)
    assert len(encrypted) == batch.sent
    ciphertexts = compare(key.public_key, batch, encrypted, masks, coins)
    assert len(ciphertexts) == batch.returned
    return results(key, batch, ciphertexts), key.are_zero(ciphertexts)


@pytest.mark.parametrize(("value_bits", "digit_bits"), [(1, 1), (3, 1), (3, 2), (4, 2), (3, 3)])
def test_every_small_number_is_compared_with_zero(
    small_dgk: DgkPrivateKey, value_bits: int, digit_bits: int
) -> None:
    limit = 1 << value_bits
    numbers = list(range(-limit, limit)) * 2
    coins = [0] * (2 * limit) + [1] * (2 * limit)
    found, _ = compared(small_dgk, Digits(value_bits, digit_bits), numbers, coins)
    assert found == [int(d >= 0) ^ coin for d, coin in zip(numbers, coins, strict=True)]


@settings(max_examples=15, deadline=None)
@given(numbers=st.lists(st.integers(-(2**32), 2**32 - 1), min_size=1, max_size=4))
def test_wide_numbers_are_compared_with_zero(small_dgk: DgkPrivateKey, numbers: list[int]) -> None:
    coins = [secrets.randbits(1) for _ in numbers]
    found, zero = compared(small_dgk, Digits(32), numbers, coins)
    assert found == [int(d >= 0) ^ coin for d, coin in zip(numbers, coins, strict=True)]
    # one zero or none: their number must not tell more than the result
    assert sum(zero) == sum(found)


def test_zeros_are_at_random_places_whatever_the_number(small_dgk: DgkPrivateKey) -> None:
    digits = Digits(6)
    _, zero = compared(small_dgk, digits, [63] * 200, [0] * 200)
    places = [zero[at : at + 4].index(True) for at in range(0, 800, 4)]
    assert {place: places.count(place) > 20 for place in range(4)} == dict.fromkeys(range(4), True)


@pytest.fixture(scope="module")
def slotted() -> DgkPrivateKey:
    """Return a key with three slots."""
    return DgkPrivateKey.generate(512, primes=(131, 137, 139), minimum_bits=512)


@settings(max_examples=10, deadline=None)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")
def test_numbers_in_slots_are_compared_each_by_itself_in_any_order(
    slotted: DgkPrivateKey, data: st.DataObject
) -> None:
    run, runs = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 3))
    limit, digits = 1 << 9, Digits(9)
    batch = Batch(digits, slotted.public_key.primes, run * runs, run)
    assert batch.sent == runs * -(-run // 3) * digits.sent
    numbers = data.draw(
        st.lists(st.integers(-limit, limit - 1), min_size=batch.count, max_size=batch.count)
    )
    coins = data.draw(st.lists(st.sampled_from([0, 1]), min_size=batch.count, max_size=batch.count))
    turned = data.draw(st.permutations(range(runs)))
    order = [of * run + at for of in turned for at in range(run)]
    masks = [secrets.randbits(50) for _ in numbers]
    encrypted = bits(slotted, batch, [d + limit + r for d, r in zip(numbers, masks, strict=True)])
    answer = compare(slotted.public_key, batch, encrypted, masks, coins, order=order)
    assert (len(encrypted), len(answer)) == (batch.sent, batch.returned)
    assert results(slotted, batch, answer) == [int(numbers[at] >= 0) ^ coins[at] for at in order]


@pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")
def test_a_slot_shows_nothing_of_another_and_random_numbers_but_for_its_zero(
    slotted: DgkPrivateKey,
) -> None:
    """Equal numbers under equal masks: neither place nor value may be the same in two slots."""
    primes, numbers = slotted.public_key.primes, 3 * 60
    batch = Batch(Digits(6), primes, numbers)
    masks = [5] * numbers
    encrypted = bits(slotted, batch, [64 + 7 + mask for mask in masks])
    answer = compare(slotted.public_key, batch, encrypted, masks, [0] * numbers)
    places, values = [], []
    for at in range(0, len(answer), 4):
        rows = [slot_numbers(slotted, c) for c in answer[at : at + 4]]
        places.append(tuple([row[prime] for row in rows].index(0) for prime in primes))
        values += [tuple(row.values()) for row in rows if all(row.values())]
    # of 60, 15 at each place of each slot, and 15 at the same place in two slots
    for slot in range(3):
        assert min(Counter(place[slot] for place in places).get(at, 0) for at in range(4)) > 2
        assert sum(place[slot] == place[slot - 1] for place in places) < 35
    assert len(set(values)) > 0.9 * len(values)
    assert len({first for first, *_ in values}) > 30


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")
def test_slots_without_a_number_are_cleared(slotted: DgkPrivateKey, count: int) -> None:
    """Bob could read mask and coin from numbers that he put there."""
    digits, primes = Digits(6), slotted.public_key.primes
    batch = Batch(digits, primes, count)
    masks, coins = [secrets.randbits(46) for _ in range(count)], [0] * count
    blinded = [64 + 7 + mask for mask in masks]
    used, last = len(batch.groups[-1]), (len(batch.groups) - 1) * digits.sent
    tags = slotted.encrypt_slots([[0] * used + [1] * (len(primes) - used)] * digits.sent)
    mixed = bits(slotted, batch, blinded)
    mixed[last:] = [bit * tag for bit, tag in zip(mixed[last:], tags, strict=True)]
    answer = compare(slotted.public_key, batch, mixed, masks, coins)
    for ciphertext in answer[-digits.returned :]:
        numbers = slot_numbers(slotted, ciphertext)
        assert not any(numbers[prime] for prime in primes[used:])
    assert results(slotted, batch, answer) == [1] * count


def test_equal_messages_of_bob_get_different_answers(small_dgk: DgkPrivateKey) -> None:
    digits = Digits(4)
    primes = small_dgk.public_key.primes
    encrypted = bits(small_dgk, Batch(digits, primes, 1), [77]) * 2
    answer = compare(small_dgk.public_key, Batch(digits, primes, 2), encrypted, [5, 5], [0, 0])
    assert len({int(c) for c in answer}) == len(answer) == 6


def test_plaintexts_under_the_answers_are_random_but_for_the_zero(
    small_dgk: DgkPrivateKey,
) -> None:
    batch = Batch(Digits(2, 1), small_dgk.public_key.primes, 1)
    values = []
    for _ in range(60):
        encrypted = bits(small_dgk, batch, [9])
        answer = compare(small_dgk.public_key, batch, encrypted, [3], [0])
        values += [decrypted(small_dgk, c) for c in answer]
    assert len(set(values)) > 60  # of 257; without factors they would be at most 9


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=6))
def test_numbers_are_inverted_together(numbers: list[int]) -> None:
    prime = mpz(1_000_000_007)
    inverses = inverses_of([mpz(number) for number in numbers], prime)
    assert [a * b % prime for a, b in zip(numbers, inverses, strict=True)] == [1] * len(numbers)
    with pytest.raises(ZeroDivisionError):
        inverses_of([mpz(3), prime, mpz(5)], prime)


def test_a_number_that_the_plaintexts_have_no_room_for_is_refused(
    small_dgk: DgkPrivateKey,
) -> None:
    Digits(84, 1).require_room(257)
    with pytest.raises(CryptoError, match="primes of u must be above 257"):
        compare(small_dgk.public_key, Batch(Digits(85, 1), (257,), 0), [], [], [])
