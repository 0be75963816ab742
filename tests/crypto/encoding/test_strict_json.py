from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phe.util import base64_to_int, int_to_base64

from fl_he.crypto.encoding.strict_json import (
    integer_from_base64url,
    integer_to_base64url,
    parse_object,
    require_equal,
)
from fl_he.crypto.errors import CryptoError


@given(st.integers(1, 2**300))
def test_integers_are_written_as_phe_does(number: int) -> None:
    text = integer_to_base64url(number)
    assert text == int_to_base64(number)
    assert base64_to_int(text) == number
    assert integer_from_base64url(text, "n", 301) == number


@pytest.mark.parametrize(
    "text", ["", "A", "AAE", "AB==", "A+8", "A/8", "é", " AQ", "AQ\n", 5, None]
)
def test_other_encodings_are_refused(text: object) -> None:
    with pytest.raises(CryptoError, match="n must be"):
        integer_from_base64url(text, "n", 100)


def test_the_length_is_limited() -> None:
    assert integer_from_base64url(integer_to_base64url(2**100 - 1), "n", 100) == 2**100 - 1
    for number, message in ((2**100, "got 101"), (2**10_000, "got a longer text")):
        with pytest.raises(CryptoError, match=f"n must have at most 100 bits, {message}"):
            integer_from_base64url(integer_to_base64url(number), "n", 100)


def test_members_must_be_exactly_the_expected() -> None:
    assert parse_object('{"b":1,"a":[]}', "it", ("a", "b"), 99) == {"a": [], "b": 1}
    for text in (
        '{"a":1}',
        '{"a":1,"b":1,"c":1}',
        '{"a":1,"a":1,"b":1}',
        "[1]",
        '"a"',
        "{",
        "\ud800",
    ):
        with pytest.raises(CryptoError, match="it must"):
            parse_object(text, "it", ("a", "b"), 99)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(CryptoError, match="it must be a JSON object"):
        parse_object("[" * 100_000, "it", ("a",), 100_000)


def test_the_text_is_limited_before_it_is_parsed() -> None:
    with pytest.raises(CryptoError, match="at most 9 characters, got 10"):
        parse_object('{"a":1234}', "it", ("a",), 9)


def test_a_refusal_does_not_carry_the_text() -> None:
    with pytest.raises(CryptoError) as caught:
        parse_object('{"secret": 1', "it", ("a",), 99)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    with pytest.raises(CryptoError) as caught:
        parse_object('{"secret": 1}', "it", ("a",), 99)
    assert "secret" not in str(caught.value)


def test_equality() -> None:
    require_equal("a", "a", "kty")
    require_equal(["a"], ["a"], "kty")
    for value in (1, True, ("a",), None, "b"):
        with pytest.raises(CryptoError, match="kty must be 'a', got another value"):
            require_equal(value, "a", "kty")
