"""Hospitals that do not answer: the round waits, the run stops, or it continues without them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.common.constant import ErrorCode
from flwr.serverapp.strategy import FedAvg
from local_grid import LocalGrid, simulated_nodes
from lost_replies import crash, error_of
from quick import slow
from sealed_federation import Federation
from weighted_app import MODEL, strategy, train_app

from fl_he.strategies.dropouts import DropoutError, Waiting
from fl_he.strategies.encrypted_sum import EncryptedSum
from fl_he.strategies.roll_call import call_roll
from fl_he.wire.encrypted_sum import DECRYPT, DESCRIBE, Description
from fl_he.wire.records import ProtocolError

TOPOLOGIES: list[Any] = [
    {"topology": "fold"},
    {"topology": "chain"},
    *slow(({"topology": "chain", "segments": 2},)),
]
ALL = (1, 2, 3, 4)
NORTH, SOUTH, EAST, WEST = range(1000, 1004)


def federation(**settings: Any) -> tuple[LocalGrid, EncryptedSum]:
    grid = LocalGrid(train_app(), simulated_nodes(4))
    inner = FedAvg(fraction_evaluate=0.0, min_train_nodes=3, min_available_nodes=3)
    return grid, strategy(inner, hop_timeout=5.0, **settings)


def trained(grid: LocalGrid, encrypted: EncryptedSum) -> Any:
    return encrypted.start(grid, MODEL, num_rounds=2).arrays["w"].numpy()


def everybody(rounds: int = 2) -> Any:
    """Return the model after rounds with all hospitals, of which k moves it by k, 10 * k times."""
    return np.array([1, -2]) + rounds * np.average(ALL, weights=ALL)


def is_train(message: Message, node: int | None = None) -> bool:
    metadata = message.metadata
    return metadata.message_type == "train" and node in (None, metadata.dst_node_id)


def refusal(reply: Message) -> Message:
    return error_of(reply, ErrorCode.MOD_FAILED_PRECONDITION, "not today")


def second_round(
    grid: LocalGrid, how: Callable[[Message], Message | None], times: int, node: int = SOUTH
) -> None:
    """Have a hospital drop out the given number of times in the second round."""
    replies: list[Message] = []

    def tamper(reply: Message) -> Message | None:
        if reply.metadata.message_type != "train" or reply.metadata.src_node_id != node:
            return reply
        replies.append(reply)
        return how(reply) if 1 < len(replies) <= 1 + times else reply

    grid.tamper = tamper


def totals(grid: LocalGrid) -> int:
    return sum(message.metadata.message_type == DECRYPT for message in grid.sent)


@pytest.mark.parametrize("settings", TOPOLOGIES, ids=str)
@pytest.mark.parametrize("how", [crash, lambda _: None], ids=["crash", "silence"])
def test_who_is_waited_for_is_in_the_sum(
    clock: list[float],
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, Any],
    how: Callable[[Message], Message | None],
) -> None:
    grid, encrypted = federation(on_dropout="wait", **settings)
    second_round(grid, how, 3)
    np.testing.assert_allclose(trained(grid, encrypted), everybody(), atol=1e-6)
    assert [one.contributors for one in encrypted.sums] == [4, 4]
    assert [one.skipped for one in encrypted.sums] == [(), ()]
    assert totals(grid) == 2
    assert len([m for m in grid.sent if is_train(m, SOUTH)]) == 2 + 3
    answered = r"3" if settings["topology"] == "fold" else r"\d"  # a chain's order is random
    assert re.search(f"waiting for hospital-2, {answered} of 4 answered", caplog.text)
    assert clock[0] > 1 + 2 + 4, "the pauses grow"


def test_a_chain_hands_on_when_the_hospital_has_answered(clock: list[float]) -> None:
    grid, encrypted = federation(on_dropout="wait", topology="chain")
    second_round(grid, crash, 2)
    trained(grid, encrypted)
    asked = [m.metadata.dst_node_id for m in grid.sent if is_train(m)][4:]
    order = list(dict.fromkeys(asked))
    at = order.index(SOUTH)
    assert asked == [*order[:at], *[SOUTH] * 3, *order[at + 1 :]]
    assert sorted(order) == [NORTH, SOUTH, EAST, WEST]


@pytest.mark.parametrize("settings", TOPOLOGIES, ids=str)
@pytest.mark.parametrize("node", [NORTH, SOUTH, WEST])
def test_a_hospital_that_comes_back_as_another_node_is_asked_there(
    clock: list[float], caplog: pytest.LogCaptureFixture, settings: dict[str, Any], node: int
) -> None:
    """Its node of before is listed for a while."""
    grid, encrypted = federation(on_dropout="wait", **settings)
    back = node + 1000

    def dies(reply: Message) -> Message:
        grid.join(back, grid.contexts[node].node_config)
        return crash(reply)

    second_round(grid, dies, 1, node)
    tamper, looks = grid.tamper, [0]

    def gone_later(reply: Message) -> Message | None:
        found = tamper(reply)
        if back in grid.contexts and reply.metadata.src_node_id == node:
            looks[0] += 1
            if looks[0] == 2:  # asked again where nobody is
                grid.leave(node)
                return None
        return found

    grid.tamper = gone_later
    np.testing.assert_allclose(trained(grid, encrypted), everybody(), atol=1e-6)
    assert [one.contributors for one in encrypted.sums] == [4, 4]
    name = f"hospital-{node - 999}"
    assert f"node {back} takes no part yet: {name} is connected already" in caplog.text
    assert encrypted.roster.hospitals[back] == name
    assert node not in encrypted.roster.hospitals
    assert len([m for m in grid.sent if is_train(m, back)]) == 1


@pytest.mark.parametrize("settings", TOPOLOGIES, ids=str)
def test_waiting_has_one_limit_for_a_sum(clock: list[float], settings: dict[str, Any]) -> None:
    grid, encrypted = federation(on_dropout="wait", dropout_timeout=50.0, **settings)
    second_round(grid, lambda _: None, 1000)
    words = (
        r"^with on_dropout=wait no total is opened without hospital-2: \d of 4 answered after 50"
    )
    with pytest.raises(DropoutError, match=words):
        trained(grid, encrypted)
    assert totals(grid) == 1
    assert 50 < clock[0] < 50 + 5 + 5


def test_who_has_answered_is_not_waited_for_any_more(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    grid, encrypted = federation(on_dropout="wait", dropout_timeout=50.0)
    second_round(grid, crash, 2, EAST)
    east = grid.tamper
    second_round(grid, crash, 1000, SOUTH)
    south = grid.tamper
    grid.tamper = lambda reply: east(reply) if reply.metadata.src_node_id == EAST else south(reply)
    with pytest.raises(DropoutError, match=r"without hospital-2: 3 of 4 answered after 50 s"):
        trained(grid, encrypted)
    assert "waiting for hospital-2, hospital-3, 2 of 4 answered" in caplog.text
    assert "waiting for hospital-2, 3 of 4 answered" in caplog.text


@pytest.mark.parametrize("how", [crash, refusal], ids=["crash", "refusal"])
@pytest.mark.parametrize("settings", TOPOLOGIES, ids=str)
def test_the_run_stops_at_once(
    clock: list[float], settings: dict[str, Any], how: Callable[[Message], Message]
) -> None:
    grid, encrypted = federation(on_dropout="stop", **settings)
    second_round(grid, how, 1)
    words = r"^with on_dropout=stop no total is opened without hospital-2: (stopped|not today)"
    with pytest.raises(DropoutError, match=words):
        trained(grid, encrypted)
    assert totals(grid) == 1
    assert clock[0] < 1
    assert len([m for m in grid.sent if is_train(m, SOUTH)]) == 2


@pytest.mark.parametrize("settings", TOPOLOGIES, ids=str)
def test_a_refusal_is_not_waited_for(clock: list[float], settings: dict[str, Any]) -> None:
    grid, encrypted = federation(on_dropout="wait", **settings)
    second_round(grid, refusal, 1)
    words = "^with on_dropout=wait no total is opened without hospital-2: not today; resume the run"
    with pytest.raises(DropoutError, match=words):
        trained(grid, encrypted)
    assert totals(grid) == 1
    assert clock[0] < 1


@pytest.mark.parametrize("way", ["wait", "stop"])
def test_one_that_leaves_between_rounds(
    clock: list[float], caplog: pytest.LogCaptureFixture, way: str
) -> None:
    grid, encrypted = federation(on_dropout=way)
    left: list[Context] = []

    def leaves(reply: Message) -> Message:
        if reply.metadata.message_type == DECRYPT and not left:
            left.append(grid.leave(SOUTH))
        return reply

    grid.tamper = leaves
    asked = grid.get_node_ids

    def comes_back() -> Any:
        if left and clock[0] > 100 and SOUTH not in grid.contexts:
            grid.contexts[2001] = left[0]
        return asked()

    grid.get_node_ids = comes_back  # type: ignore[method-assign]
    if way == "stop":
        with pytest.raises(DropoutError, match="without hospital-2: not connected; resume"):
            trained(grid, encrypted)
        assert clock[0] < 1
        return
    trained(grid, encrypted)
    assert [one.contributors for one in encrypted.sums] == [4, 4]
    assert "waiting for hospital-2, 3 of 4 connected" in caplog.text
    assert 100 < clock[0] < 110


def test_a_hospital_whose_arrays_differ_stops_the_run(clock: list[float]) -> None:
    for way, contributors in (("continue", 3), ("wait", 4)):
        grid = LocalGrid(train_app(), simulated_nodes(4))
        encrypted = strategy(FedAvg(fraction_evaluate=0.0), on_dropout=way)
        grid.tamper = other_arrays
        if contributors == 4:
            with pytest.raises(DropoutError, match=r"without hospital-2: .* the same model"):
                encrypted.start(grid, MODEL, num_rounds=1)
            continue
        encrypted.start(grid, MODEL, num_rounds=1)
        assert [one.contributors for one in encrypted.sums] == [contributors]


def other_arrays(reply: Message) -> Message:
    if is_train(reply) and reply.metadata.src_node_id == SOUTH:
        record = reply.content.config_records["fl-he"]
        record["layout"] = str(record["layout"]).replace('"b"', '"c"')
    return reply


def test_another_word(clock: list[float]) -> None:
    with pytest.raises(ProtocolError, match=r"on_dropout must be one of .*'wait'.*, got 'never'"):
        strategy(on_dropout="never")


class TestManifest:
    """With a manifest all hospitals are waited for, unless somebody decides otherwise."""

    @pytest.fixture
    def enrolled(self, tmp_path: Path) -> Federation:
        return Federation(tmp_path, {"north": 12, "south": 11, "east": 10, "west": 13})

    def test_a_wait_precedes_the_first_total(
        self, enrolled: Federation, clock: list[float], caplog: pytest.LogCaptureFixture
    ) -> None:
        south, west = (enrolled.node_id(name) for name in ("south", "west"))
        away = {node: enrolled.grid.leave(node) for node in (south, west)}
        asked = enrolled.grid.get_node_ids

        def connected() -> Any:
            for node, after in ((south, 100), (west, 200)):
                if clock[0] > after and node in away:
                    enrolled.grid.contexts[node] = away.pop(node)
            return asked()

        enrolled.grid.get_node_ids = connected  # type: ignore[method-assign]
        roster = call_roll(enrolled.grid, Waiting(node_timeout=1.0), 1)
        assert sorted(roster.hospitals.values()) == ["east", "north", "south", "west"]
        assert "waiting for south, west, 2 of 4 connected" in caplog.text
        assert "waiting for west, 3 of 4 connected" in caplog.text
        assert 200 < clock[0] < 201
        assert roster.on_dropout == "wait"

    def test_the_first_wait_has_the_same_limit(
        self, enrolled: Federation, clock: list[float]
    ) -> None:
        enrolled.grid.leave(enrolled.node_id("south"))
        waiting = Waiting(node_timeout=1.0, dropout_timeout=90.0)
        words = "without south: 3 of 4 connected after 90 s"
        with pytest.raises(DropoutError, match=words):
            call_roll(enrolled.grid, waiting, 3)
        assert 90 < clock[0] < 91

    def test_names_that_company_x_has_made_up_move_no_cursor(
        self, enrolled: Federation, clock: list[float], caplog: pytest.LogCaptureFixture
    ) -> None:
        def lies(reply: Message) -> Message:
            if reply.metadata.message_type == DESCRIBE:
                said = Description.from_content(reply.content)
                keys = {**said.value_keys, "no\x1b[2Jone": b"key"} if said.value_keys else {}
                reply.content = replace(said, value_keys=keys).to_content()
            return reply

        enrolled.grid.tamper = lies
        with pytest.raises(DropoutError, match=r"without no \[2Jone: 4 of 5 connected after 9 s"):
            call_roll(enrolled.grid, Waiting(dropout_timeout=9.0), 3)
        assert "waiting for no [2Jone, 4 of 5 connected" in caplog.text

    @pytest.mark.parametrize("way", ["stop", "continue"])
    def test_nobody_is_waited_for_otherwise(
        self, enrolled: Federation, clock: list[float], way: str
    ) -> None:
        enrolled.grid.leave(enrolled.node_id("south"))
        roster = call_roll(enrolled.grid, Waiting(on_dropout=way), 3)
        assert len(roster.hospitals) == 3
        roster.gather()
        assert clock[0] < 1
