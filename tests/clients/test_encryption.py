from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.app.user_config import UserConfig

from fl_he.clients.encryption import EncryptionMod, encryption_mod
from fl_he.clients.node.outgoing import PRIVATE_REFUSAL
from fl_he.crypto.errors import RangeError
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.learning.errors import DataError
from fl_he.wire.encrypted_sum import EncryptedReply, EncryptionRequest
from fl_he.wire.records import PrivateReasonError
from fl_he.wire.update_layout import UpdateLayout

KEY = PrivateKey.generate(1024)
OTHER_KEY = PrivateKey.generate(1024)
PACKING = Packing()
HOSPITAL: UserConfig = {"partition-id": 0, "num-partitions": 4}


def request(key: PrivateKey = KEY, **changes: object) -> EncryptionRequest:
    fields = {
        "public_key": key.public_key.to_json(),
        "packing": PACKING.to_json(),
        "session": "session",
        "round": 1,
    }
    return EncryptionRequest(**{**fields, **changes})  # type: ignore[arg-type]


def context(node_config: UserConfig = HOSPITAL) -> Context:
    return Context(run_id=1, node_id=5, node_config=node_config, state=RecordDict(), run_config={})


def app_reply(gradient: float = -1.25, examples: int = 7) -> RecordDict:
    return RecordDict(
        {
            "arrays": ArrayRecord({"w": Array(np.array([gradient, 2.5]))}),
            "metrics": MetricRecord({"loss": 0.6875, "num-examples": examples}),
        }
    )


def ask(
    content: RecordDict,
    node: Context,
    action: str = "train",
    reply: RecordDict | Error | None = None,
) -> Message:
    seen: list[RecordDict] = []

    def app(message: Message, _: Context) -> Message:
        seen.append(message.content)
        return Message(app_reply() if reply is None else reply, reply_to=message)

    answer = encryption_mod(Message(content, 5, action), node, app)
    assert all("fl-he" not in records for records in seen), "the app must not see our records"
    return answer


def opened(answer: Message) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], UpdateLayout]:
    reply = EncryptedReply.from_content(answer.content)
    vector = EncryptedVector.from_bytes(reply.encrypted_sum, KEY.public_key)
    return KEY.decrypt_vector(vector), UpdateLayout.from_json(reply.layout)


def test_reply_is_the_weighted_update_encrypted() -> None:
    total, layout = opened(ask(request().add_to(RecordDict()), context()))
    np.testing.assert_array_equal(total, [1, 7, -1.25 * 7, 2.5 * 7, 1, 7, 0.6875 * 7])
    assert layout.mean(total, np.empty(0)).array_records["arrays"]["w"].numpy().tolist() == [
        -1.25,
        2.5,
    ]


def test_running_sum_is_added_to() -> None:
    node = context()
    first = ask(request().add_to(RecordDict()), node)
    sum_so_far = EncryptedReply.from_content(first.content)
    going_on = replace(request(), running_sum=sum_so_far.encrypted_sum, layout=sum_so_far.layout)
    total, _ = opened(ask(going_on.add_to(RecordDict()), node))
    np.testing.assert_array_equal(total, [2, 14, -1.25 * 14, 2.5 * 14, 2, 14, 0.6875 * 14])


def test_evaluate_is_encrypted_as_well() -> None:
    metrics = RecordDict({"metrics": MetricRecord({"loss": 0.5, "num-examples": 4})})
    total, _ = opened(ask(request().add_to(RecordDict()), context(), "evaluate", metrics))
    np.testing.assert_array_equal(total, [1, 4, 1, 4, 2.0])


def test_two_encryptions_of_one_update_differ() -> None:
    answers = [ask(request().add_to(RecordDict()), context()) for _ in range(2)]
    first, second = (EncryptedReply.from_content(a.content).encrypted_sum for a in answers)
    assert first != second


def refused(answer: Message) -> str:
    assert answer.has_error()
    assert not answer.has_content()
    return str(answer.error.reason)


def test_no_key_no_answer() -> None:
    assert "has no config record 'fl-he'" in refused(ask(RecordDict(), context()))


@pytest.mark.parametrize("key", ["", "{}", '{"kty":"DAJ","alg":"PAI-GN1","n":"AQ"}'])
def test_unusable_key_no_answer(key: str) -> None:
    reason = refused(ask(request(public_key=key).add_to(RecordDict()), context()))
    assert reason.startswith("public key must ")


def test_another_key_than_the_pinned_one_is_refused() -> None:
    pinned = context({"role": "hospital", "key-fingerprint": KEY.public_key.fingerprint})
    assert ask(request().add_to(RecordDict()), pinned).has_content()
    reason = refused(ask(request(OTHER_KEY).add_to(RecordDict()), pinned))
    assert "must be the pinned one" in reason
    assert OTHER_KEY.public_key.fingerprint in reason


def test_a_simulated_node_pins_the_first_key_of_the_run() -> None:
    node = context()
    assert ask(request().add_to(RecordDict()), node).has_content()
    assert "must be the pinned one" in refused(ask(request(OTHER_KEY).add_to(RecordDict()), node))
    assert ask(request(OTHER_KEY).add_to(RecordDict()), context()).has_content()


DEPLOYED: UserConfig = {"role": "hospital", "key-fingerprint": KEY.public_key.fingerprint}


@pytest.mark.parametrize(
    ("gradient", "advice"),
    [(-(2.0**24), "raise integer_bits"), (np.nan, "must be a finite number")],
)
def test_a_value_that_does_not_fit_names_the_array_and_the_setting(
    gradient: float, advice: str
) -> None:
    reply = app_reply(gradient=gradient)
    reason = refused(ask(request().add_to(RecordDict()), context(), reply=reply))
    assert "the array 'w' at [0]" in reason
    assert advice in reason
    assert "16777216" not in reason


def test_a_refused_evaluation_touches_no_train_round() -> None:
    node = context(DEPLOYED)
    negative = RecordDict({"metrics": MetricRecord({"loss": 0.5, "num-examples": -1})})
    assert "log says more" in refused(
        ask(request().add_to(RecordDict()), node, "evaluate", negative)
    )
    assert "evaluates no more in this run" in refused(
        ask(request().add_to(RecordDict()), node, "evaluate")
    )
    assert ask(request().add_to(RecordDict()), node).has_content()


@pytest.mark.parametrize(
    "reply", [app_reply(gradient=2.0**24), app_reply(gradient=np.inf), app_reply(examples=-1)]
)
def test_a_deployed_node_keeps_such_a_reason_and_takes_no_further_part(
    reply: RecordDict, caplog: pytest.LogCaptureFixture
) -> None:
    node = context(DEPLOYED)
    reason = refused(ask(request().add_to(RecordDict()), node, reply=reply))
    assert reason == PRIVATE_REFUSAL
    assert "must be" in caplog.text or "does not fit its slot" in caplog.text
    for action in ("train", "evaluate", "query.finish"):
        again = refused(ask(request().add_to(RecordDict()), node, action))
        assert "takes no part in the run any more" in again
    assert ask(request().add_to(RecordDict()), context(DEPLOYED)).has_content()


@pytest.mark.parametrize("deployed", [False, True])
def test_a_value_that_does_not_fit_names_the_column_to_the_nodes_own_people(
    caplog: pytest.LogCaptureFixture, deployed: bool
) -> None:
    mod = EncryptionMod(columns=lambda _, name, position: [f"{name}-{position}"])
    message = Message(request().add_to(RecordDict()), 5, "train")
    reply = app_reply(gradient=2.0**24)
    node = context(DEPLOYED if deployed else HOSPITAL)
    reason = refused(mod(message, node, lambda *_: Message(reply, reply_to=message)))
    told = (
        "the array 'w' at [0], of column 'w-[0]', does not fit its slot once weighted by "
        "'num-examples': raise integer_bits, or save the column in a larger unit, or leave the "
        "column out"
    )
    assert (told in caplog.text, told in reason) == (deployed, not deployed)
    assert not deployed or "column" not in reason


def test_the_packing_is_the_nodes_own() -> None:
    other = Packing(fraction_bits=26, integer_bits=22).to_json()
    reason = refused(ask(request(packing=other).add_to(RecordDict()), context()))
    assert "the packing must be this node's own" in reason


def test_the_weight_is_the_nodes_own() -> None:
    reason = refused(ask(request(weighted_by="loss").add_to(RecordDict()), context()))
    assert "must be weighted by 'num-examples', got 'loss'" in reason


def test_running_sum_of_another_layout_is_refused() -> None:
    node = context()
    first = EncryptedReply.from_content(ask(request().add_to(RecordDict()), node).content)
    going_on = replace(
        request(),
        running_sum=first.encrypted_sum,
        layout=first.layout.replace('"w"', '"v"'),
    )
    reason = refused(ask(going_on.add_to(RecordDict()), node))
    assert "must have the layout" in reason
    assert "it has the array 'w', and the others do not" in reason


def test_the_metrics_of_a_running_sum_are_those_of_the_update(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node = context()
    first = EncryptedReply.from_content(ask(request().add_to(RecordDict()), node).content)
    layout = first.layout.replace("loss", "cost")
    going_on = replace(request(), running_sum=first.encrypted_sum, layout=layout)
    answer = ask(going_on.add_to(RecordDict()), node)
    total, got = opened(answer)
    assert got.to_json() == layout
    np.testing.assert_array_equal(total, [2, 14, -1.25 * 14, 2.5 * 14, 1, 7, 0.6875 * 7])
    left_out = UpdateLayout.from_json(EncryptedReply.from_content(answer.content).left_out)
    assert [metric.name for metric in left_out.metrics] == ["loss"]
    assert "the metric 'loss' is left out: the other hospitals do not have it" in caplog.text
    assert "the metric 'cost' is not in this round's mean" in caplog.text


def test_running_sum_under_another_key_is_refused() -> None:
    vector = EncryptedVector.encrypt(OTHER_KEY.public_key, PACKING, np.zeros(5))
    layout = EncryptedReply.from_content(ask(request().add_to(RecordDict()), context()).content)
    going_on = replace(request(), running_sum=vector.to_bytes(), layout=layout.layout)
    assert "the key must be" in refused(ask(going_on.add_to(RecordDict()), context()))


def test_a_query_of_the_app_would_answer_in_plain_and_is_refused() -> None:
    assert "would leave this node in plain" in refused(
        ask(request().add_to(RecordDict()), context(), "query.peek")
    )


def test_the_key_holder_does_not_train() -> None:
    holder = context({"partition-id": 3, "num-partitions": 4})
    assert "must go to a hospital" in refused(ask(request().add_to(RecordDict()), holder))


@pytest.mark.parametrize("node_config", [HOSPITAL, DEPLOYED], ids=["simulated", "deployed"])
@pytest.mark.parametrize("action", ["train", "query.finish"])
@pytest.mark.parametrize(
    "kind", [PrivateReasonError, DataError, OverflowError, partial(RangeError, 0, "")]
)
def test_an_app_that_refuses_for_a_private_reason_is_asked_no_more(
    node_config: UserConfig, kind: Callable[[str], Exception], action: str
) -> None:
    """Who chooses the model could ask again and again, and learn a bit of the data each time."""
    asked: list[str] = []

    def app(message: Message, context: Context) -> Message:
        asked.append(message.metadata.message_type)
        raise kind("a value is too large")

    node = context(node_config)
    reasons = [
        refused(encryption_mod(Message(request().add_to(RecordDict()), 5, action), node, app))
        for action in (action, "train", "evaluate", "query.finish")
    ]
    assert ["takes no part in the run any more" in reason for reason in reasons] == [
        *(False, True, True, True)
    ]
    assert asked == [action]


def test_the_words_of_an_exception_stay_at_a_deployed_node() -> None:
    def app(message: Message, context: Context) -> Message:
        raise ValueError("could not convert 'Smith, 17.99'")

    message = Message(request().add_to(RecordDict()), 5, "train")
    assert "Smith" not in refused(encryption_mod(message, context(DEPLOYED), app))


def test_an_error_reply_of_the_app_stays_at_a_deployed_node() -> None:
    error = Error(3, "loss=0.123 of Jane Doe")
    assert "Jane" not in refused(
        ask(request().add_to(RecordDict()), context(DEPLOYED), reply=error)
    )
    assert "Jane" in refused(ask(request().add_to(RecordDict()), context(), reply=error))


@pytest.mark.parametrize("action", ["query.finish", "query.describe"])
def test_open_replies_hold_nothing_but_what_they_are_for(action: str) -> None:
    assert refused(ask(RecordDict(), context(), action, reply=app_reply()))


def test_an_empty_reply_to_the_final_model_passes() -> None:
    assert ask(RecordDict(), context(), "query.finish", reply=RecordDict()).content == RecordDict()


def test_a_deployed_node_never_encrypts_under_the_first_key_it_is_sent() -> None:
    node = context(DEPLOYED)
    assert "must be the pinned one" in refused(ask(request(OTHER_KEY).add_to(RecordDict()), node))
    assert "must be the pinned one" in refused(ask(request(OTHER_KEY).add_to(RecordDict()), node))
    assert ask(request().add_to(RecordDict()), node).has_content()


@pytest.mark.parametrize(
    "changes",
    [
        {"public_key": OTHER_KEY.public_key.to_json()},
        {"packing": Packing(20, 20).to_json()},
        {"weighted_by": "loss"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_the_app_is_not_even_asked_before_the_request_is_checked(changes: dict[str, Any]) -> None:
    def app(message: Message, context: Context) -> Message:
        raise AssertionError("the app was asked")

    message = Message(request(**changes).add_to(RecordDict()), 5, "train")
    assert "must be" in refused(encryption_mod(message, context(DEPLOYED), app))


@pytest.mark.parametrize(
    "record",
    [MetricRecord({"loss": 0.5}), ConfigRecord({"examples": 7}), ArrayRecord()],
    ids=lambda record: type(record).__name__,
)
def test_the_reply_to_the_final_model_holds_no_record_of_any_kind(
    record: MetricRecord | ConfigRecord | ArrayRecord,
) -> None:
    reply = RecordDict({"extra": record})
    answer = ask(RecordDict(), context(), "query.finish", reply=reply)
    assert "must be empty" in refused(answer)


@pytest.mark.parametrize("action", ["train.head", "evaluate.head"])
def test_an_apps_own_train_and_evaluate_functions_are_encrypted(action: str) -> None:
    total, _ = opened(ask(request().add_to(RecordDict()), context(), action))
    assert total[1] == 7
