"""Lasting state of a node in a sealed chain: on its disk, not in Flower's context."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MessageType, RecordDict
from sealed_federation import COMPANY, Federation
from sealed_steps import Steps, reason, sealed

from fl_he.clients.node.deployed import DeployedNode
from fl_he.clients.node.outgoing import PRIVATE_REFUSAL
from fl_he.clients.stores import LedgerError
from fl_he.clients.totals.learner import Learnt
from fl_he.clients.totals.payload import RunningSum
from fl_he.clients.totals.sessions import Sessions
from fl_he.clients.totals.state import ChainState, Contribution
from fl_he.wire.encrypted_sum import DECRYPT, DecryptRequest, EncryptionRequest
from fl_he.wire.records import ProtocolError
from fl_he.wire.sealed_messages import OpenReply, SealedTotal

HOSPITALS = {"north": 40, "south": 25, "east": 60}
NORTH, SOUTH, EAST = HOSPITALS
MODEL = ArrayRecord({"w": Array(np.array([[1.5, -0.0]])), "n": Array(np.array([3]))})


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(Federation(tmp_path, HOSPITALS))


def forget(steps: Steps) -> None:
    """Reset the nodes' state in Flower's context, as a coordinator can."""
    for context in steps.federation.grid.contexts.values():
        context.state = RecordDict()


def test_a_state_is_the_same_after_it_was_written_down() -> None:
    state = ChainState("s", None)
    assert state.to_text() is None
    assert (state.has_begun, state.after, state.contribution) == (False, 0, None)
    with pytest.raises(ProtocolError, match="before it has a model"):
        _ = state.learnt
    state.begin("{}", bytes(32), Learnt(MODEL, "memory"))
    state.advance(4, Learnt(MODEL, "[1]"), b"\xff" * 32)
    summed = RunningSum(4, bytes(32), "layout", b"\x00vector")
    state.contribute(Contribution(5, "request", ("a", "b"), summed))
    again = ChainState("s", state.to_text())
    assert (again.after, again.terms, again.chain) == (4, bytes(32), b"\xff" * 32)
    assert (again.config, again.learnt.memory) == ("{}", "[1]")
    assert again.contribution == state.contribution
    for name, array in MODEL.items():
        np.testing.assert_array_equal(again.learnt.model[name].numpy(), array.numpy())
        assert again.learnt.model[name].dtype == array.dtype


def test_a_damaged_running_sum_is_refused() -> None:
    state = ChainState("s", None)
    state.begin("{}", bytes(32), Learnt(MODEL, "[1]"))
    summed = RunningSum(5, bytes(32), "{}", b"sum")
    state.contribute(Contribution(5, "request", ("a", "b"), summed))
    kept = json.loads(state.to_text() or "")
    kept["contribution"]["running_sum"] = "AAAA"
    with pytest.raises(LedgerError, match=r"contribution\.running_sum must be a running sum"):
        ChainState("s", json.dumps(kept, separators=(",", ":")))


@pytest.mark.parametrize("text", ["", "{}", "[]", "{"])
def test_a_damaged_state_is_refused(text: str) -> None:
    with pytest.raises(LedgerError, match="a hospital's training must"):
        ChainState("s", text)


def test_no_step_of_a_chain_rests_on_flowers_context(steps: Steps) -> None:
    ask = steps.ask

    def asked(name: str, action: str, content: RecordDict) -> Message:
        forget(steps)
        return ask(name, action, content)

    steps.ask = asked  # type: ignore[method-assign]
    steps.start()
    first = steps.round(1, list(HOSPITALS))
    for name, total in first.items():
        if name != COMPANY:
            assert steps.finish(name, [total]).has_content()
    steps.round(2, list(HOSPITALS))
    assert reason(steps.hop(NORTH, 2, [], EAST)).startswith("a hospital contributes to each round")


def test_nor_that_a_node_is_closed_to_open_messages(steps: Steps) -> None:
    steps.start()
    sealed(steps.hop(NORTH, 1, [], SOUTH))
    forget(steps)
    request = DecryptRequest(steps.session, "train", 1, 3, b"").to_content()
    for name, action, content in (
        (NORTH, MessageType.TRAIN, RecordDict()),
        (COMPANY, DECRYPT, request),
    ):
        assert "this node takes part in sealed chains only" in reason(
            steps.ask(name, action, content)
        )
    for context in steps.federation.grid.contexts.values():
        context.run_id += 1  # a run in which the nodes have not begun with a chain; the session is
    assert "takes part in sealed chains only" in reason(steps.ask(COMPANY, DECRYPT, request))


def test_a_lost_reply_is_the_same_after_all_was_forgotten(steps: Steps) -> None:
    steps.start()
    names = list(HOSPITALS)
    envelope = steps.chain(1, names)
    forget(steps)
    assert sealed(steps.hop(NORTH, 1, [], SOUTH)) != sealed(steps.hop(NORTH, 1, [], SOUTH))
    total = OpenReply.from_content(steps.open(1, names, envelope).content).totals[NORTH]
    forget(steps)
    assert steps.finish(NORTH, [SealedTotal(1, tuple(names), total)]).has_content()


def test_a_run_goes_on_with_an_earlier_ones_session(steps: Steps) -> None:
    """A run that names the session needs no new statement of company X's."""
    steps.start()
    steps.round(1, list(HOSPITALS))
    forget(steps)
    for context in steps.federation.grid.contexts.values():
        context.run_id += 1
    steps.statements.clear()
    joined = steps.join(NORTH)
    assert (joined.session, joined.challenge) == (steps.session, "")
    assert (joined.after, joined.contributed) == (0, 1)
    steps.session, known = "0" * 32, steps.session
    assert (steps.join(SOUTH).session, len(steps.join(SOUTH).challenge)) == ("", 32)
    steps.session = known
    assert "must be told the session first" not in reason(steps.hop(NORTH, 1, [], EAST))


def test_a_step_has_one_number_however_often_it_is_attempted(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each attempt would be a separate release, with other noise."""
    numbers, add_to = [], EncryptionRequest.add_to

    def spy(self: EncryptionRequest, content: RecordDict) -> RecordDict:
        numbers.append(self.round)
        return add_to(self, content)

    monkeypatch.setattr(EncryptionRequest, "add_to", spy)
    steps.start()
    for attempt in (1, 4):
        sealed(steps.hop(NORTH, attempt, [], SOUTH))
    assert numbers == [1, 1]


def test_a_challenge_stays_the_same_in_a_run(steps: Steps) -> None:
    first = steps.join(NORTH).challenge
    forget(steps)
    assert steps.join(NORTH).challenge == first
    steps.federation.context(NORTH).run_id += 1
    assert steps.join(NORTH).challenge != first


def test_the_files_are_the_nodes_own(steps: Steps) -> None:
    steps.start()
    sealed(steps.hop(NORTH, 1, [], SOUTH))
    files = {path.name for path in steps.federation.folder.glob("*.json.*")}
    (training,) = (name for name in files if "training" in name)
    assert training.startswith("north.json.training-")
    assert {f"{name}.json.chains.jsonl" for name in (*HOSPITALS, COMPANY)} <= files
    for name in files:
        assert (steps.federation.folder / name).stat().st_mode & 0o777 == 0o600
    kept = json.loads((steps.federation.folder / training).read_text())
    assert kept["contribution"]["round"] == 1
    node = DeployedNode(steps.federation.context(NORTH))
    assert Sessions(node).session == steps.session


def test_a_file_that_cannot_be_trusted(steps: Steps, caplog: pytest.LogCaptureFixture) -> None:
    steps.start()
    sealed(steps.hop(NORTH, 1, [], SOUTH))
    (file,) = steps.federation.folder.glob("north.json.training-*.json")
    file.write_text("{}")
    assert reason(steps.hop(NORTH, 2, [], SOUTH)) == PRIVATE_REFUSAL
    assert "a hospital's training must have exactly the members" in caplog.text
