"""Messages through the coordinator of a sealed chain: nobody on the way can read them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from flwr.app import Message, MetricRecord, RecordDict
from identities import make
from message_search import blobs, factors, leaks
from plaintext_search import DOUBLES, telling
from sealed_federation import COMPANY, FEATURES, Federation

from fl_he.clients.totals.payload import RunningSum
from fl_he.crypto.encoding.canonical import decode_fields
from fl_he.crypto.envelopes.identity import Identity
from fl_he.crypto.errors import CryptoError
from fl_he.learning.regression.likelihood import examples_of, mean_gradient
from fl_he.wire.encrypted_sum import FINISH
from fl_he.wire.model import read_model_arrays, update_content
from fl_he.wire.totals import Total

HOSPITALS = {"north": 40, "south": 25, "east": 60, "west": 31}
ROUNDS = 3


class Envelope(NamedTuple):
    """The parts of an envelope, cut as the documentation of the format says."""

    context: bytes
    ciphertext: bytes


class Record(NamedTuple):
    """A whole run: the coordinator's view, and the rest."""

    federation: Federation
    messages: list[Message]
    models: list[tuple[np.ndarray, float]]


@pytest.fixture
def record(tmp_path: Path) -> Record:
    federation = Federation(tmp_path, HOSPITALS)
    models = {}

    def keep() -> None:
        for name in HOSPITALS:
            state = federation.state(name)
            models[state.after] = read_model_arrays(state.learnt.model)

    federation.run(ROUNDS, lambda _: keep())
    keep()
    assert list(models) == list(range(ROUNDS + 1))
    assert len({model[1] for model in models.values()}) == ROUNDS + 1
    messages = federation.grid.sent + federation.grid.received
    return Record(federation, messages, list(models.values()))


def envelopes(messages: Iterable[Message]) -> set[Envelope]:
    """Return all envelopes that stand anywhere in the messages."""
    found = set()
    for blob in blobs(messages):
        if blob.startswith(b"FLSE"):
            _, _, context, payload = struct.unpack_from(">4sBIQ", blob)
            end = len(blob) - 64
            assert end == 17 + context + payload + 1136
            found.add(Envelope(blob[17 : 17 + context], blob[17 + context : end]))
    return found


def opened(envelope: Envelope, identity: Identity) -> bytes | None:
    try:
        return identity.open(envelope.ciphertext, envelope.context)
    except CryptoError:
        return None


def addressee(envelope: Envelope, federation: Federation) -> str:
    digest = decode_fields(envelope.context, "context", 4)[2]
    return next(n for n, i in federation.identities.items() if i.public.digest == digest)


def test_every_envelope_opens_for_its_addressee_and_nobody_else(record: Record) -> None:
    strangers = [make("mallory"), make("north", number=1), make(COMPANY, "key-holder", 1)]
    found = envelopes(record.messages)
    # Statements, value keys in two messages, hops with the one for company X, and totals, of which
    # company X keeps one.
    assert len(found) == len(HOSPITALS) * (3 + ROUNDS + ROUNDS) + ROUNDS
    for envelope in found:
        name = addressee(envelope, record.federation)
        everybody = [*record.federation.identities.values(), *strangers]
        assert [i.public.name for i in everybody if opened(envelope, i) is not None] == [name]


def secret_values(record: Record) -> dict[str, float]:
    """Return every number of every model and total, and every hospital's own gradients."""
    values: dict[str, float] = {}
    for step, (coefficients, intercept) in enumerate(record.models):
        for i, value in enumerate([*coefficients, intercept]):
            values[f"model {step}[{i}]"] = float(value)
        for name, part in record.federation.data.items():
            examples = examples_of(part, np.append(coefficients, intercept))
            numbers = [*map(float, mean_gradient(examples)), float(np.mean(examples.losses))]
            for i, value in enumerate(numbers):
                values[f"gradient {step} of {name}[{i}]"] = value
                values[f"weighted gradient {step} of {name}[{i}]"] = value * part.examples
    for payload in payloads(record, b"fl-he total 4"):
        total = Total.from_bytes(payload)
        for i, value in enumerate(total.values):
            values[f"total after {total.after}[{i}]"] = float(value)
            values[f"mean after {total.after}[{i}]"] = float(value / total.values[1])
    return telling(values)


def payloads(record: Record, label: bytes) -> list[bytes]:
    """Return the contents of the envelopes of one kind, opened by their recipients."""
    found = []
    for envelope in envelopes(record.messages):
        identity = record.federation.identities[addressee(envelope, record.federation)]
        payload = opened(envelope, identity)
        assert payload is not None
        if label in payload[:40]:
            found.append(payload)
    return found


def test_the_messages_hold_no_total_no_model_and_no_update(record: Record) -> None:
    values = secret_values(record)
    totals = [name for name in values if name.startswith("total")]
    assert len(totals) >= ROUNDS * len(FEATURES)
    assert leaks(record.messages, values, DOUBLES) == set()
    beside_envelopes = [
        Message(RecordDict(dict(message.content.config_records)), 1, "train")
        for message in record.messages
    ]
    assert leaks(beside_envelopes, values) == set()


def test_nor_any_ciphertext_under_company_xs_key(record: Record) -> None:
    everything = b"\n".join(blobs(record.messages))
    sums = [RunningSum.from_bytes(p) for p in payloads(record, b"fl-he running sum 1")]
    assert len(sums) == ROUNDS * len(HOSPITALS)
    width = record.federation.key.public_key.ciphertext_bytes
    for summed in sums:
        ciphertext = summed.vector[-width:]
        assert ciphertext not in everything
        assert ciphertext[: width // 2] not in everything
        assert str(int.from_bytes(ciphertext, "big")).encode() not in everything


def test_nor_a_private_key(record: Record) -> None:
    assert factors(record.messages, record.federation.key.public_key.n) == []
    everything = b"\n".join(blobs(record.messages))
    for name in record.federation.identities:
        text = (record.federation.folder / f"{name}.json").read_text()
        for member in ("signing", "sealing"):
            secret = text.split(f'"{member}":"')[1].split('"')[0]
            assert secret.encode() not in everything


def test_messages_are_envelopes_names_and_costs(record: Record) -> None:
    for message in record.messages:
        for arrays in message.content.array_records.values():
            stypes = {array.stype for array in arrays.values()}
            assert stypes in ({"fl-he.envelope"}, {"fl-he.run-key"})
    for reply in record.federation.grid.received:
        kind = reply.metadata.message_type
        if kind == FINISH:
            assert not list(reply.content.keys())
        assert not reply.content.metric_records
        if kind == "train":
            assert set(reply.content.config_records["fl-he"]) == {"update-bytes"}


def test_the_search_would_find_a_total(record: Record) -> None:
    values = secret_values(record)
    name, value = next((n, v) for n, v in values.items() if n == "total after 1[2]")
    leaky = Message(update_content(None, MetricRecord({"x": value})), 1, "train")
    assert leaks([leaky], values) == {name}
