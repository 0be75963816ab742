from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import phe
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_he.crypto.errors import CryptoError, RangeError
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey

HEADER = 56
EDGE = 2.0**24 - 2.0**-24


def encrypt(
    key: PrivateKey, values: list[float], packing: Packing | None = None
) -> EncryptedVector:
    return EncryptedVector.encrypt(key.public_key, packing or Packing(), np.array(values))


numbers = st.one_of(
    st.floats(-EDGE, EDGE),
    st.sampled_from([EDGE, -EDGE, 2.0**-24, -(2.0**-24), 2.0**-25, 5e-324, 0.0, -0.0]),
)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.data())
def test_sums_are_exact_to_the_fixed_point_step(
    small_key: PrivateKey, length: int, data: st.DataObject
) -> None:
    vectors = data.draw(
        st.lists(st.lists(numbers, min_size=length, max_size=length), min_size=1, max_size=6)
    )
    total = encrypt(small_key, vectors[0])
    for values in vectors[1:]:
        total.add_in_place(encrypt(small_key, values), small_key.public_key)
    # Python's own rounding of exact fractions, ties to even, and exact sums.
    expected = [
        sum(round(Fraction(value) * 2**24) for value in column)
        for column in zip(*vectors, strict=True)
    ]
    assert small_key.decrypt_integers(total).tolist() == expected
    decoded = small_key.decrypt_vector(total).tolist()
    assert decoded == [number / 2**24 for number in expected]


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_fast_and_slow_encryption_agree_through_decryption(data: st.DataObject) -> None:
    key_bits = data.draw(st.sampled_from([512, 528, 640, 1024]))
    key = PrivateKey.generate(key_bits, minimum_bits=512)
    fraction_bits = data.draw(st.integers(0, 30))
    packing = Packing(fraction_bits, data.draw(st.integers(1, 30)), data.draw(st.integers(1, 8)))
    edge = packing.maximum_integer
    integers = np.array(
        data.draw(st.lists(st.integers(-edge, edge), min_size=1, max_size=40)), dtype=np.int64
    )
    slow = b"".join(
        phe.PaillierPublicKey(key.public_key.n)
        .raw_encrypt(plaintext % key.public_key.n)
        .to_bytes(key.public_key.ciphertext_bytes, "big")
        for plaintext in packing.pack(integers, key_bits)
    )
    slow_vector = EncryptedVector(key.public_key, packing, len(integers), bytearray(slow))
    key.public_key.masker.prepare(10_000)
    fast_vector = EncryptedVector.encrypt_integers(key.public_key, packing, integers)
    assert key.public_key.masker.window > 0
    assert key.decrypt_integers(fast_vector).tolist() == integers.tolist()
    assert key.decrypt_integers(slow_vector).tolist() == integers.tolist()
    assert key.decrypt_vector(fast_vector).tobytes() == key.decrypt_vector(slow_vector).tobytes()


def test_as_many_contributors_as_promised_at_the_range_edge(small_key: PrivateKey) -> None:
    packing = Packing(max_contributors=6)
    edge = packing.maximum_integer
    vector = EncryptedVector.encrypt_integers(
        small_key.public_key, packing, np.array([edge, -edge, edge, 0, -edge] * 3)
    )
    total = vector
    for _ in range(5):
        total = total.add(vector, small_key.public_key)
    assert (
        small_key.decrypt_integers(total).tolist()
        == [6 * edge, -6 * edge, 6 * edge, 0, -6 * edge] * 3
    )


def test_a_breast_cancer_update_is_one_ciphertext(large_key: PrivateKey) -> None:
    rng = np.random.default_rng(3)
    updates = [rng.normal(size=35) * 1000 for _ in range(3)]
    vectors = [EncryptedVector.encrypt(large_key.public_key, Packing(), u) for u in updates]
    assert vectors[0].ciphertexts == 1
    assert len(vectors[0].to_bytes()) == vectors[0].nbytes == HEADER + 512 <= 512 + 64
    total = vectors[0].add(vectors[1], large_key.public_key).add(vectors[2], large_key.public_key)
    np.testing.assert_allclose(
        large_key.decrypt_vector(total), sum(updates), rtol=0, atol=3 * 2.0**-25
    )


def test_add_returns_a_new_vector_and_add_in_place_changes_its_own(small_key: PrivateKey) -> None:
    public = small_key.public_key
    first, second = encrypt(small_key, [1.5] * 10), encrypt(small_key, [-3.0] * 10)
    before = first.to_bytes(), second.to_bytes()
    total = first.add(second, public)
    assert (first.to_bytes(), second.to_bytes()) == before
    first.add_in_place(second, public)
    assert first.to_bytes() == total.to_bytes() != before[0]
    assert second.to_bytes() == before[1]
    assert small_key.decrypt_vector(first).tolist() == [-1.5] * 10
    first.add_in_place(first, public)
    assert small_key.decrypt_vector(first).tolist() == [-3.0] * 10


def test_phe_opens_the_ciphertexts(small_key: PrivateKey, small_primes: tuple[int, int]) -> None:
    import phe  # noqa: PLC0415 - the reference, used here only

    theirs = phe.PaillierPrivateKey(phe.PaillierPublicKey(small_key.public_key.n), *small_primes)
    packing = Packing()
    values = np.array([1.0, -2.0, 3.5] * 5)
    vector = EncryptedVector.encrypt(small_key.public_key, packing, values)
    n = small_key.public_key.n
    opened = [theirs.raw_decrypt(ciphertext) for ciphertext in vector.to_integers()]
    signed = [m - n if m > n // 2 else m for m in opened]
    assert signed == packing.pack(packing.encode(values), 512)


def test_vectors_that_do_not_fit_each_other_are_refused(
    small_key: PrivateKey, other_small_key: PrivateKey
) -> None:
    public = small_key.public_key
    vector = encrypt(small_key, [1.0, 2.0])
    for other, key, message in (
        (encrypt(other_small_key, [1.0, 2.0]), public, "the key must be"),
        (vector, other_small_key.public_key, "the key must be"),
        (encrypt(small_key, [1.0, 2.0, 3.0]), public, "length must be 2, got 3"),
        (encrypt(small_key, [1.0, 2.0], Packing(max_contributors=511)), public, "packing must be"),
    ):
        before = vector.to_bytes()
        with pytest.raises(CryptoError, match=message):
            vector.add(other, key)
        with pytest.raises(CryptoError, match=message):
            vector.add_in_place(other, key)
        assert vector.to_bytes() == before


def test_a_value_out_of_range_is_named(small_key: PrivateKey) -> None:
    values = np.zeros(3000)
    values[2500] = 1e9
    with pytest.raises(RangeError) as caught:
        EncryptedVector.encrypt(small_key.public_key, Packing(), values)
    assert caught.value.index == 2500
    integers = np.zeros(3000, dtype=np.int64)
    integers[2999] = 2**62
    with pytest.raises(RangeError) as caught:
        EncryptedVector.encrypt_integers(small_key.public_key, Packing(), integers)
    assert caught.value.index == 2999


@pytest.mark.parametrize(
    "values",
    [
        [1.5, -2.0, 0.25, 3.0],
        [[1.5, -2.0], [0.25, 3.0]],
        np.array([[1.5, -2.0], [0.25, 3.0]], "float32"),
        np.array([[1.5, 0.25], [-2.0, 3.0]], "float16").T,
        np.array([[1.5, -2.0], [0.25, 3.0]], ">f8", order="F"),
    ],
    ids=["list", "lists", "float32", "float16, transposed", "big-endian, by columns"],
)
def test_lists_and_arrays_of_any_shape_are_encrypted_in_order(
    small_key: PrivateKey, values: Any
) -> None:
    vector = EncryptedVector.encrypt(small_key.public_key, Packing(), values)
    assert small_key.decrypt_vector(vector).tolist() == [1.5, -2.0, 0.25, 3.0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [(3, [3.0]), (np.asarray(-0.5), [-0.5]), ([True, False], [1.0, 0.0]), ([2, -1], [2.0, -1.0])],
    ids=["number", "no dimensions", "truth values", "integers"],
)
def test_single_numbers_integers_and_truth_values(
    small_key: PrivateKey, values: Any, expected: list[float]
) -> None:
    vector = EncryptedVector.encrypt(small_key.public_key, Packing(), values)
    assert small_key.decrypt_vector(vector).tolist() == expected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1j], "values must be real numbers, got complex128"),
        (["1.0"], "values must be real numbers, got <U3"),
        ([None], "values must be real numbers, got object"),
        ([[1.0], [1.0, 2.0]], "values must be an array, got lists of different lengths"),
        ([2**60 + 1], "values must be integers of at most 2\\*\\*53 in size, or floats"),
        ([2**53 + 1], "values must be integers of at most"),
        ([-(2**53) - 1], "values must be integers of at most"),
        (np.array([2**53 + 1], np.uint64), "values must be integers of at most"),
        ([], "at least one value, got 0"),
        (np.empty((0, 3)), "at least one value, got 0"),
    ],
    ids=str,
)
def test_what_is_no_array_of_real_numbers(small_key: PrivateKey, values: Any, words: str) -> None:
    packing = Packing(fraction_bits=0, integer_bits=62, max_contributors=2)
    with pytest.raises(CryptoError, match=words):
        EncryptedVector.encrypt(small_key.public_key, packing, values)


def test_an_empty_vector_is_refused(small_key: PrivateKey) -> None:
    with pytest.raises(CryptoError, match="at least one value"):
        encrypt(small_key, [])


def test_progress_of_a_long_vector(small_key: PrivateKey) -> None:
    slots = Packing().slots_per_ciphertext(512)
    length = 300 * slots + 1
    seen: list[tuple[int, int]] = []
    EncryptedVector.encrypt(
        small_key.public_key, Packing(), np.zeros(length), progress=lambda *s: seen.append(s)
    )
    assert seen[-1] == (length, length)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert len(seen) >= 2


def test_bytes_round_trip(small_key: PrivateKey) -> None:
    packing = Packing(10, 20, 30)
    vector = encrypt(small_key, [1.0, 2.0, 3.0] * 9, packing)
    again = EncryptedVector.from_bytes(vector.to_bytes(), small_key.public_key)
    assert (again.packing, len(again), again.key_bits) == (packing, 27, 512)
    assert again.fingerprint == small_key.public_key.fingerprint
    assert again.to_integers() == vector.to_integers()
    assert again.to_bytes() == vector.to_bytes()
    assert len(again.to_bytes()) == again.nbytes == HEADER + 128 * again.ciphertexts
    assert again.ciphertexts == math.ceil(27 / (511 // packing.slot_bits))


def replaced(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def test_a_header_that_is_not_right_is_refused(
    small_key: PrivateKey, other_small_key: PrivateKey
) -> None:
    public = small_key.public_key
    data = encrypt(small_key, [1.0] * 9).to_bytes()
    EncryptedVector.from_bytes(data, public)
    for wrong, message in (
        (b"", "at least 56 bytes, got 0"),
        (data[:55], "at least 56 bytes, got 55"),
        (replaced(data, 0, b"flhe"), "must start with b'FLHE'"),
        (replaced(data, 4, b"\x02"), "version must be 1, got 2"),
        (replaced(data, 5, b"\xff"), "fraction_bits must be between"),
        (replaced(data, 6, b"\x00"), "integer_bits must be between"),
        (replaced(data, 7, b"\x02"), "mark of a vector with tags must be 0 or 1, got 2"),
        (replaced(data, 8, b"\xff\xff\xff\xff"), "at most 64"),
        (replaced(data, 8, b"\0\0\0\0"), "max_contributors must be between"),
        (replaced(data, 12, b"\xff\xff\xff\xff"), "key_bits must be 512, got 4294967295"),
        (replaced(data, 16, b"\0" * 8), "at least one value"),
        (replaced(data, 16, b"\xff" * 8), "body must have"),
        (replaced(data, 16, (17).to_bytes(8, "big")), "body must have 384 bytes, got 256"),
        (replaced(data, 24, b"\0" * 32), f"the key must be {public.fingerprint}, got 0000"),
        (data + b"\0", "body must have 256 bytes, got 257"),
        (data[:-1], "body must have 256 bytes, got 255"),
        (data[:HEADER], "body must have 256 bytes, got 0"),
    ):
        with pytest.raises(CryptoError, match=message):
            EncryptedVector.from_bytes(wrong, public)
    with pytest.raises(CryptoError, match="the key must be"):
        EncryptedVector.from_bytes(data, other_small_key.public_key)
    with pytest.raises(CryptoError, match="must be bytes, got text"):
        EncryptedVector.from_bytes("FLHE", public)  # type: ignore[arg-type]


def test_a_ciphertext_that_is_none_is_refused(
    small_key: PrivateKey, small_primes: tuple[int, int]
) -> None:
    public = small_key.public_key
    data = encrypt(small_key, [1.0] * 17).to_bytes()
    second = HEADER + 128
    for number, message in (
        (0, r"ciphertext 1 must be in \[1, n\*\*2\)"),
        (public.n**2, r"ciphertext 1 must be in \[1, n\*\*2\)"),
        (2**1024 - 1, r"ciphertext 1 must be in \[1, n\*\*2\)"),
        (small_primes[1], "ciphertext 1 must be coprime to n"),
        (public.n, "ciphertext 1 must be coprime to n"),
    ):
        with pytest.raises(CryptoError, match=message):
            EncryptedVector.from_bytes(replaced(data, second, number.to_bytes(128, "big")), public)
    EncryptedVector.from_bytes(replaced(data, second, (1).to_bytes(128, "big")), public)


@settings(max_examples=150)
@given(st.data())
def test_mutated_bytes_are_read_or_refused(small_key: PrivateKey, data: st.DataObject) -> None:
    original = encrypt(small_key, [1.0] * 9).to_bytes()
    mutated = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, HEADER + 8) | st.integers(0, len(mutated) - 1))
        mutated[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        vector = EncryptedVector.from_bytes(bytes(mutated), small_key.public_key)
    except CryptoError:
        return
    assert vector.to_bytes() == mutated
    try:
        small_key.decrypt_vector(vector)
    except CryptoError:
        return


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(small_key: PrivateKey, data: bytes) -> None:
    with pytest.raises(CryptoError):
        EncryptedVector.from_bytes(data, small_key.public_key)


def test_a_body_of_another_size_is_refused(small_key: PrivateKey) -> None:
    with pytest.raises(CryptoError, match="body must have 128 bytes, got 3"):
        EncryptedVector(small_key.public_key, Packing(), 1, bytearray(3))


def test_repr_shows_no_ciphertext(small_key: PrivateKey) -> None:
    vector = encrypt(small_key, [1.0] * 9)
    fingerprint = small_key.public_key.fingerprint[:16]
    assert repr(vector) == f"EncryptedVector(9 values, 2 ciphertexts, key {fingerprint})"
