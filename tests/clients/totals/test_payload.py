from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_he.clients.totals.payload import (
    RunningSum,
    running_sum_binding,
    session_binding,
    total_binding,
)
from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.envelopes.sealing import Binding
from fl_he.crypto.errors import CryptoError

SUM = RunningSum(3, bytes(range(32)), '{"a":"ü"}', b"vector")
ROUND = (3).to_bytes(8, "big")


def test_a_round_trip() -> None:
    assert RunningSum.from_bytes(SUM.to_bytes()) == SUM


def test_a_repr_shows_no_sum() -> None:
    assert "vector" not in repr(SUM)


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (b"fl-he running sum 1", ROUND, bytes(32), b"{}"),
        (b"fl-he running sum 2", ROUND, bytes(32), b"{}", b""),
        (b"fl-he running sum 1", ROUND[:-1], bytes(32), b"{}", b""),
        (b"fl-he running sum 1", ROUND, bytes(31), b"{}", b""),
        (b"fl-he running sum 1", ROUND, bytes(32), b"\xff", b""),
        (b"fl-he running sum 1", ROUND, bytes(32), b"{}", b"", b""),
    ],
)
def test_what_is_no_running_sum(fields: tuple[bytes, ...]) -> None:
    with pytest.raises(
        CryptoError, match=r"^(a running sum|the texts of a payload) (must|has more than)"
    ):
        RunningSum.from_bytes(encode_fields(*fields))


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(CryptoError, match=r"^a running sum must"):
        RunningSum.from_bytes(data)


def test_no_binding_serves_for_two_purposes() -> None:
    names = ["north", "south"]
    bindings = [
        session_binding("s"),
        running_sum_binding("s", 1, names),
        running_sum_binding("s", 2, names),
        running_sum_binding("s", 1, names[:1]),
        total_binding("s", 1, names),
        total_binding("s", 1, names[::-1]),
    ]
    assert len({binding.to_bytes() for binding in bindings}) == len(bindings)
    assert bindings[0] == Binding("s", "session", 0, 0, ())
    assert bindings[1] == Binding("s", "running-sum", 1, 2, ("north", "south"))
    assert bindings[-1] == Binding("s", "total", 1, 2, ("south", "north"))
