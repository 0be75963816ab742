"""Company X that is away, dies at work or loses its answers, while a round waits for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from flwr.app.user_config import UserConfig
from flwr.common.constant import ErrorCode
from flwr.serverapp.strategy import FedAvg
from local_grid import LocalGrid, simulated_nodes
from lost_replies import error_of
from weighted_app import MODEL, strategy, train_app

from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.schemes import MASKS, SCHEMES
from fl_he.strategies.encrypted_sum import EncryptedSum
from fl_he.strategies.opened_sum import UnopenedSum
from fl_he.wire.encrypted_sum import DECRYPT, DESCRIBE
from fl_he.wire.records import ProtocolError

HOLDER = 1003
KEY = PrivateKey.generate(1024)


@pytest.fixture
def deployed(tmp_path: Path) -> UserConfig:
    KEY.save(tmp_path / "key.json")
    return {"role": "key-holder", "private-key": str(tmp_path / "key.json")}


HOSPITALS: list[UserConfig] = [
    {
        "role": "hospital",
        "partition-id": k,
        "key-fingerprint": KEY.public_key.fingerprint,
        "reply-seconds": 0,
    }
    for k in range(3)
]


def grid_with(holder: UserConfig) -> LocalGrid:
    return LocalGrid(train_app(), [*HOSPITALS, holder])


def run(grid: LocalGrid, **settings: Any) -> EncryptedSum:
    encrypted = strategy(FedAvg(fraction_evaluate=0.0), **settings)
    result = encrypted.start(grid, MODEL, num_rounds=2)
    step = np.average([1, 2, 3], weights=[1, 2, 3])
    np.testing.assert_allclose(result.arrays["w"].numpy(), [1 + 2 * step, -2 + 2 * step], atol=1e-6)
    return encrypted


def is_decrypt(message: Message) -> bool:
    return message.metadata.message_type == DECRYPT


def error(reply: Message, code: int) -> Message:
    return error_of(reply, code, "gone")


def sums_sent(grid: LocalGrid) -> list[bytes]:
    asked = [m for m in grid.sent if is_decrypt(m)]
    return [m.content.array_records["fl-he.sum"]["sum"].data for m in asked]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_lost_answer_is_given_again(
    clock: list[float], deployed: UserConfig, scheme: str
) -> None:
    grid = grid_with(deployed)
    lost: list[Message] = []

    def lose(reply: Message) -> Message | None:
        if is_decrypt(reply) and len(lost) < 2:
            lost.append(reply)
            return None
        return reply

    grid.tamper = lose
    encrypted = run(grid, scheme=scheme)
    assert [total.contributors for total in encrypted.sums] == [3, 3]
    first, second, third, last = sums_sent(grid)
    assert first == second == third != last


def test_who_dies_at_work_comes_back_as_another_node_and_goes_on(
    clock: list[float], deployed: UserConfig, caplog: pytest.LogCaptureFixture
) -> None:
    grid = grid_with(deployed)

    def die(reply: Message) -> Message | None:
        if is_decrypt(reply) and reply.metadata.src_node_id == HOLDER:
            grid.leave(HOLDER)  # the round is opened, and nobody knows but its disk
            return None
        if HOLDER not in grid.contexts and clock[0] > 20:
            grid.join(2000, deployed)
        return reply

    grid.tamper = die
    original = grid.get_node_ids

    def node_ids() -> Any:
        if HOLDER not in grid.contexts and clock[0] > 20 and 2000 not in grid.contexts:
            grid.join(2000, deployed)
        return original()

    grid.get_node_ids = node_ids  # type: ignore[method-assign]
    encrypted = run(grid)
    assert encrypted.roster.key_holder == 2000
    assert "company X is back as node 2000" in caplog.text
    assert {m.metadata.dst_node_id for m in grid.sent if is_decrypt(m)} == {HOLDER, 2000}
    assert encrypted.roster.hospitals.keys() == {1000, 1001, 1002}


def test_a_second_node_with_the_key_is_not_asked_while_the_first_is_there(
    clock: list[float], deployed: UserConfig
) -> None:
    grid = grid_with(deployed)

    def joins(reply: Message) -> Message:
        if is_decrypt(reply) and 2000 not in grid.contexts:
            grid.join(2000, deployed)
        return reply

    grid.tamper = joins
    assert run(grid).roster.key_holder == HOLDER


@pytest.mark.parametrize("code", [ErrorCode.NODE_UNAVAILABLE, ErrorCode.CLIENT_APP_CRASHED])
def test_who_is_away_is_asked_until_it_is_back(
    clock: list[float], deployed: UserConfig, code: int
) -> None:
    grid = grid_with(deployed)
    grid.tamper = lambda reply: (
        error(reply, code) if is_decrypt(reply) and clock[0] < 100 else reply
    )
    run(grid)
    assert clock[0] > 100


def test_who_stays_away_stops_the_run(clock: list[float], deployed: UserConfig) -> None:
    grid = grid_with(deployed)
    grid.tamper = lambda reply: None if is_decrypt(reply) else reply
    with pytest.raises(
        ProtocolError,
        match=r"company X must open a sum within 90 s, it did not: no answer within .*"
        "raise key_holder_timeout",
    ):
        run(grid, key_holder_timeout=90.0, hop_timeout=1.0)
    assert 90 <= clock[0] < 93


def test_a_refusal_is_not_asked_again(clock: list[float], deployed: UserConfig) -> None:
    grid = grid_with({**deployed, "min-contributors": 4})
    with pytest.raises(ProtocolError, match="refused to open the sum: a sum must have at least 4"):
        run(grid)
    assert len(sums_sent(grid)) == 1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_resumed_run_asks_for_the_very_sum_that_may_be_open(
    clock: list[float], deployed: UserConfig, scheme: str
) -> None:
    """The coordinator dies after company X has opened round 1, before it hears of it."""
    settings: dict[str, Any] = {"inner": FedAvg(fraction_evaluate=0.0), "scheme": scheme}
    grid = grid_with(deployed)
    written: list[UnopenedSum] = []
    grid.tamper = lambda reply: None if is_decrypt(reply) else reply
    dead = strategy(**settings, on_summed=written.append, key_holder_timeout=1.0)
    with pytest.raises(ProtocolError, match="must open a sum"):
        dead.start(grid, MODEL, num_rounds=2)

    grid.tamper = lambda reply: reply
    grid.contexts.clear()
    grid.run_id = 8
    for node_id, node in enumerate([*HOSPITALS, deployed], start=3000):
        grid.join(node_id, node)
    members = written[0].to_members()
    unopened = UnopenedSum.from_members(json.loads(json.dumps(members)))
    assert unopened.to_members() == members
    assert (b"FLHM" in unopened.request.encrypted_sum) == (scheme == MASKS)
    grid.sent.clear()
    resumed = strategy(**settings)
    resumed.resume(0, dead.roster.session, KEY.public_key.fingerprint, [unopened])
    result = resumed.start(grid, MODEL, num_rounds=2)
    step = np.average([1, 2, 3], weights=[1, 2, 3])
    np.testing.assert_allclose(result.arrays["w"].numpy(), [1 + 2 * step, -2 + 2 * step], atol=1e-6)
    kinds = [m.metadata.message_type for m in grid.sent]
    assert kinds == [DESCRIBE] * 4 + [DECRYPT] + ["train"] * 3 + [DECRYPT]
    assert resumed.roster.session == dead.roster.session
    assert [(total.round, total.contributors) for total in resumed.sums] == [(1, 3), (2, 3)]


def test_another_sum_for_a_round_that_may_be_open_is_refused(
    clock: list[float], deployed: UserConfig
) -> None:
    """A resumed run without the sum would ask for this; two sums' difference would show much."""
    grid = grid_with(deployed)
    encrypted = strategy(FedAvg(fraction_evaluate=0.0))
    encrypted.start(grid, MODEL, num_rounds=1)
    again = strategy(FedAvg(fraction_evaluate=0.0))
    again.resume(0, encrypted.roster.session, KEY.public_key.fingerprint)
    with pytest.raises(ProtocolError, match="train 1 is open already, got train 1"):
        again.start(grid, MODEL, num_rounds=1)


def test_a_resumed_run_keeps_its_key(clock: list[float], deployed: UserConfig) -> None:
    resumed = strategy(FedAvg(fraction_evaluate=0.0))
    resumed.resume(1, "0" * 32, "ab" * 32)
    with pytest.raises(ProtocolError, match="must have the key with which the run began, abab"):
        resumed.call_roll(grid_with(deployed))


def test_a_resumed_run_in_a_session_that_company_x_does_not_know(
    clock: list[float], deployed: UserConfig
) -> None:
    resumed = strategy(FedAvg(fraction_evaluate=0.0))
    resumed.resume(1, "0" * 32, KEY.public_key.fingerprint)
    with pytest.raises(ProtocolError, match="session must be one that company X opened"):
        resumed.start(grid_with(deployed), MODEL, num_rounds=1)


def test_a_simulated_company_x_begins_anew(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    resumed = strategy(FedAvg(fraction_evaluate=0.0))
    resumed.resume(1, "0" * 32, "ab" * 32)
    grid = LocalGrid(train_app(), simulated_nodes(3))
    resumed.start(grid, MODEL, num_rounds=1)
    assert "have a new key and a new session" in caplog.text
    assert resumed.sums[0].round == 2


@pytest.mark.parametrize("rounds_before", [1, 2])
def test_a_sum_of_another_round_is_not_resumed(
    clock: list[float], deployed: UserConfig, rounds_before: int
) -> None:
    written: list[UnopenedSum] = []
    first = strategy(FedAvg(fraction_evaluate=0.0), on_summed=written.append)
    first.start(grid_with(deployed), MODEL, num_rounds=1)
    with pytest.raises(ProtocolError, match=f"must be of round {rounds_before + 1} in the run's"):
        strategy().resume(rounds_before, first.roster.session, "ab" * 32, [written[0]])


@pytest.mark.parametrize("spoil", ["encrypted_sum", "layout", "round", "purpose", "skipped"])
def test_a_damaged_sum_is_refused(clock: list[float], deployed: UserConfig, spoil: str) -> None:
    written: list[UnopenedSum] = []
    first = strategy(FedAvg(fraction_evaluate=0.0), on_summed=written.append)
    first.start(grid_with(deployed), MODEL, num_rounds=1)
    members = written[0].to_members()
    for wrong in ("?", None):
        with pytest.raises(ValueError, match="must be"):
            UnopenedSum.from_members({**members, spoil: wrong})
    del members[spoil]
    with pytest.raises(ProtocolError, match=rf"missing \['{spoil}'\]"):
        UnopenedSum.from_members(members)
