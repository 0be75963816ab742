"""Simulated nodes in Ray's processes: errors, processes that die, and what is left behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from fl_he.experiment import ray_engine
from fl_he.experiment.ray_engine import run_in_ray
from fl_he.strategies.exchange import exchange


@pytest.mark.parametrize("path", [None, "mine"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_run_leaves_the_environment_as_it_was(
    monkeypatch: pytest.MonkeyPatch, path: str | None, fails: bool
) -> None:
    if path is None:
        monkeypatch.delenv("PYTHONPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setattr(ray_engine, "_start", lambda _: 1)

    def main(_: Grid) -> str:
        assert os.environ["PYTHONPATH"] != path
        if fails:
            raise OSError("disk full")
        return "done"

    try:
        assert run_in_ray(main, ClientApp(), 2) == "done"
    except OSError:
        assert fails
    assert os.environ.get("PYTHONPATH") == path


@pytest.mark.waits
def test_nodes_in_rays_processes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    app, died = ClientApp(), tmp_path / "died"

    @app.train()
    def train(message: Message, context: Context) -> Message:
        context.state["seen"] = ConfigRecord({"messages": len(context.state) + 1})
        return Message(RecordDict({"process": ConfigRecord({"id": os.getpid()})}), reply_to=message)

    @app.train("twice")
    def twice(message: Message, context: Context) -> Message:
        number = len(context.state)
        context.state[f"message {number}"] = ConfigRecord()
        return Message(RecordDict({"number": ConfigRecord({"is": number})}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        context.state["half done"] = ConfigRecord()
        raise KeyError("a column")

    @app.query()
    def query(message: Message, context: Context) -> Message:
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Message(
            RecordDict({"state": ConfigRecord({"of": list(context.state)})}), reply_to=message
        )

    def main(grid: Grid) -> None:
        def asked(kind: str, *nodes: int) -> list[Message]:
            return list(exchange(grid, [Message(RecordDict(), n, kind) for n in nodes], 60))

        nodes = list(grid.get_node_ids())
        replies = asked("train", *nodes)
        assert sorted(reply.metadata.src_node_id for reply in replies) == nodes
        processes = {reply.content["process"]["id"] for reply in replies}
        assert os.getpid() not in processes
        assert len(processes) <= (os.cpu_count() or 1), "nodes share them"
        messages = [Message(RecordDict(), node, "train") for node in nodes]
        replies = list(grid.send_and_receive(messages))
        assert sorted(reply.metadata.src_node_id for reply in replies) == nodes, "Flower's own way"
        replies = asked("train.twice", nodes[0], nodes[0], nodes[0])
        assert [reply.content["number"]["is"] for reply in replies] == [1, 2, 3]
        (reply,) = asked("evaluate", nodes[1])
        assert reply.error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
        assert reply.error.reason == "KeyError: 'a column'"
        assert reply.metadata.src_node_id == nodes[1]
        (reply,) = asked("query", nodes[1])
        assert reply.error.code == ErrorCode.CLIENT_APP_CRASHED
        (reply,) = asked("query", nodes[1])
        assert reply.content["state"]["of"] == ["seen"], "as before it failed"

    run_in_ray(main, app, 5)
    assert "the app of node 1001 failed" in caplog.text
    assert died.exists()
