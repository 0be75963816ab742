from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fl_he.crypto.encoding.fields import Place
from fl_he.crypto.encoding.strict_json import base64url, bytes_to_base64url
from fl_he.crypto.errors import CryptoError

IT = Place("it")


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_round_trip(data: bytes) -> None:
    text = bytes_to_base64url(data)
    assert text == base64.urlsafe_b64encode(data).decode().replace("=", "")
    assert base64url().read(text, IT) == data
    assert base64url(len(data)).read(text, IT) == data


@settings(deadline=None)
@given(st.text(max_size=9) | st.text("AQgw_-+/= \n", max_size=9))
def test_hostile_text_has_one_spelling(text: str) -> None:
    try:
        data = base64url().read(text, IT)
    except CryptoError:
        return
    assert bytes_to_base64url(data) == text


@pytest.mark.parametrize(
    "text", ["AQ==", "AR", "A", "A+", "A/", "AQ\n", " AQ", "\u0100Q", "\ud800"]
)
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(CryptoError, match=r"it must be base64url text without padding$") as caught:
        base64url().read(text, IT)
    assert caught.value.__context__ is None


def test_types_and_lengths_are_checked() -> None:
    for value in (None, 7, b"AQ", ["AQ"]):
        with pytest.raises(CryptoError, match="it must be base64url text, got"):
            base64url().read(value, IT)
    for length, size in ((0, 0), (1, 2), (2, 3), (3, 4), (32, 43), (1216, 1622)):
        text = bytes_to_base64url(bytes(length))
        assert len(text) == size
        assert base64url(length).read(text, IT) == bytes(length)
        with pytest.raises(CryptoError, match=f"of {size} characters, got {size + 1}"):
            base64url(length).read(text + "A", IT)
