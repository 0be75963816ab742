from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_he.clients.sealed.payload import (
    RunningSum,
    Total,
    running_sum_binding,
    session_binding,
    total_binding,
)
from fl_he.crypto.encoding.canonical import encode_fields
from fl_he.crypto.envelopes.sealing import Binding
from fl_he.crypto.errors import CryptoError

SUM = RunningSum(3, bytes(range(32)), '{"a":"ü"}', b"vector")
TOTAL = Total(3, '{"a":"ü"}', np.array([1.5, -0.0, 2.0**-30]), bytes(range(32)), "[7.5]")
ROUND = (3).to_bytes(8, "big")


def test_round_trips() -> None:
    assert RunningSum.from_bytes(SUM.to_bytes()) == SUM
    total = Total.from_bytes(TOTAL.to_bytes())
    for name in ("after", "layout", "previous", "memory"):
        assert getattr(total, name) == getattr(TOTAL, name)
    np.testing.assert_array_equal(total.values, TOTAL.values)


def test_totals_have_the_same_bytes_from_any_machine() -> None:
    for dtype in (">f8", "<f8"):
        values = np.array([1.5, -0.0, 2.0**-30, 7.0], dtype=dtype)[::-1]
        total = Total(258, "{}", values, bytes(32), "ü")
        assert total.to_bytes() == encode_fields(
            b"fl-he total 2",
            bytes(6) + b"\1\2",
            b"{}",
            struct.pack("<4d", 7.0, 2.0**-30, -0.0, 1.5),
            bytes(32),
            "ü".encode(),
        )
        assert Total.from_bytes(total.to_bytes()).values.dtype == np.float64


def test_reprs_show_neither_sums_nor_totals() -> None:
    assert "vector" not in repr(SUM)
    assert "1.5" not in repr(TOTAL)
    assert "7.5" not in repr(TOTAL)


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
    with pytest.raises(CryptoError, match=r"^(a running sum|the texts of an envelope) must"):
        RunningSum.from_bytes(encode_fields(*fields))


@pytest.mark.parametrize(
    "fields",
    [
        (b"fl-he total 1", ROUND, b"{}", bytes(8), bytes(32), b""),
        (b"fl-he total 2", ROUND, b"{}", bytes(8), bytes(32)),
        (b"fl-he total 2", ROUND + b"0", b"{}", bytes(8), bytes(32), b""),
        (b"fl-he total 2", ROUND, b"{}", bytes(9), bytes(32), b""),
        (b"fl-he total 2", ROUND, b"{}", bytes(8), bytes(31), b""),
        (b"fl-he total 2", ROUND, b"\xff", bytes(8), bytes(32), b""),
        (b"fl-he total 2", ROUND, b"{}", bytes(8), bytes(32), b"\xff"),
        (b"fl-he total 2", ROUND, b"{}", np.array([np.nan], "<f8").tobytes(), bytes(32), b""),
        (b"fl-he total 2", ROUND, b"{}", np.array([np.inf], "<f8").tobytes(), bytes(32), b""),
    ],
)
def test_what_is_no_total(fields: tuple[bytes, ...]) -> None:
    with pytest.raises(CryptoError, match=r"^(a total|the texts of an envelope) must"):
        Total.from_bytes(encode_fields(*fields))


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for kind, what in ((RunningSum, "a running sum"), (Total, "a total")):
        with pytest.raises(CryptoError, match=f"^{what} must"):
            kind.from_bytes(data)


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
