"""Fixed vectors, from plain arithmetic or from an earlier version, stay right.

The vectors are in tests/vectors/crypto.json; make_vectors.py in that folder made them.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import phe
import pytest
from identities import NORTH, SOUTH
from small_keys import SMALL_BITS, dgk

from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.envelopes.sealing import Binding, unseal
from fl_he.crypto.key_files import load_secret
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "crypto.json").read_text()
)
PASSPHRASE = "a pass phrase with an é"  # noqa: S105 - of a test file


@pytest.fixture(scope="module", params=["512", "2048"])
def vector(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = VECTORS["paillier"][request.param]
    return found


def number(vector: dict[str, Any], name: str) -> int:
    return int(vector[name], 16)


def numbers(vector: dict[str, Any], name: str) -> list[int]:
    return [int(text, 16) for text in vector[name]]


def key_of(vector: dict[str, Any]) -> PrivateKey:
    public = PublicKey(number(vector, "n"), number(vector, "h_s"), minimum_bits=SMALL_BITS)
    return PrivateKey(public, number(vector, "p"), number(vector, "q"))


def fingerprint_of(vector: dict[str, Any]) -> str:
    """Hash with hashlib the label, and each number after its length in 4 bytes."""
    digest = hashlib.sha256(b"fl-he Paillier public key 1\0")
    for name in ("n", "h_s"):
        data = bytes.fromhex(vector[name].rjust(-(-len(vector[name]) // 2) * 2, "0"))
        digest.update(struct.pack(">I", len(data)) + data)
    return digest.hexdigest()


def test_the_vectors_are_what_the_paper_says(vector: dict[str, Any]) -> None:
    n, h_s = number(vector, "n"), number(vector, "h_s")
    assert n == number(vector, "p") * number(vector, "q")
    masks = [pow(h_s, r, n * n) for r in numbers(vector, "exponents")]
    assert masks == numbers(vector, "obfuscators")
    lam = math.lcm(number(vector, "p") - 1, number(vector, "q") - 1)
    for text, ciphertext in zip(vector["plaintexts"], numbers(vector, "ciphertexts"), strict=True):
        opened = (pow(ciphertext, lam, n * n) - 1) // n * pow(lam, -1, n) % n
        assert opened == int(text) % n


def test_we_open_them(vector: dict[str, Any]) -> None:
    key, n = key_of(vector), number(vector, "n")
    assert key.public_key.fingerprint == fingerprint_of(vector)
    opened = key.decrypt(numbers(vector, "ciphertexts"))
    assert opened == [int(text) % n for text in vector["plaintexts"]]
    assert key.decrypt(numbers(vector, "obfuscators")) == [0] * 3


def test_our_ciphertexts_are_of_their_form(vector: dict[str, Any]) -> None:
    """Divided by 1 + m n, each is a power of h_s, which opens to 0."""
    key, n = key_of(vector), number(vector, "n")
    for text in vector["plaintexts"]:
        (ciphertext,) = key.public_key.encrypt([int(text)])
        mask = ciphertext * pow(1 + n * (int(text) % n), -1, n * n) % (n * n)
        assert key.decrypt([mask]) == [0]


def test_phe_opens_them(vector: dict[str, Any]) -> None:
    n, p, q = (number(vector, name) for name in ("n", "p", "q"))
    theirs = phe.PaillierPrivateKey(phe.PaillierPublicKey(n), p, q)
    opened = [theirs.raw_decrypt(c) for c in numbers(vector, "ciphertexts")]
    assert opened == [int(text) % n for text in vector["plaintexts"]]


def test_tno_opens_them_and_we_open_tno(vector: dict[str, Any]) -> None:
    theirs = pytest.importorskip(
        "tno.mpc.encryption_schemes.paillier", reason="TNO's Paillier is not installed"
    )
    n, p, q = (number(vector, name) for name in ("n", "p", "q"))
    from tno.mpc.encryption_schemes.paillier.paillier import (  # noqa: PLC0415
        PaillierPublicKey,
        PaillierSecretKey,
    )

    lam = math.lcm(p - 1, q - 1)
    scheme = theirs.Paillier(
        PaillierPublicKey(n, n + 1), PaillierSecretKey(lam, pow(lam, -1, n), n), precision=0
    )
    for text, value in zip(vector["plaintexts"], numbers(vector, "ciphertexts"), strict=True):
        opened = scheme.decrypt(theirs.PaillierCiphertext(value, scheme))
        assert int(opened) == int(text)
    for plaintext in (0, 1, -1, 2**100):
        value = int(scheme.encrypt(plaintext).get_value())
        assert key_of(vector).decrypt([value]) == [plaintext % n]
        (ours,) = key_of(vector).public_key.encrypt([plaintext])
        assert int(scheme.decrypt(theirs.PaillierCiphertext(ours, scheme))) == plaintext


def test_a_packed_vector_with_its_header(vector: dict[str, Any]) -> None:
    key, body = key_of(vector), bytes.fromhex(vector["vector_body"])
    header = struct.pack(
        ">4s4BIIQ32s",
        *(b"FLHE", 1, 24, 24, 0, 512, key.public_key.key_bits, len(vector["values"])),
        bytes.fromhex(fingerprint_of(vector)),
    )
    read = EncryptedVector.from_bytes(header + body, key.public_key)
    assert read.to_bytes() == header + body
    assert read.packing == Packing()
    expected = np.round(np.array(vector["values"]) * 2**24) / 2**24
    np.testing.assert_array_equal(key.decrypt_vector(read), expected)
    np.testing.assert_array_equal(key.decrypt_vector(read.add(read, key.public_key)), 2 * expected)
    ours = EncryptedVector.encrypt(key.public_key, Packing(), expected)
    assert ours.to_bytes()[: len(header)] == header


def test_dgk_ciphertexts() -> None:
    found, key = VECTORS["dgk"], dgk()
    n, u = key.public_key.n, key.public_key.u
    ciphertexts = numbers(found, "ciphertexts")
    for plaintext, exponent, ciphertext in zip(
        found["plaintexts"], numbers(found, "exponents"), ciphertexts, strict=True
    ):
        mask = pow(key.public_key.h, exponent, n)
        assert ciphertext == pow(key.public_key.g, plaintext, n) * mask % n
    read = key.public_key.from_bytes(
        b"".join(c.to_bytes(key.public_key.ciphertext_bytes, "big") for c in ciphertexts), 3
    )
    assert key.are_zero(read) == [True, False, False]
    # 1 + 256 is u, which is 0
    assert u == 257
    assert key.are_zero([read[1] * read[2] % n]) == [True]


def test_an_envelope_of_an_earlier_version_opens() -> None:
    found = VECTORS["sealed"]
    binding = Binding("run-1", "running-sum", 3, 1, ("north",))
    fields = [b"run-1", b"running-sum", (3).to_bytes(8, "big"), (1).to_bytes(8, "big"), b"north"]
    by_hand = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    assert binding.to_bytes() == by_hand == bytes.fromhex(found["binding"])
    envelope = bytes.fromhex(found["envelope"])
    assert unseal(envelope, SOUTH, NORTH.public, binding) == found["payload"].encode()


def test_a_manifest_keeps_its_text_and_fingerprint() -> None:
    found = VECTORS["sealed"]
    manifest = Manifest.from_json(found["manifest"])
    assert manifest.to_json() == found["manifest"]
    fields = [b"fl-he federation 3"]
    plans = (b"\xab" * 32, b"\xcd" * 32)
    fields.append(b"".join(struct.pack(">I", len(plan)) + plan for plan in plans))
    for node in sorted(manifest.nodes, key=lambda node: node.name):
        parts = [b"fl-he public identity 1", node.name.encode(), node.role.encode()]
        parts += [node.signing_key, node.sealing_key]
        data = b"".join(struct.pack(">I", len(part)) + part for part in parts)
        fields.append(hashlib.sha256(data).digest())
    by_hand = b"".join(struct.pack(">I", len(field)) + field for field in fields)
    assert hashlib.sha256(by_hand).hexdigest() == manifest.fingerprint
    assert manifest.fingerprint == found["manifest_fingerprint"]


def test_a_protected_file_of_an_earlier_version_opens(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(VECTORS["protected_file"])
    path.chmod(0o600)
    assert load_secret(path, "test", PASSPHRASE, 99) == "the secret"
