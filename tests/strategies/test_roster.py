"""Participants of a run, with late nodes and a clock that tests move."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from deployed_nodes import enrolled_nodes
from flwr.app import Message
from flwr.clientapp import ClientApp
from local_grid import LocalGrid, simulated_nodes
from sealed_federation import COMPANY, Federation

from fl_he import client_app
from fl_he.clients.key_holder import with_key_holder
from fl_he.clients.node.node import KeyHolderPolicy
from fl_he.config.run import Config
from fl_he.strategies import roll_call
from fl_he.strategies.dropouts import Waiting
from fl_he.strategies.roll_call import call_roll
from fl_he.wire.encrypted_sum import DESCRIBE, Description
from fl_he.wire.records import ProtocolError
from fl_he.wire.run_key import RunKey


class LateGrid(LocalGrid):
    """A grid whose n-th node connects after n seconds."""

    def __init__(self, clock: list[float]) -> None:
        policy = KeyHolderPolicy(key_bits=1024)
        super().__init__(with_key_holder(ClientApp(), lambda _: policy), simulated_nodes(3))
        self.clock = clock

    def get_node_ids(self) -> Iterable[int]:
        return [node_id for node_id in self.contexts if node_id - 1000 <= self.clock[0]]


def test_nodes_that_come_late_are_waited_for_and_asked_once(clock: list[float]) -> None:
    grid = LateGrid(clock)
    assert len(call_roll(grid, Waiting(hop_timeout=1, node_timeout=5), 3).hospitals) == 3
    assert [m.metadata.dst_node_id for m in grid.sent] == [1000, 1001, 1002, 1003]


def test_with_a_manifest_there_is_a_value_key_for_each_hospital(tmp_path: Path) -> None:
    nodes = enrolled_nodes(tmp_path)
    roster = call_roll(LocalGrid(client_app.build(lambda _: Config()), nodes), Waiting(), 3)
    assert sorted(roster.value_keys) == sorted(roster.hospitals.values())
    assert len(set(roster.value_keys.values())) == 3
    without = call_roll(LateGrid([9.0]), Waiting(), 3)
    assert without.value_keys == {}


def test_nodes_that_are_waited_for_are_in_the_log(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    grid = LateGrid(clock)
    grid.leave(1003)
    with pytest.raises(ProtocolError, match="company X not connected: start the others"):
        call_roll(grid, Waiting(hop_timeout=1, node_timeout=12), 4)
    words = (
        "3 of 4 hospitals (hospital-1, hospital-2, hospital-3) connected, company X not connected"
    )
    assert caplog.messages == [f"waiting for nodes: {words}"] * 2


def test_a_simulation_with_too_few_nodes_ends_at_once(clock: list[float]) -> None:
    clock[0] = 9
    with pytest.raises(ProtocolError, match="got 3 and 1; start one node more"):
        call_roll(LateGrid(clock), Waiting(hop_timeout=1, node_timeout=60), 4)
    assert clock[0] < 10


def test_nodes_that_come_too_late_are_not(clock: list[float]) -> None:
    with pytest.raises(ProtocolError, match=r"one company X, got 3 and 0 after 2\.5 s"):
        call_roll(LateGrid(clock), Waiting(hop_timeout=1, node_timeout=2.5), 3)
    assert clock[0] < 3


def test_no_deployed_node_comes_late_to_a_simulation(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    grid = LateGrid(clock)
    roster = call_roll(grid, Waiting(hop_timeout=1, node_timeout=5), 3)
    grid.join(1004, {"role": "hospital", "name": "st-mary", "key-fingerprint": "ab" * 32})
    clock[0] = 9
    hospitals = roster.hospitals
    roster.call_again()
    assert roster.hospitals == hospitals
    assert roster.strangers == {1004}
    assert "all simulated or all deployed, st-mary differs" in caplog.text


ALL = {"north": 40, "south": 25, "east": 60, "west": 30}


def test_a_hospital_that_is_late_in_the_first_of_two_runs_takes_part(tmp_path: Path) -> None:
    """The hospital knows sums of the second run from after the first run's statement."""
    federation = Federation(tmp_path, ALL)
    second, west = federation.another_run(), federation.node_id("west")
    away = federation.grid.leave(west)
    first = federation.chain(hospitals=3)
    first.begin()
    assert len(first.run_round().request.contributors) == 3
    second.run(2)
    federation.grid.contexts[west] = away
    asked = len(federation.grid.sent)
    assert sorted(first.run_round().request.contributors) == sorted(ALL)
    assert sorted(first.run_round().request.contributors) == sorted(ALL)
    sent = [message.metadata for message in federation.grid.sent[asked:]]
    described = [one for one in sent if one.message_type == DESCRIBE]
    company = federation.node_id(COMPANY)
    assert [one.dst_node_id for one in described] == [west, company], "it is asked once"


def test_company_x_signs_again_for_hospitals_that_it_had_to_wait_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = Federation(tmp_path, ALL)
    second, west = federation.another_run(), federation.node_id("west")
    away = federation.grid.leave(west)

    def sleep(_: float) -> None:
        second.run(1)
        federation.grid.contexts[west] = away

    monkeypatch.setattr(roll_call, "sleep", sleep)
    roster = call_roll(federation.grid, Waiting(), 4)
    assert RunKey.from_bytes(roster.run_key or b"").counter == 0
    roster.gather()
    renewed = RunKey.from_bytes(roster.run_key or b"")
    assert (renewed.session, renewed.counter) == (roster.session, 1)
    assert renewed.fingerprint == roster.public_key.fingerprint


def renamed(reply: Message) -> Message:
    """Return the second hospital's description with a name that would clear a terminal."""
    if reply.metadata.src_node_id == 1001:
        description = Description.from_content(reply.content)
        reply.content = replace(description, name="zoo\x1b[2J\nclinic").to_content()
    return reply


def misspelt(reply: Message) -> Message:
    if reply.metadata.src_node_id == 1001:
        description = Description.from_content(reply.content)
        reply.content = replace(description, features=("a" * 2000,)).to_content()
    return reply


def test_names_are_shown_on_one_line(clock: list[float]) -> None:
    clock[0] = 10.0
    grid = LateGrid(clock)
    grid.tamper = renamed
    roster = call_roll(grid, Waiting(hop_timeout=1, node_timeout=0), 3)
    assert roster.name(1001) == "zoo [2J clinic"


def test_what_differs_is_shown_in_short(clock: list[float]) -> None:
    clock[0] = 10.0
    grid = LateGrid(clock)
    grid.tamper = misspelt
    with pytest.raises(ProtocolError, match="hospital-2 differs from hospital-1") as refused:
        call_roll(grid, Waiting(hop_timeout=1, node_timeout=0), 3)
    assert len(str(refused.value)) < 700
