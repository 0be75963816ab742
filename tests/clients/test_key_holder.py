from __future__ import annotations

import json
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from ticketed_sums import MadeSum

from fl_he.clients.key_holder import key_holder_app, with_key_holder
from fl_he.clients.node.app import read_node
from fl_he.clients.node.node import KeyHolderPolicy
from fl_he.clients.node.outgoing import PRIVATE_REFUSAL
from fl_he.clients.opening import Asked, Opener
from fl_he.crypto.key_files import ScryptCost
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.key_kind import KeyKind
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.tickets.opening import TicketError
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.learning.regression import evaluation
from fl_he.learning.tables.data import Dataset
from fl_he.wire.encrypted_sum import (
    DECRYPT,
    DESCRIBE,
    DecryptReply,
    DecryptRequest,
    Description,
    FiguresReply,
    MisfitReply,
    Role,
)
from fl_he.wire.records import ProtocolError
from fl_he.wire.update_layout import first_value

T = TypeVar("T")
KEY = PrivateKey.generate(1024)
#: With as many hospitals as a deployed node without a manifest has room for.
SIMULATED: UserConfig = {"partition-id": 512, "num-partitions": 513}
UPDATE = [1.0, 10.0, -0.5, 1.0, 10.0, 2.5]


class Holder:
    """Company X's node of one run."""

    def __init__(
        self, node_config: UserConfig, policy: KeyHolderPolicy | None = None, run_id: int = 1
    ) -> None:
        self.context = Context(run_id, 5, node_config, RecordDict(), {})
        self.app = with_key_holder(
            ClientApp(),
            self.of_this_node(policy or KeyHolderPolicy(min_contributors=3, key_bits=1024)),
            self.of_this_node(("age", "size")),
            self.of_this_node(("a", "b", "c")),
        )

    def of_this_node(self, value: T) -> Callable[[Context], T]:
        def answer(context: Context) -> T:
            assert context is self.context
            return value

        return answer

    def ask(self, action: str, content: RecordDict) -> Message:
        return self.app(Message(content, 5, action), self.context)

    def describe(self) -> Description:
        return Description.from_content(self.ask(DESCRIBE, RecordDict()).content)

    def open(self, contributors: int = 3, **changes: object) -> Message:
        description = self.describe()
        key = PublicKey.from_json(description.public_key)
        fields: dict[str, Any] = {
            "session": description.session,
            "purpose": "train",
            "round": 1,
            "contributors": contributors,
            "encrypted_sum": encrypted_sum(key, contributors),
            **changes,
        }
        made = fields["encrypted_sum"]
        if isinstance(made, MadeSum):
            occasion = (fields[name] for name in ("session", "purpose", "round"))
            fields["encrypted_sum"] = made.to_bytes(*occasion)
        return self.ask(DECRYPT, DecryptRequest(**fields).to_content())


def encrypted_sum(key: PublicKey, contributors: int) -> MadeSum:
    return MadeSum(key, contributors * np.array(UPDATE), contributors)


def sum_of(values: Sequence[float], contributors: int = 3) -> MadeSum:
    return MadeSum(KEY.public_key, values, contributors)


#: Of a sum whose tickets, tags and contributor count do not fit; which of them is not said.
TICKETS = str(TicketError())
COUNT = "the sum does not hold the 3 contributors claimed"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "private-key.json"
    KEY.save(path)
    return path


@pytest.fixture
def holder(key_file: Path) -> Holder:
    return Holder({"role": "key-holder", "private-key": str(key_file)})


def test_no_path_leaves_a_deployed_key_holder(tmp_path: Path) -> None:
    holder = Holder({"role": "key-holder", "private-key": str(tmp_path / "no-key.json")})
    assert str(tmp_path) not in reason(holder.ask(DESCRIBE, RecordDict()))


def reason(answer: Message) -> str:
    assert answer.has_error()
    return str(answer.error.reason)


def test_describe_publishes_key_and_session_and_no_secret(holder: Holder) -> None:
    description = holder.describe()
    assert description.role is Role.KEY_HOLDER
    assert PublicKey.from_json(description.public_key) == KEY.public_key
    assert len(description.session) == 32
    assert description.session == holder.describe().session
    assert '"p"' not in description.public_key
    assert (description.features, description.classes) == ((), ())


def test_a_node_that_is_company_x_and_nothing_else(key_file: Path) -> None:
    config: UserConfig = {"role": "key-holder", "private-key": str(key_file)}
    holder = Holder(config)
    holder.app = key_holder_app()
    assert holder.open().has_content()
    holder.app = key_holder_app(lambda _: KeyHolderPolicy(min_contributors=4))
    answer = holder.open(round=2)
    assert "at least 4" in reason(answer)
    # nobody's training: Flower's own error, whose words and type stay here
    assert reason(holder.ask("train", RecordDict())) == PRIVATE_REFUSAL


def test_sessions_differ_from_run_to_run(key_file: Path) -> None:
    config: UserConfig = {"role": "key-holder", "private-key": str(key_file)}
    first, second = Holder(config).describe(), Holder(config, run_id=2).describe()
    assert first.session != second.session
    assert Holder(config).describe().session == first.session, "its node was restarted"


def test_total_of_enough_contributors_is_opened(holder: Holder) -> None:
    answer = DecryptReply.from_content(holder.open().content)
    assert answer.decrypt_seconds == 0.0, "a deployed node's seconds stay there"
    np.testing.assert_array_equal(answer.total, 3 * np.array(UPDATE))


def test_the_time_of_a_decryption_is_stated_in_a_simulation() -> None:
    holder, start = Holder(SIMULATED), perf_counter()
    answer = DecryptReply.from_content(holder.open().content)
    assert 0 < answer.decrypt_seconds < perf_counter() - start


def test_a_simulated_key_holder_makes_its_own_key() -> None:
    holder = Holder(SIMULATED)
    made = PublicKey.from_json(holder.describe().public_key)
    assert (made.key_bits, made.key_kind) == (1024, KeyKind.short)
    other = Holder(SIMULATED, KeyHolderPolicy(key_bits=1024, key_kind=KeyKind.djn))
    assert PublicKey.from_json(other.describe().public_key).key_kind is KeyKind.djn
    assert DecryptReply.from_content(holder.open().content).total[0] == 3


def test_a_node_says_whether_it_is_simulated(key_file: Path) -> None:
    for role in ("key-holder", "hospital"):
        deployed = {"role": role, "private-key": str(key_file)}
        pinned: UserConfig = {**deployed, "key-fingerprint": KEY.public_key.fingerprint}
        assert not Holder(pinned).describe().simulated
    for partition in (0, 3):  # the last is company X
        assert Holder({"partition-id": partition, "num-partitions": 4}).describe().simulated


@pytest.mark.parametrize("contributors", [1, 2])
def test_too_few_contributors(holder: Holder, contributors: int) -> None:
    assert f"at least 3 and at most 512 contributors, got {contributors}" in reason(
        holder.open(contributors)
    )


def test_the_claim_must_be_true(holder: Holder) -> None:
    short = sum_of([2.0, *UPDATE[1:]])
    assert reason(holder.open(encrypted_sum=short)) == COUNT
    assert "open already" in reason(holder.open()), "who may try again can ask many questions"
    assert holder.open(round=2).has_content()


def test_a_round_is_used_up_before_its_sum_is_decrypted(
    holder: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(PrivateKey, "decrypt_tagged", die)
        with pytest.raises(SystemExit):
            holder.open()
    assert "open already" in reason(holder.open()), "who kills the process may ask no more often"


def test_what_is_refused_unopened_uses_up_no_round(holder: Holder, key_file: Path) -> None:
    holder.describe()
    ledger = key_file.with_name("private-key.json.opened.jsonl")
    before = ledger.read_bytes()
    moved = MadeSum(KEY.public_key, UPDATE, packing=Packing(22, 26))
    session = holder.describe().session
    three = encrypted_sum(KEY.public_key, 3).made(session)
    twice = TicketedSum(three.vector, (*three.tickets[:2], three.tickets[0]))
    refused: list[dict[str, object]] = [
        {"contributors": 2},
        {"contributors": 513},
        {"contributors": 4},
        {"encrypted_sum": moved},
        {"encrypted_sum": sum_of([3.0])},
        {"encrypted_sum": twice.to_bytes()},
        {"encrypted_sum": b"no vector"},
        {"session": "0" * 32},
    ]
    for changes in refused:
        good = {"encrypted_sum": encrypted_sum(KEY.public_key, 3)}
        assert reason(holder.open(**{**good, **changes}))  # type: ignore[arg-type]
        assert ledger.read_bytes() == before
    assert holder.open().has_content()


def test_a_slot_that_overflows_is_refused_in_the_same_words(holder: Holder) -> None:
    assert reason(holder.open(encrypted_sum=multiplied(holder, 2**10))) == TICKETS


def test_another_packing_than_the_policys(holder: Holder) -> None:
    moved = Packing(fraction_bits=22, integer_bits=26)
    other = MadeSum(KEY.public_key, [3.0, 1.0], packing=moved)
    assert "the packing must be" in reason(holder.open(encrypted_sum=other))
    assert holder.describe().packing == Packing().to_json()


def test_a_sum_is_opened_for_one_round(holder: Holder) -> None:
    encrypted = encrypted_sum(KEY.public_key, 3).to_bytes(holder.describe().session)
    assert holder.open(encrypted_sum=encrypted).has_content()
    assert "this very sum" in reason(holder.open(round=2, encrypted_sum=encrypted))
    assert "this very sum" in reason(holder.open(purpose="evaluate", encrypted_sum=encrypted))


@pytest.mark.parametrize(
    "asked",
    [
        Asked("train", b"b" * 32, len(UPDATE)),
        Asked("evaluate", bytes(32), len(UPDATE)),
        Asked("train", bytes(32), len(UPDATE) + 1),
        None,
    ],
)
def test_company_x_knows_what_was_asked_without_a_manifest_too(
    holder: Holder, asked: Asked | None
) -> None:
    session, node = holder.describe().session, read_node(holder.context)
    summed = encrypted_sum(KEY.public_key, 3).to_bytes(session)
    request = DecryptRequest(session, "train", 1, 3, summed)
    opener = Opener.of(node, KeyHolderPolicy())
    if asked is not None:
        with pytest.raises((TicketError, ProtocolError)):
            opener.open(request, asked=asked)
        return
    right = Asked("train", bytes(32), len(UPDATE))
    opened = opener.open(request, asked=right)
    assert opened is not None
    assert opened.total.tolist() == [3 * number for number in UPDATE]


@pytest.mark.parametrize("changes", [{"round": 2}, {"purpose": "evaluate"}])
def test_a_sum_made_for_another_occasion_is_not_opened(
    holder: Holder, changes: dict[str, Any]
) -> None:
    other = encrypted_sum(KEY.public_key, 3).to_bytes(holder.describe().session)
    assert reason(holder.open(encrypted_sum=other, **changes)) == TICKETS
    assert "open already" in reason(holder.open(**changes)), "who may try again can ask much"


def test_a_ticket_that_says_another_question_is_not_opened(holder: Holder) -> None:
    three = encrypted_sum(KEY.public_key, 3).made(holder.describe().session)
    other = replace(three.tickets[2], asked=b"x" * 32)
    changed = TicketedSum(three.vector, (*three.tickets[:2], other))
    assert reason(holder.open(encrypted_sum=changed.to_bytes())) == TICKETS


def test_without_a_manifest_each_hospital_may_be_told_something_else(holder: Holder) -> None:
    session = holder.describe().session
    first, second = (
        MadeSum(KEY.public_key, [1.0, 10.0], [name], asked=name.encode() * 32).made(session)
        for name in "ab"
    )
    third = MadeSum(KEY.public_key, [1.0, 10.0], ["c"]).made(session)
    for other in (second, third):
        first.add_in_place(other, KEY.public_key)
    total = DecryptReply.from_content(holder.open(encrypted_sum=first.to_bytes()).content).total
    assert total.tolist() == [3.0, 30.0]


def multiplied(holder: Holder, factor: int) -> bytes:
    """Return a sum at the edge of a slot with its ciphertext's plaintext multiplied."""
    edge = sum_of([3.0, 30.0, 2.0**24 - 1]).made(holder.describe().session)
    assert isinstance(edge.vector, EncryptedVector)
    (ciphertext,) = edge.vector.to_integers()
    body = KEY.public_key.to_bytes([pow(ciphertext, factor, KEY.public_key.n**2)])
    vector = EncryptedVector(KEY.public_key, Packing(), 3, bytearray(body), tagged=True)
    return TicketedSum(vector, edge.tickets).to_bytes()


def misfit_sum(misfits: int, sign: float = 1.0, values: Sequence[float] = UPDATE[1:]) -> MadeSum:
    """Return the sum of three hospitals, `misfits` of which had values that did not fit."""
    first = sum(first_value(Packing(), fits=number >= misfits) for number in range(3))
    return sum_of([sign * first, *(3 * np.array(values))])


@pytest.mark.parametrize("purpose", ["train", "evaluate", "separation", "figures"])
def test_of_a_sum_of_which_some_do_not_fit_nothing_leaves_but_that(
    holder: Holder, purpose: str
) -> None:
    sign = -1.0 if purpose in ("separation", "figures") else 1.0
    values = [10.0, 1.0, 2.0] if purpose == "separation" else UPDATE[1:]
    replies = [
        holder.open(purpose=purpose, encrypted_sum=misfit_sum(misfits, sign, values))
        for misfits in (1, 2, 3)
    ]
    assert [reply.content for reply in replies] == [MisfitReply().to_content()] * 3
    assert list(replies[0].content.config_records.values()) == [ConfigRecord()]


def test_another_sum_is_opened_in_the_place_of_one_that_does_not_fit(holder: Holder) -> None:
    bad, good = misfit_sum(1), misfit_sum(0)
    assert MisfitReply.is_in(holder.open(encrypted_sum=bad).content)
    assert MisfitReply.is_in(holder.open(encrypted_sum=bad).content), "the answer may be lost"
    assert DecryptReply.from_content(holder.open(encrypted_sum=good).content).total[0] == 3
    assert "train 1 is open already" in reason(holder.open(encrypted_sum=misfit_sum(0)))


def test_rounds_are_opened_in_order(holder: Holder) -> None:
    assert holder.open(round=5).has_content()
    assert "in order: train 5 is open already, got train 4" in reason(holder.open(round=4))


def test_a_deployed_key_stays_in_its_file(holder: Holder, key_file: Path) -> None:
    assert holder.open().has_content()
    secrets = key_file.read_text()
    p = json.loads(secrets)["p"]
    assert p not in repr(holder.context)
    key_file.unlink()
    PrivateKey.generate(1024).save(key_file)
    assert "the key with which the run began" in reason(holder.ask(DESCRIBE, RecordDict()))


def test_the_node_configuration_goes_before_the_policy(key_file: Path) -> None:
    config: UserConfig = {"role": "key-holder", "private-key": str(key_file)}
    assert "at least 4" in reason(Holder({**config, "min-contributors": 4}).open())
    assert Holder({**config, "min-contributors": 2}).open(2).has_content()
    for wrong in (0, "3", True):
        answer = Holder({**config, "min-contributors": wrong}).ask(DESCRIBE, RecordDict())
        assert "min-contributors in the node configuration" in reason(answer)


def test_the_node_configuration_limits_rounds_and_sessions(key_file: Path) -> None:
    config: UserConfig = {"role": "key-holder", "private-key": str(key_file)}
    limited: UserConfig = {**config, "max-rounds": 2, "max-sessions": 1}
    holder = Holder(limited)
    assert holder.open().has_content()
    assert holder.open(purpose="evaluate").has_content()
    assert holder.open(round=3).has_content()
    assert "at most 2 totals" in reason(holder.open(round=4))
    assert "in at most 1 sessions (max-sessions" in reason(Holder(limited, run_id=2).open())
    assert Holder({**limited, "max-sessions": 2}, run_id=2).open().has_content()
    for name in ("max-rounds", "max-sessions"):
        for wrong in (0, 1.0, "3", True):
            answer = Holder({**config, name: wrong}).ask(DESCRIBE, RecordDict())
            assert f"{name} in the node configuration must be a whole number" in reason(answer)


def test_a_round_is_opened_once(holder: Holder) -> None:
    assert holder.open().has_content()
    assert "open already" in reason(holder.open())
    assert holder.open(round=2).has_content()
    assert holder.open(purpose="evaluate").has_content()
    assert "open already" in reason(holder.open(purpose="evaluate"))


def test_unknown_session(holder: Holder) -> None:
    assert "session must be one" in reason(holder.open(session="0" * 32))


def test_a_key_holder_that_was_never_asked_to_describe_itself_opens_nothing(
    key_file: Path,
) -> None:
    holder = Holder({"role": "key-holder", "private-key": str(key_file)})
    request = DecryptRequest("", "train", 1, 3, encrypted_sum(KEY.public_key, 3).to_bytes(""))
    assert "session must be one" in reason(holder.ask(DECRYPT, request.to_content()))


def test_sum_under_another_key(holder: Holder) -> None:
    other = PrivateKey.generate(1024).public_key
    assert "the key must be" in reason(holder.open(encrypted_sum=encrypted_sum(other, 3)))


@pytest.mark.parametrize("spoil", [lambda b: b[:-1], lambda b: b"XXXX" + b[4:], lambda b: b""])
def test_spoiled_sum(holder: Holder, spoil: Callable[[bytes], bytes]) -> None:
    good = encrypted_sum(KEY.public_key, 3).to_bytes(holder.describe().session)
    assert reason(holder.open(encrypted_sum=spoil(good)))


def test_more_contributors_than_the_slots_have_room_for(holder: Holder) -> None:
    assert "at most 512 contributors, got 513" in reason(
        holder.open(513, encrypted_sum=encrypted_sum(KEY.public_key, 3))
    )


def test_as_many_contributors_as_the_slots_have_room_for(holder: Holder) -> None:
    assert holder.open(512, encrypted_sum=sum_of([512.0, 30.0, 1.5], 512)).has_content()


def test_a_vector_without_count_and_examples(holder: Holder) -> None:
    assert "must hold a contributor count" in reason(holder.open(encrypted_sum=sum_of([3.0])))


def test_a_deployed_key_holder_needs_its_key_file() -> None:
    answer = Holder({"role": "key-holder"}).ask(DESCRIBE, RecordDict())
    assert "must be given private-key" in reason(answer)


def test_a_protected_key_file_is_opened_with_the_passphrase_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, passphrase = tmp_path / "protected.json", tmp_path / "passphrase"
    KEY.save(path, "secret", cost=ScryptCost(n=2, r=1))
    passphrase.touch(0o600)
    passphrase.write_text("secret\n")
    config: UserConfig = {"role": "key-holder", "private-key": str(path)}
    opened = Holder({**config, "passphrase-file": str(passphrase)})
    assert opened.describe().public_key == KEY.public_key.to_json()
    answer = reason(Holder(config).ask(DESCRIBE, RecordDict()))
    assert "private-key in the node configuration must name a key file" in answer
    assert str(path) not in answer
    assert "private-key: the key file is protected: a passphrase must be given" in caplog.text


def test_a_hospital_describes_its_features_and_opens_nothing() -> None:
    hospital = Holder({"partition-id": 0, "num-partitions": 4})
    description = hospital.describe()
    assert (description.role, description.features) == (Role.HOSPITAL, ("age", "size"))
    assert description.classes == ("a", "b", "c")
    assert (description.public_key, description.session) == ("", "")
    request = DecryptRequest("", "train", 1, 3, encrypted_sum(KEY.public_key, 3).to_bytes(""))
    assert "only company X" in reason(hospital.ask(DECRYPT, request.to_content()))


def test_records_of_another_form(holder: Holder) -> None:
    assert "has no config record" in reason(holder.ask(DECRYPT, RecordDict()))


def test_a_sum_that_overflows_has_used_up_its_round(holder: Holder) -> None:
    assert reason(holder.open(encrypted_sum=multiplied(holder, 2**10))) == TICKETS
    assert "open already" in reason(holder.open()), "who may try again learns where it overflows"


@pytest.mark.parametrize("inside", [4.0, 3.25, 2.75, -3.0, 0.0])
def test_the_count_inside_must_be_the_claimed_one_exactly(holder: Holder, inside: float) -> None:
    assert "contributors claimed" in reason(holder.open(encrypted_sum=sum_of([inside, 30.0, 1.5])))


def test_all_rounds_and_sums_are_remembered_not_the_last_alone(holder: Holder) -> None:
    first = encrypted_sum(KEY.public_key, 3).to_bytes(holder.describe().session)
    assert holder.open(encrypted_sum=first).has_content()
    assert holder.open(purpose="evaluate").has_content()
    assert "open already" in reason(holder.open()), (
        "an evaluation lies between, and changes nothing"
    )
    assert holder.open(round=2).has_content()
    assert "this very sum" in reason(holder.open(round=3, encrypted_sum=first))


def test_the_same_request_has_the_same_answer(holder: Holder) -> None:
    encrypted = encrypted_sum(KEY.public_key, 3)
    first = DecryptReply.from_content(holder.open(encrypted_sum=encrypted).content)
    assert holder.open(round=2).has_content()
    again = DecryptReply.from_content(holder.open(encrypted_sum=encrypted).content)
    np.testing.assert_array_equal(again.total, first.total)


@pytest.mark.parametrize(
    "changes",
    [
        {"purpose": "evaluate"},
        {"round": 2},
        {"encrypted_sum": encrypted_sum(KEY.public_key, 3)},
        {"metric_values": 1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_request_that_differs_in_anything_has_none(
    holder: Holder, changes: dict[str, object]
) -> None:
    encrypted = encrypted_sum(KEY.public_key, 3).to_bytes(holder.describe().session)
    assert holder.open(encrypted_sum=encrypted).has_content()
    assert "open already" in reason(holder.open(**{"encrypted_sum": encrypted, **changes}))  # type: ignore[arg-type]
    assert holder.open(encrypted_sum=encrypted).has_content()


def metrics_sum(*columns: tuple[float, float, float]) -> MadeSum:
    """Return four hospitals' encrypted sum of 100 examples: counts, weights and sums of metrics."""
    tail = np.array(columns).T.ravel()
    values = [4.0, 100.0, 7.0, *tail.tolist()]
    return MadeSum(KEY.public_key, values, 4, metric_values=len(columns))


def test_of_metrics_leave_means_that_enough_hospitals_have(holder: Holder) -> None:
    encrypted = metrics_sum((4, 100, 50), (3, 80, 20), (2, 30, 15), (0, 0, 0))
    reply = holder.open(4, encrypted_sum=encrypted, metric_values=4)
    total = DecryptReply.from_content(reply.content).total
    assert total[:3].tolist() == [4, 100, 7]
    assert total[3:].reshape(3, 4).tolist() == [[4, 3, 2, 0], [1, 1, 0, 0], [0.5, 0.25, 0, 0]]


@pytest.mark.parametrize("values", [0, 1])
def test_hospitals_say_how_many_numbers_are_metrics(holder: Holder, values: int) -> None:
    """Otherwise the second metric's weight and sum, of one hospital, would leave."""
    encrypted = metrics_sum((4, 100, 50), (1, 30, 15))
    answer = holder.open(4, encrypted_sum=encrypted, metric_values=values)
    assert reason(answer) == TICKETS


def test_metrics_with_counts_and_no_weights_are_withheld(holder: Holder) -> None:
    reply = holder.open(4, encrypted_sum=metrics_sum((4, 0, 50)), metric_values=1)
    assert DecryptReply.from_content(reply.content).total[3:].tolist() == [4, 0, 0]


@pytest.mark.parametrize("values", [2, 2**40])
def test_more_metrics_than_the_sum_has(holder: Holder, values: int) -> None:
    answer = holder.open(4, encrypted_sum=metrics_sum((4, 100, 50)), metric_values=values)
    assert "a number of examples and the metrics claimed" in reason(answer)
    assert holder.open(4, encrypted_sum=metrics_sum((4, 100, 50)), metric_values=1).has_content()


@pytest.mark.parametrize("purpose", ["figures", "separation"])
def test_counts_are_no_metrics(holder: Holder, purpose: str) -> None:
    encrypted = counts_sum(KEY.public_key)
    answer = holder.open(purpose=purpose, encrypted_sum=encrypted, metric_values=1)
    assert reason(answer) == f"a sum for {purpose} must have no metrics"


def test_a_sum_that_failed_fails_again(holder: Holder) -> None:
    short = sum_of([2.0, *UPDATE[1:]])
    answers = [holder.open(encrypted_sum=short) for _ in "ab"]
    assert reason(answers[0]) == reason(answers[1]) == COUNT
    assert "open already" in reason(holder.open(encrypted_sum=sum_of([2.0, *UPDATE[1:]])))


@pytest.mark.parametrize("configured", [True, False])
def test_what_was_opened_outlives_the_node(
    key_file: Path, tmp_path: Path, configured: bool
) -> None:
    path = tmp_path / ("my-ledger" if configured else "private-key.json.opened.jsonl")
    config: UserConfig = {"role": "key-holder", "private-key": str(key_file)}
    if configured:
        config["state"] = str(path)
    first = Holder(config)
    session = first.describe().session
    assert first.open().has_content()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for run_id in (1, 2):
        restarted = Holder(config, run_id=run_id)
        assert "open already, got train 1" in reason(restarted.open(session=session))
        assert restarted.open(session=session, round=1 + run_id).has_content()
    path.unlink()
    assert "session must be one" in reason(Holder(config).open(session=session, round=9))


def test_a_session_ends_with_its_key(key_file: Path, tmp_path: Path) -> None:
    config: UserConfig = {
        **{"role": "key-holder", "private-key": str(key_file)},
        "state": str(tmp_path / "ledger"),
    }
    session = Holder(config).describe().session
    key_file.unlink()
    other = PrivateKey.generate(1024)
    other.save(key_file)
    answer = Holder(config, run_id=2).open(
        session=session, encrypted_sum=encrypted_sum(other.public_key, 3)
    )
    assert "session must be one that company X opened with its key" in reason(answer)


def test_a_ledger_that_others_may_touch_stops_the_key_holder(
    holder: Holder, tmp_path: Path
) -> None:
    holder.describe()
    (tmp_path / "private-key.json.opened.jsonl").chmod(0o644)
    answer = reason(holder.ask(DESCRIBE, RecordDict()))
    assert answer == f"node-5: {PRIVATE_REFUSAL}"


def counts_sum(
    key: PublicKey, patients: int = 10, *, restricted: bool = True, more: int = 0
) -> MadeSum:
    """Return three hospitals' encrypted counts, each of `patients` patients in two classes."""
    half = patients // 2
    features = np.linspace(-3, 3, patients)
    data = Dataset(features[:, None], (np.arange(patients) >= half).astype(float), ("a",))
    counts = evaluation.count(data, np.array([1.0, 0.0])).to_vector()
    sign = -1.0 if restricted else 1.0
    values = np.concatenate([[sign, patients], counts, np.zeros(more)])
    return MadeSum(key, 3 * values)


def test_counts_leave_as_figures_only(holder: Holder) -> None:
    encrypted = counts_sum(KEY.public_key)
    reply = holder.open(purpose="figures", encrypted_sum=encrypted)
    found = FiguresReply.from_content(reply.content).figures
    assert (found.examples, found.min_cell, found.roc_auc) == (30, 5, 1.0)
    assert [one.examples for one in found.calibration or ()] == [6, 9, 6, 9]
    again = holder.open(purpose="figures", encrypted_sum=encrypted)
    assert FiguresReply.from_content(again.content).figures == found


@pytest.mark.parametrize("purpose", ["train", "evaluate", "prepare"])
def test_marked_counts_pass_for_no_other_sum(holder: Holder, purpose: str) -> None:
    refusal = "the sum does not hold the 3 contributors claimed"
    marked = counts_sum(KEY.public_key)
    assert reason(holder.open(purpose=purpose, encrypted_sum=marked)) == refusal
    plain = counts_sum(KEY.public_key, restricted=False)
    assert reason(holder.open(purpose="figures", encrypted_sum=plain)) == refusal


def test_figures_are_given_out_once_in_a_session(holder: Holder) -> None:
    first, second = counts_sum(KEY.public_key), counts_sum(KEY.public_key)
    assert holder.open(purpose="figures", encrypted_sum=first).has_content()
    for number in (1, 2):
        answer = holder.open(purpose="figures", encrypted_sum=second, round=number)
        assert reason(answer) == "figures are given out once in a session, and they have been"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"more": 1}, "the hospitals' counts must be of one model, and they are not"),
        ({"patients": 1}, "the hospitals' examples must be at least 5, too few are held out"),
    ],
)
def test_what_is_no_counts_has_no_figures(
    holder: Holder, changes: dict[str, Any], words: str
) -> None:
    encrypted = counts_sum(KEY.public_key, **changes)
    assert reason(holder.open(purpose="figures", encrypted_sum=encrypted)) == words


def test_a_comparison_of_hospitals_leaves_with_the_totals_alone(holder: Holder) -> None:
    answer = holder.open(purpose="sites", encrypted_sum=counts_sum(KEY.public_key))
    assert reason(answer) == "a comparison of hospitals must come with the totals before it"


def test_a_number_of_examples_that_the_counts_do_not_have_is_refused(holder: Holder) -> None:
    raised = np.array(counts_sum(KEY.public_key).values)
    raised[1] += 1.0
    answer = holder.open(purpose="figures", encrypted_sum=MadeSum(KEY.public_key, raised))
    assert reason(answer) == (
        "the hospitals' counts must be of all held-out examples, and they are not"
    )


def test_a_node_may_raise_min_cell_and_not_lower_it(key_file: Path) -> None:
    config: UserConfig = {"role": "key-holder", "private-key": str(key_file)}
    stricter = Holder({**config, "min-cell": 14})
    reply = stricter.open(purpose="figures", encrypted_sum=counts_sum(KEY.public_key))
    found = FiguresReply.from_content(reply.content).figures
    assert found.min_cell == 14
    assert [one.examples for one in found.calibration or ()] == [15, 15]
    for wrong, words in ((4, "must be at least 5, got 4"), ("9", "must be a whole number")):
        answer = Holder({**config, "min-cell": wrong}).ask(DESCRIBE, RecordDict())
        assert f"min-cell in the node configuration {words}" in reason(answer)


def sides_sum(key: PublicKey, against: float = 0.0, on: float = 0.0, *more: float) -> MadeSum:
    """Return three hospitals' encrypted counts of patients on the sides of a model."""
    values = [-3.0, 30.0, against, on, *more]
    return MadeSum(key, values)


@pytest.mark.parametrize("counts", [(0.0, 0.0), (0.0, 1.0), (7.0, 0.0), (30.0, 2.0)])
def test_of_sides_leaves_only_whether_anybody_is_there(
    holder: Holder, counts: tuple[float, float]
) -> None:
    encrypted = sides_sum(KEY.public_key, *counts)
    for _ in range(2):
        reply = holder.open(purpose="separation", encrypted_sum=encrypted)
        total = DecryptReply.from_content(reply.content).total
        assert total.tolist() == [3.0, 30.0, *(float(count > 0) for count in counts)]


def test_a_separation_is_examined_once_and_after_training(holder: Holder) -> None:
    assert holder.open(round=1).has_content()
    first = sides_sum(KEY.public_key, 1.0)
    assert holder.open(purpose="separation", encrypted_sum=first).has_content()
    refusal = "a separation is examined once in a session, after its last round of training"
    second = sides_sum(KEY.public_key, 2.0)
    for number in (1, 2):
        answer = holder.open(purpose="separation", encrypted_sum=second, round=number)
        assert refusal in reason(answer)
    for purpose in ("train", "prepare", "evaluate", "firth", "profile"):
        assert refusal in reason(holder.open(purpose=purpose, round=2))
    figures = holder.open(purpose="figures", encrypted_sum=counts_sum(KEY.public_key))
    assert figures.has_content()


def test_sides_pass_for_no_other_sum(holder: Holder) -> None:
    sides = sides_sum(KEY.public_key, 1.0)
    refusal = "the sum does not hold the 3 contributors claimed"
    assert reason(holder.open(encrypted_sum=sides)) == refusal
    counts = "the hospitals' counts must be of one model, and they are not"
    assert reason(holder.open(purpose="figures", encrypted_sum=sides_sum(KEY.public_key))) == counts
    more = sides_sum(KEY.public_key, 1.0, 2.0, 3.0)
    for other in (more, counts_sum(KEY.public_key)):
        answer = holder.open(purpose="separation", encrypted_sum=other)
        assert reason(answer) == "a sum for a separation must hold 2 counts and nothing else"
    update = encrypted_sum(KEY.public_key, 3)
    assert "2 counts" in reason(holder.open(purpose="separation", encrypted_sum=update))
    plain = sum_of([3.0, 30.0, 1.0, 1.0])
    answer = holder.open(purpose="separation", encrypted_sum=plain)
    assert reason(answer) == refusal
