"""A hospital's key stream masks only one vector, for any requests and any losses.

Hospitals answer real messages; company X's key opens their tickets. No two answers may have a seed
or a stream in common, and the same check finds a seed that was planted.
"""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from echo_app import encrypted_app, grid
from flwr.app import Message, RecordDict
from flwr.app.user_config import UserConfig
from flwr.serverapp.strategy import FedAvg
from local_grid import LocalGrid, simulated_nodes
from lying_coordinator import CLINICS, LyingCoordinator, clinics
from masked_transcripts import Made, made_in, same_seeds, same_streams, words_of
from other_apps import W, moved, record, reply_of
from sealed_federation import Federation
from sealed_steps import Steps, sealed
from session_keys import session_key
from study_plans import UNPREPARED as PLAN

from fl_he.crypto.masks.masked_vector import mask_stream
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.schemes import MASKS
from fl_he.crypto.tickets import ticket, ticketed_sum
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.strategies import EncryptedSum
from fl_he.wire.encrypted_sum import DECRYPT
from fl_he.wire.records import ProtocolError
from fl_he.wire.update_layout import CONTRIBUTORS

KEY = PrivateKey.generate(1024)
ONE = int(Packing().encode(np.array([1.0]))[0])


def check_fresh(made: Sequence[Made]) -> None:
    for one in made:
        assert one.integers[CONTRIBUTORS] == ONE, "the seed must be that of the words"
        assert len(one.words) > 5
    assert same_seeds(made) == []
    assert same_streams([one.words for one in made]) == []


def in_another_process(call: Callable[[], Made]) -> Made:
    """Return the answer of a child process, which has a copy of this one's memory."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.write(writing, pickle.dumps(call()))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        made: Made = pickle.loads(file.read())  # noqa: S301 - of the child
        return made


class Planned(LyingCoordinator):
    """Deployed nodes with a manifest and a plan, asked for masks."""

    def __init__(
        self, folder: Path, run_id: int = 7, nodes: list[UserConfig] | None = None
    ) -> None:
        self.nodes = clinics(folder, PLAN) if nodes is None else nodes
        self.folder = folder
        super().__init__(self.nodes, PLAN, run_id)

    def made(self, round_: int = 1, node: int = CLINICS[0]) -> Made:
        """Ask a hospital, and open its answer."""
        reply = self.ask(node, round_, more={"scheme": MASKS})
        return made_in(self.grid.sent[-1], reply, session_key(self.folder))


def test_a_deployed_hospital_with_a_manifest(tmp_path: Path) -> None:
    liar = Planned(tmp_path)
    made = [liar.made(), liar.made(), in_another_process(liar.made), in_another_process(liar.made)]
    liar.restart()  # Flower's state is lost
    made.append(liar.made())
    liar.restart(run_id=8)  # a resumed run
    made += [liar.made(), in_another_process(liar.made)]
    for node_id, config in zip(CLINICS, liar.nodes, strict=False):  # a new SuperNode on the disk
        liar.grid.leave(node_id)
        liar.grid.join(node_id, config)
    made += [liar.made(), liar.made(node=CLINICS[1])]
    for path in tmp_path.glob("1.csv.*"):  # all that the hospital has noted
        path.unlink()
    liar.restart()
    made.append(liar.made())
    assert len({bytes(one.integers) for one in made[:-2]}) == 1, "one update, masked again"
    check_fresh(made)


def test_the_rounds_and_sessions_of_a_plan(tmp_path: Path) -> None:
    liar = Planned(tmp_path)
    made = [liar.made()]
    liar.step(1)
    made += [liar.made(2), liar.made(2)]
    check_fresh(made)


def deployed_or_simulated(folder: Path, simulated: bool) -> list[UserConfig]:
    if simulated:
        return simulated_nodes(3)
    KEY.save(folder / "key.json")
    pinned: UserConfig = {"key-fingerprint": KEY.public_key.fingerprint, "reply-seconds": 0}
    hospitals: list[UserConfig] = [
        {"role": "hospital", "partition-id": k, "state": str(folder / f"state-{k}"), **pinned}
        for k in range(3)
    ]
    return [*hospitals, {"role": "key-holder", "private-key": str(folder / "key.json")}]


class Foreign:
    """Any Flower app on deployed or simulated nodes; its data can be changed.

    Attributes
    ----------
    shift : float
        By which the app's arrays are changed.
    """

    def __init__(self, folder: Path, simulated: bool) -> None:
        self.shift = 0.0
        self.grid = grid(
            encrypted_app(reply_of(self._reply)), deployed_or_simulated(folder, simulated)
        )

    def _reply(self, client: int, message: Message) -> Any:
        arrays = {name: array + self.shift for name, array in moved(client, message).items()}
        return arrays, {"loss": 0.5 + self.shift}

    def strategy(self, **settings: Any) -> EncryptedSum:
        inner = FedAvg(fraction_evaluate=0.0)
        return EncryptedSum(inner, scheme=MASKS, node_timeout=0.0, **settings)


@pytest.mark.parametrize("simulated", [True, False], ids=["simulated", "deployed"])
def test_any_app(tmp_path: Path, simulated: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PrivateKey, "generate", lambda *_, **__: KEY)
    app = Foreign(tmp_path, simulated)
    app.strategy().start(app.grid, record(W), num_rounds=1)
    asked = next(m for m in app.grid.sent if m.metadata.message_type == "train")
    node_id = asked.metadata.dst_node_id

    def made() -> Made:
        again = Message(asked.content, node_id, "train")
        (reply,) = app.grid.send_and_receive([again])
        return made_in(again, reply, KEY)

    (first,) = (
        reply
        for reply in app.grid.received
        if (reply.metadata.message_type, reply.metadata.src_node_id) == ("train", node_id)
    )
    found = [made_in(asked, first, KEY), made(), in_another_process(made)]
    assert len({bytes(one.integers) for one in found}) == 1
    app.shift = 0.25
    found.append(made())
    assert bytes(found[-1].integers) != bytes(found[0].integers)
    config = app.grid.leave(node_id).node_config
    app.grid.join(node_id, config)
    found += [made(), in_another_process(made)]
    app.grid.contexts[node_id].run_id += 1
    found.append(made())
    check_fresh(found)


def test_a_resumed_run_whose_hospitals_are_asked_again(
    tmp_path: Path,
) -> None:
    """The sum that was not opened is lost with the coordinator's disk."""
    app = Foreign(tmp_path, simulated=False)
    app.grid.tamper = lambda reply: None if reply.metadata.message_type == DECRYPT else reply
    dead = app.strategy(key_holder_timeout=0.1)
    with pytest.raises(ProtocolError, match="must open a sum"):
        dead.start(app.grid, record(W), num_rounds=1)
    app.grid.tamper = lambda reply: reply
    for context in app.grid.contexts.values():
        context.run_id, context.state = 8, RecordDict()
    again = app.strategy()
    again.resume(0, dead.roster.session, KEY.public_key.fingerprint)
    with pytest.raises(ProtocolError, match="train 1 is open already"):
        again.start(app.grid, record(W), num_rounds=1)
    assert again.roster.session == dead.roster.session
    check_fresh(transcript(app.grid, KEY))


def transcript(nodes: LocalGrid, key: PrivateKey) -> list[Made]:
    """Return all updates of a fold."""
    asked = {m.metadata.message_id: m for m in nodes.sent if m.metadata.message_type == "train"}
    replies = [r for r in nodes.received if r.metadata.message_type == "train"]
    assert len(replies) >= 3
    return [made_in(asked[r.metadata.reply_to_message_id], r, key) for r in replies]


def test_a_sealed_chain_answers_again_with_the_same_vector(tmp_path: Path) -> None:
    """Send a lost reply again unchanged; mask another attempt at the round anew."""
    federation = Federation(tmp_path, {"north": 40, "south": 25, "east": 60})
    steps = Steps(federation, MASKS)
    steps.start()

    def vector() -> bytes:
        contribution = federation.state("north").contribution
        assert contribution is not None
        return contribution.running_sum.vector

    kept = []
    for number in (1, 1, 2, 2, 3):
        sealed(steps.hop("north", number, [], "south"))
        kept.append(vector())
        for context in federation.grid.contexts.values():
            context.state = RecordDict()
    assert kept[0] == kept[1] != kept[2] == kept[3] != kept[4]
    key = federation.key.public_key
    sums = [TicketedSum.from_bytes(one, key, [MASKS]) for one in (kept[0], kept[2], kept[4])]
    assert same_streams([words_of(one) for one in sums]) == []


class TestPlanted:
    """The checks above find a seed or a stream that is used twice."""

    def test_a_seed_that_is_the_same_each_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        liar = Planned(tmp_path)
        fixed = SimpleNamespace(token_bytes=lambda size: b"s" * size)
        monkeypatch.setattr(ticket, "secrets", fixed)
        made = [liar.made(), in_another_process(liar.made), liar.made(node=CLINICS[1])]
        assert same_seeds(made) == [(0, 1), (0, 2), (1, 2)]
        assert same_streams([one.words for one in made]) == [(0, 1)], "each hospital its own info"
        monkeypatch.undo()
        made.append(liar.made())
        assert same_streams([one.words for one in made]) == [(0, 1)]

    def test_a_generator_that_processes_copy(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each process answers once, so that one process alone would show nothing."""
        liar = Planned(tmp_path)
        copied = SimpleNamespace(token_bytes=random.Random(1).randbytes)
        monkeypatch.setattr(ticket, "secrets", copied)
        made = [in_another_process(liar.made) for _ in range(2)]
        assert same_seeds(made) == same_streams([one.words for one in made]) == [(0, 1)]

    def test_a_stream_without_its_seed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ticketed_sum, "mask_stream", lambda *_: mask_stream(bytes(32), b""))
        app = Foreign(tmp_path, simulated=False)
        with pytest.raises(ProtocolError, match="changed"):
            app.strategy().start(app.grid, record(W), num_rounds=1)
        made = transcript(app.grid, KEY)
        assert same_seeds(made) == []
        assert same_streams([one.words for one in made]) == [(0, 1), (0, 2), (1, 2)]
