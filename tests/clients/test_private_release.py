"""The gate: only noisy sums of clipped gradients pass it, under the node's own terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from ticketed_sums import unchecked

from fl_he.clients.encryption import EncryptionMod
from fl_he.clients.node.app import NodeApp
from fl_he.clients.node.node import SimulatedNode
from fl_he.clients.private_release import private_release
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.learning.describing.cells import Bounded
from fl_he.learning.describing.form import TableForm
from fl_he.learning.describing.noisy import noisy_sum
from fl_he.learning.errors import PrivacyError
from fl_he.learning.privacy.gradients import GaussianPrivacy, Lattice, noise_variance
from fl_he.learning.privacy.scaling import scaling_variance
from fl_he.learning.tables.described import Facts
from fl_he.wire.encrypted_sum import TABLE, EncryptedReply, EncryptionRequest
from fl_he.wire.learning_terms import privacy_members, read_privacy
from fl_he.wire.model import model_arrays, named_arrays
from fl_he.wire.records import ProtocolError
from fl_he.wire.selection import PlaintextWarning
from fl_he.wire.table import table_question

KEY = PrivateKey.generate(1024)
PACKING = Packing(max_contributors=3)
TERMS = GaussianPrivacy(epsilon=1.0, delta=1e-5, clip=1.0, rounds=3, contributors=3)
#: On the lattice, so that the decrypted numbers are these plus the noise.
SUM = np.array([1.5, -2.0, 0.25])


class Hospital:
    """A node with privacy terms, whose app gives a test's replies, behind the mod."""

    def __init__(
        self, terms: GaussianPrivacy | None = TERMS, encrypt: str | list[str] = "all"
    ) -> None:
        hospital = self

        class NodeWithTerms(SimulatedNode):
            privacy = terms

            def __init__(self, context: Context) -> None:
                super().__init__(context)
                self.plan = hospital.plan

        app = ClientApp(mods=[EncryptionMod(encrypt=encrypt, privacy=private_release)])
        named = ("moments", "profile", "firth")
        evaluations = app.evaluate(), app.evaluate("table")
        for register in (app.train(), *evaluations, *map(app.train, named)):
            register(self._app)
        self.app = NodeApp(app, simulated=NodeWithTerms)
        node: UserConfig = {"partition-id": 0, "num-partitions": 4}
        self.context = Context(1, 5, node, RecordDict(), {})
        self.metrics = MetricRecord({"num-examples": 8})
        self.arrays = model_arrays(SUM[:2] / 8, SUM[2] / 8)
        self.calls = 0
        self.plan = ""

    def ask(
        self,
        model: float = 0.0,
        asked: GaussianPrivacy | None = TERMS,
        action: str = "train",
        config: Mapping[str, float | str | list[float]] = MappingProxyType({}),
        *,
        session: str = "session",
        round_: int = 1,
    ) -> Message:
        request = EncryptionRequest(KEY.public_key.to_json(), PACKING.to_json(), session, round_)
        content = RecordDict(
            {
                "arrays": model_arrays(np.full(2, model), 0.0),
                "config": ConfigRecord({"lr": 0.5, **privacy_members(asked), **config}),
            }
        )
        message = Message(request.add_to(content), 5, action)
        return self.app(message, self.context)

    def noise(self, reply: Message) -> list[int]:
        total = unchecked(EncryptedReply.from_content(reply.content).encrypted_sum, KEY)
        assert total[:2].tolist() == [1.0, 8.0]  # the counts are exact
        return [round(x * 2**24) for x in total[2:] - SUM]

    def _app(self, message: Message, context: Context) -> Message:
        self.calls += 1
        content = RecordDict({"arrays": self.arrays, "metrics": self.metrics})
        return Message(content, reply_to=message)


def reason(reply: Message) -> str:
    assert reply.has_error()
    return str(reply.error.reason)


def test_every_number_but_the_counts_has_noise_of_its_own() -> None:
    deviation = np.sqrt(noise_variance(TERMS, Lattice(24, 3)))
    hospitals = [Hospital() for _ in range(4)]
    noise = [number for one in hospitals for number in one.noise(one.ask())]
    assert len(set(noise)) == 12
    assert 0.3 < np.std(noise) / deviation < 3


def test_the_model_and_its_config_are_the_question() -> None:
    hospital = Hospital()
    first = hospital.noise(hospital.ask())
    assert hospital.noise(hospital.ask(config={"server-round": 7})) == first
    assert hospital.noise(hospital.ask(config={"lr": 2.0})) != first
    assert hospital.noise(hospital.ask(model=1.0)) != first
    assert "the budget is spent" in reason(hospital.ask(model=2.0))
    assert hospital.noise(hospital.ask()) == first


def test_other_bounds_of_the_outcome_are_another_release() -> None:
    hospital = Hospital()
    first = hospital.noise(hospital.ask(config={"outcome-bounds": [0.0, 9.0]}))
    assert hospital.noise(hospital.ask(config={"outcome-bounds": [0.0, 9.0]})) == first
    assert hospital.noise(hospital.ask(config={"outcome-bounds": [0.0, 8.0]})) != first


def test_sums_of_the_outcome_are_not_even_computed() -> None:
    terms = replace(TERMS, scaling=0.2)
    hospital = Hospital(terms)
    for name in ("outcome", "cells", "imputed"):
        told = reason(hospital.ask(action="train.moments", asked=terms, config={name: 1.0}))
        assert f"got {sorted(['lr', name])}: what they do" in told
    assert hospital.calls == 0


def test_a_metric_does_not_pass() -> None:
    hospital = Hospital()
    hospital.metrics["loss"] = 0.5
    assert "got the metrics ['loss']" in reason(hospital.ask())
    assert hospital.context.state.config_records["fl-he.released"] == {}


def test_a_plain_array_does_not_pass() -> None:
    with pytest.warns(PlaintextWarning):
        hospital = Hospital(encrypt=["intercept"])
    assert "and 2 plain values" in reason(hospital.ask())


def test_a_reply_without_arrays_does_not_pass() -> None:
    hospital = Hospital()
    hospital.arrays = ArrayRecord()
    assert "a private reply must hold encrypted gradients" in reason(hospital.ask())


def test_evaluation_is_not_even_computed() -> None:
    hospital = Hospital()
    for action in ("evaluate", "train.profile", "train.firth"):
        told = reason(hospital.ask(action=action))
        assert f"answers train messages only, got {action!r}" in told
    assert hospital.calls == 0


@pytest.mark.parametrize("asked", [None, replace(TERMS, clip=2.0), replace(TERMS, rounds=2)])
def test_other_terms_are_not_even_computed(asked: GaussianPrivacy | None) -> None:
    hospital = Hospital()
    assert "the privacy must be this node's own, epsilon 1" in reason(hospital.ask(asked=asked))
    assert hospital.calls == 0


@pytest.mark.parametrize("key", ["sums", "class-weights", "hessian"])
def test_what_the_accounting_does_not_know_is_not_even_computed(key: str) -> None:
    hospital = Hospital()
    assert f"got ['{key}']: what they do" in reason(hospital.ask(config={key: 1.0}))
    assert hospital.calls == 0


def test_a_scaling_by_the_own_data_is_not_even_computed() -> None:
    hospital = Hospital()
    assert "got local: one patient would change" in reason(
        hospital.ask(config={"scaling": "local"})
    )
    assert hospital.calls == 0


def test_without_privacy_the_gate_is_open() -> None:
    hospital = Hospital(terms=None)
    hospital.metrics["loss"] = 0.5
    assert not hospital.ask(asked=None).has_error()
    assert not hospital.ask(asked=None, action="evaluate").has_error()
    assert "no privacy, got epsilon 1" in reason(hospital.ask())


def test_a_sum_that_might_not_fit_is_refused_by_public_numbers() -> None:
    wide = replace(TERMS, clip=4.0)
    hospital = Hospital(wide)
    hospital.metrics["num-examples"] = 2**23  # it fits, and times the clip it does not
    assert "a private sum must fit its slot with its noise" in reason(hospital.ask(asked=wide))
    loud = replace(TERMS, clip=2.0**20)  # the sum would fit, its noise would not
    assert "raise crypto.integer_bits" in reason(Hospital(loud).ask(asked=loud))


def test_without_the_accountant_nothing_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> int:
        raise PrivacyError("dp-accounting must be installed")

    monkeypatch.setattr("fl_he.clients.private_release.noise_variance", missing)
    assert "dp-accounting must be installed" in reason(Hospital().ask())


def test_a_question_must_hold_a_model() -> None:
    hospital = Hospital()
    request = EncryptionRequest(KEY.public_key.to_json(), PACKING.to_json(), "session", 1)
    content = RecordDict({"config": ConfigRecord({**privacy_members(TERMS)})})
    reply = hospital.app(Message(request.add_to(content), 5, "train"), hospital.context)
    assert "message has no model" in reason(reply)


def test_terms_travel_whole() -> None:
    record = ConfigRecord({**privacy_members(TERMS)})
    assert read_privacy(record) == TERMS
    assert read_privacy(ConfigRecord({"lr": 1.0})) is None
    assert read_privacy(None) is None
    for key in list(record):
        part = ConfigRecord({name: value for name, value in record.items() if name != key})
        with pytest.raises(ProtocolError, match=f"{key} must be"):
            read_privacy(part)
    record["privacy-delta"] = 2.0
    with pytest.raises(ProtocolError, match="privacy: delta must be above 0 and below 1, got 2"):
        read_privacy(record)


def test_arrays_of_any_shape_have_noise() -> None:
    hospital = Hospital()
    hospital.arrays = ArrayRecord({"w": Array(np.zeros((3, 1)))})
    answer = EncryptedReply.from_content(hospital.ask().content)
    assert (unchecked(answer.encrypted_sum, KEY)[2:] != 0).all()


#: So small a share that its noise is not a gradient's.
SCALED = replace(TERMS, scaling=0.02)
#: The server's request to a hospital, once, if the terms pay for it.
RANGES: dict[str, bool | list[float]] = {
    "sums": False,
    "counts": False,
    "low": [0.0],
    "high": [9.0],
}


class ScaledHospital(Hospital):
    """A node whose terms pay for a scaling; its app answers with two sums of eight rows."""

    def __init__(self, terms: GaussianPrivacy | None = SCALED) -> None:
        super().__init__(terms)
        self.arrays = ArrayRecord({"within": Array(np.array([1.5, 0.25]) / 8)})

    def ask_for_sums(
        self, session: str = "session", config: Mapping[str, object] = MappingProxyType({})
    ) -> Message:
        request = EncryptionRequest(KEY.public_key.to_json(), PACKING.to_json(), session, 1)
        record = ConfigRecord({**RANGES, **privacy_members(SCALED), **config})  # type: ignore[dict-item]
        message = Message(request.add_to(RecordDict({"config": record})), 5, "train.moments")
        return self.app(message, self.context)

    def integers(self, reply: Message) -> list[int]:
        total = unchecked(EncryptedReply.from_content(reply.content).encrypted_sum, KEY)
        return [round(x * 2**24) for x in total[2:]]


def test_sums_for_the_scaling_have_the_noise_of_their_share() -> None:
    hospitals = [ScaledHospital() for _ in range(20)]
    made = [hospital.integers(hospital.ask_for_sums()) for hospital in hospitals]
    noise = np.array(made, dtype=float) - np.array([1.5, 0.25]) * 2**24
    deviation = np.sqrt(scaling_variance(SCALED, Lattice(24, 2)))
    assert 0.6 < np.std(noise) / deviation < 1.5


def test_sums_for_the_scaling_leave_once() -> None:
    hospital = ScaledHospital()
    first = hospital.integers(hospital.ask_for_sums())
    assert hospital.integers(hospital.ask_for_sums()) == first
    assert "the budget is spent" in reason(hospital.ask_for_sums(config={"high": [8.0]}))
    assert "the budget is spent" in reason(hospital.ask_for_sums("another session"))
    assert hospital.integers(hospital.ask_for_sums()) == first


def test_a_scaling_leaves_the_gradients_their_rounds() -> None:
    hospital = ScaledHospital()
    assert not hospital.ask_for_sums().has_error()
    for model in range(3):
        assert not hospital.ask(float(model), asked=SCALED).has_error()
    assert "the budget is spent" in reason(hospital.ask(4.0, asked=SCALED))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"sums": True}, "must be asked for sums of values within ranges alone"),
        ({"counts": True}, "must be asked for sums of values within ranges alone"),
        ({"low": []}, "must be asked for sums of values within ranges alone"),
        ({"mean": [0.5]}, "got ['mean']: what they do"),
        ({"lr": 0.5}, "got ['lr']: what they do"),
        ({"low": [float("nan")]}, "low[0] must be a finite number"),
    ],
)
def test_other_sums_are_not_even_computed(config: dict[str, object], message: str) -> None:
    hospital = ScaledHospital()
    assert message in reason(hospital.ask_for_sums(config=config))
    assert hospital.calls == 0


def test_terms_that_pay_for_no_scaling_allow_none() -> None:
    hospital = ScaledHospital(TERMS)
    assert "must be this node's own" in reason(hospital.ask_for_sums())
    asked = hospital.ask_for_sums(config={"privacy-scaling": 0.0})
    assert "nothing of its budget is for scaling" in reason(asked)
    assert hospital.calls == 0


def test_another_round_over_the_same_model_is_another_question() -> None:
    """Otherwise two totals over one model would differ by one hospital with only its own noise."""
    hospital = Hospital()
    first = hospital.noise(hospital.ask())
    assert hospital.noise(hospital.ask(round_=2)) != first
    assert hospital.noise(hospital.ask()) == first, "an attempt at the same round is free"
    assert not hospital.ask(round_=3).has_error()
    assert "the budget is spent" in reason(hospital.ask(round_=4))


def test_a_plan_is_a_part_of_the_question() -> None:
    hospital = Hospital()
    first = hospital.noise(hospital.ask())
    hospital.plan = "ab" * 32
    assert hospital.noise(hospital.ask()) != first


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_under_privacy_no_value_is_marked_as_one_that_does_not_fit(value: float) -> None:
    for _ in range(12):  # the noise goes up or down
        hospital = Hospital()
        hospital.arrays = model_arrays(np.array([value, 0.0]), 0.0)
        answer = EncryptedReply.from_content(hospital.ask().content)
        assert unchecked(answer.encrypted_sum, KEY)[0] == 1.0


def test_another_session_is_another_question() -> None:
    """Otherwise the difference of two sessions' totals would have less noise than counted."""
    hospital = Hospital()
    first = hospital.noise(hospital.ask())
    assert hospital.noise(hospital.ask(session="another")) != first
    assert hospital.noise(hospital.ask()) == first
    assert not hospital.ask(session="a third").has_error()
    assert "the budget is spent" in reason(hospital.ask(session="a fourth"))


ONE = replace(TERMS, rounds=1)
FORM = TableForm((Facts("sex", levels=("F", "M")),), "", (), 1, ())


def ask_table(
    hospital: Hospital, terms: GaussianPrivacy, form: TableForm = FORM, session: str = "session"
) -> Message:
    request = EncryptionRequest(KEY.public_key.to_json(), PACKING.to_json(), session, 1)
    hospital.arrays = named_arrays(cells=SUM / 8)
    message = Message(request.add_to(table_question(form, terms)), 5, TABLE)
    return hospital.app(message, hospital.context)


def noise_of_table(reply: Message) -> list[int]:
    total = unchecked(EncryptedReply.from_content(reply.content).encrypted_sum, KEY)
    assert total[:2].tolist() == [-1.0, 8.0]  # marked as cells of a table
    return [round(x * 2**24) for x in total[2:] - SUM]


def test_a_table_is_the_only_release_of_its_budget() -> None:
    hospital = Hospital(ONE)
    first = noise_of_table(ask_table(hospital, ONE))
    assert noise_of_table(ask_table(hospital, ONE)) == first, "the same question"
    assert "the budget is spent" in reason(ask_table(hospital, ONE, session="other"))
    finer = replace(FORM, bins=2)
    assert "the budget is spent" in reason(ask_table(hospital, ONE, finer))
    assert "the budget is spent" in reason(hospital.ask(asked=ONE))


def test_the_noise_of_a_table_is_that_of_its_form() -> None:
    deviation = np.sqrt(noisy_sum(FORM, Bounded(24)).variance(1.0, ONE))
    hospitals = [Hospital(ONE) for _ in range(8)]
    noise = [number for one in hospitals for number in noise_of_table(ask_table(one, ONE))]
    assert len(set(noise)) == 24
    assert 0.4 < np.std(noise) / deviation < 2


def test_a_budget_of_rounds_has_no_table() -> None:
    for terms in (TERMS, replace(ONE, scaling=0.5)):
        reply = ask_table(Hospital(terms), terms)
        assert "for a table a node's privacy budget must be of 1 round" in reason(reply)
