from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import pickle
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from identities import NORTH, SOUTH, make

from fl_he.crypto.envelopes.public_identity import PublicIdentity, check_name
from fl_he.crypto.errors import CryptoError

PUBLIC = NORTH.public


def test_the_fingerprint_is_of_everything() -> None:
    fields = (
        *(b"fl-he public identity 1", b"north", b"hospital"),
        *(PUBLIC.signing_key, PUBLIC.sealing_key),
    )
    encoded = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    assert PUBLIC.digest == hashlib.sha256(encoded).digest()
    assert PUBLIC.fingerprint == PUBLIC.digest.hex()
    others = [
        dataclasses.replace(PUBLIC, name="northern"),
        dataclasses.replace(PUBLIC, role="key-holder"),
        dataclasses.replace(PUBLIC, signing_key=SOUTH.public.signing_key),
        dataclasses.replace(PUBLIC, sealing_key=SOUTH.public.sealing_key),
    ]
    assert len({identity.fingerprint for identity in (PUBLIC, *others)}) == 5
    assert PUBLIC not in others


def test_json_round_trip() -> None:
    text = PUBLIC.to_json()
    assert list(json.loads(text)) == [
        *("format", "name", "role", "signing", "sealing", "fingerprint")
    ]
    assert PublicIdentity.from_json(text) == PUBLIC
    assert PublicIdentity.from_json(json.dumps(json.loads(text), indent=2)) == PUBLIC


def test_it_is_a_value() -> None:
    for copied in (copy.deepcopy(PUBLIC), pickle.loads(pickle.dumps(PUBLIC))):  # noqa: S301
        assert copied == PUBLIC
        assert hash(copied) == hash(PUBLIC)
    assert repr(PUBLIC) == f"PublicIdentity(north, hospital, {PUBLIC.fingerprint[:16]})"


@pytest.mark.parametrize("name", ["a", "7", "St.Mary_2-x", "n" * 64])
def test_names_are_accepted(name: str) -> None:
    check_name(name)
    assert make(name).public.name == name


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "n" * 65, "-a", ".a", "_a", "a/b", "a\n", "h\u00f4pital", "\u0430"]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(CryptoError, match="a node's name must be 1 to 64 ASCII letters"):
        make(name)


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("format", "fl-he public identity 2", "format must be"),
        ("format", 1, "format must be"),
        ("name", 7, "name must be text, got an integer"),
        ("name", "n" * 999, "a node's name must be .{0,200}$"),
        ("name", "south", "fingerprint must be"),
        ("role", "coordinator", "role must be one of .*, got 'coordinator'"),
        ("role", ["hospital"], "role must be one of .*, got a list"),
        ("role", "key-holder", "fingerprint must be"),
        ("signing", None, "signing must be base64url text, got null"),
        ("signing", "A" * 42, "signing must be base64url text of 43 characters, got 42"),
        ("signing", "A" * 43, "a signing key must be a point of large order"),
        ("signing", json.loads(SOUTH.public.to_json())["signing"], "fingerprint must be"),
        ("sealing", "A" * 1621, "sealing must be base64url text of 1622 characters, got 1621"),
        ("sealing", "A" * 1622, "X25519 half of a sealing key must be a point of large order"),
        ("sealing", json.loads(SOUTH.public.to_json())["sealing"], "fingerprint must be"),
        ("fingerprint", "ab" * 32, "fingerprint must be"),
        ("fingerprint", PUBLIC.fingerprint.upper(), "fingerprint must be"),
        ("fingerprint", None, "fingerprint must be"),
        ("extra", "", "must have exactly the members"),
    ],
)
def test_a_wrong_member_is_refused(member: str, value: object, message: str) -> None:
    members = {**json.loads(PUBLIC.to_json()), member: value}
    with pytest.raises(CryptoError, match=message):
        PublicIdentity.from_json(json.dumps(members))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mutated_json_is_refused(data: st.DataObject) -> None:
    text = list(PUBLIC.to_json())
    at = data.draw(st.integers(0, len(text) - 1))
    text[at : at + data.draw(st.integers(0, 2))] = data.draw(st.text(max_size=2))
    mutated = "".join(text)
    try:
        identity = PublicIdentity.from_json(mutated)
    except CryptoError:
        return
    assert identity == PUBLIC
    assert json.loads(mutated) == json.loads(PUBLIC.to_json())


def test_long_text_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(CryptoError, match="at most 4096 characters, got 9999"):
        PublicIdentity.from_json("[" * 9999)


def test_lengths_of_keys_are_checked() -> None:
    for size in (0, 31, 33):
        with pytest.raises(CryptoError, match=f"a signing key must have 32 bytes, got {size}"):
            dataclasses.replace(PUBLIC, signing_key=bytes(size))
    with pytest.raises(CryptoError, match="a sealing key must have 1216 bytes, got 1215"):
        dataclasses.replace(PUBLIC, sealing_key=bytes(1215))
