from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phe.util import base64_to_int, int_to_base64

from fl_he.crypto.encoding.fields import Kind, Place, constant
from fl_he.crypto.encoding.strict_json import (
    Document,
    base64url_integer,
    integer_to_base64url,
)
from fl_he.crypto.errors import CryptoError


def parsed(text: str, members: tuple[str, ...], limit: int) -> dict[str, object]:
    document = Document("it", dict.fromkeys(members, Kind()), limit)
    return document.loads(text, lambda *values: dict(zip(members, values, strict=True)))


@given(st.integers(1, 2**300))
def test_integers_are_written_as_phe_does(number: int) -> None:
    text = integer_to_base64url(number)
    assert text == int_to_base64(number)
    assert base64_to_int(text) == number
    assert base64url_integer(301).read(text, Place("n")) == number


@pytest.mark.parametrize(
    "text", ["", "A", "AAE", "AB==", "A+8", "A/8", "é", " AQ", "AQ\n", 5, None]
)
def test_other_encodings_are_refused(text: object) -> None:
    with pytest.raises(CryptoError, match="n must be"):
        base64url_integer(100).read(text, Place("n"))


def test_the_length_is_limited() -> None:
    assert base64url_integer(100).read(integer_to_base64url(2**100 - 1), Place("n")) == 2**100 - 1
    for number, message in ((2**100, ", got 101"), (2**10_000, "$")):
        with pytest.raises(CryptoError, match=f"n must have at most 100 bits{message}"):
            base64url_integer(100).read(integer_to_base64url(number), Place("n"))


def test_members_must_be_exactly_the_expected() -> None:
    assert parsed('{"b":1,"a":[]}', ("a", "b"), 99) == {"a": [], "b": 1}
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
            parsed(text, ("a", "b"), 99)


def test_texts_that_no_file_and_no_message_can_hold_are_refused() -> None:
    assert parsed(r'{"a":"\ud83d\ude00"}', ("a",), 99) == {"a": "\N{GRINNING FACE}"}
    assert parsed(r'{"a":"\\ud800"}', ("a",), 99) == {"a": r"\ud800"}
    for text in (r'{"a":"\ud83d"}', r'{"a":["\uDE00"]}', r'{"a":{"\ud83dx":1}}'):
        with pytest.raises(CryptoError, match="it must hold no lone surrogates") as caught:
            parsed(text, ("a",), 99)
        assert caught.value.__context__ is None


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(CryptoError, match="it must be a JSON object"):
        parsed("[" * 100_000, ("a",), 100_000)


def test_the_text_is_limited_before_it_is_parsed() -> None:
    with pytest.raises(CryptoError, match="at most 9 characters, got 10"):
        parsed('{"a":1234}', ("a",), 9)


def test_a_refusal_does_not_carry_the_text() -> None:
    with pytest.raises(CryptoError) as caught:
        parsed('{"secret": 1', ("a",), 99)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    with pytest.raises(CryptoError) as caught:
        parsed('{"secret": 1}', ("a",), 99)
    assert "secret" not in str(caught.value)


def test_equality() -> None:
    constant("a").read("a", Place("kty"))
    constant(["a"]).read(["a"], Place("kty"))
    for value in (1, True, ("a",), None, "b"):
        with pytest.raises(CryptoError, match=r"kty must be 'a' \(value withheld\)"):
            constant("a").read(value, Place("kty"))
