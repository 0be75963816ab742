"""Hospitals that fail, leave, come back and join between rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Error, Message, RecordDict
from flwr.serverapp.strategy import FedAvg
from local_grid import LocalGrid, SlowGrid, simulated_nodes
from lost_replies import error_of
from quick import slow
from weighted_app import MODEL, strategy, train_app

from fl_he.strategies.encrypted_sum import EncryptedSum
from fl_he.strategies.skipping import Skipped, error_reason
from fl_he.wire.encrypted_sum import DECRYPT, DESCRIBE
from fl_he.wire.records import ProtocolError

TOPOLOGIES: list[dict[str, Any]] = [
    {"topology": "fold"},
    {"topology": "chain"},
    {"topology": "chain", "segments": 2},
    {"topology": "chain", "segments": 5},
]


def rounds(n: int, grid: LocalGrid, **settings: Any) -> tuple[EncryptedSum, Any]:
    encrypted = strategy(FedAvg(fraction_evaluate=0.0), hop_timeout=5.0, **settings)
    result = encrypted.start(grid, MODEL, num_rounds=n)
    return encrypted, result.arrays["w"].numpy()


def step(*hospitals: int) -> float:
    """Return by how much the model moves if hospital k counts 10 * k times and moves it by k."""
    return float(np.average(hospitals, weights=hospitals))


def is_train(message: Message, *nodes: int) -> bool:
    metadata = message.metadata
    return metadata.message_type == "train" and (
        metadata.src_node_id in nodes or metadata.dst_node_id in nodes
    )


def failing(reply: Message) -> Message:
    return error_of(reply, 6, "no\x1b[2Jt today\n")


@pytest.mark.parametrize("settings", TOPOLOGIES, ids=str)
@pytest.mark.parametrize("absent", [1, 3, 5])
@pytest.mark.parametrize("how", [failing, *slow((lambda _: None,))], ids=["error", "silence"])
def test_a_hospital_that_fails_is_left_out_and_asked_again(
    clock: list[float],
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, Any],
    absent: int,
    how: Callable[[Message], Message | None],
) -> None:
    failed: list[Message] = []

    def once(reply: Message) -> Message | None:
        if is_train(reply, 999 + absent) and not failed:
            failed.append(reply)
            return how(reply)
        return reply

    grid = LocalGrid(train_app(), simulated_nodes(5))
    grid.tamper = once
    encrypted, w = rounds(2, grid, **settings)
    there = [k for k in range(1, 6) if k != absent]
    np.testing.assert_allclose(w, np.array([1, -2]) + step(*there) + step(*range(1, 6)), atol=1e-6)
    first, second = encrypted.sums
    assert (first.contributors, first.examples) == (4, 10 * sum(there))
    (skipped,) = first.skipped
    assert skipped.name == f"hospital-{absent}"
    assert skipped.reason in ("no [2Jt today", "no answer within 5 s")
    assert f"{skipped.name} is skipped in this round: {skipped.reason}" in caplog.text
    assert (second.contributors, second.skipped) == (5, ())


@pytest.mark.parametrize("settings", TOPOLOGIES, ids=str)
def test_too_few_that_are_left_stop_the_run_with_their_reasons(
    clock: list[float], settings: dict[str, Any]
) -> None:
    def two_fail(reply: Message) -> Message | None:
        if is_train(reply, 1001):
            return failing(reply)
        return None if is_train(reply, 1003) else reply

    grid = LocalGrid(train_app(), simulated_nodes(4))
    grid.tamper = two_fail
    with pytest.raises(ProtocolError, match=r"at least 3 contributors .*, got 2$") as refused:
        rounds(1, grid, **settings)
    assert "hospital-2: no [2Jt today" in str(refused.value)
    assert "hospital-4: no answer within 5 s" in str(refused.value)
    assert not any(m.metadata.message_type == "query.decrypt" for m in grid.sent)


@pytest.mark.parametrize("settings", TOPOLOGIES, ids=str)
def test_a_reply_that_comes_late_enters_no_sum(
    clock: list[float], settings: dict[str, Any]
) -> None:
    slow: list[str] = []

    def seconds(message: Message) -> float:
        if is_train(message, 1001) and not slow:
            slow.append(message.metadata.message_id)
            return 5.5  # during the rest of this round, or the next
        return 1.0

    grid = SlowGrid(train_app(), simulated_nodes(4), clock, seconds)
    encrypted, w = rounds(3, grid, **settings)
    everybody = step(1, 2, 3, 4)
    np.testing.assert_allclose(w, np.array([1, -2]) + step(1, 3, 4) + 2 * everybody, atol=1e-6)
    assert [total.contributors for total in encrypted.sums] == [3, 4, 4]
    assert slow[0] not in [reply.metadata.reply_to_message_id for reply in grid.received]


def test_in_a_fold_all_have_the_same_time(clock: list[float]) -> None:
    grid = SlowGrid(train_app(), simulated_nodes(4), clock, lambda m: 4.0)
    grid.seconds = lambda m: None if is_train(m, 1001) else 4.0
    rounds(1, grid)
    assert clock[0] < 4 + 5 + 4 + 2, "descriptions, the round, the decryption"


def test_a_hospital_that_left_comes_back_as_another_node(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    grid = LocalGrid(train_app(), simulated_nodes(4))

    def one_restarts(reply: Message) -> Message:
        if is_train(reply, 1001) and 1001 in grid.contexts:
            old = grid.leave(1001)
            grid.join(2001, old.node_config)
            return failing(reply)
        return reply

    grid.tamper = one_restarts
    encrypted, w = rounds(2, grid)
    np.testing.assert_allclose(w, np.array([1, -2]) + step(1, 3, 4) + step(1, 2, 3, 4), atol=1e-6)
    assert encrypted.roster.hospitals[2001] == "hospital-2"
    assert 1001 not in encrypted.roster.hospitals
    assert "hospital-2 is not connected any more" in caplog.text
    assert "hospital-2 takes part from now on" in caplog.text
    described = [m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == DESCRIBE]
    assert sorted(described) == [1000, 1001, 1002, 1003, 1004, 2001]


def test_who_comes_back_under_the_same_id_describes_itself_again(clock: list[float]) -> None:
    grid = LocalGrid(train_app(), simulated_nodes(4))
    encrypted = strategy(FedAvg(fraction_evaluate=0.0))
    encrypted.start(grid, MODEL, num_rounds=1)
    back = grid.leave(1002)
    encrypted.resume(1, encrypted.roster.session, encrypted.roster.public_key.fingerprint)
    encrypted.start(grid, MODEL, num_rounds=1)
    grid.join(1002, back.node_config)
    encrypted.resume(2, encrypted.roster.session, encrypted.roster.public_key.fingerprint)
    encrypted.start(grid, MODEL, num_rounds=1)
    assert [total.contributors for total in encrypted.sums] == [4, 3, 4]
    described = [m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == DESCRIBE]
    assert described.count(1002) == 2


def test_a_hospital_that_joins_later_takes_part(clock: list[float]) -> None:
    nodes = simulated_nodes(4)
    grid = LocalGrid(train_app(), [*nodes[:3], nodes[4]])

    def joins(reply: Message) -> Message:
        if is_train(reply, 1000) and 2003 not in grid.contexts:
            grid.join(2003, nodes[3])
        return reply

    grid.tamper = joins
    encrypted, w = rounds(2, grid)
    assert [total.contributors for total in encrypted.sums] == [3, 4]
    np.testing.assert_allclose(w, np.array([1, -2]) + step(1, 2, 3) + step(1, 2, 3, 4), atol=1e-6)


def test_a_newcomer_that_does_not_fit_is_not_taken_in_and_asked_once(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    def features(context: Context) -> tuple[str, ...]:
        return ("size",) if context.node_id >= 2000 else ("age",)

    nodes = simulated_nodes(4)
    grid = LocalGrid(train_app(features), [*nodes[:3], nodes[4]])

    def joins(reply: Message) -> Message:
        if is_train(reply, 1000) and 2003 not in grid.contexts:
            grid.join(2003, nodes[3])
        return reply

    grid.tamper = joins
    encrypted, _ = rounds(3, grid)
    assert [total.contributors for total in encrypted.sums] == [3, 3, 3]
    assert "node 2003 takes no part in this run: hospitals must have the same" in caplog.text
    assert "hospital-4 differs" in caplog.text
    assert len([m for m in grid.sent if m.metadata.dst_node_id == 2003]) == 1


@pytest.mark.parametrize("how", [failing, lambda _: None], ids=["error", "silence"])
def test_a_newcomer_that_does_not_answer_is_asked_again(
    clock: list[float], how: Callable[[Message], Message | None]
) -> None:
    nodes = simulated_nodes(4)
    grid = LocalGrid(train_app(), [*nodes[:3], nodes[4]])
    asked: list[Message] = []

    def joins(reply: Message) -> Message | None:
        if is_train(reply, 1000) and 2003 not in grid.contexts:
            grid.join(2003, nodes[3])
        if reply.metadata.src_node_id == 2003 and not asked:
            asked.append(reply)
            return how(reply)
        return reply

    grid.tamper = joins
    encrypted, _ = rounds(3, grid)
    assert [total.contributors for total in encrypted.sums] == [3, 3, 4]


def test_a_second_company_x_with_another_key_is_a_stranger(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    nodes = simulated_nodes(3)
    grid = LocalGrid(train_app(), nodes)

    def joins(reply: Message) -> Message:
        if is_train(reply, 1000) and 2003 not in grid.contexts:
            grid.join(2003, nodes[3])
        return reply

    grid.tamper = joins
    encrypted, _ = rounds(2, grid)
    assert encrypted.roster.key_holder == 1003
    assert "company X must have the key with which the run began" in caplog.text


def test_a_round_that_begins_with_too_few_is_refused_by_name(clock: list[float]) -> None:
    grid = LocalGrid(train_app(), simulated_nodes(4))

    def two_leave(reply: Message) -> Message:
        if is_train(reply, 1001, 1002):
            grid.leave(reply.metadata.src_node_id)
        return reply

    grid.tamper = two_leave
    with pytest.raises(
        ProtocolError,
        match=r"begin with at least 3 hospitals, got 2 after 30 s; not connected: "
        "hospital-2, hospital-3",
    ):
        strategy(FedAvg(fraction_evaluate=0.0), wait=30.0).start(grid, MODEL, num_rounds=2)


def test_a_strategy_that_samples_goes_on_with_those_that_are_there(clock: list[float]) -> None:
    grid = LocalGrid(train_app(), simulated_nodes(8))
    sampled = strategy(FedAvg(fraction_train=0.5, min_train_nodes=3, fraction_evaluate=0.0))

    def two_leave(reply: Message) -> Message:
        if reply.metadata.message_type == DECRYPT and len(grid.contexts) == 9:
            grid.leave(1007)
            grid.leave(1006)
        return reply

    grid.tamper = two_leave
    sampled.start(grid, MODEL, num_rounds=2)
    assert [total.contributors for total in sampled.sums] == [4, 3]


def test_no_replies_are_waited_for_beyond_hop_timeout(clock: list[float]) -> None:
    grid = LocalGrid(train_app(), simulated_nodes(4))
    grid.tamper = lambda reply: None if is_train(reply, 1001) else reply
    encrypted = strategy(FedAvg(fraction_evaluate=0.0), hop_timeout=7.0)
    encrypted.start(grid, MODEL, num_rounds=1, timeout=0.001)
    assert encrypted.sums[0].skipped == (Skipped("hospital-2", "no answer within 7 s"),)
    assert 7 <= clock[0] < 8


@pytest.mark.parametrize(
    ("reason", "shown"),
    [
        ("<class 'ValueError'>:<'not today'>", "not today"),
        (
            "<class 'ray.E(F)'>:<'\x1b[36mray::run()\n  File x\nException: not 'today''>",
            "not 'today'",
        ),
        ("<class 'KeyError'>:<''>", "<class 'KeyError'>:<''>"),
        ("", "error code 2"),
    ],
)
def test_of_a_traceback_the_last_line_is_shown(reason: str, shown: str) -> None:
    asked = Message(RecordDict(), 5, "train")
    assert error_reason(Message(Error(2, reason), reply_to=asked)).endswith(shown)
