"""Waiting for replies, with a clock that stands still unless a test moves it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from flwr.app import Error, Message, RecordDict
from flwr.clientapp import ClientApp
from local_grid import LocalGrid, simulated_nodes

from fl_he.messages import ProtocolError
from fl_he.strategies import exchange as module
from fl_he.strategies.exchange import error_reason, exchange


class SlowGrid(LocalGrid):
    """A grid on which every reply takes so many seconds; None: it never comes."""

    def __init__(self, clock: list[float], seconds: Callable[[int], float | None]) -> None:
        app = ClientApp()

        @app.train()
        def train(message: Message, _: object) -> Message:
            return Message(RecordDict(), reply_to=message)

        super().__init__(app, simulated_nodes(3))
        self.clock, self.seconds = clock, seconds
        self.due: dict[str, float] = {}

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        listed = list(messages)
        ids = list(super().push_messages(listed))
        for message_id, message in zip(ids, listed, strict=True):
            wait = self.seconds(message.metadata.dst_node_id)
            if wait is not None:
                self.due[message_id] = self.clock[0] + wait
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        ready = [i for i in message_ids if self.due.get(i, float("inf")) <= self.clock[0]]
        return super().pull_messages(ready)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        assert now[0] < 60, "it polls for ever"

    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    monkeypatch.setattr(module, "sleep", sleep)
    return now


def train(node_id: int) -> Message:
    return Message(RecordDict(), node_id, "train")


def test_missing_replies_are_a_refusal_after_the_timeout(clock: list[float]) -> None:
    grid = SlowGrid(clock, lambda node: None if node == 1001 else 0.0)
    replies = exchange(grid, [train(1000), train(1001)], timeout=5)
    assert next(replies).metadata.src_node_id == 1000
    with pytest.raises(ProtocolError, match="must answer within 5 s, 1 did not"):
        next(replies)
    assert 5 <= clock[0] < 6


def test_replies_come_in_the_order_of_their_arrival(clock: list[float]) -> None:
    grid = SlowGrid(clock, lambda node: 1002.0 - node)
    replies = list(exchange(grid, [train(1000), train(1001), train(1002)], timeout=5))
    assert [reply.metadata.src_node_id for reply in replies] == [1002, 1001, 1000]


def test_each_message_that_follows_has_the_whole_timeout(clock: list[float]) -> None:
    grid = SlowGrid(clock, lambda node: 4.0)
    rest = [train(1001), train(1002)]
    replies = exchange(grid, [train(1000)], 5, lambda _: rest.pop(0) if rest else None)
    assert [reply.metadata.src_node_id for reply in replies] == [1000, 1001, 1002]


@pytest.mark.parametrize(
    ("reason", "shown"), [("a\x1b\nb", "a b"), ("", "error code 6"), (None, "error code 6")]
)
def test_the_reason_of_an_error(reason: str | None, shown: str) -> None:
    assert error_reason(Message(Error(6, reason), reply_to=train(1000))) == shown
