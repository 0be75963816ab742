from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from flwr.common.constant import ErrorCode

from fl_he import hospital_partition
from fl_he.clients import encryption_mod, with_key_holder
from fl_he.clients.node.app import read_node
from fl_he.clients.node.node import Node
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.wire.encrypted_sum import (
    DESCRIBE,
    FINISH,
    Description,
    EncryptedReply,
    EncryptionRequest,
)
from fl_he.wire.records import ProtocolError

KEY = PrivateKey.generate(1024).public_key
REQUEST = EncryptionRequest(KEY.to_json(), Packing(max_contributors=3).to_json(), "session", 1)
SIMULATED: UserConfig = {"partition-id": 0, "num-partitions": 4}
PARTITIONS = "num-partitions"
DEPLOYED: UserConfig = {
    **{"role": "hospital", "name": "st-mary", "key-fingerprint": KEY.fingerprint},
    "reply-seconds": 0,
}


def update() -> RecordDict:
    arrays = ArrayRecord({"w": Array(np.ones(2))})
    return RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 7})})


def trained(message: Message, _: Context) -> Message:
    return Message(update(), reply_to=message)


def ask(
    app: ClientApp,
    action: str,
    node_config: UserConfig,
    request: EncryptionRequest = REQUEST,
) -> Message:
    message = Message(request.add_to(RecordDict()), 5, action)
    return app(message, Context(1, 5, node_config, RecordDict(), {}))


def reason(answer: Message) -> str:
    assert answer.has_error()
    return str(answer.error.reason)


@pytest.mark.parametrize("action", ["train", "evaluate", "train.head"])
def test_a_reply_that_nobody_has_encrypted_does_not_leave(action: str) -> None:
    app = with_key_holder(ClientApp())
    category, _, name = action.partition(".")
    getattr(app, category)(*([name] if name else []))(trained)
    assert "must be the first of the app's mods" in reason(ask(app, action, SIMULATED))


def test_an_encrypted_one_leaves_whether_registered_before_or_after() -> None:
    before = ClientApp(mods=[encryption_mod])
    before.train()(trained)
    after = with_key_holder(ClientApp(mods=[encryption_mod]))
    after.train()(trained)
    for app in (with_key_holder(before), after):
        EncryptedReply.from_content(ask(app, "train", SIMULATED).content)


def test_only_an_empty_reply_to_the_final_model_leaves() -> None:
    for content in (RecordDict(), update()):
        app = with_key_holder(ClientApp())

        @app.query("finish")
        def finish(message: Message, _: Context, content: RecordDict = content) -> Message:
            return Message(content, reply_to=message)

        answer = ask(app, FINISH, SIMULATED)
        assert answer.has_error() == bool(list(content.keys()))
    assert "'query.finish' would leave this node in plain" in reason(answer)


def test_a_query_of_the_app_would_answer_in_plain_even_without_the_mod() -> None:
    app = with_key_holder(ClientApp())
    app.query("count")(trained)
    assert "'query.count' would leave this node in plain" in reason(
        ask(app, "query.count", SIMULATED)
    )


@pytest.mark.parametrize("node_config", [SIMULATED, DEPLOYED])
def test_an_exception_in_front_of_the_mod_stays_at_a_deployed_node(
    node_config: UserConfig,
) -> None:
    def failing(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        raise RuntimeError("patient 17")

    app = with_key_holder(ClientApp(mods=[failing, encryption_mod]))
    app.train()(trained)
    words = reason(ask(app, "train", node_config))
    assert ("patient 17" in words) == (node_config is SIMULATED)


def test_an_error_reply_of_an_app_without_the_mod_stays_at_a_deployed_node() -> None:
    app = with_key_holder(ClientApp())

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(Error(7, "patient 17"), reply_to=message)

    assert "patient 17" in reason(ask(app, "train", SIMULATED))
    assert "patient 17" not in reason(ask(app, "train", DEPLOYED))


def test_a_reply_to_another_message_does_not_leave() -> None:
    def astray(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        answer = call_next(message, context)
        answer.metadata.__dict__["_reply_to_message_id"] = "another"
        return answer

    app = with_key_holder(ClientApp(mods=[astray, encryption_mod]))
    app.train()(trained)
    assert "must answer the message" in reason(ask(app, "train", SIMULATED))


def test_an_error_in_reply_to_another_message_is_sent_in_reply_to_the_right_one() -> None:
    def astray(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        answer = call_next(message, context)
        answer.metadata.__dict__["_message_id"] = "the answer"
        return Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, "no keys"), reply_to=answer)

    app = with_key_holder(ClientApp(mods=[astray, encryption_mod]))
    app.train()(trained)
    answer = ask(app, "train", SIMULATED)
    assert "no keys" in reason(answer)
    assert answer.metadata.reply_to_message_id == ""


def test_the_apps_mods_and_functions_never_see_fl_hes_own_actions() -> None:
    def seen(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        raise AssertionError(message.metadata.message_type)

    app = with_key_holder(ClientApp(mods=[seen]))
    app.query("describe")(trained)
    answer = ask(app, DESCRIBE, SIMULATED)
    assert Description.from_content(answer.content).name == "hospital-1"


def test_the_apps_lifespan_is_kept() -> None:
    app = with_key_holder(ClientApp(mods=[encryption_mod]))
    app.train()(trained)
    happened: list[str] = []

    @app.lifespan()
    def around(context: Context) -> Iterator[None]:
        happened.append("begin")
        yield
        happened.append("end")

    ask(app, "train", SIMULATED)
    assert happened == ["begin", "end"]


def test_a_node_is_read_once_a_message_and_forgotten_after_it() -> None:
    app = with_key_holder(ClientApp(mods=[encryption_mod]))
    seen: list[Node] = []

    @app.train()
    def train(message: Message, context: Context) -> Message:
        other = Context(1, 6, {"partition-id": 3, "num-partitions": 4}, RecordDict(), {})
        seen.extend((read_node(context), read_node(context), read_node(other)))
        return Message(update(), reply_to=message)

    ask(app, "train", SIMULATED)
    ask(app, "train", SIMULATED)
    assert seen[0] is seen[1]
    assert [node.name for node in seen[1:3]] == ["hospital-1", "company X"]
    assert seen[3] is not seen[0]
    assert read_node(seen[3].context) is not seen[3]


def test_a_legacy_app_is_refused() -> None:
    with pytest.raises(
        ProtocolError, match=r"the ClientApp has a client_fn: .*Upgrade to Message API"
    ):
        with_key_holder(ClientApp(client_fn=lambda context: None))  # type: ignore[arg-type,return-value]


def dividing_app(divisor: Callable[[Context], object]) -> ClientApp:
    app = with_key_holder(ClientApp(mods=[encryption_mod]))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        divisor(context)
        return trained(message, context)

    return app


@pytest.mark.parametrize(
    "divisor",
    [
        lambda context: context.node_config["num-partitions"],
        lambda c: c.node_config.get(PARTITIONS),
    ],
)
def test_an_app_that_reads_num_partitions_is_warned_once(
    divisor: Callable[[Context], object], caplog: pytest.LogCaptureFixture
) -> None:
    app = dividing_app(divisor)
    for partition in (0, 1, 2):
        context = Context(1, 5, {**SIMULATED, "partition-id": partition}, RecordDict(), {})
        for _ in range(2):
            message = Message(REQUEST.add_to(RecordDict()), 5, "train")
            assert not app(message, context).has_error()
        assert type(context.node_config) is dict
    (warning,) = caplog.records
    assert warning.name == "flwr"
    assert "num-partitions, which is 4" in warning.getMessage()
    assert "only 3 hospitals contribute" in warning.getMessage()
    assert "hospital_partition(context)" in warning.getMessage()


def test_an_app_that_asks_for_its_partition_is_not_warned(caplog: pytest.LogCaptureFixture) -> None:
    seen = []
    app = dividing_app(lambda context: seen.append(hospital_partition(context)))
    for partition in range(3):
        assert not ask(app, "train", {**SIMULATED, "partition-id": partition}).has_error()
    assert seen == [(0, 3), (1, 3), (2, 3)]
    assert not caplog.records


def test_a_deployed_hospital_is_not_warned_of_partitions(caplog: pytest.LogCaptureFixture) -> None:
    app = dividing_app(lambda context: context.node_config["num-partitions"])
    request = replace(REQUEST, packing=Packing().to_json())
    numbered: UserConfig = {**DEPLOYED, "partition-id": 0, PARTITIONS: 3}
    assert not ask(app, "train", numbered, request).has_error()
    assert not caplog.records
