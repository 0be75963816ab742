"""One message over a SuperNode's real API: the installed app answers, never the bundle."""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.supercore.constant import TaskType
from node_api import BUNDLE, NodeApi, node_api

from fl_he import client_app
from fl_he.clients.node.outgoing import PRIVATE_REFUSAL
from fl_he.errors import FlHeError
from fl_he.supernode.tasks import load_app, serve

HASH = sha256(BUNDLE).hexdigest()
RECORD = "age 47, sick"


@pytest.fixture
def node() -> Iterator[NodeApi]:
    with node_api() as node:
        yield node


def app_that(answer: Any) -> ClientApp:
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        reply: Message = answer(message)
        return reply

    return app


def echo(message: Message) -> Message:
    return Message(message.content, reply_to=message)


def raises(error: BaseException) -> Any:
    def answer(message: Message) -> Message:
        raise error

    return answer


def test_the_installed_app_answers(node: NodeApi) -> None:
    node.receive(RecordDict({"asked": ConfigRecord({"word": "hello"})}))
    serve(node.api, app_that(echo), ())
    assert not node.reply().has_error()


@pytest.mark.parametrize("kind", [TaskType.CLIENT_APP, TaskType.AGENT_APP])
def test_nothing_of_a_bundle_is_unpacked_or_run(
    node: NodeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: TaskType
) -> None:
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr"))
    canary = tmp_path / "canary"
    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w") as file:
        file.writestr("fl_he/client_app.py", f"open({str(canary)!r}, 'w')")
        file.writestr("sitecustomize.py", f"open({str(canary)!r}, 'w')")
    node.receive(kind=kind, bundle=bundle.getvalue())
    serve(node.api, app_that(echo), ())
    assert not node.reply().has_error()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [ValueError(RECORD), SystemExit(RECORD), FlHeError(RECORD), KeyboardInterrupt(RECORD)],
    ids=lambda error: type(error).__name__,
)
def test_every_exception_has_the_same_reply_and_leaves_no_text(
    node: NodeApi, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    node.receive()
    with caplog.at_level(logging.DEBUG):
        serve(node.api, app_that(raises(error)), ())
    reply = node.reply()
    assert (reply.error.code, reply.error.reason) == (
        ErrorCode.CLIENT_APP_RAISED_EXCEPTION,
        PRIVATE_REFUSAL,
    )
    assert f"{type(error).__name__} at {__file__}:" in caplog.text
    assert RECORD not in caplog.text
    assert RECORD not in str(node.state.get_tasks())


@pytest.mark.parametrize("value", [None, RecordDict(), "text"])
def test_what_is_no_message_has_the_reply_of_an_exception(node: NodeApi, value: Any) -> None:
    node.receive()
    serve(node.api, app_that(lambda _: value), ())
    assert node.reply().error.reason == PRIVATE_REFUSAL


def test_a_message_that_the_app_does_not_know_has_the_same(node: NodeApi) -> None:
    node.receive()
    serve(node.api, ClientApp(), ())
    assert node.reply().error.reason == PRIVATE_REFUSAL


@pytest.mark.parametrize(
    ("pinned", "answered"),
    [
        ((HASH,), True),
        (("0" * 64, HASH), True),
        ((HASH[:8] + "0" * 56,), False),
        ((HASH[:-1] + "x",), False),
    ],
)
def test_a_pin_is_compared_as_a_whole(
    node: NodeApi, pinned: tuple[str, ...], answered: bool
) -> None:
    asked: list[Message] = []

    def noted(message: Message) -> Message:
        asked.append(message)
        return echo(message)

    node.receive()
    serve(node.api, app_that(noted), pinned)
    reply = node.reply()
    assert len(asked) == answered
    assert reply.has_error() is not answered
    if not answered:
        assert reply.error.code == ErrorCode.INVALID_FAB
        assert f"got {HASH}" in str(reply.error.reason)


def test_an_app_is_named_by_module_and_attribute() -> None:
    assert load_app("fl_he.client_app:app") is client_app.app


def test_an_app_that_could_reply_in_plain_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "from flwr.clientapp import ClientApp\nfrom fl_he import encryption_mod\n"
    (tmp_path / "plain_app.py").write_text(f"{source}app = ClientApp(mods=[encryption_mod])\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(FlHeError, match="plain_app:app would send its replies in plain: write"):
        load_app("plain_app:app")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fl_he.client_app", "got fl_he.client_app"),
        ("fl_he.nowhere:app", "No module named 'fl_he.nowhere'"),
        ("fl_he.client_app:nothing", "has no attribute 'nothing'"),
        ("fl_he.client_app:build", "which is a function"),
        (":app", "got :app"),
    ],
)
def test_what_is_no_app_is_refused(name: str, words: str) -> None:
    with pytest.raises(FlHeError, match="--app must be MODULE:ATTRIBUTE") as refused:
        load_app(name)
    assert words in str(refused.value)
