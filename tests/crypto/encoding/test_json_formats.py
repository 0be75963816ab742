"""All JSON formats of this folder: each refusal names the fault and its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial

import pytest
from identities import COMPANY, NORTH

from fl_he.crypto.comparison.dgk_key import DgkPublicKey
from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.envelopes.public_identity import PublicIdentity
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey

Format = tuple[Callable[[str], object], str]


@pytest.fixture(scope="module")
def formats(small_key: PrivateKey, small_dgk: DgkPrivateKey) -> Mapping[str, Format]:
    manifest = Manifest((NORTH.public, COMPANY.public))
    public, dgk = small_key.public_key, small_dgk.public_key
    return {
        "packing": (Packing.from_json, Packing().to_json()),
        "public key": (partial(PublicKey.from_json, minimum_bits=512), public.to_json()),
        "private key": (partial(PrivateKey.from_json, minimum_bits=512), small_key.to_json()),
        "DGK public key": (partial(DgkPublicKey.from_json, minimum_bits=512), dgk.to_json()),
        "DGK private key": (
            partial(DgkPrivateKey.from_json, minimum_bits=512),
            small_dgk.to_json(),
        ),
        "public identity": (PublicIdentity.from_json, NORTH.public.to_json()),
        "private identity": (Identity.from_json, NORTH.to_json()),
        "federation manifest": (Manifest.from_json, manifest.to_json()),
    }


def test_a_member_that_is_wrong_is_named(formats: Mapping[str, Format]) -> None:
    for what, (read, text) in formats.items():
        read(text)
        for member in (members := json.loads(text)):
            with pytest.raises(CryptoError) as caught:
                read(json.dumps(members | {member: None}))
            assert str(caught.value).startswith(f"{member} must be"), (what, member)


def test_a_text_of_another_form_is_named(formats: Mapping[str, Format]) -> None:
    for what, (read, text) in formats.items():
        with pytest.raises(CryptoError, match=f"^{what} must be a JSON object"):
            read(text[:-1])
        members = json.loads(text)
        names = sorted(members)
        del members[names[0]]
        expected = f"{what} must have exactly the members {names}, got 0 unknown, "
        with pytest.raises(CryptoError) as caught:
            read(json.dumps(members))
        assert str(caught.value) == f"{expected}missing ['{names[0]}']"


def test_a_text_has_no_blanks(formats: Mapping[str, Format]) -> None:
    # one object has one text
    for what, (_, text) in formats.items():
        if what == "federation manifest":
            assert text == json.dumps(json.loads(text), indent=1)  # people read it
        else:
            assert text == json.dumps(json.loads(text), separators=(",", ":"))


def test_a_long_text_is_not_parsed(formats: Mapping[str, Format]) -> None:
    for what, (read, text) in formats.items():
        with pytest.raises(CryptoError, match=f"^{what} must have at most [0-9]+ characters"):
            read(text + " " * 2**21)
        # Blanks are JSON's own; up to the limit they may be there.
        read(text + " " * 8)
