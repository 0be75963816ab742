from __future__ import annotations

import struct
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.errors import CryptoError
from fl_he.wire.totals import Opening, SignedTotal, Total, padding

TOTAL = Total(
    3, '{"a":"ü"}', np.array([1.5, -0.0, 2.0**-30]), bytes(range(32)), 9, b"\x02" * 32, "[7.5]"
)
OPENING = Opening("session", "train", 7, 4, b"\x01" * 32)
SIGNED = SignedTotal(OPENING, TOTAL, b"signature")
ROUND = (3).to_bytes(8, "big")


def test_a_total_comes_back() -> None:
    total = Total.from_bytes(TOTAL.to_bytes())
    for name in ("after", "layout", "previous", "counter", "head", "memory"):
        assert getattr(total, name) == getattr(TOTAL, name)
    np.testing.assert_array_equal(total.values, TOTAL.values)


def test_totals_have_the_same_bytes_from_any_machine() -> None:
    for dtype in (">f8", "<f8"):
        values = np.array([1.5, -0.0, 2.0**-30, 7.0], dtype=dtype)[::-1]
        total = Total(258, "{}", values, bytes(32), 259, b"\x02" * 32, "ü", 3)
        assert total.to_bytes() == encode_fields(
            b"fl-he total 4",
            bytes(6) + b"\1\2",
            b"{}",
            struct.pack("<4d", 7.0, 2.0**-30, -0.0, 1.5),
            bytes(32),
            bytes(6) + b"\1\3",
            b"\x02" * 32,
            "ü".encode(),
            bytes(3),
        )
        assert Total.from_bytes(total.to_bytes()).values.dtype == np.float64
        assert Total.from_bytes(total.to_bytes()).padding == 3


def test_reprs_show_no_numbers() -> None:
    for shown in (repr(TOTAL), repr(SIGNED)):
        assert "1.5" not in shown
        assert "7.5" not in shown
        assert "signature" not in shown


@pytest.mark.parametrize(
    "fields",
    [
        (b"fl-he total 3", ROUND, b"{}", bytes(8), bytes(32), ROUND, bytes(32), b"", b""),
        (b"fl-he total 4", ROUND, b"{}", bytes(8), bytes(32), ROUND, bytes(32), b""),
        (b"fl-he total 4", ROUND, b"{}", bytes(8), bytes(32), ROUND, bytes(31), b"", b""),
        (b"fl-he total 4", ROUND, b"{}", bytes(8), bytes(32), ROUND + b"0", bytes(32), b"", b""),
        (b"fl-he total 4", ROUND + b"0", b"{}", bytes(8), bytes(32), ROUND, bytes(32), b"", b""),
        (b"fl-he total 4", ROUND, b"{}", bytes(9), bytes(32), ROUND, bytes(32), b"", b""),
        (b"fl-he total 4", ROUND, b"{}", bytes(8), bytes(31), ROUND, bytes(32), b"", b""),
        (b"fl-he total 4", ROUND, b"\xff", bytes(8), bytes(32), ROUND, bytes(32), b"", b""),
        (b"fl-he total 4", ROUND, b"{}", bytes(8), bytes(32), ROUND, bytes(32), b"\xff", b""),
        (
            b"fl-he total 4",
            ROUND,
            b"{}",
            np.array([np.nan], "<f8").tobytes(),
            bytes(32),
            ROUND,
            bytes(32),
            b"",
            b"",
        ),
        (
            b"fl-he total 4",
            ROUND,
            b"{}",
            np.array([np.inf], "<f8").tobytes(),
            bytes(32),
            ROUND,
            bytes(32),
            b"",
            b"",
        ),
        (b"fl-he total 4", ROUND, b"{}", bytes(8), bytes(32), ROUND, bytes(32), b"", b"\0\1\0"),
    ],
)
def test_what_is_no_total(fields: tuple[bytes, ...]) -> None:
    words = "a total|the texts of a payload|the padding of a total"
    with pytest.raises(CryptoError, match=rf"^({words}) must"):
        Total.from_bytes(encode_fields(*fields))


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(CryptoError, match=r"^a total must"):
        Total.from_bytes(data)
    with pytest.raises(CryptoError, match=r"^a signed total must"):
        SignedTotal.from_bytes(data)


def test_padding_makes_all_memories_as_long_as_the_longest() -> None:
    made = [
        replace(TOTAL, memory=memory, padding=padding(memory, 9)).to_bytes()
        for memory in ("", "short", "üüüü", "123456789")
    ]
    assert len({len(one) for one in made}) == 1
    with pytest.raises(CryptoError, match=r"sealed total must have at most 9 bytes$"):
        padding("ü" * 5, 9)


def test_a_signed_total_comes_back() -> None:
    again = SignedTotal.from_bytes(SIGNED.to_bytes())
    assert again.opening == OPENING
    assert again.signature == b"signature"
    assert again.total.to_bytes() == TOTAL.to_bytes()
    assert again.digest == SIGNED.digest == sha256(SIGNED.statement).digest()


@pytest.mark.parametrize(
    "changes",
    [
        {"session": "other"},
        {"purpose": "firth"},
        {"round": 8},
        {"number": 5},
        {"terms": bytes(32)},
    ],
)
def test_all_that_a_total_is_of_is_signed(changes: dict[str, Any]) -> None:
    other = replace(SIGNED, opening=replace(OPENING, **changes))
    assert other.statement != SIGNED.statement
    assert replace(SIGNED, total=replace(TOTAL, memory="")).statement != SIGNED.statement
    assert replace(SIGNED, total=replace(TOTAL, counter=8)).statement != SIGNED.statement
    assert replace(SIGNED, total=replace(TOTAL, head=bytes(32))).statement != SIGNED.statement
    assert replace(SIGNED, signature=b"").statement == SIGNED.statement


STATEMENT = (
    b"fl-he signed total 1",
    b"session",
    b"train",
    ROUND,
    ROUND,
    bytes(32),
    TOTAL.to_bytes(),
)


@pytest.mark.parametrize(
    "changes",
    [
        {0: b"fl-he signed total 2"},
        {1: b"\xff"},
        {2: b"anything"},
        {3: ROUND[1:]},
        {4: ROUND + b"0"},
        {5: bytes(31)},
        {6: b""},
    ],
)
def test_what_is_no_signed_total(changes: dict[int, bytes]) -> None:
    assert SignedTotal.from_bytes(encode_fields(encode_fields(*STATEMENT), b"")).signature == b""
    fields = [changes.get(place, field) for place, field in enumerate(STATEMENT)]
    with pytest.raises(CryptoError, match=r"(signed total|payload|purpose|total) must"):
        SignedTotal.from_bytes(encode_fields(encode_fields(*fields), b""))
    with pytest.raises(CryptoError, match="a statement and its signature"):
        SignedTotal.from_bytes(encode_fields(encode_fields(*STATEMENT)))
