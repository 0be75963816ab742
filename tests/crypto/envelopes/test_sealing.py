from __future__ import annotations

import dataclasses
import hashlib
import re
import struct
import tracemalloc
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
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
from hypothesis import given, settings
from hypothesis import strategies as st
from identities import COMPANY, EAST, NORTH, SOUTH, make

from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.envelopes.public_identity import PublicIdentity
from fl_he.crypto.envelopes.sealing import Binding, seal, unseal
from fl_he.crypto.errors import CryptoError

BINDING = Binding("run-7", "running-sum", 3, 2, ("east", "north"))
PAYLOAD = b"the running sum"
ENVELOPE = seal(PAYLOAD, NORTH, SOUTH.public, BINDING)

# The format as `sealing` describes it, computed here with only the package's keys.
SUITE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
HEADER = struct.Struct(">4sBIQ")


def fields(*parts: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def context_of(
    sender: PublicIdentity,
    recipient: PublicIdentity,
    binding: Binding = BINDING,
    label: bytes = b"fl-he envelope 1",
) -> bytes:
    names = [name.encode() for name in binding.contributors]
    numbers = [struct.pack(">Q", number) for number in (binding.round, binding.position)]
    inner = fields(binding.run.encode(), binding.purpose.encode(), *numbers, *names)
    return fields(label, sender.digest, recipient.digest, inner)


def encrypt(payload: bytes, recipient: PublicIdentity, info: bytes) -> bytes:
    key = MLKEM768X25519PublicKey(
        MLKEM768PublicKey.from_public_bytes(recipient.sealing_key[:1184]),
        X25519PublicKey.from_public_bytes(recipient.sealing_key[1184:]),
    )
    return SUITE.encrypt(payload, key, info)


def assemble(context: bytes, ciphertext: bytes, signer: Identity) -> bytes:
    digest = hashlib.sha512(ciphertext).digest()
    signature = signer.sign(fields(b"fl-he envelope signature 1", context, digest))
    header = HEADER.pack(b"FLSE", 1, len(context), len(ciphertext) - 1136)
    return header + context + ciphertext + signature


def test_an_envelope_is_what_its_description_says() -> None:
    signing_seed, sealing_seed = bytes(range(32)), bytes(range(32, 64))
    sender = Identity("a", "hospital", signing_seed, bytes(32))
    recipient = Identity("b", "key-holder", bytes(32), sealing_seed)
    envelope = seal(PAYLOAD, sender, recipient.public, BINDING)

    context = context_of(sender.public, recipient.public)
    magic, version, context_bytes, payload_bytes = HEADER.unpack_from(envelope)
    assert (magic, version, context_bytes, payload_bytes) == (b"FLSE", 1, len(context), 15)
    assert envelope[HEADER.size :].startswith(context)
    start, end = HEADER.size + len(context), len(envelope) - 64
    ciphertext, signature = envelope[start:end], envelope[end:]
    assert len(ciphertext) == 15 + 1120 + 16

    statement = fields(b"fl-he envelope signature 1", context, hashlib.sha512(ciphertext).digest())
    key = Ed25519PrivateKey.from_private_bytes(signing_seed).public_key()
    key.verify(signature, statement)

    expanded = hashlib.shake_256(sealing_seed).digest(96)
    private = MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(expanded[:64]),
        X25519PrivateKey.from_private_bytes(expanded[64:]),
    )
    assert SUITE.decrypt(ciphertext, private, context) == PAYLOAD


def test_what_others_make_by_the_description_opens() -> None:
    context = context_of(NORTH.public, SOUTH.public)
    envelope = assemble(context, encrypt(PAYLOAD, SOUTH.public, context), NORTH)
    assert unseal(envelope, SOUTH, NORTH.public, BINDING) == PAYLOAD


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([NORTH, SOUTH, COMPANY]))
def test_round_trip(payload: bytes, sender: Identity) -> None:
    binding = dataclasses.replace(BINDING, contributors=())
    for recipient in (COMPANY, EAST):
        envelope = seal(payload, sender, recipient.public, binding)
        assert unseal(envelope, recipient, sender.public, binding) == payload


def test_nothing_of_the_payload_shows_but_its_length() -> None:
    payload = b"patients " * 50
    first, second = (seal(payload, NORTH, SOUTH.public, BINDING) for _ in range(2))
    assert first != second
    assert b"patients" not in first
    assert len(first) == len(second) == len(ENVELOPE) + len(payload) - len(PAYLOAD)


def test_large_payloads_are_copied_little() -> None:
    payload = bytes(8_000_000)
    tracemalloc.start()
    envelope = seal(payload, NORTH, SOUTH.public, BINDING)
    sealing_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    held = tracemalloc.get_traced_memory()[0]
    opened = unseal(envelope, SOUTH, NORTH.public, BINDING)
    opening_peak = tracemalloc.get_traced_memory()[1] - held
    tracemalloc.stop()
    assert opened == payload
    assert sealing_peak < 2.1 * len(payload)  # the ciphertext and the envelope
    assert opening_peak < 1.1 * len(payload)  # the payload


def refusal(
    envelope: bytes,
    recipient: Identity = SOUTH,
    sender: PublicIdentity = NORTH.public,
    binding: Binding = BINDING,
) -> str:
    """Return the text of `unseal`'s refusal."""
    with pytest.raises(CryptoError) as caught:
        unseal(envelope, recipient, sender, binding)
    return str(caught.value)


def test_every_changed_byte_is_found() -> None:
    for at in range(len(ENVELOPE)):
        mutated = bytearray(ENVELOPE)
        mutated[at] ^= 1 << (at % 8)
        refusal(bytes(mutated))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_envelopes_are_refused(data: st.DataObject) -> None:
    mutated = bytearray(ENVELOPE)
    at = data.draw(st.integers(0, len(mutated)))
    mutated[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
    if mutated != ENVELOPE:
        refusal(bytes(mutated))


@settings(deadline=None)
@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda end: b"FLSE\x01" + end))
def test_hostile_bytes_are_refused(data: bytes) -> None:
    refusal(data)


def test_altered_envelopes_each_have_their_message() -> None:
    size = len(ENVELOPE)
    start = HEADER.size + len(context_of(NORTH.public, SOUTH.public))
    altered = "the envelope is not as north signed it: altered or forged"
    assert refusal(b"") == "an envelope must have at least 17 bytes, got 0"
    assert refusal(ENVELOPE[:16]) == "an envelope must have at least 17 bytes, got 16"
    assert refusal(b"FLHE" + ENVELOPE[4:]) == "an envelope must start with b'FLSE', got b'FLHE'"
    assert refusal(b"FLSE\x02" + ENVELOPE[5:]) == "the envelope's version must be 1, got 2"
    for cut in (ENVELOPE[:17], ENVELOPE[:-1], ENVELOPE[:-64], ENVELOPE + b"\0"):
        assert refusal(cut) == f"the envelope must have {size} bytes, got {len(cut)}"
    for at in (start, start + 1120, size - 65, size - 64, size - 1):
        assert refusal(ENVELOPE[:at] + bytes([ENVELOPE[at] ^ 1]) + ENVELOPE[at + 1 :]) == altered
    in_binding = ENVELOPE.replace(b"running-sum", b"running-bum")
    assert refusal(in_binding) == altered
    long = HEADER.pack(b"FLSE", 1, 2**19 + 1, 0) + bytes(2**20)
    assert refusal(long) == "the envelope's context must have at most 524288 bytes, got 524289"
    enormous = HEADER.pack(b"FLSE", 1, 0, 2**64 - 1)
    assert refusal(enormous) == f"the envelope must have {2**64 - 1 + 17 + 1200} bytes, got 17"


@pytest.mark.parametrize(
    ("field", "sent", "message"),
    [
        ("run", "run-6", "the envelope's run must be 'run-7', got 'run-6'"),
        ("purpose", "total", "the envelope's purpose must be 'running-sum', got 'total'"),
        ("round", 2, "the envelope's round must be 3, got 2"),
        ("position", 1, "the envelope's position must be 2, got 1"),
        (
            "contributors",
            ("east",),
            "the envelope's contributors must be ('east', 'north'), got ('east',)",
        ),
        (
            "contributors",
            ("north", "east"),
            "the envelope's contributors must be ('east', 'north'), got ('north', 'east')",
        ),
    ],
)
def test_an_envelope_from_elsewhere_in_the_run_is_refused(
    field: str, sent: Any, message: str
) -> None:
    binding = dataclasses.replace(BINDING, **{field: sent})
    envelope = seal(PAYLOAD, NORTH, SOUTH.public, binding)
    assert unseal(envelope, SOUTH, NORTH.public, binding) == PAYLOAD
    assert refusal(envelope) == message


def test_an_envelope_of_another_sender_is_refused() -> None:
    from_east = seal(PAYLOAD, EAST, SOUTH.public, BINDING)
    north, east = NORTH.public.fingerprint[:16], EAST.public.fingerprint[:16]
    message = f"the envelope must be from north ({north}), not from {east}"
    assert refusal(from_east) == message
    # North under its old keys is another sender too.
    assert "must be from north" in refusal(
        seal(PAYLOAD, make("north", number=1), SOUTH.public, BINDING)
    )


def test_an_envelope_for_another_recipient_is_refused() -> None:
    for_company = seal(PAYLOAD, NORTH, COMPANY.public, BINDING)
    south, company = SOUTH.public.fingerprint[:16], COMPANY.public.fingerprint[:16]
    message = f"the envelope must be for south ({south}), not for {company}"
    assert refusal(for_company) == message
    assert unseal(for_company, COMPANY, NORTH.public, BINDING) == PAYLOAD


def test_a_swapped_sealing_key_gains_nothing() -> None:
    """The coordinator gives North its own key as South's, reads, and seals again."""
    coordinator = make("south", number=666)
    swapped = dataclasses.replace(SOUTH.public, sealing_key=coordinator.public.sealing_key)
    caught = seal(PAYLOAD, NORTH, swapped, BINDING)
    south = SOUTH.public.fingerprint[:16]
    message = f"the envelope must be for south ({south}), not for {swapped.fingerprint[:16]}"
    assert refusal(caught) == message
    context = context_of(NORTH.public, SOUTH.public)
    forged = assemble(context, encrypt(PAYLOAD, SOUTH.public, context), coordinator)
    assert refusal(forged) == ("the envelope is not as north signed it: altered or forged")


def test_a_recipient_cannot_pass_a_senders_words_on() -> None:
    """South opens North's envelope, and seals its content for East with North's signature."""
    signature = ENVELOPE[-64:]
    for context in (
        context_of(NORTH.public, EAST.public),
        context_of(NORTH.public, SOUTH.public),
    ):
        forwarded = assemble(context, encrypt(PAYLOAD, EAST.public, context), SOUTH)
        passed_on = forwarded[:-64] + signature
        assert "as north signed it" in refusal(passed_on, EAST)
    assert "must be for east" in refusal(ENVELOPE, EAST)


def test_nobody_can_sign_what_they_cannot_read() -> None:
    """East takes North's signature off, puts its own one on and passes for the author."""
    context = context_of(EAST.public, SOUTH.public)
    ciphertext = ENVELOPE[HEADER.size + len(context) : -64]
    taken = assemble(context, ciphertext, EAST)
    message = "a ciphertext must be encrypted to this node's sealing key"
    assert refusal(taken, sender=EAST.public) == message


def test_what_cannot_be_opened_says_so() -> None:
    context = context_of(NORTH.public, SOUTH.public)
    message = "a ciphertext must be encrypted to this node's sealing key"
    for ciphertext in (
        encrypt(PAYLOAD, EAST.public, context),
        encrypt(PAYLOAD, SOUTH.public, b""),
        bytes(1136),
    ):
        assert refusal(assemble(context, ciphertext, NORTH)) == message


def test_a_signed_context_that_is_none_is_refused() -> None:
    """Even the right sender must keep to the format."""
    good = fields(NORTH.public.digest, SOUTH.public.digest)
    label = fields(b"fl-he envelope 1")
    for context, message in (
        (b"", "the envelope's context must be 4 fields, the first of them b'fl-he envelope 1'"),
        (b"\0", "the envelope's context must be a sequence of whole fields"),
        (label + good, "the envelope's context must be 4 fields"),
        (label + good + fields(b"", b""), "the envelope's context has more than 4 fields"),
        (context_of(NORTH.public, SOUTH.public, label=b"x"), "the envelope's context must be 4"),
        (label + good + fields(b""), "a binding must have a run, a purpose, a round and a"),
        (label + good + fields(b"\xff"), "a binding must be a sequence of whole fields"),
        (label + fields(NORTH.public.digest, b"", b""), "the envelope must be for south"),
        (label + fields(b"", SOUTH.public.digest, b""), "the envelope must be from north"),
    ):
        envelope = assemble(context, encrypt(PAYLOAD, SOUTH.public, context), NORTH)
        assert re.match(re.escape(message), refusal(envelope))


def test_the_signature_is_over_the_senders_key() -> None:
    """The independent check of the constant envelope that the mutations start from."""
    context = context_of(NORTH.public, SOUTH.public)
    ciphertext = ENVELOPE[HEADER.size + len(context) : -64]
    statement = fields(b"fl-he envelope signature 1", context, hashlib.sha512(ciphertext).digest())
    key = Ed25519PublicKey.from_public_bytes(NORTH.public.signing_key)
    key.verify(ENVELOPE[-64:], statement)
    assert unseal(ENVELOPE, SOUTH, NORTH.public, BINDING) == PAYLOAD
