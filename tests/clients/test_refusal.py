from __future__ import annotations

import logging

import pytest
from flwr.app import Context, Message, RecordDict

from fl_he.clients.refusal import refusal_mod
from fl_he.crypto.errors import CryptoError
from fl_he.learning.errors import DataError
from fl_he.messages import ProtocolError

RECORD = "patient 4711 has 17.99"


def answer(error: Exception) -> Message:
    def app(message: Message, context: Context) -> Message:
        raise error

    message = Message(RecordDict(), 1, "train")
    context = Context(1, 1, {}, RecordDict(), {})
    return refusal_mod(message, context, app)


@pytest.mark.parametrize("kind", [ProtocolError, CryptoError, DataError])
def test_our_refusals_leave_with_their_words(kind: type[Exception]) -> None:
    reply = answer(kind("rounds must be at least 1, got 0"))
    assert reply.error.reason == "rounds must be at least 1, got 0"


def test_any_other_exception_leaves_as_its_type_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        reply = answer(ValueError(RECORD))
    assert RECORD not in str(reply.error.reason)
    assert "ValueError" in str(reply.error.reason)
    assert RECORD not in caplog.text
    assert "test_refusal.py" in caplog.text
