"""Waiting for replies, with a clock that stands still unless somebody waits."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from local_grid import LocalGrid, SlowGrid, simulated_nodes
from lost_replies import error_of

from fl_he.strategies.exchange import ask_until_answered, exchange
from fl_he.strategies.skipping import error_reason, nobody_answered


def answering_app() -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, _: object) -> Message:
        return Message(RecordDict(), reply_to=message)

    return app


def slow_grid(clock: list[float], seconds: dict[int, float | None]) -> SlowGrid:
    return SlowGrid(
        answering_app(), simulated_nodes(3), clock, lambda m: seconds.get(m.metadata.dst_node_id)
    )


def train(node_id: int) -> Message:
    return Message(RecordDict(), node_id, "train")


def test_who_does_not_answer_in_time_is_said_so(clock: list[float]) -> None:
    grid = slow_grid(clock, {1000: 0.0, 1001: None})
    first, second = exchange(grid, [train(1000), train(1001)], timeout=5)
    assert first.has_content()
    assert second.metadata.src_node_id == 1001
    assert error_reason(second) == "no answer within 5 s"
    assert nobody_answered(second)
    assert 5 <= clock[0] < 6


def large(node_id: int, megabytes: int) -> Message:
    arrays = ArrayRecord({"w": Array(np.zeros(megabytes * 10**6, np.uint8))})
    return Message(RecordDict({"arrays": arrays}), node_id, "train")


@pytest.mark.parametrize(("megabytes", "seconds"), [(0, 5), (1, 35), (4, 125)])
def test_a_large_message_has_more_time(clock: list[float], megabytes: int, seconds: float) -> None:
    grid = slow_grid(clock, {1000: None})
    (reply,) = exchange(grid, [large(1000, megabytes)], timeout=5)
    assert nobody_answered(reply)
    assert seconds <= clock[0] < seconds + 1
    start = clock[0]
    assert nobody_answered(ask_until_answered(grid, lambda: large(1000, megabytes), timeout=5))
    assert seconds <= clock[0] - start < seconds + 1


def test_a_late_reply_is_not_waited_for_nor_taken(clock: list[float]) -> None:
    grid = slow_grid(clock, {1000: 7.0, 1001: 9.0})
    replies = list(exchange(grid, [train(1000)], 5)) + list(exchange(grid, [train(1001)], 20))
    assert [reply.has_error() for reply in replies] == [True, False]
    assert [reply.metadata.src_node_id for reply in grid.received] == [1001]


@pytest.mark.parametrize(
    ("seconds", "late", "looks"), [(0.1, 0.02, 7), (3.0, 0.3, 40), (60, 1, 200)]
)
def test_looks_delay_a_hop_little_and_are_few(
    clock: list[float], seconds: float, late: float, looks: int
) -> None:
    class Counting(SlowGrid):
        looks = 0

        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            self.looks += 1
            return super().pull_messages(message_ids)

    grid = Counting(answering_app(), simulated_nodes(3), clock, lambda _: seconds)
    list(exchange(grid, [train(1000)], timeout=100))
    assert seconds <= clock[0] <= seconds + late
    assert grid.looks <= looks


def test_a_quick_hop_after_a_long_one_is_not_delayed_by_it(clock: list[float]) -> None:
    grid = slow_grid(clock, {1000: 50.0, 1001: 0.1})
    answered: list[float] = []

    def following(_: Message) -> Message | None:
        answered.append(clock[0])
        return train(1001) if len(answered) == 1 else None

    list(exchange(grid, [train(1000)], 100, following))
    first, second = answered
    assert 0.1 <= second - first <= 0.15


def test_a_second_reply_to_a_message_is_thrown_away(clock: list[float]) -> None:
    class Twice(SlowGrid):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            replies = list(super().pull_messages(message_ids))
            return [*replies, *replies, *(Message(RecordDict(), reply_to=train(7)) for _ in "a")]

    grid = Twice(answering_app(), simulated_nodes(3), clock, lambda _: 1.0)
    assert len(list(exchange(grid, [train(1000), train(1001)], 5))) == 2


def test_replies_come_in_the_order_of_their_arrival(clock: list[float]) -> None:
    grid = slow_grid(clock, {1000: 2.0, 1001: 1.0, 1002: 0.0})
    replies = list(exchange(grid, [train(1000), train(1001), train(1002)], timeout=5))
    assert [reply.metadata.src_node_id for reply in replies] == [1002, 1001, 1000]


def test_each_message_that_follows_has_the_whole_timeout(clock: list[float]) -> None:
    grid = slow_grid(clock, {1000: 4.0, 1001: 4.0, 1002: 4.0})
    rest = [train(1001), train(1002)]
    replies = list(exchange(grid, [train(1000)], 5, lambda _: rest.pop(0) if rest else None))
    assert [reply.metadata.src_node_id for reply in replies] == [1000, 1001, 1002]
    assert not any(reply.has_error() for reply in replies)


def test_a_message_that_follows_gives_the_others_no_more_time(clock: list[float]) -> None:
    grid = slow_grid(clock, {1000: 4.0, 1001: 6.0, 1002: 4.0})
    rest = [train(1002)]
    replies = exchange(grid, [train(1000), train(1001)], 5, lambda _: rest.pop(0) if rest else None)
    answers = [(reply.metadata.src_node_id, reply.has_error()) for reply in replies]
    assert answers == [(1000, False), (1001, True), (1002, False)]


def test_waiting_for_ones_turn_in_a_process_is_no_failure(clock: list[float]) -> None:
    """A grid in one process has one node answer after another: the last has not begun in time."""
    app = ClientApp()

    @app.train()
    def work(message: Message, _: object) -> Message:
        clock[0] += 4.0
        return Message(RecordDict(), reply_to=message)

    grid = LocalGrid(app, simulated_nodes(4))
    replies = list(exchange(grid, [train(1000 + number) for number in range(4)], timeout=5))
    assert [reply.has_error() for reply in replies] == [False] * 4


def test_a_node_that_is_away_is_said_to_be(clock: list[float]) -> None:
    grid = slow_grid(clock, {1000: 0.0})
    grid.leave(1001)
    failed, answered = exchange(grid, [train(1001), train(1000)], 5)
    assert (failed.metadata.src_node_id, error_reason(failed)) == (1001, "it is not connected")
    assert answered.has_content()


def test_an_error_of_flowers_own_is_about_the_node_that_was_asked(clock: list[float]) -> None:
    def superlink(reply: Message) -> Message:
        reply.metadata.__dict__["_src_node_id"] = 1
        return error_of(reply, 5, "gone")

    grid = slow_grid(clock, {1001: 0.0})
    grid.tamper = superlink
    (reply,) = exchange(grid, [train(1001)], 5)
    assert (reply.metadata.src_node_id, error_reason(reply)) == (1001, "gone")


@pytest.mark.parametrize(
    ("reason", "shown"), [("a\x1b\nb", "a b"), ("", "error code 6"), (None, "error code 6")]
)
def test_the_reason_of_an_error(reason: str | None, shown: str) -> None:
    assert error_reason(Message(Error(6, reason), reply_to=train(1000))) == shown


def test_a_message_is_sent_again_until_it_is_answered(clock: list[float]) -> None:
    grid = slow_grid(clock, {1000: None})
    grid.seconds = lambda _: 2.0 if clock[0] > 50 else None
    reply = ask_until_answered(grid, lambda: train(1000), 600)
    assert reply.has_content()
    assert 50 < clock[0] < 50 + 60 + 2 + 1
    assert 3 <= len(grid.sent) <= 8


def test_the_answer_to_an_earlier_message_counts(clock: list[float]) -> None:
    grid = slow_grid(clock, {1000: 40.0})
    assert ask_until_answered(grid, lambda: train(1000), 600).has_content()
    assert 40 <= clock[0] < 41


def test_pauses_grow(clock: list[float]) -> None:
    times: list[float] = []

    def message() -> Message:
        times.append(clock[0])
        return train(1000)

    reply = ask_until_answered(slow_grid(clock, {}), message, 600)
    assert error_reason(reply).startswith("no answer within")
    pauses = [after - before for before, after in pairwise(times)]
    assert 7 <= pauses[0] <= 16
    assert all(29 <= pause <= 61 for pause in pauses[2:])
    assert len(set(pauses[2:])) > 3, "jitter"
    assert 600 <= clock[0] < 602


@pytest.mark.parametrize(
    "code",
    [
        *(ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE),
        *(ErrorCode.NODE_UNAVAILABLE, ErrorCode.CLIENT_APP_CRASHED),
    ],
)
def test_a_node_that_dies_at_work_is_asked_again(clock: list[float], code: int) -> None:
    grid = slow_grid(clock, {1000: 0.0})
    grid.tamper = lambda reply: Message(error=Error(code, "gone"), metadata=reply.metadata)  # type: ignore[call-overload]

    def message() -> Message:
        if clock[0] > 20:
            grid.tamper = lambda reply: reply
        return train(1000)

    assert ask_until_answered(grid, message, 600).has_content()


@pytest.mark.parametrize(
    "code", [ErrorCode.MOD_FAILED_PRECONDITION, ErrorCode.CLIENT_APP_RAISED_EXCEPTION]
)
def test_a_refusal_is_an_answer(clock: list[float], code: int) -> None:
    grid = slow_grid(clock, {1000: 0.0})
    grid.tamper = lambda reply: Message(error=Error(code, "no"), metadata=reply.metadata)  # type: ignore[call-overload]
    assert error_reason(ask_until_answered(grid, lambda: train(1000), 600)) == "no"
    assert len(grid.sent) == 1
