"""Any Flower app in a sealed chain: the mean is the next model, the first message has one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from sealed_federation import Federation

from fl_he.clients import EncryptionMod, KeyHolderPolicy, with_key_holder, with_sealed_chain
from fl_he.clients.node.outgoing import PRIVATE_REFUSAL
from fl_he.clients.totals.learner import average_step
from fl_he.strategies.dropouts import Waiting
from fl_he.strategies.roll_call import call_roll
from fl_he.strategies.sealed.progress import SealedProgress
from fl_he.strategies.sealed.router import SealedChain
from fl_he.wire.records import ProtocolError
from fl_he.wire.sealed_messages import News

HOSPITALS = {"north": 40, "south": 25, "east": 60}
INITIAL = {"bias": np.array([1.5]), "weights": np.array([[1.0, -2.0], [0.5, 0.25]])}


def record(arrays: dict[str, np.ndarray]) -> ArrayRecord:
    return ArrayRecord({name: Array(values) for name, values in arrays.items()})


class AveragingFederation(Federation):
    """Every hospital adds the number of its patients, in hundreds, to the given model."""

    mod = EncryptionMod()
    step = staticmethod(average_step)
    seen: list[RecordDict]

    def app(self) -> ClientApp:
        self.seen = []
        app = ClientApp(mods=[self.mod])

        @app.train()
        def train(message: Message, context: Context) -> Message:
            self.seen.append(message.content)
            return Message(self.trained(message, context), reply_to=message)

        @app.query("finish")
        def finish(message: Message, context: Context) -> Message:
            return Message(RecordDict(), reply_to=message)

        policy = KeyHolderPolicy(min_contributors=3, key_bits=1024)
        app = with_key_holder(app, lambda _: policy)
        return with_sealed_chain(app, lambda _: policy, step=self.step)

    def trained(self, message: Message, context: Context) -> RecordDict:
        rows = HOSPITALS[str(context.node_config["name"])]
        (arrays,) = message.content.array_records.values()
        moved = {name: array.numpy() + rows / 100 for name, array in arrays.items()}
        metrics = MetricRecord({"num-examples": rows})
        return RecordDict({"arrays": record(moved), "metrics": metrics})


class ReshapingFederation(AveragingFederation):
    """Its hospitals return something else than a model."""

    def trained(self, message: Message, context: Context) -> RecordDict:
        return RecordDict(
            {
                "arrays": record({"bias": np.ones(2)}),
                "metrics": MetricRecord({"num-examples": 1}),
            }
        )


def chain(federation: Federation, **config: float) -> SealedChain:
    roster = call_roll(federation.grid, Waiting(node_timeout=0.5, on_dropout="continue"), 3)
    running = SealedChain(
        roster, ConfigRecord(dict(config)), SealedProgress(), arrays=record(INITIAL)
    )
    running.begin()
    return running


def test_the_mean_is_the_next_model(tmp_path: Path) -> None:
    federation = AveragingFederation(tmp_path, HOSPITALS)
    running = chain(federation)
    for _ in range(2):
        running.run_round()
    assert running.finish() == ()
    rows = np.array(list(HOSPITALS.values()))
    step = (rows * rows / 100).sum() / rows.sum()
    for name in HOSPITALS:
        model = federation.state(name).learnt.model
        assert set(model) == set(INITIAL)
        for key, values in INITIAL.items():
            np.testing.assert_allclose(model[key].numpy(), values + 2 * step, rtol=0, atol=1e-6)


def test_the_app_sees_what_flower_would_send_it(tmp_path: Path) -> None:
    federation = AveragingFederation(tmp_path, HOSPITALS)
    chain(federation, lr=0.5).run_round()
    assert len(federation.seen) == 3
    for content in federation.seen:
        assert set(content) == {"arrays", "config"}
        assert dict(content.config_records["config"]) == {"lr": 0.5}


def test_the_number_of_the_round_is_not_the_coordinators_to_choose(tmp_path: Path) -> None:
    federation = AveragingFederation(tmp_path, HOSPITALS)
    running = chain(federation, lr=0.5)
    for number in (7, 70):
        running.config["server-round"] = number
        entry = running.run_round()
        assert len(entry.request.contributors) == 3
    seen = [dict(content.config_records["config"]) for content in federation.seen]
    assert seen == [{"lr": 0.5, "server-round": number} for number in (1, 1, 1, 2, 2, 2)]


def test_a_late_hospital_takes_a_step_by_the_number_of_its_round(tmp_path: Path) -> None:
    class Slowing(AveragingFederation):
        @staticmethod
        def step(model: ArrayRecord, mean: RecordDict, config: ConfigRecord) -> ArrayRecord:
            rate = 1 / int(str(config["server-round"]))
            after = {n: a.numpy() for n, a in mean.array_records["arrays"].items()}
            return record({n: a.numpy() + rate * (after[n] - a.numpy()) for n, a in model.items()})

    federation = Slowing(tmp_path, HOSPITALS)
    running = chain(federation)
    for number in (1, 2, 3):
        running.config["server-round"] = number
        running.run_round()
    (file,) = tmp_path.glob("north.json.training-*.json")
    file.unlink()
    running.members.present.clear()
    assert running.finish() == ()
    models = [federation.state(name).learnt.model for name in HOSPITALS]
    for model in models[1:]:
        for key in INITIAL:
            np.testing.assert_array_equal(model[key].numpy(), models[0][key].numpy())


def test_the_coordinator_gives_all_the_same_model(tmp_path: Path) -> None:
    federation = AveragingFederation(tmp_path, HOSPITALS)
    running = chain(federation, lr=0.5)
    content = running._content

    def another(news: News) -> RecordDict:
        assert running.arrays is not None
        running.arrays["bias"] = Array(running.arrays["bias"].numpy() + 1e-9)
        return content(news)

    running._content = another  # type: ignore[method-assign]
    with pytest.raises(ProtocolError, match="at least 3 contributors"):
        running.run_round()
    reasons = [str(m.error.reason) for m in federation.grid.received if m.has_error()]
    assert "must have the same initial model and train config as this hospital" in reasons[0]


@pytest.mark.parametrize("name", ["more", "fl-he.more"])
def test_records_that_no_digest_covers_are_refused(tmp_path: Path, name: str) -> None:
    federation = AveragingFederation(tmp_path, HOSPITALS)
    running = chain(federation, lr=0.5)
    content = running._content
    for extra in (ConfigRecord({"lr": 9.0}), record(INITIAL), MetricRecord({"a": 1})):

        def more(
            news: News, extra: ArrayRecord | ConfigRecord | MetricRecord = extra
        ) -> RecordDict:
            return RecordDict({name: extra, **content(news)})

        running._content = more  # type: ignore[method-assign]
        with pytest.raises(ProtocolError, match="at least 3 contributors"):
            running.run_round()
    reasons = {m.error.reason for m in federation.grid.received if m.has_error()}
    assert reasons == {
        "a message of a sealed chain must hold no records but the train config, as 'config', and "
        f"the initial model, got ['{name}']"
    }
    assert federation.seen == []


def test_a_mean_that_is_no_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    federation = ReshapingFederation(tmp_path, HOSPITALS)
    running = chain(federation)
    running.run_round()
    with pytest.raises(ProtocolError, match="at least 3 contributors"):
        running.run_round()
    reasons = {m.error.reason for m in federation.grid.received if m.has_error()}
    assert reasons == {PRIVATE_REFUSAL}
    assert (
        "refused: a total must have the names, shapes and types of the model's arrays"
        in caplog.text
    )


def test_no_array_leaves_in_plain(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="only arrays named like"):

        class Plain(AveragingFederation):
            mod = EncryptionMod(encrypt=["weights"])

    federation = Plain(tmp_path, HOSPITALS)
    with pytest.raises(ProtocolError, match="at least 3 contributors"):
        chain(federation).run_round()
    reasons = {m.error.reason for m in federation.grid.received if m.has_error()}
    assert reasons == {"a sealed chain must encrypt all arrays, and this app does not"}


def test_an_app_whose_hospitals_have_no_model_to_start_from(tmp_path: Path) -> None:
    federation = AveragingFederation(tmp_path, HOSPITALS)
    running = chain(federation)
    running.arrays = None
    with pytest.raises(ProtocolError, match="at least 3 contributors"):
        running.run_round()
    reasons = {m.error.reason for m in federation.grid.received if m.has_error()}
    assert reasons == {"message has no model: the array record 'arrays' is missing"}


def test_functions_registered_later_are_the_apps(tmp_path: Path) -> None:
    app = with_sealed_chain(ClientApp())

    @app.query("finish")
    def finish(message: Message, context: Context) -> Message:
        return Message(RecordDict(), reply_to=message)

    context = Context(7, 1, {"role": "key-holder"}, RecordDict(), {})
    reply = app(Message(RecordDict(), 1, "query.finish"), context)
    assert reply.has_content()
