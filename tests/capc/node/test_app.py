"""Steps of CaPC that come twice, too early, from the wrong node or in a wrong form are refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from capc_parties import KEY_BITS, Parties, constant_model
from capc_snapshots import Snapshots, snapshots
from flwr.app import Array, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fl_he.capc.messages import CapcReply, CapcRequest
from fl_he.capc.protocol import FIRST, STEPS, CapcStep
from fl_he.capc.terms import VOTE_PACKING, Terms
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.wire.records import ProtocolError

pytestmark = pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")

TERMS = Terms(2, 3, fraction_bits=4, integer_bits=4, value_bits=12, threshold=1, key_bits=KEY_BITS)
#: The steps of a batch without hidden layers in which a node reads others' parts.
WITH_PARTS = [
    CapcStep.EVALUATE,
    CapcStep.LOGIT_BITS,
    CapcStep.COMPARE,
    CapcStep.VOTE,
    CapcStep.COLLECT,
    CapcStep.COUNT,
    CapcStep.COUNT_BITS,
    CapcStep.COMPARE_COUNTS,
    CapcStep.DECIDE,
    CapcStep.ANY,
    CapcStep.RELEASE,
    CapcStep.LEARN,
]
#: Those whose parts are named after parties: no party, no answer.
BY_PARTY = (CapcStep.LOGIT_BITS, CapcStep.VOTE)


@pytest.fixture(scope="module")
def parties() -> Parties:
    """Parties that have answered once."""
    from flwr.supercore.task_identity import TaskIdentity  # noqa: PLC0415

    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 7, 1, 1
    made = Parties(TERMS, np.zeros((3, 3)), [constant_model(0, 2, 3)] * 2)
    assert made.ask() == [0] * 3
    return made


def refusal(parties: Parties, node: int, step: CapcStep, content: RecordDict) -> str:
    """Ask a node for a step and return why it refuses."""
    (reply,) = parties.grid.send_and_receive([Message(content, node, step.value)])
    assert reply.has_error(), step
    return str(reply.error.reason)


def recorded(parties: Parties, step: CapcStep) -> Message:
    """Return the first message of a step."""
    return next(m for m in parties.grid.sent if m.metadata.message_type == step)


def changed(message: Message, **changes: Any) -> RecordDict:
    """Return a recorded request in another session, with changes."""
    request = CapcRequest.from_content(message.content)
    values = {f.name: getattr(request, f.name) for f in fields(request) if f.name != "session"}
    return CapcRequest(**{"session": "ab" * 16, **values, **changes}).to_content()


@pytest.mark.parametrize(
    "step",
    [
        CapcStep.COMPARE,
        CapcStep.COLLECT,
        CapcStep.COUNT_BITS,
        CapcStep.COMPARE_COUNTS,
        CapcStep.ANY,
        CapcStep.RELEASE,
        CapcStep.LEARN,
    ],
)
def test_a_step_that_comes_twice_or_too_early_is_refused(parties: Parties, step: CapcStep) -> None:
    """Use a step's stored state once: no mask and no permutation serves a second answer."""
    message = recorded(parties, step)
    for content in (message.content, changed(message)):
        reason = refusal(parties, message.metadata.dst_node_id, step, content)
        assert "step out of order" in reason


@pytest.fixture
def on_its_way(
    parties: Parties, monkeypatch: pytest.MonkeyPatch
) -> Callable[[CapcStep, Callable[[ClientApp, Message, Context], Message]], None]:
    """Return a function that puts something between the grid and a step of the nodes."""
    own = parties.grid.app

    def put(step: CapcStep, between: Callable[[ClientApp, Message, Context], Message]) -> None:
        def app(message: Message, context: Context) -> Message:
            if message.metadata.message_type == step:
                return between(own, message, context)
            return own(message, context)

        monkeypatch.setattr(parties.grid, "app", app)

    return put


@pytest.fixture(scope="module")
def batch(parties: Parties) -> Snapshots:
    """Return snapshots from before each step of another batch."""
    with snapshots(parties.grid) as taken:
        parties.ask()
    return taken


@pytest.mark.parametrize("step", WITH_PARTS)
def test_parts_that_are_cut_short_spoilt_or_missing_are_refused(
    batch: Snapshots, step: CapcStep
) -> None:
    """Refuse them in the middle of an otherwise honest batch."""
    changes: tuple[tuple[Callable[[bytes], bytes], str], ...] = (
        (lambda data: data[:-1], "must be|must have"),
        (lambda data: bytes(len(data)), r"must be in \[1, |must start with"),
        (lambda data: b"", "must be|must have"),
    )
    for wrong, reason in changes:

        def spoil(request: CapcRequest, wrong: Callable[[bytes], bytes] = wrong) -> CapcRequest:
            assert request.parts
            return replace(request, parts={n: wrong(data) for n, data in request.parts.items()})

        for node in batch.nodes(step):
            assert re.search(reason, batch.refusal(step, node, spoil))


@pytest.mark.parametrize("step", [s for s in WITH_PARTS if s not in BY_PARTY])
def test_a_request_without_parts_is_refused(batch: Snapshots, step: CapcStep) -> None:
    for node in batch.nodes(step):
        reason = batch.refusal(step, node, lambda request: replace(request, parts={}))
        assert "message has no part" in reason


@pytest.mark.parametrize("step", WITH_PARTS)
def test_a_part_that_the_step_does_not_take_is_refused(batch: Snapshots, step: CapcStep) -> None:
    (node, *_) = batch.nodes(step)

    def add(request: CapcRequest) -> CapcRequest:
        return replace(request, parts={**request.parts, "nonsense": b"1"})

    assert f"{step} has no part 'nonsense'" in batch.refusal(step, node, add)


@pytest.mark.parametrize("step", [step for step in STEPS if step not in FIRST.values()])
def test_a_step_before_the_first_of_its_role_is_refused(batch: Snapshots, step: CapcStep) -> None:
    """The memory of a batch that the node has not begun is empty."""
    for node in batch.nodes(step):
        later = batch.refusal(step, node, lambda request: replace(request, session="cd" * 16))
        assert f"step out of order: {step}" in later


def test_the_guardian_makes_noise_once_for_a_batch(parties: Parties, on_its_way: Any) -> None:
    """Several draws to choose from would make the noise smaller."""

    def twice(app: ClientApp, message: Message, context: Context) -> Message:
        assert not app(message, context).has_error()
        return app(message, context)

    on_its_way(CapcStep.NOISE, twice)
    with pytest.raises(ProtocolError, match=r"step out of order: query\.capc_noise must come once"):
        parties.ask()


def test_it_compares_counts_only_if_it_made_noise_for_all_of_them(
    parties: Parties, on_its_way: Any
) -> None:
    def fewer(app: ClientApp, message: Message, context: Context) -> Message:
        request = CapcRequest.from_content(message.content)
        message.content = replace(request, queries=request.queries - 1).to_content()
        return app(message, context)

    on_its_way(CapcStep.NOISE, fewer)
    with pytest.raises(ProtocolError, match="must be compared with the noise of this batch"):
        parties.ask()


@pytest.mark.parametrize(
    "change",
    [
        lambda key: EncryptedVector.encrypt(key, VOTE_PACKING, np.zeros(3)),
        lambda key: EncryptedVector.encrypt(key, Packing(integer_bits=20), np.zeros(30)),
    ],
    ids=["length", "packing"],
)
def test_counts_of_another_form_are_refused(
    parties: Parties, on_its_way: Any, change: Callable[[PublicKey], EncryptedVector]
) -> None:
    key = parties.keys(parties.guardian).public.paillier

    def swap(app: ClientApp, message: Message, context: Context) -> Message:
        request = CapcRequest.from_content(message.content)
        parts = dict.fromkeys(request.parts, change(key).to_bytes())
        message.content = replace(request, parts=parts).to_content()
        return app(message, context)

    on_its_way(CapcStep.COUNT, swap)
    with pytest.raises(ProtocolError, match="noisy-counts must be 30 counts, got"):
        parties.ask()


def test_a_winner_that_is_no_class_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Parties(replace(TERMS, threshold=None), np.zeros((3, 3)), [constant_model(0, 2, 3)] * 2)
    own = made.grid.app

    def app(message: Message, context: Context) -> Message:
        if message.metadata.message_type == CapcStep.LEARN:
            request = CapcRequest.from_content(message.content)
            message.content = replace(request, parts={"winners": b"\0\2\1"}).to_content()
        return own(message, context)

    monkeypatch.setattr(made.grid, "app", app)
    with pytest.raises(ProtocolError, match=r"received a winner outside 0\.\.1"):
        made.ask()
    assert made.labels == []


def test_a_querying_party_without_so_many_queries_asks_nothing(parties: Parties) -> None:
    with pytest.raises(ProtocolError, match=r"queries must be 4 of 3 features, got \(3, 3\)"):
        parties.protocol.ask("hospital-1", 4)


def test_noise_that_the_counts_have_no_room_for_is_refused() -> None:
    """Such noise would reverse the results of comparisons."""
    terms = replace(TERMS, threshold=None, variance_gnmax=Fraction(10**18))
    loud = Parties(terms, np.zeros((3, 3)), [constant_model(0, 2, 3)] * 2)
    with pytest.raises(ProtocolError, match="the noise must fit the counts"):
        loud.ask()


def test_steps_of_another_role_are_refused(parties: Parties) -> None:
    for step, node in (
        (CapcStep.NOISE, parties.querying),
        (CapcStep.DECIDE, parties.answering[0]),
        (CapcStep.ASK, parties.guardian),
        (CapcStep.EVALUATE, parties.guardian),
    ):
        content = changed(recorded(parties, step))
        assert "must be asked of another node" in refusal(parties, node, step, content)


def test_keys_that_are_none_are_refused(parties: Parties) -> None:
    message = recorded(parties, CapcStep.EVALUATE)
    keys = dict(CapcRequest.from_content(message.content).keys)
    node = message.metadata.dst_node_id
    wrongs = (
        ({"querying-paillier": keys["querying-dgk"]}, "public key must have exactly the members"),
        ({"querying-dgk": ""}, "DGK public key must be a JSON object"),
        ({"querying-paillier": "{}"}, "public key must have exactly the members"),
    )
    for number, (changes, reason) in enumerate(wrongs):
        content = changed(message, session=f"{number:032x}", keys={**keys, **changes})
        assert reason in refusal(parties, node, CapcStep.EVALUATE, content)


def test_a_deployed_node_without_an_agreement_takes_no_part(parties: Parties) -> None:
    grid = parties.grid
    grid.join(77, {"role": "hospital", "name": "a", "key-fingerprint": "x"})
    try:
        content = CapcRequest("0" * 32, 1).to_content()
        assert "without them no keys are pinned" in refusal(parties, 77, CapcStep.DESCRIBE, content)
    finally:
        grid.leave(77)


def test_other_messages_go_to_the_app_behind(parties: Parties) -> None:
    context: Context = parties.grid.contexts[parties.querying]
    message = Message(RecordDict(), parties.querying, "query.describe")
    reply = parties.grid.app(message, context)
    assert reply.error.reason == "ValueError: No query function registered with name 'describe'"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"session": "ab" * 15}, "session must be 32 hexadecimal digits"),
        ({"session": "AB" * 16}, "session must be 32 hexadecimal digits"),
        ({"session": 1}, "session must be text"),
        ({"queries": 0}, "queries must be at least 1"),
        ({"queries": 1 << 21}, "queries must be at most 1048576"),
        ({"queries": True}, "queries must be an integer, got true or false"),
        ({"querying": b"a"}, "querying must be text"),
        ({"answering": "a"}, "answering must be a list, got text"),
    ],
    ids=str,
)
def test_a_request_in_a_wrong_form_is_refused(changes: Mapping[str, Any], reason: str) -> None:
    content = CapcRequest("ab" * 16, 1).to_content()
    content.config_records["fl-he"].update(changes)
    with pytest.raises(ProtocolError, match=reason):
        CapcRequest.from_content(content)


@pytest.mark.parametrize("name", ["session", "queries", "querying", "answering"])
def test_a_request_must_be_whole(name: str) -> None:
    content = CapcRequest("ab" * 16, 1).to_content()
    del content.config_records["fl-he"][name]
    with pytest.raises(ProtocolError, match=f"{name} must be"):
        CapcRequest.from_content(content)


def test_parts_of_another_kind_are_refused() -> None:
    content = CapcRequest("ab" * 16, 1).to_content()
    content.array_records["fl-he.capc"]["x"] = Array(np.zeros(1))
    with pytest.raises(ProtocolError, match="'x' must be of type"):
        CapcRequest.from_content(content)
    del content["fl-he.capc"]
    with pytest.raises(ProtocolError, match="has no array record"):
        CapcRequest.from_content(content)


def test_requests_and_replies_survive_their_records() -> None:
    parts = {"bits": b"12", "x": b""}
    request = CapcRequest("ab" * 16, 5, "a", ("b", "c"), {"guardian-dgk": "{}"}, parts, 3)
    assert CapcRequest.from_content(request.to_content()) == request
    reply = CapcReply({"votes": b"1"}, 0.5, {"paillier": "{}"}, "{}", "hospital-1", "hospital")
    assert CapcReply.from_content(reply.to_content()) == reply
    with pytest.raises(ProtocolError, match="no part 'y'"):
        request.part("y")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"classes": 1}, "classes must be between 2 and 128"),
        ({"classes": 129}, "classes must be between 2 and 128"),
        ({"features": 0}, "features must be at least 1"),
        ({"threshold": 10**9}, "the threshold must be at most 1048575 in size"),
        ({"threshold": -(10**9)}, "the threshold must be at most 1048575 in size"),
        ({"variance_threshold": Fraction(1)}, "variance_threshold needs a threshold"),
    ],
    ids=str,
)
def test_terms_out_of_range_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CryptoError, match=reason):
        Terms(**{"classes": 2, "features": 1, **changes})
