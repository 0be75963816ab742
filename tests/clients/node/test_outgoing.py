from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import pytest
from flwr.app import Context, Message, RecordDict
from flwr.app.user_config import UserConfig

from fl_he.clients.node.app import read_node
from fl_he.clients.node.node import Node
from fl_he.clients.node.outgoing import PRIVATE_REFUSAL, answered
from fl_he.crypto.errors import CryptoError, KeyFileError, RangeError
from fl_he.learning.errors import DataError
from fl_he.wire.records import PrivateReasonError, ProtocolError

RECORD = "patient 4711 has 17.99"


SIMULATED: UserConfig = {"partition-id": 0, "num-partitions": 4}


class PanicException(BaseException):
    """The exception that libraries written in Rust raise."""


def answer(error: BaseException, node_config: UserConfig) -> str:
    def app(message: Message, node: Node) -> Message:
        raise error

    node = read_node(Context(1, 9, node_config, RecordDict(), {}))
    reply = answered(Message(RecordDict(), 1, "train"), node, app)
    assert reply.has_error()
    return str(reply.error.reason)


@pytest.mark.parametrize("kind", [ProtocolError, CryptoError])
@pytest.mark.parametrize("node_config", [{"role": "hospital"}, SIMULATED])
def test_public_refusals_leave_with_their_words(
    kind: type[Exception], node_config: UserConfig
) -> None:
    assert answer(kind("rounds must be at least 1"), node_config) == "rounds must be at least 1"


@pytest.mark.parametrize(
    "kind", [DataError, KeyFileError, PrivateReasonError, partial(RangeError, 0, "")]
)
def test_refusals_that_may_name_paths_or_columns_stay_in_the_log(
    kind: Callable[[str], Exception], caplog: pytest.LogCaptureFixture
) -> None:
    assert answer(kind(RECORD), {"role": "hospital"}) == PRIVATE_REFUSAL
    assert RECORD in caplog.text
    assert answer(kind(RECORD), SIMULATED) == RECORD


@pytest.mark.parametrize("kind", [ValueError, PanicException])
@pytest.mark.parametrize("node_config", [{"role": "hospital"}, {}])
def test_any_other_exception_leaves_as_the_same_text_without_its_type(
    kind: type[BaseException], node_config: UserConfig, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        assert answer(kind(RECORD), node_config) == PRIVATE_REFUSAL
    assert RECORD not in caplog.text
    assert f"{kind.__name__} in train at" in caplog.text
    assert "test_outgoing.py" in caplog.text


def test_a_simulation_says_everything() -> None:
    assert answer(ValueError(RECORD), SIMULATED) == f"ValueError: {RECORD}"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_the_end_of_the_process_is_not_an_answer(kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        answer(kind(), SIMULATED)
