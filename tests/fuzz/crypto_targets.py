"""Targets of the crypto layer: keys, identities, manifests, vectors, envelopes, key files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz import documents
from fuzz.choices import Choices
from fuzz.documents import text_of
from fuzz.target import Target
from identities import COMPANY, EAST, NORTH, SOUTH
from small_keys import OTHER_SMALL, SHORT, SMALL, SMALL_BITS, dgk, paillier, short

from fl_he.clients.node.enrolment import Enrolment
from fl_he.clients.node.value_keys import seal_value_key, unseal_value_key
from fl_he.clients.totals.payload import RunningSum
from fl_he.crypto.comparison.dgk_key import DgkPublicKey
from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.encoding.canonical import decode_fields, encode_fields
from fl_he.crypto.encoding.fields import Kind, Place
from fl_he.crypto.encoding.strict_json import Document, base64url, base64url_integer
from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.envelopes.public_identity import PublicIdentity
from fl_he.crypto.envelopes.sealing import Binding, seal, unseal
from fl_he.crypto.envelopes.sealing_key import encrypt_to
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.key_files import (
    ScryptCost,
    load_secret,
    read_passphrase_file,
    save_secret,
)
from fl_he.crypto.masks.masked_vector import MaskedVector, mask_stream
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.schemes import MASKS, PAILLIER, SCHEMES
from fl_he.crypto.tickets.occasion import Occasion
from fl_he.crypto.tickets.opening import opened, require_tickets
from fl_he.crypto.tickets.ticket import Ticket
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.wire.records import ProtocolError
from fl_he.wire.run_key import RunKey
from fl_he.wire.totals import Opening, SignedTotal, Total

_PACKING = Packing()
_BINDING = Binding("run-1", "running-sum", 3, 1, ("north",))
_PASSPHRASE = "correct horse"  # noqa: S105 - of test files
_LOW = ScryptCost(n=2, r=1, p=1)
_ERRORS = (CryptoError,)
#: Schemes that a reader of sums accepts.
_ACCEPTED = (SCHEMES, (MASKS,), (PAILLIER,))


@cache
def _key() -> PrivateKey:
    return paillier(*SMALL)


@cache
def _dgk() -> DgkPrivateKey:
    return dgk()


@cache
def _vector() -> bytes:
    values = np.arange(20, dtype=np.float64)
    return EncryptedVector.encrypt(_key().public_key, _PACKING, values, cores=1).to_bytes()


@cache
def _public_keys() -> list[Any]:
    keys = (_key(), paillier(*OTHER_SMALL), short(*SHORT))
    return [json.loads(key.public_key.to_json()) for key in keys]


def _public_key(data: bytes) -> object:
    text = text_of(data, _public_keys(), documents.repair_paillier)
    key = PublicKey.from_json(text, minimum_bits=SMALL_BITS)
    return key.encrypt([1])


@cache
def _private_keys() -> list[Any]:
    return [json.loads(key.to_json()) for key in (_key(), short(*SHORT))]


def _private_key(data: bytes) -> object:
    text = text_of(data, _private_keys(), documents.repair_private)
    return PrivateKey.from_json(text, minimum_bits=SMALL_BITS)


@cache
def _dgk_keys() -> list[Any]:
    return [json.loads(_dgk().public_key.to_json())]


def _dgk_public(data: bytes) -> object:
    text = text_of(data, _dgk_keys(), documents.repair_dgk)
    return DgkPublicKey.from_json(text, minimum_bits=SMALL_BITS).masks(1)


@cache
def _dgk_privates() -> list[Any]:
    document = json.loads(_dgk().to_json())
    return [{**document, "pub": json.loads(document["pub"])}]


def _dgk_private(data: bytes) -> object:
    text = text_of(data, _dgk_privates(), documents.repair_private_dgk)
    return DgkPrivateKey.from_json(text, minimum_bits=SMALL_BITS)


def _dgk_ciphertexts(data: bytes) -> object:
    return _dgk().are_zero(_dgk().public_key.from_bytes(data, 3))


def _dgk_ciphertext_seeds() -> list[bytes]:
    return [_dgk().public_key.to_bytes(_dgk().encrypt_bits([0, 1, 0]))]


def _ciphertexts(data: bytes) -> object:
    key = _key()
    return key.decrypt(key.public_key.from_bytes(data, 2), cores=1)


def _ciphertext_seeds() -> list[bytes]:
    key = _key().public_key
    return [b"".join(c.to_bytes(key.ciphertext_bytes, "big") for c in key.encrypt([5, -5]))]


def _encrypted_vector(data: bytes) -> object:
    key = _key()
    vector = EncryptedVector.from_bytes(data, key.public_key)
    doubled = vector.add(vector, key.public_key)
    return key.decrypt_vector(doubled, cores=1)


def _vector_seeds() -> list[bytes]:
    return [_vector(), _vector()[:56], b"FLHE\1" + bytes(51)]


@cache
def _envelope() -> bytes:
    return seal(b"the running sum", NORTH, SOUTH.public, _BINDING)


def _unseal(data: bytes) -> object:
    """Open any bytes, or content that a cheating hospital has signed."""
    choices = Choices(data)
    envelope = choices.rest()
    if len(envelope) > 64 and data[:1] == b"S":
        envelope = _signed_anew(envelope[1:])
    return unseal(envelope, SOUTH, NORTH.public, _BINDING)


def _signed_anew(envelope: bytes, signer: Identity = NORTH) -> bytes:
    size = int.from_bytes(envelope[5:9], "big")
    context, ciphertext = envelope[17 : 17 + size], envelope[17 + size : -64]
    digest = hashlib.sha512(ciphertext).digest()
    statement = encode_fields(b"fl-he envelope signature 1", context, digest)
    return envelope[:-64] + signer.sign(statement)


def _envelope_seeds() -> list[bytes]:
    other = Binding("run-1", "total", 3, 1, ("north", "east"))
    another = seal(b"", NORTH, SOUTH.public, other)
    return [_envelope(), b"S" + _envelope(), b"S" + another, b"FLSE\1" + bytes(100)]


@cache
def _enrolment(identity: Identity) -> Enrolment:
    nodes = tuple(node.public for node in (NORTH, SOUTH, EAST, COMPANY))
    return Enrolment(Manifest(nodes), identity)


def _value_key(data: bytes) -> object:
    """Open any bytes, or content that a cheating company X has signed."""
    envelope = _signed_anew(data[1:], COMPANY) if len(data) > 65 and data[:1] == b"S" else data
    return unseal_value_key(envelope, "0" * 64, _enrolment(NORTH))


def _value_key_seeds() -> list[bytes]:
    made = [seal_value_key(key, "0" * 64, _enrolment(COMPANY)) for key in (bytes(32), b"short")]
    return [made[0]["north"], *(b"S" + one["north"] for one in made), made[0]["south"]]


@cache
def _sum_key() -> PrivateKey:
    return paillier(*SMALL, bytes(32))


@cache
def _occasion(scheme: str) -> Occasion:
    fingerprint = _sum_key().public_key.fingerprint
    return Occasion(fingerprint, "session", "train", 1, bytes(32), _PACKING, 8, scheme=scheme)


@cache
def _updates(scheme: str, value_key: bytes | None = None) -> list[TicketedSum]:
    key, integers, occasion = _sum_key().public_key, np.arange(8), _occasion(scheme)
    return [
        TicketedSum.encrypt(
            *(key, integers, occasion, node.public.name), value_key=value_key, sign=node.sign
        )
        for node in (NORTH, SOUTH)
    ]


def _ticketed_sum(data: bytes, scheme: str, value_key: bytes | None = None) -> object:
    key, occasion = _sum_key(), _occasion(scheme)
    summed = TicketedSum.from_bytes(data, key.public_key, [scheme])
    require_tickets(summed.tickets, occasion, _enrolment(COMPANY).verifies)
    return opened(summed, key, occasion, value_key)


def _masked_sum(data: bytes) -> object:
    return _ticketed_sum(data[1:], MASKS, bytes(32) if data[:1] == b"V" else None)


def _masked_sum_seeds() -> list[bytes]:
    return [b"-" + own for own in _ticketed_sum_seeds(MASKS)] + [
        b"V" + own for own in _ticketed_sum_seeds(MASKS, bytes(32))
    ]


def _sum_of_a_scheme(data: bytes) -> object:
    """Open a sum as company X does: of any scheme that it accepts, for the vector's own scheme."""
    key, accepted = _sum_key(), _ACCEPTED[data[0] % len(_ACCEPTED)] if data else SCHEMES
    summed = TicketedSum.from_bytes(data[1:], key.public_key, accepted)
    if summed.vector.scheme not in accepted:
        raise AssertionError(f"{summed.vector.scheme} is none of {accepted}")
    occasion = replace(_occasion(summed.vector.scheme), length=len(summed.vector))
    require_tickets(summed.tickets, occasion, _enrolment(COMPANY).verifies)
    return opened(summed, key, occasion)


def _sum_of_a_scheme_seeds() -> list[bytes]:
    """Return sums of each scheme, with their tickets or those of the other, and swapped magics."""
    sums = {one: _ticketed_sum_seeds(one) for one in SCHEMES}
    vectors = {one: _updates(one)[0].vector.to_bytes() for one in SCHEMES}
    tickets = {one: [u.tickets[0].to_bytes() for u in _updates(one)] for one in SCHEMES}
    made = [seed for one in SCHEMES for seed in sums[one]]
    for one, other in (SCHEMES, SCHEMES[::-1]):
        renamed = vectors[other][:4] + vectors[one][4:]
        made += [encode_fields(b"fl-he sum 1", vectors[one], *tickets[other])]
        made += [encode_fields(b"fl-he sum 1", renamed, *tickets[other])]
    return [bytes([at]) + one for one in made for at in range(len(_ACCEPTED))]


def _masked_vector(data: bytes) -> object:
    key = _sum_key().public_key
    vector = MaskedVector.from_bytes(data, key)
    vector.add_in_place(vector, key)
    vector.unmask([mask_stream(bytes(32), b"")])
    return MaskedVector.from_bytes(vector.to_bytes(), key)


def _masked_vector_seeds() -> list[bytes]:
    vectors = [_updates(MASKS, key)[0].vector.to_bytes() for key in (None, bytes(32))]
    return [*vectors, vectors[0][:98], b"FLHM\1" + bytes(93)]


def _ticketed_sum_seeds(scheme: str, value_key: bytes | None = None) -> list[bytes]:
    """Return a sum of two hospitals, and sums of one: its ticket, another's, none, two."""
    one, other = _updates(scheme, value_key)
    key, vector = _sum_key().public_key, one.vector.to_bytes()
    both = TicketedSum.from_bytes(one.to_bytes(), key, [scheme])
    both.add_in_place(other, key)
    own, others = (update.tickets[0].to_bytes() for update in (one, other))
    parts = ((own,), (others,), (), (own, own), (own, others), (b"",) * 50)
    return [both.to_bytes(), *(encode_fields(b"fl-he sum 1", vector, *each) for each in parts)]


def _ticket(data: bytes) -> object:
    return Ticket.from_bytes(data).to_bytes()


def _ticket_seeds() -> list[bytes]:
    return [update.tickets[0].to_bytes() for update in _updates(PAILLIER)]


def _binding(data: bytes) -> object:
    return Binding.from_bytes(data).to_bytes()


def _fields(data: bytes) -> object:
    return decode_fields(data, "the fields", 4)


@cache
def _public_identities() -> list[Any]:
    return [json.loads(node.public.to_json()) for node in (NORTH, COMPANY)]


def _public_identity(data: bytes) -> object:
    text = text_of(data, _public_identities(), documents.repair_identity)
    return encrypt_to(PublicIdentity.from_json(text).sealing_key, b"x", b"y")


@cache
def _identities() -> list[Any]:
    return [json.loads(NORTH.to_json())]


def _identity(data: bytes) -> object:
    return Identity.from_json(text_of(data, _identities()))


@cache
def _manifests() -> list[Any]:
    nodes = tuple(node.public for node in (NORTH, SOUTH, EAST, COMPANY))
    return [json.loads(Manifest(nodes, ("1" * 64,)).to_json())]


def _manifest(data: bytes) -> object:
    return Manifest.from_json(text_of(data, _manifests(), documents.repair_manifest)).fingerprint


@cache
def _protected() -> list[Any]:
    path = Path("protected.json")
    save_secret(path, "the secret", "test", _PASSPHRASE, _LOW)
    text = path.read_text()
    path.unlink()
    return [json.loads(text)]


def _protected_file(data: bytes) -> object:
    path = Path("key.json")
    path.write_bytes(text_of(data, _protected()).encode("utf-8", "replace"))
    path.chmod(0o600)
    return load_secret(path, "test", _PASSPHRASE, 4096)


def _passphrase_file(data: bytes) -> object:
    path = Path("passphrase")
    path.write_bytes(data)
    path.chmod(0o600)
    return read_passphrase_file(path)


@cache
def _packings() -> list[Any]:
    return [json.loads(_PACKING.to_json())]


def _packing(data: bytes) -> object:
    return Packing.from_json(text_of(data, _packings())).slots_per_ciphertext(SMALL_BITS)


def _strict_json(data: bytes) -> object:
    document = Document("the object", {"a": Kind(), "b": Kind()}, 2048)
    return document.loads(data.decode("utf-8", "replace"), lambda *members: members)


def _base64(data: bytes) -> object:
    text = data.decode("utf-8", "replace")
    decoded = base64url().read(text, Place("the text"))
    base64url_integer(512).read(text, Place("the number"))
    return decoded


def _running_sum(data: bytes) -> object:
    return RunningSum.from_bytes(data)


def _total(data: bytes) -> object:
    return Total.from_bytes(data)


def _signed_total(data: bytes) -> object:
    return SignedTotal.from_bytes(data)


def _run_key(data: bytes) -> object:
    return RunKey.from_bytes(data).to_bytes()


def _run_key_seeds() -> list[bytes]:
    key = RunKey("session", "ab" * 32, 2**31, 3, bytes(32), bytes(64))
    return [key.to_bytes(), encode_fields(key.statement), encode_fields(b"", b"")]


def _payload_seeds() -> list[bytes]:
    return [RunningSum(1, bytes(32), "{}", b"vector").to_bytes()]


def _total_seeds() -> list[bytes]:
    return [Total(1, "{}", np.array([1.0, -2.5]), bytes(32), 3, bytes(32), "{}").to_bytes()]


def _signed_total_seeds() -> list[bytes]:
    opening = Opening("session", "train", 2, 1, bytes(32))
    total = Total(0, "{}", np.array([1.0, -2.5]), bytes(32), 3, bytes(32), "{}")
    return [SignedTotal(opening, total, bytes(64)).to_bytes()]


TARGETS = (
    Target(
        "paillier-public-key",
        _public_key,
        _ERRORS,
        lambda: documents.seeds(_public_keys()),
        0.6,
    ),
    Target(
        "paillier-private-key",
        _private_key,
        _ERRORS,
        lambda: documents.seeds(_private_keys()),
        0.6,
    ),
    Target("dgk-public-key", _dgk_public, _ERRORS, lambda: documents.seeds(_dgk_keys()), 0.6),
    Target("dgk-private-key", _dgk_private, _ERRORS, lambda: documents.seeds(_dgk_privates()), 0.6),
    Target("dgk-ciphertexts", _dgk_ciphertexts, _ERRORS, _dgk_ciphertext_seeds, limit=256),
    Target("paillier-ciphertexts", _ciphertexts, _ERRORS, _ciphertext_seeds, limit=300),
    Target("encrypted-vector", _encrypted_vector, _ERRORS, _vector_seeds),
    Target("envelope", _unseal, _ERRORS, _envelope_seeds, 0.6),
    Target(
        "binding",
        _binding,
        _ERRORS,
        lambda: [_BINDING.to_bytes(), Binding("r", "p", 0, 0, ()).to_bytes()],
    ),
    Target("fields", _fields, _ERRORS, lambda: [encode_fields(b"", b"abc", bytes(300)), bytes(20)]),
    Target("value-key", _value_key, (*_ERRORS, ProtocolError), _value_key_seeds, 0.6),
    Target(
        "ticketed-sum",
        lambda data: _ticketed_sum(data, PAILLIER),
        _ERRORS,
        lambda: _ticketed_sum_seeds(PAILLIER),
        0.6,
        8192,
    ),
    Target("masked-vector", _masked_vector, _ERRORS, _masked_vector_seeds),
    Target("masked-sum", _masked_sum, _ERRORS, _masked_sum_seeds, limit=8192),
    Target("sum-of-a-scheme", _sum_of_a_scheme, _ERRORS, _sum_of_a_scheme_seeds, limit=8192),
    Target("ticket", _ticket, _ERRORS, _ticket_seeds),
    Target("running-sum", _running_sum, _ERRORS, _payload_seeds),
    Target("total", _total, _ERRORS, _total_seeds),
    Target("run-key", _run_key, _ERRORS, _run_key_seeds),
    Target("signed-total", _signed_total, _ERRORS, _signed_total_seeds),
    Target(
        "public-identity",
        _public_identity,
        _ERRORS,
        lambda: documents.seeds(_public_identities()),
        0.6,
    ),
    Target("private-identity", _identity, _ERRORS, lambda: documents.seeds(_identities()), 0.6),
    Target("manifest", _manifest, _ERRORS, lambda: documents.seeds(_manifests()), 0.3, 16384),
    Target("protected-file", _protected_file, _ERRORS, lambda: documents.seeds(_protected()), 0.02),
    Target(
        "passphrase-file",
        _passphrase_file,
        _ERRORS,
        lambda: [b"correct horse\r\n", "é".encode(), b"", b"\xff"],
        0.3,
        2048,
    ),
    Target("packing", _packing, _ERRORS, lambda: documents.seeds(_packings())),
    Target(
        "strict-json",
        _strict_json,
        _ERRORS,
        lambda: [b'{"a":1,"b":[2]}', b'{"a":1,"a":2}', b"[" * 99],
    ),
    Target("base64url", _base64, _ERRORS, lambda: [b"AQID", b"_-8", b"AA", b"AB=="]),
)
