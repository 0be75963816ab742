from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_he.crypto.envelopes.sealing import Binding
from fl_he.crypto.errors import CryptoError

BINDING = Binding("run-7", "running-sum", 3, 2, ("north", "south"))
NUMBERS = st.integers(0, 3) | st.integers(0, 2**64 - 1)
BINDINGS = st.builds(
    Binding,
    run=st.text("ab", min_size=1, max_size=2),
    purpose=st.text("ab", min_size=1, max_size=2),
    round=NUMBERS,
    position=NUMBERS,
    contributors=st.lists(st.text("ab", min_size=1, max_size=2), max_size=3, unique=True).map(
        tuple
    ),
)


def test_the_encoding_stays_what_it_is() -> None:
    assert BINDING.to_bytes() == (
        b"\0\0\0\x05run-7\0\0\0\x0brunning-sum"
        b"\0\0\0\x08\0\0\0\0\0\0\0\x03\0\0\0\x08\0\0\0\0\0\0\0\x02"
        b"\0\0\0\x05north\0\0\0\x05south"
    )


@settings(deadline=None)
@given(BINDINGS, BINDINGS)
def test_different_bindings_have_different_bytes(first: Binding, second: Binding) -> None:
    assert (first.to_bytes() == second.to_bytes()) == (first == second)
    assert Binding.from_bytes(first.to_bytes()) == first


@settings(deadline=None)
@given(st.binary(max_size=60) | st.binary(max_size=9).map(lambda end: BINDING.to_bytes() + end))
def test_hostile_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        binding = Binding.from_bytes(data)
    except CryptoError:
        return
    assert binding.to_bytes() == data


def test_every_changed_byte_is_another_binding_or_none() -> None:
    data = BINDING.to_bytes()
    for at in range(len(data)):
        for bit in range(8):
            mutated = bytearray(data)
            mutated[at] ^= 1 << bit
            try:
                assert Binding.from_bytes(bytes(mutated)) != BINDING
            except CryptoError:
                continue


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("run", "", "run must be 1 to 128 visible ASCII characters, got ''"),
        ("run", "a b", "run must be"),
        ("run", "r" * 129, "run must be"),
        ("run", "l\u00e4uft", "run must be"),
        ("purpose", "", "purpose must be lower-case letters"),
        ("purpose", "Sum", "purpose must be"),
        ("purpose", "p" * 65, "purpose must be"),
        ("round", -1, f"round must be between 0 and {2**64 - 1}, got -1"),
        ("round", 2**64, "round must be"),
        ("position", -1, f"position must be between 0 and {2**64 - 1}, got -1"),
        ("contributors", ("a b",), "a node's name must be"),
        ("contributors", ("a", "b", "a"), r"must be different, got \['a', 'b', 'a'\]"),
        ("contributors", ("a",) * 4097, "at most 4096 names, got 4097"),
    ],
)
def test_a_wrong_field_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(CryptoError, match=message):
        dataclasses.replace(BINDING, **{field: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("run", "run-8", "the envelope's run must be 'run-7', got 'run-8'"),
        ("purpose", "total", "the envelope's purpose must be 'running-sum', got 'total'"),
        ("round", 2, "the envelope's round must be 3, got 2"),
        ("position", 1, "the envelope's position must be 2, got 1"),
        (
            "contributors",
            ("south", "north"),
            "the envelope's contributors must be ('north', 'south'), got ('south', 'north')",
        ),
    ],
)
def test_a_difference_is_named(field: str, value: Any, message: str) -> None:
    BINDING.require(Binding.from_bytes(BINDING.to_bytes()))
    with pytest.raises(CryptoError) as caught:
        BINDING.require(dataclasses.replace(BINDING, **{field: value}))
    assert str(caught.value) == message
