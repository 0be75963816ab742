"""Public keys of CaPC as another node sends them."""

from __future__ import annotations

import json
from functools import cache

import pytest

from fl_he.capc.node.keys import PublicKeys
from fl_he.capc.protocol import CapcRole
from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.encoding.strict_json import integer_to_base64url
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.wire.records import ProtocolError

pytestmark = pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")

KEY_BITS = 1032


@cache
def keys() -> PublicKeys:
    return PublicKeys(
        PrivateKey.generate(KEY_BITS).public_key, DgkPrivateKey.generate(KEY_BITS).public_key
    )


def texts() -> dict[str, str]:
    """Return both keys as a message holds those of the guardian."""
    return {f"guardian-{name}": text for name, text in keys().to_texts().items()}


def test_keys_of_the_agreed_length_are_read() -> None:
    read = PublicKeys.from_texts(texts(), CapcRole.GUARDIAN, KEY_BITS)
    assert read.paillier.fingerprint == keys().paillier.fingerprint
    assert read.dgk.fingerprint == keys().dgk.fingerprint


def test_keys_of_somebody_else_are_not() -> None:
    with pytest.raises(CryptoError, match="public key must be a JSON object"):
        PublicKeys.from_texts(texts(), CapcRole.QUERYING, KEY_BITS)


def test_shorter_keys_are_refused() -> None:
    with pytest.raises(ProtocolError, match="the guardian's keys must have 1040 bits, got"):
        PublicKeys.from_texts(texts(), CapcRole.GUARDIAN, 1040)


@pytest.mark.parametrize("kind", ["paillier", "dgk"])
def test_a_long_key_is_refused_before_its_numbers_are_checked(kind: str) -> None:
    """Checks of 8192 bits take half a second, and any coordinator may ask for them."""
    sent = texts()
    even = integer_to_base64url(1 << KEY_BITS)  # has one bit more, and is no modulus at all
    sent[f"guardian-{kind}"] = json.dumps({**json.loads(sent[f"guardian-{kind}"]), "n": even})
    with pytest.raises(CryptoError, match=f"n must have at most {KEY_BITS} bits"):
        PublicKeys.from_texts(sent, CapcRole.GUARDIAN, KEY_BITS)
