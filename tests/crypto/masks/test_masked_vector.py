"""Masked vectors against plain Python integers, and bytes that are none."""

from __future__ import annotations

import hashlib
import hmac
import pickle
import struct
import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.encoding.streams import key_stream
from fl_he.crypto.errors import CryptoError, RangeError
from fl_he.crypto.masks.masked_vector import (
    BLOCK,
    HEADER_BYTES,
    MaskedVector,
    MaskHeader,
    mask_stream,
)
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.packing import TAG_MODULUS, Packing
from fl_he.crypto.paillier.private_key import PrivateKey

KEY = PrivateKey.generate(1024)
PUBLIC = KEY.public_key
OCCASION = bytes(range(32))
#: One for each width, and those that fill their words.
PACKINGS = {
    Packing(0, 1, 1): 4,
    Packing(10, 10, 8): 4,
    Packing(14, 14, 8): 4,
    Packing(16, 16, 9): 5,
    Packing(20, 20, 30): 6,
    Packing(24, 24, 3): 7,
    Packing(24, 24, 128): 7,
    Packing(24, 24, 512): 8,
    Packing(31, 31, 2): 8,
    Packing(0, 63, 1): 8,
}
SEEDS = [bytes([number]) * 32 for number in range(200)]


def header_of(packing: Packing, length: int) -> MaskHeader:
    return MaskHeader(PUBLIC.fingerprint, OCCASION, packing, length)


def masked(integers: np.ndarray, packing: Packing, seed: bytes = SEEDS[0]) -> MaskedVector:
    stream = mask_stream(seed, b"north")
    return MaskedVector.mask(header_of(packing, len(integers)), integers, stream)


def words_of(vector: MaskedVector) -> list[int]:
    body, width = vector.to_bytes()[HEADER_BYTES:], vector.header.width
    return [int.from_bytes(body[at : at + width], "little") for at in range(0, len(body), width)]


def independent(seed: bytes, info: bytes, count: int) -> list[int]:
    """HKDF by hand (RFC 5869), and AES block by block: two numbers in each."""
    extracted = hmac.new(bytes(32), seed, hashlib.sha256).digest()
    use = b"\0\0\0\x0cfl-he mask 1" + struct.pack(">I", len(info)) + info
    key = hmac.new(extracted, use + b"\x01", hashlib.sha256).digest()
    ecb = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - the counter's blocks
    blocks = (ecb.update(number.to_bytes(16, "big")) for number in range(-(-count // 2)))
    return [number for block in blocks for number in struct.unpack("<2Q", block)][:count]


@pytest.mark.parametrize(("packing", "width"), PACKINGS.items())
def test_words_are_the_formula(packing: Packing, width: int) -> None:
    integers = np.array([0, 1, -1, packing.maximum_integer, -packing.maximum_integer])
    vector = masked(integers, packing)
    stream = independent(SEEDS[0], b"north", 5)
    expected = [
        (own + number) % 2 ** (8 * width)
        for own, number in zip(integers.tolist(), stream, strict=True)
    ]
    assert words_of(vector) == expected
    assert vector.header.width == width
    assert vector.nbytes == len(vector.to_bytes()) == 98 + 5 * width
    assert (len(vector), vector.ciphertexts) == (5, 1)


LENGTHS = st.one_of(
    st.integers(1, 9),
    st.sampled_from([BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 1]),
)


@given(
    packing=st.sampled_from([*PACKINGS]),
    length=LENGTHS,
    contributors=st.integers(1, 200),
    edges=st.lists(st.sampled_from([-2, -1, 0, 1, 2]), min_size=1, max_size=40),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_total_is_the_sum_of_integers_bit_for_bit(
    packing: Packing, length: int, contributors: int, edges: list[int], seed: int
) -> None:
    """Edges: 2 is the largest integer and -2 the smallest one; all hospitals may have them."""
    contributors = min(contributors, packing.max_contributors, 200 if length < 10 else 3)
    largest, rng = packing.maximum_integer, np.random.default_rng(seed)
    updates = rng.integers(-largest, largest, (contributors, length), endpoint=True)
    at_edge = np.resize([largest * edge // 2 if abs(edge) == 2 else edge for edge in edges], length)
    updates[:, ::2] = at_edge[::2]
    vectors = [masked(own, packing, SEEDS[at]) for at, own in enumerate(updates)]
    total = MaskedVector.from_bytes(vectors[0].to_bytes(), PUBLIC)
    for other in vectors[1:]:
        total.add_in_place(MaskedVector.from_bytes(other.to_bytes(), PUBLIC), PUBLIC)
    found = total.unmask([mask_stream(SEEDS[at], b"north") for at in range(contributors)])
    expected = [sum(column) for column in zip(*updates.tolist(), strict=True)]
    assert found.tolist() == expected


@given(
    width=st.sampled_from([4, 5, 6, 7, 8]),
    words=st.lists(st.tuples(*[st.integers(0, 2**64 - 1)] * 2), min_size=1, max_size=9),
)
def test_words_add_up_modulo_their_width(width: int, words: list[tuple[int, int]]) -> None:
    """Any words: a coordinator may add words that no hospital has sent."""
    packing, modulus = {own: one for one, own in PACKINGS.items()}[width], 2 ** (8 * width)
    header = header_of(packing, len(words))

    def vector(which: int) -> MaskedVector:
        body = b"".join((pair[which] % modulus).to_bytes(width, "little") for pair in words)
        return MaskedVector(header, bytearray(body))

    total = vector(0)
    total.add_in_place(vector(1), PUBLIC)
    assert words_of(total) == [sum(pair) % modulus for pair in words]
    signed = [(sum(pair) + modulus // 2) % modulus - modulus // 2 for pair in words]
    assert total.unmask([]).tolist() == signed


def test_a_vector_that_is_read_is_copied_before_it_is_changed() -> None:
    packing = Packing(max_contributors=3)
    data = masked(np.arange(BLOCK + 5), packing).to_bytes()
    before = bytes(bytearray(data))
    first, second = (MaskedVector.from_bytes(data, PUBLIC) for _ in range(2))
    first.add_in_place(second, PUBLIC)
    assert data == before == second.to_bytes()
    first.add_in_place(first, PUBLIC)
    assert words_of(first)[3] == 4 * words_of(second)[3] % 2**56


def test_tags_add_up_modulo_the_prime() -> None:
    header = replace(header_of(Packing(), 1), tag=TAG_MODULUS - 1)
    vector = MaskedVector(header, bytearray(8))
    other = MaskedVector(replace(header, tag=5), bytearray(8))
    vector.add_in_place(other, PUBLIC)
    assert vector.header == replace(header, tag=4)
    assert MaskedVector.from_bytes(vector.to_bytes(), PUBLIC).header == vector.header


def test_integers_out_of_range_are_refused_with_their_place() -> None:
    packing = Packing(8, 8, 2)
    for value in (2**16, -(2**16), 2**63 - 1, -(2**63)):
        integers = np.zeros(BLOCK + 3, dtype=np.int64)
        integers[BLOCK + 1] = value
        with pytest.raises(
            RangeError, match=rf"^value {BLOCK + 1} \(withheld\) must be below 2\*\*8"
        ) as caught:
            masked(integers, packing)
        assert caught.value.index == BLOCK + 1
    with pytest.raises(CryptoError, match=r"body must have 12 bytes, got 8"):
        MaskedVector.mask(
            header_of(packing, 3), np.zeros(2, dtype=np.int64), mask_stream(b"a", b"")
        )


class TestAdditionsThatAreRefused:
    PACKING = Packing(max_contributors=3)

    def vector(self, **changes: Any) -> MaskedVector:
        header = replace(header_of(self.PACKING, 3), **changes)
        return MaskedVector(header, bytearray(header.length * header.width))

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"fingerprint": "0" * 64}, "the key must be 0000"),
            ({"packing": Packing(max_contributors=4)}, "packing must be"),
            ({"length": 2}, "length must be 3, got 2"),
            ({"tag": 0}, "both vectors must have tags, or neither"),
            ({"occasion": bytes(32)}, "both vectors must be for one occasion"),
        ],
    )
    def test_another_header(self, changes: dict[str, Any], words: str) -> None:
        vector = self.vector()
        before = vector.to_bytes()
        with pytest.raises(CryptoError, match=words):
            vector.add_in_place(self.vector(**changes), PUBLIC)
        assert vector.to_bytes() == before

    def test_another_key_at_hand(self, other_small_key: PrivateKey) -> None:
        with pytest.raises(CryptoError, match="the key must be"):
            self.vector().add_in_place(self.vector(), other_small_key.public_key)

    def test_another_scheme(self) -> None:
        other = EncryptedVector.encrypt_integers(PUBLIC, self.PACKING, np.arange(3))
        with pytest.raises(CryptoError, match="scheme must be masks, got paillier"):
            self.vector().add_in_place(other, PUBLIC)  # type: ignore[arg-type]
        with pytest.raises(CryptoError, match="scheme must be paillier, got masks"):
            other.add_in_place(self.vector(), PUBLIC)  # type: ignore[arg-type]


HEADER = replace(header_of(Packing(20, 25, 77), 4), tag=TAG_MODULUS - 1)
GOOD = HEADER.to_bytes() + bytes(4 * 7)


def test_a_header_is_98_bytes_and_comes_back() -> None:
    assert len(HEADER.to_bytes()) == HEADER_BYTES == 98
    for header in (HEADER, replace(HEADER, tag=None), replace(HEADER, tag=0)):
        assert MaskHeader.from_bytes(header.to_bytes() + b"body") == header


@pytest.mark.parametrize(
    ("at", "data", "words"),
    [
        (0, b"FLHE", "must start with b'FLHM', got b'FLHE'"),
        (4, b"\x02", "the version must be 1, got 2"),
        (5, b"\x40", "fraction_bits"),
        (6, b"\x00", "integer_bits"),
        (6, b"\x32", "at most 64"),
        (7, b"\x06", "the width of a word must be 7, got 6"),
        (7, b"\x08", "the width of a word must be 7, got 8"),
        (8, bytes(4), "max_contributors"),
        (12, bytes(8), "at least one value, got 0"),
        (12, b"\xff" * 8, "body must have 129127208515966861305 bytes, got 28"),
        (12, bytes(7) + b"\x05", "body must have 35 bytes, got 28"),
        (20, bytes(32), "the key must be 0000"),
        (84, b"\x00", "below the modulus of tags, or absent"),
        (84, b"\x02", "below the modulus of tags, or absent"),
        (85, TAG_MODULUS.to_bytes(13, "big"), "below the modulus of tags, or absent"),
        (85, b"\xff" * 13, "below the modulus of tags, or absent"),
    ],
)
def test_a_changed_header_is_refused(at: int, data: bytes, words: str) -> None:
    hostile = GOOD[:at] + data + GOOD[at + len(data) :]
    assert len(MaskedVector.from_bytes(GOOD, PUBLIC)) == 4
    with pytest.raises(CryptoError, match=words):
        MaskedVector.from_bytes(hostile, PUBLIC)


@pytest.mark.parametrize("size", [0, 1, 97, 98, len(GOOD) - 1, len(GOOD) + 1])
def test_another_size_is_refused(size: int) -> None:
    with pytest.raises(CryptoError, match=r"must have (at least )?\d+ bytes, got"):
        MaskedVector.from_bytes((GOOD + b"\0")[:size], PUBLIC)


@pytest.mark.parametrize("data", ["text", None, [1], 5])
def test_no_bytes(data: Any) -> None:
    with pytest.raises(CryptoError, match="must be bytes, got"):
        MaskedVector.from_bytes(data, PUBLIC)


@given(data=st.data())
def test_hostile_bytes(data: st.DataObject) -> None:
    """All that is read says the same when it is written again, and can be added and unmasked."""
    hostile = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        hostile[data.draw(st.integers(0, len(hostile) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = MaskedVector.from_bytes(bytes(hostile), PUBLIC)
    except CryptoError:
        return
    assert read.to_bytes() == hostile
    read.add_in_place(read, PUBLIC)
    assert len(read.unmask([mask_stream(SEEDS[0], b"")])) == 4


@pytest.mark.parametrize("claimed", [2**24, 2**40, 2**63])
def test_nothing_is_allocated_by_the_length_that_a_header_claims(claimed: int) -> None:
    data = replace(HEADER, length=claimed).to_bytes() + bytes(28)
    tracemalloc.start()
    try:
        with pytest.raises(CryptoError, match="body must have"):
            MaskedVector.from_bytes(data, PUBLIC)
        assert tracemalloc.get_traced_memory()[1] < 2**16
    finally:
        tracemalloc.stop()


def peak_of(call: Any, *arguments: Any) -> tuple[Any, int]:
    tracemalloc.start()
    try:
        result = call(*arguments)
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packing", [Packing(max_contributors=3), Packing()])
def test_memory_in_addition_to_the_arrays_is_bounded(packing: Packing) -> None:
    """Less than 1 MiB, for a length as for four times that length."""
    for length in (2**20, 2**22):
        integers = np.full(length, -7)
        vector, peak = peak_of(masked, integers, packing)
        assert peak - vector.nbytes < 2**20
        data, peak = peak_of(vector.to_bytes)
        assert peak - len(data) < 2**16
        read, peak = peak_of(MaskedVector.from_bytes, data, PUBLIC)
        assert peak < 2**16
        _, peak = peak_of(vector.add_in_place, read, PUBLIC)
        assert peak < 2**20
        streams = [mask_stream(seed, b"north") for seed in SEEDS]
        totals, peak = peak_of(vector.unmask, streams[: 2**23 // length])
        assert peak - totals.nbytes < 2**20


def test_no_secret_shows() -> None:
    stream = mask_stream(SEEDS[7], b"north")
    assert SEEDS[7].hex() not in repr(stream)
    assert repr(SEEDS[7])[2:10] not in repr(stream)
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(stream)
    vector = masked(np.array([123456789]), Packing(), SEEDS[7])
    assert repr(vector) == f"MaskedVector(1 values, 8 bytes each, key {PUBLIC.fingerprint[:16]})"


def test_the_stream_is_apart_from_that_of_tags() -> None:
    """Both come from the ticket's seed: tags with the occasion itself as info."""
    info = encode_fields(b"fl-he ticket 1", b"north")
    assert mask_stream(SEEDS[0], info).read(24) != key_stream(SEEDS[0], info, 24)


def test_a_stream_is_read_in_pieces() -> None:
    whole = mask_stream(SEEDS[0], b"").read(64)
    stream = mask_stream(SEEDS[0], b"")
    assert b"".join(stream.read(size) for size in (1, 15, 0, 40, 8)) == whole
