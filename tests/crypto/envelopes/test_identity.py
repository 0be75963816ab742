from __future__ import annotations

import base64
import copy
import json
import pickle
import traceback
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from identities import COMPANY, NORTH, SOUTH

from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.envelopes.public_identity import PublicIdentity
from fl_he.crypto.envelopes.sealing_key import encrypt_to
from fl_he.crypto.errors import CryptoError, KeyFileError
from fl_he.crypto.key_files import ScryptCost


def secrets_of(identity: Identity) -> list[str]:
    """Return everything secret in an identity's JSON, as it would look in a text."""
    members = json.loads(identity.to_json())
    texts = [members["signing"], members["sealing"]]
    seeds = [base64.urlsafe_b64decode(text + "=") for text in texts]
    return [*texts, *map(repr, seeds), *(seed.hex() for seed in seeds)]


def test_new_identities_differ() -> None:
    first, second = (Identity.generate("north", "hospital") for _ in range(2))
    assert first.public.name == second.public.name == "north"
    assert first.public.signing_key != second.public.signing_key
    assert first.public.sealing_key != second.public.sealing_key
    assert Identity.generate("company-x", "key-holder").public.role == "key-holder"
    for name, role in (("", "hospital"), ("north", "coordinator")):
        with pytest.raises(CryptoError, match="must be"):
            Identity.generate(name, role)


def test_signatures_are_ed25519() -> None:
    signature = NORTH.sign(b"statement")
    key = Ed25519PublicKey.from_public_bytes(NORTH.public.signing_key)
    key.verify(signature, b"statement")
    with pytest.raises(InvalidSignature):
        key.verify(signature, b"another")
    assert NORTH.public.verifies(signature, b"statement")
    assert not NORTH.public.verifies(signature, b"another")
    assert not SOUTH.public.verifies(signature, b"statement")
    for bad in (b"", signature[:-1], signature + b"\0", bytes(64)):
        assert not NORTH.public.verifies(bad, b"statement")


def test_what_is_encrypted_to_the_public_half_opens() -> None:
    ciphertext = encrypt_to(NORTH.public.sealing_key, b"payload", b"info")
    assert NORTH.open(ciphertext, b"info") == b"payload"
    with pytest.raises(CryptoError, match="encrypted to this node's sealing key"):
        SOUTH.open(ciphertext, b"info")


def test_json_round_trip() -> None:
    for identity in (NORTH, COMPANY, Identity.generate("x", "hospital")):
        again = Identity.from_json(identity.to_json())
        assert again.public == identity.public
        assert again.to_json() == identity.to_json()
        assert again.open(encrypt_to(identity.public.sealing_key, b"a", b"b"), b"b") == b"a"
        assert identity.public.verifies(again.sign(b"c"), b"c")


def test_private_and_public_json_are_not_confused() -> None:
    with pytest.raises(CryptoError, match="format must be 'fl-he public identity 1'"):
        PublicIdentity.from_json(NORTH.to_json())
    with pytest.raises(CryptoError, match="format must be 'fl-he private identity 1'"):
        Identity.from_json(NORTH.public.to_json())


@pytest.mark.parametrize(
    ("member", "value", "message"),
    [
        ("name", None, "name must be text"),
        ("name", "south", "fingerprint must be"),
        ("role", 1, "role must be one of"),
        ("signing", "A" * 44, "signing must be base64url text of 43 characters, got 44"),
        ("signing", "A" * 43, "fingerprint must be"),
        ("sealing", 3.5, "sealing must be base64url text, got a decimal number"),
        ("sealing", "A" * 43, "fingerprint must be"),
        ("fingerprint", "", "fingerprint must be"),
    ],
)
def test_a_wrong_member_is_refused(member: str, value: object, message: str) -> None:
    members = json.loads(NORTH.to_json())
    with pytest.raises(CryptoError, match=message):
        Identity.from_json(json.dumps(members | {member: value}))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mutated_json_is_refused_without_showing_it(data: st.DataObject) -> None:
    original = NORTH.to_json()
    text = list(original)
    at = data.draw(st.integers(0, len(text) - 1))
    text[at : at + data.draw(st.integers(0, 2))] = data.draw(st.text(max_size=2))
    mutated = "".join(text)
    try:
        Identity.from_json(mutated)
    except CryptoError as error:
        refusal = error
    else:
        assert json.loads(mutated) == json.loads(original)
        return
    shown = "".join(traceback.format_exception(refusal)) + repr(refusal.args) + repr(vars(refusal))
    assert not any(secret in shown for secret in secrets_of(NORTH))
    assert refusal.__context__ is None


def test_wrong_lengths_are_refused() -> None:
    for signing, sealing, message in (
        (bytes(31), bytes(32), "a signing key must have 32 bytes, got 31"),
        (bytes(32), bytes(33), "a sealing key must have 32 bytes, got 33"),
    ):
        with pytest.raises(CryptoError, match=message):
            Identity("north", "hospital", signing, sealing)


def test_the_keys_are_in_no_repr_and_cannot_be_copied() -> None:
    assert (
        repr(NORTH) == str(NORTH) == f"Identity(north, hospital, {NORTH.public.fingerprint[:16]})"
    )
    assert not hasattr(NORTH, "__dict__")
    shown = "".join(repr(getattr(NORTH, name)) for name in dir(NORTH))
    assert not any(secret in shown for secret in secrets_of(NORTH))
    for copying in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="must not be copied or pickled"):
            copying(NORTH)


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    NORTH.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == NORTH.to_json() + "\n"
    assert Identity.load(path).to_json() == NORTH.to_json()
    with pytest.raises(KeyFileError, match="must not replace another file"):
        SOUTH.save(path)
    assert Identity.load(path).public == NORTH.public
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="owner only"):
        Identity.load(path)


def test_save_and_load_with_a_passphrase(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    NORTH.save(path, "correct horse", cost=ScryptCost(n=4))
    assert path.stat().st_mode & 0o777 == 0o600
    assert not any(secret in path.read_text() for secret in secrets_of(NORTH))
    assert Identity.load(path, "correct horse").to_json() == NORTH.to_json()
    with pytest.raises(KeyFileError, match="the passphrase does not open the key file"):
        Identity.load(path, "correct house")
    with pytest.raises(KeyFileError, match="a passphrase must be given"):
        Identity.load(path)
