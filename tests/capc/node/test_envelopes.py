"""Envelopes between two nodes of a batch, out of order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from capc_nodes import ANSWERING, QUERYING, agreement, capc_nodes
from flwr.app import Context, RecordDict

from fl_he.capc.messages import CapcReply, CapcRequest
from fl_he.capc.node.envelopes import Envelopes
from fl_he.capc.node.party import Memory
from fl_he.capc.protocol import SUM, CapcStep
from fl_he.clients.node.enrolment import read_enrolment
from fl_he.crypto.errors import CryptoError
from fl_he.wire.records import ProtocolError

SESSION = "ab" * 16
REQUEST = CapcRequest(SESSION, 2, QUERYING, ANSWERING)
FIRST = ANSWERING[0]


@pytest.fixture
def contexts(tmp_path: Path) -> dict[str, Context]:
    nodes = capc_nodes(tmp_path, np.array([[1.0, 1.0]]))
    return {
        str(node["name"]): Context(7, number, node, RecordDict(), {})
        for number, node in enumerate(nodes)
    }


def envelopes(context: Context, request: CapcRequest = REQUEST) -> Envelopes:
    """Return a node's envelopes, as the process of a new message makes them."""
    enrolment = read_enrolment(context)
    assert enrolment is not None
    return Envelopes(enrolment, agreement(), request, Memory(context, request.session))


def sent(contexts: dict[str, Context], step: CapcStep, data: bytes) -> bytes:
    """Have the querying party seal a part for an answering party."""
    reply = envelopes(contexts[QUERYING]).seal(step, CapcReply({FIRST: data}))
    return reply.part(FIRST)


def opened(contexts: dict[str, Context], step: CapcStep, envelope: bytes) -> bytes:
    """Have the answering party open it."""
    request = CapcRequest(SESSION, 2, QUERYING, ANSWERING, parts={"bits": envelope})
    return envelopes(contexts[FIRST]).open(step, request).part("bits")


def test_envelopes_of_one_kind_open_in_their_order(contexts: dict[str, Context]) -> None:
    units = sent(contexts, CapcStep.UNIT_BITS, b"of units")
    logits = sent(contexts, CapcStep.LOGIT_BITS, b"of logits")
    assert opened(contexts, CapcStep.COMPARE_UNITS, units) == b"of units"
    assert opened(contexts, CapcStep.COMPARE, logits) == b"of logits"


def test_one_does_not_open_twice(contexts: dict[str, Context]) -> None:
    units = sent(contexts, CapcStep.UNIT_BITS, b"of units")
    assert opened(contexts, CapcStep.COMPARE_UNITS, units) == b"of units"
    with pytest.raises(CryptoError, match="the envelope's round must be 1, got 0"):
        opened(contexts, CapcStep.COMPARE, units)


def test_one_does_not_open_before_its_turn(contexts: dict[str, Context]) -> None:
    sent(contexts, CapcStep.UNIT_BITS, b"of units")
    logits = sent(contexts, CapcStep.LOGIT_BITS, b"of logits")
    with pytest.raises(CryptoError, match="the envelope's round must be 0, got 1"):
        opened(contexts, CapcStep.COMPARE_UNITS, logits)


def test_an_envelope_is_for_one_node(contexts: dict[str, Context]) -> None:
    envelope = sent(contexts, CapcStep.LOGIT_BITS, b"bits")
    request = CapcRequest(SESSION, 2, QUERYING, ANSWERING, parts={"bits": envelope})
    with pytest.raises(CryptoError, match="the envelope must be for st-luke"):
        envelopes(contexts[ANSWERING[1]]).open(CapcStep.COMPARE, request)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        (FIRST, {"answering": ("st-nobody", *ANSWERING[1:])}, "hospitals of the manifest"),
        (FIRST, {"answering": (*ANSWERING, FIRST)}, "each of them once"),
        (FIRST, {"answering": ANSWERING[:2]}, "answering parties must be at least 3"),
        (FIRST, {"querying": ANSWERING[1], "answering": (FIRST, ANSWERING[2], QUERYING)},
         "must have its keys in the agreement, got 'st-luke'"),
    ],
)  # fmt: skip
def test_who_takes_part_is_checked_before_anything_is_opened(
    contexts: dict[str, Context], name: str, change: Any, reason: str
) -> None:
    with pytest.raises(ProtocolError, match=reason):
        envelopes(contexts[name], replace(REQUEST, **change))


def test_who_takes_no_part_opens_and_seals_nothing(contexts: dict[str, Context]) -> None:
    """Otherwise a coordinator could make it answer a batch that does not name it."""
    enrolment = read_enrolment(contexts[ANSWERING[2]])
    assert enrolment is not None
    two = agreement(min_contributors=2)
    request = replace(REQUEST, answering=ANSWERING[:2])
    with pytest.raises(ProtocolError, match="st-mary takes no part in this batch"):
        Envelopes(enrolment, two, request, Memory(contexts[ANSWERING[2]], SESSION))


def test_the_first_party_of_a_chain_is_handed_no_sum(contexts: dict[str, Context]) -> None:
    request = replace(REQUEST, parts={"positions": b"", SUM.name: b""})
    with pytest.raises(ProtocolError, match="the first answering party is handed no sum"):
        envelopes(contexts[FIRST], request).open(CapcStep.COLLECT, request)


def test_the_last_partys_sum_goes_to_nobody_without_noise(contexts: dict[str, Context]) -> None:
    with pytest.raises(ProtocolError, match="the last one's must have the guardian's noise"):
        envelopes(contexts[ANSWERING[-1]]).seal(CapcStep.COLLECT, CapcReply({SUM.name: b"votes"}))


def test_it_is_longer_than_its_payload_and_shows_nothing_of_it(
    contexts: dict[str, Context],
) -> None:
    payload = b"a part in plain" * 10
    envelope = sent(contexts, CapcStep.LOGIT_BITS, payload)
    assert payload[:15] not in envelope
    assert len(envelope) > len(payload)
