from __future__ import annotations

import threading
from contextvars import ContextVar
from time import monotonic, sleep, time

import numpy as np
import pytest
from deployed_nodes import KEY
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from reply_forms import form_of

from fl_he.clients.encryption import encryption_mod
from fl_he.clients.key_holder import with_key_holder
from fl_he.clients.node import pace
from fl_he.clients.node.pace import wait_for_grid, within
from fl_he.crypto.paillier.packing import Packing
from fl_he.wire.encrypted_sum import DESCRIBE, FINISH, EncryptionRequest
from fl_he.wire.records import PrivateReasonError
from fl_he.wire.sealed_messages import JOIN

VARIABLE: ContextVar[int] = ContextVar("variable", default=0)


def test_a_call_in_time_is_as_if_there_was_no_limit() -> None:
    VARIABLE.set(3)
    assert within(60.0, VARIABLE.get) == 3
    assert within(None, threading.current_thread) is threading.current_thread()
    with pytest.raises(KeyError, match="x"):
        within(60.0, lambda: dict[str, int]()["x"])


def test_a_call_that_takes_longer_is_left_alone() -> None:
    release = threading.Event()
    with pytest.raises(PrivateReasonError, match=r"longer than app-seconds, 0\.05"):
        within(0.05, release.wait)
    release.set()


@pytest.mark.parametrize(("passed", "whole"), [(0.0, 0.2), (0.05, 0.2), (0.25, 0.4)])
def test_replies_leave_at_whole_multiples(passed: float, whole: float) -> None:
    start = monotonic() - passed
    wait_for_grid(start, 0.2)
    assert whole <= monotonic() - start < whole + 0.15


def test_a_time_that_rounds_to_a_whole_multiple_is_none_to_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passed, seconds = 44.00000000000001, 1.1
    assert passed / seconds == 40.0
    assert passed > 40.0 * seconds
    monkeypatch.setattr(pace, "monotonic", lambda: passed)
    wait_for_grid(0.0, seconds)


class Node:
    """A deployed hospital whose app takes its time, or fails."""

    def __init__(self, **settings: float) -> None:
        self.seconds = 0.0
        self.error: BaseException | None = None
        self.config: UserConfig = {
            "role": "hospital",
            "name": f"clinic-{id(self)}",
            "key-fingerprint": KEY.public_key.fingerprint,
            **{key.replace("_", "-"): value for key, value in settings.items()},
        }
        self.context = Context(1, 5, self.config, RecordDict(), {})
        app = ClientApp(mods=[encryption_mod])

        @app.train()
        def train(message: Message, context: Context) -> Message:
            sleep(self.seconds)
            if self.error is not None:
                raise self.error
            arrays = ArrayRecord({"w": Array(np.ones(2))})
            metrics = MetricRecord({"num-examples": 7})
            return Message(RecordDict({"a": arrays, "m": metrics}), reply_to=message)

        self.app = with_key_holder(app)

    def ask(self, seconds: float) -> tuple[Message, float]:
        self.seconds, start = seconds, monotonic()
        request = EncryptionRequest(KEY.public_key.to_json(), Packing().to_json(), "s", 1)
        reply = self.app(Message(request.to_content(), 5, "train"), self.context)
        return reply, monotonic() - start


def test_how_long_the_app_took_does_not_show() -> None:
    node = Node(reply_seconds=1)
    for seconds in (0.0, 0.4):
        before = time()
        reply, took = node.ask(seconds)
        assert 1.0 <= took < 1.5
        assert reply.metadata.created_at - before >= 1.0, "a message says when it was made"


@pytest.mark.parametrize("action", ["train", "evaluate", DESCRIBE, FINISH, JOIN, "query.others"])
def test_every_reply_of_a_hospital_leaves_on_the_grid(action: str) -> None:
    """Refusals and answers without numbers, too: the table was read before."""
    start = monotonic()
    node = Node(reply_seconds=0.5)
    reply = node.app(Message(RecordDict(), 5, action), node.context)
    assert reply.has_error() is (action != DESCRIBE)
    assert 0.5 <= monotonic() - start < 0.9


def test_company_x_answers_at_once() -> None:
    node = Node()
    node.config["role"] = "key-holder"
    start = monotonic()
    assert node.app(Message(RecordDict(), 5, DESCRIBE), node.context).has_error()
    assert monotonic() - start < 0.4


def test_an_app_that_takes_too_long_contributes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    node = Node(app_seconds=0.2, reply_seconds=0)
    usual, _ = node.ask(0.0)
    late, seconds = node.ask(1.0)
    assert seconds < 0.9
    assert form_of(late) == form_of(usual)
    assert "the app took longer than app-seconds, 0.2" in caplog.text


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_app_that_exits_contributes_nothing(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(reply_seconds=0)
    usual, _ = node.ask(0.0)
    node.error = kind("Miller, born 1950")
    failed, _ = node.ask(0.0)
    assert form_of(failed) == form_of(usual)
    assert f"the app raised {kind.__name__}" in caplog.text
    assert "Miller" not in caplog.text
