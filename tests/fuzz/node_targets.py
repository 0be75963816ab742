"""Whole nodes as targets: they must answer any message, or refuse it by an error of fl-he."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from deployed_nodes import KEY, deployed_nodes
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from fuzz.choices import Choices, edited
from fuzz.records import changed
from fuzz.target import Target
from ticketed_sums import MadeSum

from fl_he import client_app
from fl_he.clients.node import outgoing
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.schemes import MASKS, PAILLIER
from fl_he.crypto.tickets.ticketed_sum import scheme_and_tickets
from fl_he.wire import model as model_messages
from fl_he.wire.encrypted_sum import (
    DECRYPT,
    DESCRIBE,
    FIGURES,
    FINISH,
    MOMENTS,
    DecryptRequest,
    EncryptionRequest,
)
from fl_he.wire.learning_terms import MomentsRequest
from fl_he.wire.pairing import PAIR, SEEDS, Halves, SeedsRequest
from fl_he.wire.permission import PERMIT, PERMIT_SEALED, PermitRequest, SealedPermitRequest

#: The log line of a deployed node about an exception whose text it does not send.
_KEPT = re.compile(r"^(\w+) in \S+ at ")
_OURS = {
    *("ProtocolError", "PrivateReasonError", "CryptoError", "KeyFileError", "LedgerError"),
    *("RangeError", "DataError", "PrivacyError"),
}


class RefusedError(Exception):
    """A refusal of ours."""


@cache
def _nodes() -> list[dict[str, Any]]:
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 7, 5, 1
    folder = Path("nodes").absolute()
    folder.mkdir(exist_ok=True)
    return [dict(node) for node in deployed_nodes(folder)]


@cache
def _session() -> str:
    reply = _ask(_nodes()[-1], DESCRIBE, RecordDict())
    return str(reply.content.config_records["fl-he"]["session"])


@cache
def _contents() -> list[tuple[str, RecordDict]]:
    key, packing = KEY.public_key, Packing()
    request = EncryptionRequest(key.to_json(), packing.to_json(), _session(), 1)
    model = model_messages.model_message_content(
        model_messages.model_arrays(np.zeros(2), 0.0), ConfigRecord({"scaling": "none"})
    )
    summed, masked = (
        MadeSum(key, [3.0, 30.0, 0.5], scheme=scheme).to_bytes(_session())
        for scheme in (PAILLIER, MASKS)
    )
    _, issued = scheme_and_tickets(summed)
    tickets = {ticket.hospital: ticket.to_bytes() for ticket in issued}
    return [
        (DESCRIBE, RecordDict()),
        ("train", request.add_to(model)),
        ("evaluate", request.add_to(model)),
        (FIGURES, request.add_to(model)),
        (MOMENTS, request.add_to(MomentsRequest(sums=True, counts=True).to_content())),
        (DECRYPT, DecryptRequest(_session(), "train", 1, 3, summed).to_content()),
        (FINISH, model),
        ("train", replace(request, scheme=MASKS).add_to(model)),
        (DECRYPT, DecryptRequest(_session(), "train", 1, 3, masked).to_content()),
        (PERMIT, PermitRequest(_session(), "train", 1, tickets, 3).to_content()),
        (PERMIT_SEALED, SealedPermitRequest(_session(), 1, tuple(tickets)).to_content()),
        (SEEDS, SeedsRequest(_session(), tuple(tickets)).to_content()),
        (PAIR, Halves(_session(), tickets).to_content()),
    ]


class _Log(logging.Handler):
    """Keeps the types of exceptions that are no refusals."""

    def __init__(self) -> None:
        super().__init__()
        self.types: list[str] = []
        logging.getLogger(outgoing.__name__).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if found := _KEPT.search(record.getMessage()):
            self.types.append(found[1])


_LOG = _Log()


def _ask(config: Any, action: str, content: RecordDict) -> Message:
    _LOG.types.clear()
    context = Context(7, 5, config, RecordDict(), {})
    return client_app.app(Message(content, 5, action), context)


def _check(reply: Message) -> None:
    if not reply.has_error():
        return
    reason = str(reply.error.reason)
    if not _OURS.issuperset(_LOG.types):
        raise AssertionError(f"{_LOG.types}: {reason}")
    raise RefusedError(reason)


def _message(data: bytes) -> None:
    choices = Choices(data)
    action, content = _contents()[choices.below(256) % len(_contents())]
    node = _nodes()[(choices.below(256) + (action == DECRYPT)) % 2 * -1]
    _check(_ask(node, action, changed(content, choices.rest())))


def _configuration(data: bytes) -> None:
    choices = Choices(data)
    node = _nodes()[choices.below(256) % len(_nodes())]
    config = edited(node, choices)
    action, content = _contents()[choices.below(2)]
    # Flower's own type: texts, numbers, truth values
    flat = {
        key: value
        for key, value in (config.items() if isinstance(config, dict) else ())
        if isinstance(value, str | int | float)
    }
    _check(_ask(flat, action, content))


_PROGRAMS = (b"", bytes(range(4, 36)), bytes(range(36, 4, -1)), bytes([9] * 20), bytes([5, 3] * 9))

TARGETS = (
    Target(
        "node-messages",
        _message,
        (RefusedError,),
        lambda: [
            bytes([n, m]) + p for n in range(len(_contents())) for m in (0, 1) for p in _PROGRAMS
        ],
        0.03,
    ),
    Target(
        "node-configuration",
        _configuration,
        (RefusedError,),
        lambda: [bytes([n]) + p for n in range(4) for p in _PROGRAMS],
        0.03,
    ),
)
