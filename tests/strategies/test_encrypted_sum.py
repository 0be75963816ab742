"""The whole protocol in one process: real app, real strategy, no Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.app.user_config import UserConfig
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from local_grid import LocalGrid, simulated_nodes
from lost_replies import error_of
from quick import slow
from ticketed_sums import MadeSum
from weighted_app import MODEL, strategy, train_app

from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.strategies import update_sum
from fl_he.strategies.skipping import Skipped
from fl_he.strategies.update_sum import addressed
from fl_he.wire.encrypted_sum import (
    DECRYPT,
    DESCRIBE,
    DecryptReply,
    EncryptedReply,
    EncryptionRequest,
    content_bytes,
)
from fl_he.wire.records import ProtocolError


@pytest.mark.parametrize(
    "settings",
    [
        {"topology": "fold"},
        {"topology": "chain"},
        {"topology": "chain", "segments": 2},
        {"topology": "chain", "segments": "auto"},
        {"topology": "chain", "segments": 99},
    ],
    ids=str,
)
@pytest.mark.parametrize("hospitals", [3, *slow((5,))])
def test_result_is_the_weighted_mean(settings: dict[str, Any], hospitals: int) -> None:
    encrypted = strategy(**settings)
    grid = LocalGrid(train_app(), simulated_nodes(hospitals))
    result = encrypted.start(grid, MODEL, num_rounds=2)

    ks = np.arange(1, hospitals + 1)
    step = np.average(ks, weights=ks)
    np.testing.assert_allclose(result.arrays["w"].numpy(), [1 + 2 * step, -2 + 2 * step], atol=1e-6)
    assert result.arrays["b"].numpy().dtype == np.float32
    assert result.train_metrics_clientapp[1]["loss"] == pytest.approx(
        np.average(1 / ks, weights=ks), abs=1e-6
    )
    assert result.evaluate_metrics_clientapp[2]["loss"] == pytest.approx(
        np.average(ks, weights=ks), abs=1e-6
    )
    assert [(s.purpose, s.round, s.contributors) for s in encrypted.sums] == [
        (purpose, server_round, hospitals)
        for server_round in (1, 2)
        for purpose in ("train", "evaluate")
    ]
    assert encrypted.sums[0].examples == 10 * ks.sum()
    assert encrypted.sums[0].ciphertexts == 1
    assert all(s.cost.bytes_sent > hospitals * s.update_bytes for s in encrypted.sums)


@pytest.mark.filterwarnings("ignore:only arrays named like")
@pytest.mark.parametrize("topology", ["fold", "chain"])
def test_arrays_that_nobody_asked_to_encrypt(topology: str) -> None:
    encrypted = strategy(FedAvg(fraction_evaluate=0.0), topology=topology, encrypt=["b"])
    grid = LocalGrid(train_app(encrypt=["b"]), simulated_nodes(3))
    result = encrypted.start(grid, MODEL, num_rounds=1)
    step = np.average([1, 2, 3], weights=[1, 2, 3])
    np.testing.assert_allclose(result.arrays["w"].numpy(), [1 + step, -2 + step], rtol=1e-12)
    np.testing.assert_allclose(result.arrays["b"].numpy(), [0.5 + step], rtol=1e-6)
    assert list(result.arrays.keys()) == ["w", "b"]


@pytest.mark.filterwarnings("ignore:only arrays named like")
def test_a_hospital_that_encrypts_less_than_the_strategy_asks_for() -> None:
    with pytest.raises(ProtocolError, match=r"hospital-. must encrypt the arrays \['w'\]"):
        strategy().start(
            LocalGrid(train_app(encrypt=["b"]), simulated_nodes(3)), MODEL, num_rounds=1
        )


@pytest.mark.filterwarnings("ignore:only arrays named like")
def test_a_misspelt_pattern_sends_nothing_in_plain() -> None:
    grid = LocalGrid(train_app(encrypt=["B"]), simulated_nodes(3))
    with pytest.raises(
        ProtocolError, match=r"name an array of the reply, \['w', 'b'\], got \['B'\]"
    ):
        strategy(encrypt=["B"]).start(grid, MODEL, num_rounds=1)
    assert all(m.has_error() for m in grid.received if m.metadata.message_type == "train")


def test_chain_hands_the_sum_on_and_fold_does_not() -> None:
    sums = {}
    for topology in ("fold", "chain"):
        grid = LocalGrid(train_app(), simulated_nodes(3))
        strategy(FedAvg(fraction_evaluate=0.0), topology=topology).start(grid, MODEL, num_rounds=1)
        asked = [m for m in grid.sent if m.metadata.message_type == "train"]
        sums[topology] = ["fl-he.sum" in m.content for m in asked]
    assert sums == {"fold": [False] * 3, "chain": [False, True, True]}


@pytest.mark.parametrize(("segments", "firsts"), [(1, 1), (3, 3), ("auto", 2), (7, 7), (9, 7)])
def test_each_segment_starts_without_a_running_sum(segments: int | str, firsts: int) -> None:
    grid = LocalGrid(train_app(), simulated_nodes(7))
    segmented = strategy(FedAvg(fraction_evaluate=0.0), topology="chain", segments=segments)
    segmented.start(grid, MODEL, num_rounds=1)
    asked = [m for m in grid.sent if m.metadata.message_type == "train"]
    assert len(asked) == 7
    assert sum("fl-he.sum" not in m.content for m in asked) == firsts


def test_the_key_holder_is_never_asked_to_train() -> None:
    grid = LocalGrid(train_app(), simulated_nodes(3))
    strategy().start(grid, MODEL, num_rounds=1)
    trained = {m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == "train"}
    assert trained == {1000, 1001, 1002}


def test_partial_participation() -> None:
    encrypted = strategy(FedAvg(fraction_train=0.5, min_train_nodes=3, fraction_evaluate=0.0))
    encrypted.start(LocalGrid(train_app(), simulated_nodes(8)), MODEL, num_rounds=1)
    assert encrypted.sums[0].contributors == 4


def test_skipped_phases_stay_skipped() -> None:
    encrypted = strategy(FedAvg(fraction_train=0.0, fraction_evaluate=0.0))
    result = encrypted.start(LocalGrid(train_app(), simulated_nodes(3)), MODEL, num_rounds=1)
    assert not result.arrays
    assert encrypted.sums == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"topology": "ring"}, r"topology must be one of \['fold', 'chain'\], got 'ring'"),
        ({"topology": "chain", "segments": 0}, "segments must be at least 1 or 'auto', got 0"),
        ({"topology": "chain", "segments": "two"}, "segments must be at least 1 or 'auto'"),
        ({"segments": 2}, "segments must be 1 unless topology is 'chain', got 2"),
        ({"min_contributors": 0}, "min_contributors must be at least 1, got 0"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        strategy(**settings)


def test_too_few_hospitals() -> None:
    with pytest.raises(
        ProtocolError,
        match="must have 3 hospitals and one company X, got 2 and 1; start one node more: "
        r"the last one is company X \(num-supernodes=4\)",
    ):
        strategy().start(LocalGrid(train_app(), simulated_nodes(2)), MODEL, num_rounds=1)
    many = FedAvg(min_train_nodes=4, min_available_nodes=3)
    with pytest.raises(ProtocolError, match="start one node more: the last one is company X"):
        strategy(many).start(LocalGrid(train_app(), simulated_nodes(3)), MODEL, num_rounds=1)
    with pytest.raises(ProtocolError, match=r"start 3 nodes more: .*num-supernodes=5"):
        strategy(min_contributors=4).call_roll(LocalGrid(train_app(), simulated_nodes(1)))


def test_progress_is_in_flowers_own_log(caplog: pytest.LogCaptureFixture) -> None:
    grid = LocalGrid(train_app(), simulated_nodes(4))
    lost = min(grid.contexts)
    encrypted = strategy(hop_timeout=0.5)
    encrypted.call_roll(grid)
    grid.tamper = lambda reply: None if reply.metadata.src_node_id == lost else reply
    encrypted.start(grid, MODEL, num_rounds=1)
    told = [r.getMessage() for r in caplog.records if (r.name, r.levelname) == ("flwr", "INFO")]
    assert any(
        line.startswith("5 nodes: 4 hospitals, and company X, which has no data. Its key is ")
        and "(paillier, slots" in line
        for line in told
    )
    assert any(line.startswith("train 1: 3 hospitals in the sum, 1 skipped, ") for line in told)
    assert any(line.startswith("evaluate 1: 3 hospitals in the sum, 1 skipped") for line in told)


def test_progress_of_answers_that_take_seconds(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(0, 1000, 3))
    monkeypatch.setattr(update_sum, "perf_counter", lambda: float(next(seconds)))
    strategy().start(LocalGrid(train_app(), simulated_nodes(3)), MODEL, num_rounds=1)
    told = [r.getMessage() for r in caplog.records if "so far" in r.getMessage()]
    assert [line.partition(", ")[0] for line in told] == ["1 of 3 answers", "2 of 3 answers"] * 2
    assert told[0].endswith(" MB so far")


def test_the_opening_of_a_large_sum_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    large = ArrayRecord({"w": Array(np.zeros(200_000))})
    grid = LocalGrid(train_app(), simulated_nodes(3))
    strategy(scheme="masks").start(grid, large, num_rounds=1)
    told = [r.getMessage() for r in caplog.records if "company X opens" in r.getMessage()]
    assert told == ["train 1: company X opens 1.6 MB"]


def test_too_few_sampled() -> None:
    few = strategy(FedAvg(fraction_train=0.5, min_train_nodes=2))
    with pytest.raises(ProtocolError, match=r"at least 3 .*, got 2: .* or fraction_train"):
        few.start(LocalGrid(train_app(), simulated_nodes(4)), MODEL, num_rounds=1)


def test_more_than_the_slots_have_room_for() -> None:
    packing = Packing(max_contributors=3)
    grid = LocalGrid(train_app(packing=packing), simulated_nodes(4))
    with pytest.raises(ProtocolError, match="at most 3 contributors, got 4: raise max_contrib"):
        strategy(packing=packing).start(grid, MODEL, num_rounds=1)


def test_another_packing_than_the_key_holders() -> None:
    with pytest.raises(ProtocolError, match="the packing must be company X's"):
        strategy(packing=Packing(20, 20)).start(
            LocalGrid(train_app(), simulated_nodes(3)), MODEL, num_rounds=1
        )


def test_no_key_holder() -> None:
    hospitals = [
        {"role": "hospital", "key-fingerprint": "ab" * 32, "partition-id": i} for i in range(3)
    ]
    with pytest.raises(
        ProtocolError, match=r"got 3 and 0 after .*, company X not connected: start"
    ):
        strategy().start(LocalGrid(train_app(), hospitals), MODEL, num_rounds=1)  # type: ignore[arg-type]


def test_two_key_holders() -> None:
    nodes = [{"partition-id": 0, "num-partitions": 1}] * 2
    with pytest.raises(ProtocolError, match="must have one company X, got 2"):
        strategy().start(LocalGrid(train_app(), nodes), MODEL, num_rounds=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (("age", "size"), "hospital-2 differs from hospital-1"),
        (("age",), "hospital-2 differs from hospital-1"),
    ],
)
def test_hospitals_whose_features_differ(schema: tuple[str, ...], words: str) -> None:
    def features(context: Context) -> tuple[str, ...]:
        return schema if context.node_config["partition-id"] == 1 else ("size", "age")

    with pytest.raises(ProtocolError, match=words):
        strategy().start(LocalGrid(train_app(features), simulated_nodes(3)), MODEL, num_rounds=1)


def test_a_node_that_cannot_describe_itself_stops_the_run_with_its_reason() -> None:
    def features(context: Context) -> tuple[str, ...]:
        raise ProtocolError("the table has no rows")

    with pytest.raises(ProtocolError, match="refused to take part: the table has no rows"):
        strategy().start(LocalGrid(train_app(features), simulated_nodes(3)), MODEL, num_rounds=1)


def test_it_must_be_the_outermost_strategy() -> None:
    encrypted = strategy()
    grid = LocalGrid(train_app(), simulated_nodes(3))
    encrypted.configure_train(1, MODEL, ConfigRecord(), grid)
    reply = Message(RecordDict(), reply_to=Message(RecordDict(), 1000, "train"))
    with pytest.raises(ProtocolError, match="must be the outermost"):
        encrypted.aggregate_train(1, [reply])


def from_train(change: Callable[[Message], Message]) -> Callable[[Message], Message]:
    """Return a network that changes hospital 1's train replies."""

    def tamper(reply: Message) -> Message:
        train = reply.metadata.message_type == "train"
        return change(reply) if train and reply.metadata.src_node_id == 1000 else reply

    return tamper


def error(reply: Message) -> Message:
    return error_of(reply, 6, "no\x1b[2Jt today\n")


def plain(reply: Message) -> Message:
    reply.content["metrics"] = MetricRecord({"loss": 0.1, "num-examples": 3})
    return reply


def other_layout(reply: Message) -> Message:
    answer = EncryptedReply.from_content(reply.content)
    reply.content = replace(answer, layout=answer.layout.replace("loss", "cost")).to_content()
    return reply


def longer_layout(reply: Message) -> Message:
    answer = EncryptedReply.from_content(reply.content)
    layout = answer.layout.replace("[2]", "[3]")
    reply.content = replace(answer, layout=layout).to_content()
    return reply


def cut(reply: Message) -> Message:
    answer = EncryptedReply.from_content(reply.content)
    reply.content = replace(answer, encrypted_sum=answer.encrypted_sum[:-1]).to_content()
    return reply


@pytest.mark.parametrize("topology", ["fold", "chain"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (plain, "must be encrypted, got plain records"),
        (
            longer_layout,
            "must fill the slots of its own layout",
        ),
        (cut, "hospital-1 sent no usable ciphertexts: a sum must be"),
    ],
)
def test_a_reply_that_was_not_asked_for_stops_the_run(
    topology: str, change: Callable[[Message], Message], words: str
) -> None:
    grid = LocalGrid(train_app(), simulated_nodes(3))
    grid.tamper = from_train(change)
    with pytest.raises(ValueError, match=words):
        strategy(topology=topology).start(grid, MODEL, num_rounds=1)


def test_a_hospital_that_sends_other_metrics_than_it_was_asked_for() -> None:
    grid = LocalGrid(train_app(), simulated_nodes(3))
    grid.tamper = from_train(other_layout)
    with pytest.raises(ProtocolError, match="its metrics are others than it was asked for"):
        strategy().start(grid, MODEL, num_rounds=1)


def test_a_total_of_another_number_of_contributors_is_refused() -> None:
    def lie(reply: Message) -> Message:
        if reply.metadata.message_type == DECRYPT:
            total = DecryptReply.from_content(reply.content).total
            total[0] = 4.0
            reply.content = DecryptReply(total, 0.0).to_content()
        return reply

    grid = LocalGrid(train_app(), simulated_nodes(3))
    grid.tamper = lie
    with pytest.raises(ProtocolError, match="total is not of 3 contributors"):
        strategy().start(grid, MODEL, num_rounds=1)


def test_final_model_reaches_every_hospital() -> None:
    app, received = train_app(), []

    @app.query("finish")
    def finish(message: Message, context: Context) -> Message:
        received.append((context.node_id, message.content.array_records["arrays"]))
        return Message(RecordDict(), reply_to=message)

    encrypted = strategy()
    encrypted.call_roll(LocalGrid(app, simulated_nodes(3)))
    encrypted.finish(MODEL)
    assert dict(received) == dict.fromkeys((1000, 1001, 1002), MODEL)
    assert len(received) == 3


def test_hospitals_that_could_not_save_are_named(caplog: pytest.LogCaptureFixture) -> None:
    app = train_app()
    saved = []

    @app.query("finish")
    def finish(message: Message, context: Context) -> Message:
        if context.node_id == 1001:
            raise ProtocolError("the disk is full")
        saved.append(context.node_id)
        return Message(RecordDict(), reply_to=message)

    encrypted = strategy()
    encrypted.call_roll(LocalGrid(app, simulated_nodes(3)))
    assert encrypted.finish(MODEL) == (Skipped("hospital-2", "the disk is full"),)
    assert "hospital-2 has not saved the final model: the disk is full" in caplog.text
    assert saved == [1000, 1002]


class Sends(FedAvg):
    """A strategy that sends its messages to nodes of the test's choice."""

    def __init__(self, *receivers: int) -> None:
        super().__init__(min_train_nodes=3, min_available_nodes=3)
        self.receivers = receivers

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        content = RecordDict({"arrays": arrays, "config": config})
        return [Message(content, node_id, "train") for node_id in self.receivers]


@pytest.mark.parametrize(
    "receivers",
    [(1000, 1001, 1002, 1003), (1000, 1001, 1002, 1002), (1000, 1001, 1002, 4711)],
    ids=["company X", "one twice", "a stranger"],
)
def test_messages_to_others_than_each_hospital_once_are_refused(receivers: tuple[int, ...]) -> None:
    grid = LocalGrid(train_app(), simulated_nodes(3))
    with pytest.raises(ProtocolError, match="one message at most to each hospital"):
        strategy(Sends(*receivers)).start(grid, MODEL, num_rounds=1)
    assert {m.metadata.message_type for m in grid.sent} == {"query.describe"}


def test_more_contributors_than_the_strategy_asks_for() -> None:
    encrypted = strategy(FedAvg(fraction_train=0.5, min_train_nodes=2), min_contributors=4)
    with pytest.raises(ProtocolError, match=r"at least 4 contributors .*, got 3"):
        encrypted.start(LocalGrid(train_app(), simulated_nodes(6)), MODEL, num_rounds=1)
    encrypted = strategy(FedAvg(min_available_nodes=2), min_contributors=4)
    with pytest.raises(ProtocolError, match="must have 4 hospitals and one company X, got 3 and"):
        encrypted.call_roll(LocalGrid(train_app(), simulated_nodes(3)))
    encrypted = strategy(FedAvg(min_available_nodes=5), min_contributors=3)
    with pytest.raises(ProtocolError, match="must have 5 hospitals and one company X, got 4 and"):
        encrypted.call_roll(LocalGrid(train_app(), simulated_nodes(4)))


def test_the_wrapped_strategys_weight_is_what_hospitals_are_asked_for() -> None:
    weighted = strategy(FedAvg(fraction_evaluate=0.0, weighted_by_key="loss"))
    with pytest.raises(ProtocolError, match="must be weighted by 'num-examples', got 'loss'"):
        weighted.start(LocalGrid(train_app(), simulated_nodes(3)), MODEL, num_rounds=1)


def test_the_key_holders_refusal_stops_the_run_with_its_reason() -> None:
    def refuse(reply: Message) -> Message:
        decrypt = reply.metadata.message_type == DECRYPT
        return error(reply) if decrypt else reply

    grid = LocalGrid(train_app(), simulated_nodes(3))
    grid.tamper = refuse
    encrypted = strategy()
    with pytest.raises(ProtocolError, match=r"company X refused to open the sum: no \[2Jt today$"):
        encrypted.start(grid, MODEL, num_rounds=1)
    assert encrypted.sums == []


@pytest.mark.parametrize("total", [2.0, 4.0, 3.5])
def test_a_total_of_any_other_count_is_refused(total: float) -> None:
    def lie(reply: Message) -> Message:
        if reply.metadata.message_type == DECRYPT:
            values = DecryptReply.from_content(reply.content).total
            values[0] = total
            reply.content = DecryptReply(values, 0.0).to_content()
        return reply

    grid = LocalGrid(train_app(), simulated_nodes(3))
    grid.tamper = lie
    with pytest.raises(ProtocolError, match="total is not of 3 contributors"):
        strategy().start(grid, MODEL, num_rounds=1)


@pytest.mark.parametrize("topology", ["fold", "chain"])
def test_costs_are_those_of_all_messages(topology: str) -> None:
    def takes_time(reply: Message) -> Message:
        if reply.metadata.message_type == "train":
            answer = EncryptedReply.from_content(reply.content)
            timed = replace(answer, encrypt_seconds=100.0, add_seconds=10.0)
            reply.content = timed.to_content()
        return reply

    grid = LocalGrid(train_app(), simulated_nodes(3))
    grid.tamper = takes_time
    encrypted = strategy(FedAvg(fraction_evaluate=0.0), topology=topology)
    encrypted.start(grid, MODEL, num_rounds=1)
    (one,) = encrypted.sums
    messages = [m for m in grid.sent + grid.received if m.metadata.message_type != DESCRIBE]
    assert len(messages) == 8
    assert one.cost.bytes_sent == sum(map(content_bytes, messages))
    assert one.cost.encrypt_seconds == 300
    assert 30 <= one.cost.add_seconds < 31


def test_ciphertexts_packed_another_way_are_refused() -> None:
    def repacked(reply: Message) -> Message:
        answer = EncryptedReply.from_content(reply.content)
        key = grid_key(reply)
        other = MadeSum(key, [1.0, 10.0, 1, 1, 1, 1], 1, Packing(20, 20)).to_bytes("session")
        reply.content = replace(answer, encrypted_sum=other).to_content()
        return reply

    def grid_key(_: Message) -> PublicKey:
        return encrypted.roster.public_key

    encrypted = strategy()
    grid = LocalGrid(train_app(), simulated_nodes(3))
    grid.tamper = from_train(repacked)
    with pytest.raises(ProtocolError, match="hospital-1 must fill the slots"):
        encrypted.start(grid, MODEL, num_rounds=1)


def test_messages_keep_their_group_and_time_to_live() -> None:
    message = Message(RecordDict(), 1000, "train", ttl=77.0, group_id="5")
    request = EncryptionRequest("key", "packing", "session", 1)
    sent = addressed(message, request).metadata
    assert (sent.ttl, sent.group_id, sent.dst_node_id, sent.message_type) == (
        *(77.0, "5", 1000, "train"),
    )


DEPLOYED: UserConfig = {"role": "hospital", "key-fingerprint": "ab" * 32}


def test_a_run_is_simulated_if_its_nodes_are() -> None:
    assert strategy().call_roll(LocalGrid(train_app(), simulated_nodes(3))).simulated


def test_a_deployed_node_among_simulated_ones_is_refused() -> None:
    grid = LocalGrid(train_app(), [*simulated_nodes(3), DEPLOYED])
    with pytest.raises(ProtocolError, match=r"all simulated or all deployed, got .* of 5 nodes"):
        strategy().call_roll(grid)


def test_the_third_hospitals_features_count_as_well() -> None:
    def features(context: Context) -> tuple[str, ...]:
        return ("size",) if context.node_config["partition-id"] == 2 else ("age",)

    with pytest.raises(ProtocolError, match="hospital-3 differs from hospital-1"):
        strategy().call_roll(LocalGrid(train_app(features), simulated_nodes(3)))


def test_the_roll_is_called_once_in_a_run() -> None:
    grid = LocalGrid(train_app(), simulated_nodes(3))
    strategy().start(grid, MODEL, num_rounds=2)
    assert [m.metadata.message_type for m in grid.sent].count(DESCRIBE) == 4


def test_hospitals_send_no_plain_arrays_that_nobody_knows_of() -> None:
    def more(reply: Message) -> Message:
        answer = EncryptedReply.from_content(reply.content)
        reply.content = replace(answer, plain=np.array([1.0])).to_content()
        return reply

    grid = LocalGrid(train_app(), simulated_nodes(3))
    grid.tamper = from_train(more)
    with pytest.raises(ProtocolError, match="hospital-1 must send the plain arrays of its layout"):
        strategy().start(grid, MODEL, num_rounds=1)
