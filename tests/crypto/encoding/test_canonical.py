from __future__ import annotations

import hashlib
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_he.crypto.encoding.canonical import (
    decode_fields,
    encode_fields,
    integers_digest,
    length_of_field,
)
from fl_he.crypto.errors import CryptoError

FIELDS = st.lists(st.binary(max_size=5), max_size=4)


def test_the_encoding_stays_what_it_is() -> None:
    assert encode_fields(b"ab", b"") == b"\0\0\0\x02ab\0\0\0\0"
    assert encode_fields() == b""
    assert encode_fields(bytes(300))[:4] == b"\0\0\x01\x2c"


def test_the_digest_of_integers_stays_what_it_is() -> None:
    by_hand = b"label\0" + b"\0\0\0\x02\x01\0" + b"\0\0\0\0" + b"\0\0\0\x01\xff"
    assert integers_digest(b"label\0", 256, 0, 255) == hashlib.sha256(by_hand).hexdigest()


@settings(deadline=None)
@given(FIELDS, FIELDS)
def test_different_fields_have_different_bytes(first: list[bytes], second: list[bytes]) -> None:
    assert (encode_fields(*first) == encode_fields(*second)) == (first == second)
    assert decode_fields(encode_fields(*first), "it", 4) == first
    assert decode_fields(memoryview(encode_fields(*first)), "it", 4) == first


@settings(deadline=None)
@given(st.binary(max_size=20) | st.binary(max_size=9).map(lambda end: b"\0\0\0\x01" + end))
def test_hostile_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        fields = decode_fields(data, "it", 3)
    except CryptoError:
        return
    assert encode_fields(*fields) == data
    assert len(fields) <= 3


@pytest.mark.parametrize("data", [b"\0", b"\0\0\0\x01", b"\0\0\0\x02a", b"\xff\xff\xff\xffa"])
def test_what_ends_too_early_is_refused(data: bytes) -> None:
    with pytest.raises(CryptoError, match="it must be a sequence of whole fields"):
        decode_fields(encode_fields(b"x") + data, "it", 2)


@pytest.mark.parametrize("most", [0, 1, 3])
def test_more_fields_than_agreed_are_refused_before_they_are_read(most: int) -> None:
    assert len(decode_fields(bytes(4 * most), "it", most)) == most
    data = bytes(2**22)
    tracemalloc.start()
    try:
        with pytest.raises(CryptoError, match=f"it has more than {most} fields"):
            decode_fields(memoryview(data), "it", most)
        assert tracemalloc.get_traced_memory()[1] < 2**16
    finally:
        tracemalloc.stop()


def test_a_field_of_4_gib_is_refused() -> None:
    assert length_of_field(2**32 - 1) == b"\xff" * 4
    with pytest.raises(CryptoError, match="at most 4294967295 bytes, got 4294967296"):
        length_of_field(2**32)


def test_fields_of_a_view_are_views() -> None:
    (field,) = decode_fields(memoryview(encode_fields(b"abc")), "it", 1)
    assert isinstance(field, memoryview)
