"""Tags by a second computation, and the changes of a sum that they show."""

from __future__ import annotations

import hashlib
import hmac

import gmpy2
import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from fl_he.crypto.encoding.streams import key_stream
from fl_he.crypto.paillier.packing import TAG_LIMIT, TAG_MODULUS
from fl_he.crypto.tickets import tags as module
from fl_he.crypto.tickets.tags import fit, numbers, product, products, tags_of

SEEDS = [bytes([n]) * 32 for n in (1, 2, 3)]
VALUE_KEY = b"v" * 32


def independent(secret: bytes, info: bytes, count: int) -> list[int]:
    """HKDF by hand (RFC 5869), and AES block by block."""
    extracted = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    key = hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()
    ecb = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - the counter's blocks
    blocks = -(-24 * count // 16)
    stream = b"".join(ecb.update(n.to_bytes(16, "big")) for n in range(blocks))
    return [int.from_bytes(stream[24 * n : 24 * n + 24], "big") % TAG_MODULUS for n in range(count)]


def test_the_modulus_is_the_first_prime_above_2_to_96() -> None:
    assert gmpy2.next_prime(2**96) == TAG_MODULUS


@given(secret=st.binary(min_size=32, max_size=32), info=st.binary(), count=st.integers(0, 9))
def test_numbers_of_a_secret(secret: bytes, info: bytes, count: int) -> None:
    assert numbers(secret, info, count) == independent(secret, info, count)


def test_tags_are_the_formula() -> None:
    rows = np.array([[1, -2, 3], [4, 0, -(2**50)]])
    factors = independent(VALUE_KEY, b"values", 6)
    masks = independent(SEEDS[0], b"own", 2)
    expected = [
        (factors[0] - 2 * factors[1] + 3 * factors[2] + masks[0]) % TAG_MODULUS,
        (4 * factors[3] - 2**50 * factors[5] + masks[1]) % TAG_MODULUS,
    ]
    tags = tags_of(products(rows, VALUE_KEY, b"values"), SEEDS[0], b"own")
    assert [tag % TAG_MODULUS for tag in tags] == expected


def test_sums_of_tags_as_integers_exclude_no_update() -> None:
    """Tags that wrap around at q must not show how often: company X knows all else of them."""
    tags = tags_of([0] * 400, SEEDS[0], b"own")
    multiples = [tag // TAG_MODULUS for tag in tags]
    assert len(set(multiples)) == 400
    assert 0 <= min(multiples) <= 2**42
    assert 2**48 - 2**42 <= max(multiples) < 2**48
    assert multiples != [tag // TAG_MODULUS for tag in tags_of([0] * 400, SEEDS[0], b"own")]


def summed(
    updates: list[np.ndarray], value_key: bytes | None = VALUE_KEY
) -> tuple[list[int], np.ndarray]:
    tags = [
        tags_of(products(rows, value_key, b"v"), seed, b"own")
        for rows, seed in zip(updates, SEEDS, strict=True)
    ]
    return [sum(of) for of in zip(*tags, strict=True)], np.sum(updates, axis=0)


BLOCK = module._BLOCK

UPDATES = [np.array([[1, -2], [3, 4]]), np.array([[0, 7], [-8, 9]]), np.array([[5, 5], [5, -5]])]
OWN = [(seed, b"own") for seed in SEEDS]


def test_the_tags_of_a_sum_fit_its_total() -> None:
    sums, total = summed(UPDATES)
    assert fit(sums, products(total, VALUE_KEY, b"v"), OWN)


@given(
    change=st.lists(st.integers(-(2**50), 2**50), min_size=4, max_size=4).filter(any),
    known=st.lists(st.integers(0, TAG_MODULUS - 1), min_size=2, max_size=2),
)
def test_whoever_has_no_value_key_changes_no_value(change: list[int], known: list[int]) -> None:
    sums, total = summed(UPDATES)
    changed = total + np.array(change).reshape(2, 2)
    tags = [one + other for one, other in zip(sums, known, strict=True)]
    assert not fit(tags, products(changed, VALUE_KEY, b"v"), OWN)


def test_without_a_value_key_tags_are_of_the_contributors_alone() -> None:
    sums, total = summed(UPDATES, None)
    assert fit(sums, products(total + 1, None, b"v"), OWN)
    assert not fit(sums, products(total, None, b"v"), OWN[:2])


@pytest.mark.parametrize(
    "others",
    [OWN[:2], [*OWN, (b"4" * 32, b"own")], [*OWN[:2], (SEEDS[2], b"another")], [*OWN[:2], OWN[0]]],
)
def test_tags_of_other_contributors_do_not_fit(others: list[tuple[bytes, bytes]]) -> None:
    sums, total = summed(UPDATES)
    assert not fit(sums, products(total, VALUE_KEY, b"v"), others)


@pytest.mark.parametrize("factor", [1 + TAG_MODULUS, 1 - TAG_MODULUS, 1 + 5 * TAG_MODULUS])
def test_a_sum_times_1_modulo_q_is_no_sum(factor: int) -> None:
    sums, total = summed(UPDATES, None)
    assert not fit([factor * one for one in sums], products(total, None, b"v"), OWN)


@pytest.mark.parametrize("sums", [[], [0], [0, 0, 0]])
def test_there_is_a_tag_for_each_ciphertext(sums: list[int]) -> None:
    assert not fit(sums, [0, 0], [])
    assert fit([0, 0], [0, 0], [])


@pytest.mark.parametrize("contributors", [1, 3])
def test_sums_of_tags_are_as_large_as_their_contributors_make_them(contributors: int) -> None:
    of = OWN[:contributors]
    largest = contributors * (TAG_LIMIT - 1)
    wanted = sum(numbers(seed, info, 1)[0] for seed, info in of)
    # The product that makes a sum of tags fit, by its residue.
    for found, right in ((0, True), (largest, True), (largest + 1, False), (-1, False)):
        assert fit([found], [found - wanted], of) is right


def test_tags_change_places_with_no_other_ciphertext() -> None:
    sums, total = summed(UPDATES)
    assert not fit(sums[::-1], products(total[::-1], VALUE_KEY, b"v"), OWN)


INT64 = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([-(2**63), 2**63 - 1, -(2**48), 2**48 - 1, -1, 0, 1]),
)


def stream_of(secret: bytes, info: bytes, count: int) -> list[int]:
    """Return the numbers of 12 bytes of a stream."""
    stream = key_stream(secret, info, 12 * count)
    return [int.from_bytes(stream[12 * n : 12 * n + 12], "little") for n in range(count)]


@given(
    integers=st.lists(INT64, min_size=1, max_size=40), secret=st.binary(min_size=32, max_size=32)
)
def test_the_product_of_a_masked_vector(integers: list[int], secret: bytes) -> None:
    factors = stream_of(secret, b"values", len(integers))
    expected = sum(r * x for r, x in zip(factors, integers, strict=True)) % TAG_MODULUS
    assert product(np.array(integers, dtype=np.int64), secret, b"values") == expected


@pytest.mark.parametrize("edge", [-(2**63), 2**63 - 1, -1])
def test_the_product_of_a_long_vector_is_exact(edge: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All limbs as large as they can be, around the border of a block."""
    largest = type("Ones", (), {"read": lambda _, size: b"\xff" * size})
    monkeypatch.setattr(module, "KeyStream", lambda *_: largest())
    for length in (BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 3):
        found = product(np.full(length, edge), VALUE_KEY, b"")
        assert found == length * (2**96 - 1) * edge % TAG_MODULUS


def test_the_product_of_blocks_has_one_stream() -> None:
    rng = np.random.default_rng(1)
    integers = rng.integers(-(2**50), 2**50, 2 * BLOCK + 5)
    factors = stream_of(VALUE_KEY, b"values", len(integers))
    expected = sum(r * x for r, x in zip(factors, integers.tolist(), strict=True)) % TAG_MODULUS
    assert product(integers, VALUE_KEY, b"values") == expected
