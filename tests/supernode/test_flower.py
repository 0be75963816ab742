"""The private modules of Flower behave as `fl_he.supernode.flower` needs it, in this release."""

from __future__ import annotations

import ast
import inspect
import io
import logging
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from hashlib import sha256
from threading import Thread

import httpx
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.user_config import UserConfig
from flwr.common.constant import ErrorCode, Status
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError
from flwr.supercore.run import Run, RunNotRunningException
from flwr.supernode import start_client_internal
from node_api import NODE_ID, RUN_ID, SECRET, SERIES, NodeApi, node_api

from fl_he.clients.node.outgoing import PRIVATE_REFUSAL
from fl_he.errors import FlHeError
from fl_he.supernode import flower
from fl_he.supernode.flower import RuntimeApi, refusing_bad_bundles

PYPROJECT = """
[project]
name = "app"
version = "1"
license = "MIT"
[tool.flwr.app]
publisher = "x"
[tool.flwr.app.components]
serverapp = "a:app"
clientapp = "b:app"
[tool.flwr.app.config]
rounds = 3
"""


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


def test_each_record_of_a_nodes_log_has_a_time() -> None:
    """In another process: the log is that of the whole process."""
    code = """
import logging
from flwr.common.logger import log
from fl_he.supernode.flower import stamp_log
stamp_log()
log(logging.INFO, "of Flower")
logging.getLogger("fl_he.clients").error("of fl-he")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = (done.stdout + done.stderr).splitlines()
    assert len(lines) == 2
    for line in lines:
        stamp, _, rest = line.partition(" ")
        assert datetime.fromisoformat(stamp).tzinfo is not None
        assert rest.endswith(("of Flower", "of fl-he"))


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


def test_a_message_that_never_comes_whole_keeps_no_process(
    node: NodeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower asks for its parts for two hours; the next task would wait as long."""
    monkeypatch.setattr(flower, "_PATIENCE", 0.3)
    node.receive(whole=False)
    token, claimed = node.api.claim(), time.monotonic()
    with node.api.task(token) as task, pytest.raises(ObjectPullError):
        task.pull()
    assert time.monotonic() - claimed < 10.0


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


def bundle_of(**texts: str) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, text in texts.items():
            file.writestr(f"{name}.toml", text)
    return archive.getvalue()


GOOD = bundle_of(pyproject=PYPROJECT)


def pull(
    node: NodeApi,
    bundle: bytes,
    fab_hash: str = "",
    overrides: UserConfig | None = None,
    receive: Callable[[], object] | None = None,
    *,
    changes: dict[str, Callable[..., object]] | None = None,
) -> int | None:
    """Receive a message of a run with this bundle, as a SuperNode of ours does."""
    message = Message(RecordDict(), NODE_ID, "query")
    message.metadata._run_id = RUN_ID  # type: ignore[attr-defined]
    message.metadata.__dict__["_message_id"] = message.object_id
    objects = {name: one.deflate() for name, one in get_all_nested_objects(message).items()}
    run = Run.create_empty(RUN_ID)
    run.fab_hash, run.series_id = fab_hash or sha256(bundle).hexdigest(), SERIES
    run.override_config = overrides or {}
    node.state.set_node_id(NODE_ID)
    return refusing_bad_bundles(start_client_internal._pull_and_store_message)(
        state=node.state,
        object_store=node.state.object_store,
        node_config={},
        receive=receive or (lambda: (message, get_object_tree(message))),
        get_run=lambda _: run,
        get_fab=lambda _hash, _run: Fab("", bundle, {}),
        trusted_entities=None,
        **{
            "pull_object": lambda _, name: objects[name],
            "confirm_message_received": lambda *_: None,
            **(changes or {}),
        },
    )


@pytest.mark.parametrize(
    ("bundle", "fab_hash", "overrides", "reason"),
    [
        (b"no archive", "", {}, "BadZipFile: File is not a zip file"),
        (b"", "", {}, "BadZipFile"),
        (GOOD[: len(GOOD) // 2], "", {}, "BadZipFile"),
        (GOOD.replace(b"rounds", b"sounds"), "", {}, "BadZipFile: Bad CRC-32"),
        (bundle_of(other=PYPROJECT), "", {}, "KeyError"),
        (bundle_of(pyproject="name = "), "", {}, "ValueError: Invalid TOML"),
        (bundle_of(pyproject="x = 1\n"), "", {}, "ValueError"),
        (GOOD, "0" * 64, {}, "ValueError: the bundle has another hash than the run"),
        (GOOD, "", {"a\nb": 1}, "ValueError: Key 'a b' is not present"),
    ],
    ids=["text", "empty", "half", "altered", "no project", "no toml", "wrong", "hash", "key"],
)
def test_a_message_is_refused_whose_bundle_would_end_flowers_supernode(
    node: NodeApi,
    caplog: pytest.LogCaptureFixture,
    *,
    bundle: bytes,
    fab_hash: str,
    overrides: UserConfig,
    reason: str,
) -> None:
    with caplog.at_level(logging.ERROR, logger="flwr"):
        assert pull(node, bundle, fab_hash, overrides) == RUN_ID
    refusal = node.reply().error
    assert (refusal.code, refusal.reason) == (ErrorCode.INVALID_FAB, PRIVATE_REFUSAL)
    assert f"Refused a message by the run's bundle or settings: {reason}" in caplog.text
    assert node.state.get_tasks() == []
    node.state.delete_messages()
    assert pull(node, GOOD) == RUN_ID
    assert len(node.state.get_tasks()) == 1


@pytest.mark.parametrize("stage", ["pull_object", "confirm_message_received"])
@pytest.mark.parametrize("claimed", [True, False])
def test_nothing_is_left_of_a_message_whose_run_ends_meanwhile(
    node: NodeApi, stage: str, *, claimed: bool
) -> None:
    def ended(*_: object) -> bytes:
        if claimed:
            node.state.claim_task(node.state.get_tasks()[0].task_id)
        raise RunNotRunningException

    assert pull(node, GOOD, changes={stage: ended}) is None
    assert [task.status.status for task in node.state.get_tasks()] == [Status.FINISHED]
    assert node.state.get_messages_legacy() == []
    assert len(node.state.object_store) == 0
    assert pull(node, GOOD) == RUN_ID
    assert len(node.state.get_messages_legacy(is_reply=False)) == 1


def test_a_failure_before_any_message_ends_a_supernode(node: NodeApi) -> None:
    def lost() -> None:
        raise RuntimeError("no connection")

    with pytest.raises(RuntimeError, match="no connection"):
        pull(node, GOOD, receive=lost)
