from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.encrypted_vector import HEADER_BYTES, VectorHeader
from fl_he.crypto.paillier.packing import Packing

HEADER = VectorHeader("ab" * 32, 2048, Packing(), 36)


def test_the_layout_stays_what_it_is() -> None:
    assert HEADER.to_bytes() == (
        b"FLHE\x01\x18\x18\x00"
        + b"\x00\x00\x02\x00"
        + b"\x00\x00\x08\x00"
        + b"\x00\x00\x00\x00\x00\x00\x00\x24"
        + b"\xab" * 32
    )
    assert HEADER_BYTES == len(HEADER.to_bytes()) == 56


def test_sizes() -> None:
    assert HEADER.ciphertext_bytes == 512
    assert HEADER.body_bytes == 2 * 512
    assert VectorHeader("ab" * 32, 2050, Packing(), 1).ciphertext_bytes == 513


@given(
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**32 - 1),
    st.integers(1, 2**64 - 1),
    st.integers(1, 2**15),
)
def test_round_trip(digest: bytes, key_bits: int, length: int, contributors: int) -> None:
    header = VectorHeader(digest.hex(), key_bits, Packing(20, 25, contributors), length)
    assert VectorHeader.from_bytes(header.to_bytes() + b"body") == header


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda tail: b"FLHE\x01" + tail))
def test_hostile_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        header = VectorHeader.from_bytes(data)
    except CryptoError:
        return
    assert header.to_bytes() == data[:HEADER_BYTES]


def test_no_value_is_refused() -> None:
    with pytest.raises(CryptoError, match="at least one value, got 0"):
        VectorHeader("ab" * 32, 2048, Packing(), 0)
