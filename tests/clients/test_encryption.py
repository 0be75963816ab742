from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
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
from numpy.typing import NDArray
from reply_forms import form_of
from ticketed_sums import MadeSum, unchecked

from fl_he.clients.encryption import EncryptionMod, encryption_mod
from fl_he.clients.node.outgoing import PRIVATE_REFUSAL
from fl_he.crypto.errors import RangeError
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.learning.errors import DataError
from fl_he.wire.encrypted_sum import FIGURES, EncryptedReply, EncryptionRequest
from fl_he.wire.records import PrivateReasonError, ProtocolError
from fl_he.wire.update_layout import UpdateLayout

KEY = PrivateKey.generate(1024)
OTHER_KEY = PrivateKey.generate(1024)
PACKING = Packing()
#: As many hospitals as a deployed node without a manifest has room for, so that packings are equal.
HOSPITAL: UserConfig = {"partition-id": 0, "num-partitions": PACKING.max_contributors + 1}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deployed nodes without a table keep the forms of their replies here."""
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))


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
    return unchecked(reply.encrypted_sum, KEY), UpdateLayout.from_json(reply.layout)


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
    company = {**HOSPITAL, "partition-id": PACKING.max_contributors}
    for node in (HOSPITAL, company):
        words = refused(ask(RecordDict(), context(node)))
        assert words.startswith("the server's strategy does not encrypt. Wrap it, as in Sequent")


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


#: The first value of an update with a value that does not fit.
MISFIT = 1.0 + 2.0**-10


@pytest.mark.parametrize(
    ("gradient", "advice"),
    [
        (-(2.0**24), "raise integer_bits"),
        (np.inf, "is NaN or infinite once weighted by 'num-examples': lower the"),
        (np.nan, "is NaN or infinite once weighted by 'num-examples': lower the"),
    ],
)
def test_a_value_that_does_not_fit_has_random_numbers_sent(gradient: float, advice: str) -> None:
    reply, node = app_reply(gradient=gradient), context()
    answer, again = (ask(request().add_to(RecordDict()), node, reply=reply) for _ in range(2))
    require_random(opened(answer)[0], opened(again)[0])
    told = EncryptedReply.from_content(answer.content).simulated_log
    assert "the array 'w' at [0]" in told
    assert advice in told
    assert "16777216" not in told


def require_random(*totals: NDArray[np.float64]) -> None:
    """Require updates of a mark and independent random numbers over the whole range."""
    first, second = totals
    assert [first[0], second[0]] == [MISFIT, MISFIT]
    assert not (first[1:] == second[1:]).any()
    # All six numbers of an update are below a thousandth of the range once in 10**18.
    assert all(np.abs(total[1:]).max() > PACKING.maximum / 1000 for total in totals)


def raising(error: BaseException) -> Callable[[Message, Context], Message]:
    def app(message: Message, context: Context) -> Message:
        raise error

    return app


def replying(reply: RecordDict | Error) -> Callable[[Message, Context], Message]:
    return lambda message, _: Message(reply, reply_to=message)


OTHER_FORM = RecordDict({"metrics": MetricRecord({"num-examples": 7})})
BAD_APPS = {
    "too large": replying(app_reply(gradient=2.0**24)),
    "infinite": replying(app_reply(gradient=np.inf)),
    "no number": replying(app_reply(gradient=np.nan)),
    "negative weight": replying(app_reply(examples=-1)),
    "another form": replying(OTHER_FORM),
    "empty": replying(RecordDict()),
    "error": replying(Error(3, "loss=0.123 of Jane Doe")),
    "exception": raising(ValueError("Jane Doe, 17.99")),
    "refusal": raising(PrivateReasonError("Jane Doe is too large")),
    "public words": raising(ProtocolError("Jane Doe must be smaller")),
    "range": raising(RangeError(0, "", "Jane Doe does not fit")),
    "data": raising(DataError("Jane Doe must be smaller")),
}


@pytest.mark.parametrize("action", ["train", "evaluate"])
@pytest.mark.parametrize("bad", BAD_APPS)
def test_a_reply_has_one_form_whatever_the_app_does(
    bad: str, action: str, caplog: pytest.LogCaptureFixture
) -> None:
    node, content = context(DEPLOYED), request().add_to(RecordDict())
    usual = ask(content, node, action)
    answer = encryption_mod(Message(content, 5, action), node, BAD_APPS[bad])
    assert form_of(answer) == form_of(usual)
    assert opened(answer)[0][0] == MISFIT
    assert f"{action}: " in caplog.text
    np.testing.assert_array_equal(opened(ask(content, node, action))[0], opened(usual)[0])


@pytest.mark.parametrize("bad", ["negative weight", "another form", "exception", "error"])
def test_an_app_that_gives_no_update_contributes_random_numbers(bad: str) -> None:
    node, content = context(), request().add_to(RecordDict())
    ask(content, node)
    totals = []
    for _ in range(2):
        answer = encryption_mod(Message(content, 5, "train"), node, BAD_APPS[bad])
        totals.append(opened(answer)[0])
    require_random(*totals)


def test_metrics_of_the_first_form_are_kept_and_cost_no_update(
    caplog: pytest.LogCaptureFixture,
) -> None:
    node, content = context(DEPLOYED), request().add_to(RecordDict())
    usual = ask(content, node)
    reply = app_reply()
    reply["metrics"] = MetricRecord({"auc": 0.5, "num-examples": 7})
    answer = ask(content, node, reply=reply)
    assert form_of(answer) == form_of(usual)
    np.testing.assert_array_equal(opened(answer)[0], [1, 7, -1.25 * 7, 17.5, 0, 0, 0])
    assert "the metric 'loss' is not in this round's mean" in caplog.text


def test_a_restricted_reply_is_marked_as_well() -> None:
    node, content = context(), request().add_to(RecordDict())
    ask(content, node, FIGURES)
    answer = encryption_mod(Message(content, 5, FIGURES), node, BAD_APPS["exception"])
    assert opened(answer)[0][0] == -MISFIT


@pytest.mark.parametrize("state", [True, False])
def test_the_form_of_a_deployed_node_is_in_a_file(tmp_path: Path, state: bool) -> None:
    config = DEPLOYED | ({"state": str(tmp_path / "state")} if state else {})
    content = request().add_to(RecordDict())
    usual = ask(content, context(config))
    answer = ask(content, context(config), reply=OTHER_FORM)
    assert form_of(answer) == form_of(usual), "its context is new"
    other_session = request(session="another").add_to(RecordDict())
    node = context(config)
    node.run_id = 2
    assert form_of(ask(other_session, node, reply=OTHER_FORM)) != form_of(usual)


@pytest.mark.parametrize("kind", [PrivateReasonError, ProtocolError, OverflowError])
@pytest.mark.parametrize("deployed", [False, True])
def test_a_form_that_was_declared_is_there_before_the_first_reply(
    kind: Callable[[str], Exception], deployed: bool
) -> None:
    mod = EncryptionMod(declared=lambda *_: app_reply())
    node = context(DEPLOYED if deployed else HOSPITAL)
    message = Message(request().add_to(RecordDict()), 5, "train")
    answer = mod(message, node, raising(kind("Jane Doe")))
    again = Message(request().add_to(RecordDict()), 5, "train")
    require_random(opened(answer)[0], opened(mod(again, node, raising(kind("Jane Doe"))))[0])
    assert EncryptedReply.from_content(answer.content).simulated_log == (
        "" if deployed else "OverflowError: Jane Doe" if kind is OverflowError else "Jane Doe"
    )


@pytest.mark.parametrize("deployed", [False, True])
def test_a_value_that_does_not_fit_names_the_column_to_the_nodes_own_people(
    caplog: pytest.LogCaptureFixture, deployed: bool
) -> None:
    mod = EncryptionMod(columns=lambda _, name, position: [f"{name}-{position}"])
    message = Message(request().add_to(RecordDict()), 5, "train")
    reply = app_reply(gradient=2.0**24)
    node = context(DEPLOYED if deployed else HOSPITAL)
    answer = mod(message, node, lambda *_: Message(reply, reply_to=message))
    told = (
        "the array 'w' at [0], of column 'w-[0]', does not fit its slot once weighted by "
        "'num-examples': raise integer_bits (now 24, at most 30), or save the column in a larger "
        "unit, or leave the column out"
    )
    assert (told in caplog.text) is deployed
    assert EncryptedReply.from_content(answer.content).simulated_log == ("" if deployed else told)


def test_the_packing_is_the_nodes_own() -> None:
    other = Packing(fraction_bits=26, integer_bits=22).to_json()
    reason = refused(ask(request(packing=other).add_to(RecordDict()), context()))
    assert "the packing must be this node's own" in reason


def test_the_weight_is_the_nodes_own() -> None:
    reason = refused(ask(request(weighted_by="loss").add_to(RecordDict()), context()))
    assert "must be weighted by 'num-examples', got 'loss'" in reason


def test_nothing_is_added_to_a_running_sum_of_other_arrays() -> None:
    node = context()
    first = EncryptedReply.from_content(ask(request().add_to(RecordDict()), node).content)
    going_on = replace(
        request(),
        running_sum=first.encrypted_sum,
        layout=first.layout.replace('"w"', '"v"'),
    )
    total, layout = opened(ask(going_on.add_to(RecordDict()), node))
    np.testing.assert_allclose(total, opened(Message(first.to_content(), 1, "train"))[0], atol=1e-6)
    assert layout.to_json() == first.layout
    reason = refused(
        ask(replace(going_on, running_sum=None, exact=True).add_to(RecordDict()), node)
    )
    assert "the layout that is asked for must be that of this hospital's update" in reason
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
    other = MadeSum(OTHER_KEY.public_key, np.zeros(5), 1, PACKING).to_bytes("session")
    layout = EncryptedReply.from_content(ask(request().add_to(RecordDict()), context()).content)
    going_on = replace(request(), running_sum=other, layout=layout.layout)
    assert "the key must be" in refused(ask(going_on.add_to(RecordDict()), context()))


def test_a_query_of_the_app_would_answer_in_plain_and_is_refused() -> None:
    assert "would leave this node in plain" in refused(
        ask(request().add_to(RecordDict()), context(), "query.peek")
    )


def test_the_key_holder_does_not_train() -> None:
    holder = context({**HOSPITAL, "partition-id": PACKING.max_contributors})
    assert "must go to a hospital" in refused(ask(request().add_to(RecordDict()), holder))


@pytest.mark.parametrize("node_config", [HOSPITAL, DEPLOYED], ids=["simulated", "deployed"])
@pytest.mark.parametrize(
    "kind", [PrivateReasonError, DataError, OverflowError, partial(RangeError, 0, "")]
)
@pytest.mark.parametrize("action", ["train", "evaluate"])
def test_an_app_that_fails_before_it_has_a_form_is_asked_no_more(
    node_config: UserConfig, kind: Callable[[str], Exception], action: str
) -> None:
    """Otherwise a coordinator that chooses the model could learn one bit of data per request."""
    node, content = context(node_config), request().add_to(RecordDict())
    failing = raising(kind("a value is too large"))
    refused(encryption_mod(Message(content, 5, action), node, failing))
    node.state = RecordDict() if node_config == DEPLOYED else node.state
    evaluation = ask(content, node, "evaluate")
    training = ask(content, node)
    if action == "train":
        assert "this node stays out of the run" in refused(training)
        assert "this node stays out of the run" in refused(evaluation)
    else:
        assert "this node does not evaluate again" in refused(evaluation)
        assert training.has_content()


@pytest.mark.parametrize("node_config", [HOSPITAL, DEPLOYED], ids=["simulated", "deployed"])
def test_who_cannot_use_the_final_model_does_not_say_so(
    node_config: UserConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """Model and scale are the coordinator's: whether they overflow would say something of data."""
    message = Message(RecordDict(), 5, "query.finish")
    answer = encryption_mod(message, context(node_config), raising(OverflowError("Jane Doe")))
    assert answer.content == RecordDict()
    assert "OverflowError" in caplog.text


def test_a_full_disk_is_told_when_the_final_model_is_saved() -> None:
    app = raising(OSError(28, "no space left", "/srv/jane.json"))
    message = Message(RecordDict(), 5, "query.finish")
    assert refused(encryption_mod(message, context(DEPLOYED), app)) == PRIVATE_REFUSAL


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
