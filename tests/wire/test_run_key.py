from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.errors import CryptoError
from fl_he.wire.run_key import RunKey

KEY = RunKey("session", "ab" * 32, 1_800_000_000, 7, bytes(range(32)), b"signature")
NUMBER = (7).to_bytes(8, "big")


def test_a_key_comes_back() -> None:
    assert RunKey.from_bytes(KEY.to_bytes()) == KEY
    assert "signature" not in repr(KEY)


def test_the_statement_is_as_documented() -> None:
    parts = [b"fl-he run key 1", b"session", b"\xab" * 32]
    parts += [struct.pack(">Q", 1_800_000_000), struct.pack(">Q", 7), bytes(range(32))]
    assert KEY.statement == b"".join(struct.pack(">I", len(part)) + part for part in parts)


@pytest.mark.parametrize(
    "changes",
    [
        {"session": "s"},
        {"fingerprint": "ac" * 32},
        {"expires": 1},
        {"counter": 8},
        {"head": bytes(32)},
    ],
)
def test_all_of_it_is_signed(changes: dict[str, Any]) -> None:
    assert replace(KEY, **changes).statement != KEY.statement
    assert replace(KEY, signature=b"").statement == KEY.statement


@pytest.mark.parametrize(
    "fields",
    [
        (b"fl-he run key 2", b"s", bytes(32), NUMBER, NUMBER, bytes(32)),
        (b"fl-he run key 1", b"s", bytes(32), NUMBER, bytes(32)),
        (b"fl-he run key 1", b"s", bytes(31), NUMBER, NUMBER, bytes(32)),
        (b"fl-he run key 1", b"s", bytes(32), NUMBER[1:], NUMBER, bytes(32)),
        (b"fl-he run key 1", b"s", bytes(32), NUMBER, NUMBER + b"0", bytes(32)),
        (b"fl-he run key 1", b"s", bytes(32), NUMBER, NUMBER),
        (b"fl-he run key 1", b"s", bytes(32), NUMBER, NUMBER, bytes(31)),
        (b"fl-he run key 1", b"\xff", bytes(32), NUMBER, NUMBER, bytes(32)),
    ],
)
def test_other_statements_are_refused(fields: tuple[bytes, ...]) -> None:
    with pytest.raises(CryptoError, match=" must "):
        RunKey.from_bytes(encode_fields(encode_fields(*fields), b"signature"))
    with pytest.raises(CryptoError, match="must be a statement and its signature"):
        RunKey.from_bytes(encode_fields(KEY.statement))


@given(st.binary(max_size=80))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CryptoError, match=" must "):
        RunKey.from_bytes(data)
