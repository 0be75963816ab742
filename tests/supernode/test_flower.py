"""The private modules of Flower behave as `fl_he.supernode.flower` needs it, in this release."""

from __future__ import annotations

import ast
import inspect
import time
from collections.abc import Iterator
from threading import Thread

import httpx
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.constant import TaskType
from flwr.supernode import start_client_internal
from node_api import NODE_ID, SECRET, NodeApi, node_api

from fl_he.errors import FlHeError
from fl_he.supernode.flower import RuntimeApi


@pytest.fixture
def node() -> Iterator[NodeApi]:
    with node_api() as node:
        yield node


def test_options_are_flowers_own() -> None:
    options = ["--superlink", "x:1", "--port", "1234", "--node-config", 'name="a b"']
    api = RuntimeApi.of(options, SECRET)
    assert (api.address, api.certificates) == ("127.0.0.1:1234", None)
    everywhere = RuntimeApi.of(["--host", "0.0.0.0"], SECRET)  # noqa: S104 - no server starts
    assert everywhere.address == "127.0.0.1:9094"
    assert RuntimeApi.of(["--host", "::1"], SECRET).address == "[::1]:9094"
    assert SECRET.hex() not in repr(api)
    assert repr(SECRET) not in repr(api)


@pytest.mark.parametrize(
    "option",
    ["--isolation=process", "--isol=subprocess", "--superexec-auth-secret-file=x"],
)
def test_options_that_we_set_are_refused(option: str) -> None:
    with pytest.raises(FlHeError, match="leave out --isolation and --superexec-auth-secret-file"):
        RuntimeApi.of([option], SECRET)


def test_a_supernode_uses_the_clock_that_we_change_only_to_sleep() -> None:
    source = ast.parse(inspect.getsource(start_client_internal))
    used = [
        node.attr
        for node in ast.walk(source)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "time"
    ]
    assert set(used) == {"sleep"}
    assert "time.sleep(3)" in inspect.getsource(start_client_internal.start_client_internal)


def test_an_unknown_option_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        RuntimeApi.of(["--superlnk", "x:1"], SECRET)
    assert "fl-he node: error: unrecognized arguments: --superlnk x:1" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [TaskType.CLIENT_APP, TaskType.AGENT_APP])
def test_both_kinds_of_tasks_are_claimed_and_answered(node: NodeApi, kind: TaskType) -> None:
    node.receive(RecordDict({"asked": ConfigRecord({"word": "hello"})}), kind=kind)
    with node.api.task(node.api.claim()) as task:
        given = task.pull()
        assert given.message.content["asked"] == ConfigRecord({"word": "hello"})
        assert (given.context.node_id, given.context.node_config) == (NODE_ID, {"name": "x"})
        task.push(Message(RecordDict(), reply_to=given.message), given.context, kept=True)
    assert node.reply().metadata.reply_to_message_id == given.message.metadata.message_id
    assert node.status() == "completed"


def test_a_task_is_for_those_who_know_the_secret(node: NodeApi) -> None:
    node.receive()
    stranger = RuntimeApi(node.api.address, None, bytes(31) + b"x")
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        stranger.claim()
    assert node.api.claim()


def test_a_message_that_comes_behind_its_task_is_waited_for_briefly(node: NodeApi) -> None:
    content = RecordDict({"asked": ConfigRecord({"word": "hello"})})
    receiving = Thread(target=lambda: node.receive(content, late=0.3), daemon=True)
    receiving.start()
    token, claimed = node.api.claim(), time.monotonic()
    with node.api.task(token) as task:
        assert task.pull().message.content == content
    assert 0.4 < time.monotonic() - claimed < 1.0
    receiving.join()


def test_what_a_node_keeps_is_the_last_tasks_unless_that_failed(node: NodeApi) -> None:
    for number, kept in ((1, True), (2, False)):
        node.receive()
        with node.api.task(node.api.claim()) as task:
            given = task.pull()
            given.context.state["kept"] = ConfigRecord({"number": number})
            task.push(Message(RecordDict(), reply_to=given.message), given.context, kept=kept)
        node.state.delete_messages()
    node.receive()
    with node.api.task(node.api.claim()) as task:
        assert task.pull().context.state["kept"] == ConfigRecord({"number": 1})
