"""An app's notes in its message and settings stay at the node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fl_he.clients import encryption_mod, with_key_holder
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.tickets.ticketed_sum import TicketedSum
from fl_he.wire.encrypted_sum import FINISH, EncryptedReply, EncryptionRequest
from fl_he.wire.occasions import asked_digest
from fl_he.wire.update_layout import UpdateLayout

KEY = PrivateKey.generate(1024).public_key
REQUEST = EncryptionRequest(KEY.to_json(), Packing().to_json(), "session", 1)
RUN_CONFIG = {"lr": 0.5}
SICK = 17

Note = Callable[[Message, Context], object]


def content() -> RecordDict:
    return RecordDict(
        {
            "arrays": ArrayRecord({"w": Array(np.zeros(2))}),
            "config": ConfigRecord({"lr": 0.1, "layers": [3, 2]}),
            "metrics": MetricRecord({"loss": 0.5}),
        }
    )


def context(**settings: str | float) -> Context:
    node = {"role": "hospital", "name": "st-mary", "key-fingerprint": KEY.fingerprint}
    return Context(1, 5, {**node, "reply-seconds": 0, **settings}, RecordDict(), dict(RUN_CONFIG))


def replaced_bytes(message: Message) -> None:
    message.content.array_records["arrays"]["w"].data = bytes([SICK] * 144)


def longer_list(message: Message) -> None:
    layers = message.content.config_records["config"]["layers"]
    assert isinstance(layers, list)
    layers.append(SICK)  # type: ignore[arg-type]  # a list of any one type


def app_with(note: Note) -> ClientApp:
    """Return an app that takes a note, and then answers the same always."""
    app = with_key_holder(ClientApp(mods=[encryption_mod]))

    def answer(message: Message, node: Context) -> Message:
        note(message, node)
        update = {"w": Array(np.ones(2))}
        metrics = MetricRecord({"num-examples": 7})
        return Message(
            RecordDict({"arrays": ArrayRecord(update), "metrics": metrics}), reply_to=message
        )

    def finish(message: Message, node: Context) -> Message:
        note(message, node)
        return Message(RecordDict(), reply_to=message)

    app.train()(answer)
    app.query("finish")(finish)
    return app


NOTES: dict[str, Note] = {
    "setting": lambda message, _: message.content.config_records["config"].update({"sick": SICK}),
    "list": lambda message, _: longer_list(message),
    "metric": lambda message, _: message.content.metric_records["metrics"].update({"loss": SICK}),
    "array": lambda message, _: message.content.array_records["arrays"].update(
        {"w": Array(np.array([SICK]))}
    ),
    "array's bytes": lambda message, _: replaced_bytes(message),
    "record": lambda message, _: message.content.update({"sick": ConfigRecord({"n": SICK})}),
    "content": lambda message, _: setattr(message, "content", RecordDict()),
    "group": lambda message, _: setattr(message.metadata, "group_id", str(SICK)),
    "type": lambda message, _: setattr(message.metadata, "message_type", f"train.n{SICK}"),
    "run config": lambda _, node: node.run_config.update({"sick": SICK}),
    "run config's place": lambda _, node: setattr(node, "run_config", {"sick": SICK}),
    "node config": lambda _, node: node.node_config.update({"sick": SICK}),
    "node config's place": lambda _, node: setattr(node, "node_config", {"sick": SICK}),
}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the forms of replies apart from other tests'."""
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))


def ask(app: ClientApp, node: Context, action: str = "train") -> Message:
    return app(Message(REQUEST.add_to(content()), 5, action, group_id="1"), node)


def require_expected(answer: Message) -> None:
    """Require the digest that company X computes, which never meets the app."""
    reply = EncryptedReply.from_content(answer.content)
    (ticket,) = TicketedSum.from_bytes(reply.encrypted_sum, KEY).tickets
    layout = UpdateLayout.from_json(reply.layout)
    assert ticket.asked == asked_digest("train", content(), RUN_CONFIG, layout)
    assert (answer.metadata.group_id, answer.metadata.message_type) == ("1", "train")


@pytest.mark.parametrize("name", NOTES)
def test_a_ticket_does_not_depend_on_an_apps_notes(name: str) -> None:
    app, node = app_with(NOTES[name]), context()
    settings = dict(node.node_config)
    for _ in range(2):  # Flower keeps the context for the next message
        require_expected(ask(app, node))
    assert (node.run_config, node.node_config) == (RUN_CONFIG, settings)


@pytest.mark.parametrize("name", NOTES)
def test_the_reply_to_the_final_model_does_not_depend_on_an_apps_notes(name: str) -> None:
    answer = ask(app_with(NOTES[name]), context(), FINISH)
    assert list(answer.content) == []
    assert (answer.metadata.group_id, answer.metadata.message_type) == ("1", FINISH)


def test_a_note_of_an_app_that_took_too_long_comes_to_nothing() -> None:
    hanging, answered, noted = Event(), Event(), Event()

    def late(message: Message, node: Context) -> None:
        if hanging.is_set():
            answered.wait()
            for note in (note for name, note in NOTES.items() if name != "content"):
                note(message, node)
            noted.set()

    app, node = app_with(late), context(**{"app-seconds": 1.0})
    require_expected(ask(app, node))
    hanging.set()
    require_expected(ask(app, node))
    answered.set()
    assert noted.wait(10)
    hanging.clear()
    require_expected(ask(app, node))


def test_an_apps_state_is_kept() -> None:
    def count(_: Message, node: Context) -> None:
        before = node.state.config_records.get("mine", {"n": 0})["n"]
        node.state = RecordDict({**node.state, "mine": ConfigRecord({"n": int(str(before)) + 1})})

    app, node = app_with(count), context()
    for expected in (1, 2):
        require_expected(ask(app, node))
        assert node.state.config_records["mine"]["n"] == expected
