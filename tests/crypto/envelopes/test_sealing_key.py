from __future__ import annotations

import copy
import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from fl_he.crypto.envelopes.sealing_key import (
    HPKE_OVERHEAD,
    SealingKey,
    check_sealing_key,
    encrypt_to,
)
from fl_he.crypto.errors import CryptoError

# The first test vector of draft-connolly-cfrg-xwing-kem-10, appendix C: the seed, the beginning of
# ML-KEM's key and X25519's whole one.
SEED = bytes.fromhex("7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26")
MLKEM_START = bytes.fromhex("e2236b35a8c24b39b10aa1323a96a919a2ced88400633a7b07131713fc14b2b5")
X25519 = bytes.fromhex("859edb06eff389b27dce59844570216223593d4ba32d9abac8cd049040ef6534")

SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
KEY = SealingKey(b"a sealing key's seed of 32 bytes")


def test_keys_have_x_wings_formats() -> None:
    key = SealingKey(SEED)
    assert len(key.public_bytes) == 1216
    assert key.public_bytes.startswith(MLKEM_START)
    assert key.public_bytes.endswith(X25519)
    assert key.secret_seed() == SEED


def test_ciphertexts_are_hpke_with_the_hybrid_kem() -> None:
    mlkem, x25519 = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
    public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
    private = MLKEM768X25519PrivateKey(mlkem, x25519)
    ciphertext = encrypt_to(public, b"payload", b"info")
    assert SUITE.decrypt(ciphertext, private, b"info") == b"payload"
    assert len(ciphertext) == 7 + HPKE_OVERHEAD == 7 + 1136
    assert encrypt_to(public, b"payload", b"info") != ciphertext


def test_we_open_what_hpke_made() -> None:
    halves = KEY.public_bytes[:1184], KEY.public_bytes[1184:]
    public = MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(halves[0]),
        X25519PublicKey.from_public_bytes(halves[1]),
    )
    ciphertext = SUITE.encrypt(b"payload", public, b"info")
    assert KEY.open(ciphertext, b"info") == b"payload"
    assert KEY.open(memoryview(ciphertext), b"info") == b"payload"


def test_what_is_for_others_or_altered_is_refused() -> None:
    ciphertext = encrypt_to(KEY.public_bytes, b"payload", b"info")
    other = SealingKey(bytes(32))
    for key, data, info in (
        (KEY, ciphertext, b"other info"),
        (other, ciphertext, b"info"),
        (KEY, ciphertext[:-1], b"info"),
        (KEY, ciphertext[:1120], b"info"),
        (KEY, b"", b"info"),
        (KEY, ciphertext[:1088] + bytes(32) + ciphertext[1120:], b"info"),
    ):
        with pytest.raises(CryptoError, match="encrypted to this node's sealing key"):
            key.open(data, info)


def test_public_keys_are_checked() -> None:
    public = KEY.public_bytes
    check_sealing_key(public)
    for bad, message in (
        (public[:-1], "must have 1216 bytes, got 1215"),
        (public + b"\0", "must have 1216 bytes, got 1217"),
        (public[:1184] + bytes(32), "X25519 half of a sealing key must be a point of large order"),
        (b"\xff\xff\xff" + public[3:], "ML-KEM half of a sealing key must be an ML-KEM-768 key"),
    ):
        with pytest.raises(CryptoError, match=message):
            check_sealing_key(bad)
        with pytest.raises(CryptoError, match=message):
            encrypt_to(bad, b"payload", b"info")
    with pytest.raises(CryptoError, match="must have 32 bytes, got 31"):
        SealingKey(bytes(31))


def test_the_key_is_in_no_repr_and_cannot_be_copied() -> None:
    assert repr(KEY) == str(KEY) == "SealingKey(private)"
    assert not hasattr(KEY, "__dict__")
    for copying in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="must not be copied or pickled"):
            copying(KEY)
