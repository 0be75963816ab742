"""The engine without Ray: the same figures, errors as Flower's engines report them, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from experiments import experiment, on_round
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from test_simulation import descendants

from fl_he import server_app, simulation
from fl_he.config.composition import compose
from fl_he.config.constraints import ConfigError
from fl_he.experiment.local_grid import LocalGrid, simulated_nodes

#: Drawn or measured anew in every run.
VARIABLE = {
    *("ended", "config", "key_fingerprint", "keys", "hops", "bytes_sent"),
    *("seconds", "start_seconds", "encrypt_seconds", "add_seconds", "decrypt_seconds"),
    *("node_seconds",),
}


def steady(value: Any) -> Any:
    """Return figures without those that differ from run to run."""
    if isinstance(value, dict):
        return {name: steady(one) for name, one in value.items() if name not in VARIABLE}
    return list(map(steady, value)) if isinstance(value, list | tuple) else value


@pytest.mark.slow
@pytest.mark.waits
@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize(
    "overrides",
    [
        ("hospitals=4", "rounds=2", "optimizer=newton", "C=1", "evaluate=true"),
        ("experiment=capc_breast_cancer", "capc.queries=2"),
    ],
    ids=["open", "capc"],
)
def test_both_engines_give_the_same_figures(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    found = []
    for engine in ("ray", "local"):
        folder = tmp_path / engine
        config = experiment(*overrides, f"simulation.engine={engine}", folder=folder)
        found.append(steady(simulation.run(config, folder)))
        saved = sorted(folder.glob("hospitals/*/model.json"))
        assert len(saved) == (0 if config.capc.enabled else 4)
        found[-1]["saved"] = [path.read_text() for path in saved]
    assert found[0] == found[1], "to the last bit"


def message(action: str, node_id: int = 1000) -> Message:
    return Message(RecordDict(), node_id, action)


def test_an_app_that_raises_comes_back_as_an_error() -> None:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        raise KeyError("a column")

    grid = LocalGrid(app, simulated_nodes(2))
    replies = list(grid.send_and_receive([message("train"), message("train", 1001)]))
    assert {reply.error.code for reply in replies} == {ErrorCode.CLIENT_APP_RAISED_EXCEPTION}
    assert {reply.error.reason for reply in replies} == {"KeyError: 'a column'"}
    assert [reply.metadata.src_node_id for reply in replies] == [1000, 1001]
    assert list(grid.push_messages([message("train", 1002)])) == [], "nobody is there"


def test_nobody_reaches_into_anothers_records() -> None:
    app = ClientApp()
    kept: list[RecordDict] = []

    @app.train()
    def train(message: Message, context: Context) -> Message:
        message.content["mine"] = ConfigRecord({"value": 2})
        message.content.config_records["yours"]["value"] = 2
        kept.append(message.content)
        return Message(message.content, reply_to=message)

    grid = LocalGrid(app, simulated_nodes(1))
    sent = RecordDict({"yours": ConfigRecord({"value": 1})})
    (reply,) = grid.send_and_receive([Message(sent, 1000, "train")])
    assert sent == RecordDict({"yours": ConfigRecord({"value": 1})})
    assert reply.content == kept[0]
    assert reply.content["yours"] is not kept[0]["yours"]


def test_nodes_answer_one_at_a_time_in_the_order_of_the_messages() -> None:
    app = ClientApp()
    at_work: list[int] = []

    @app.train()
    def train(message: Message, context: Context) -> Message:
        at_work.append(context.node_id)
        return Message(RecordDict(), reply_to=message)

    grid = LocalGrid(app, simulated_nodes(3))
    ids = list(grid.push_messages([message("train", node) for node in (1001, 1000, 1002)]))
    assert at_work == []
    for done in (1, 2, 3):
        (reply,) = grid.pull_messages(reversed(ids))
        assert at_work == [1001, 1000, 1002][:done]
        assert reply.metadata.src_node_id == at_work[-1]
    assert list(grid.pull_messages(ids)) == []


def test_no_other_process_or_thread_takes_part(tmp_path: Path) -> None:
    config = experiment("rounds=1", "simulation.engine=local", folder=tmp_path)
    threads, before = set[str](), descendants(os.getpid())
    simulation.run(config, tmp_path, lambda _: threads.add(threading.current_thread().name))
    assert threads == {threading.current_thread().name}
    assert not descendants(os.getpid()) - before


@pytest.mark.parametrize("address", ["", " simulation.ray_address=here:1"])
def test_flowers_own_command_refuses_the_keys(tmp_path: Path, address: str) -> None:
    overrides = f"simulation.engine=ray{address} output_dir={tmp_path}/run"
    context = Context(7, 0, {}, RecordDict(), {"config-name": "config", "overrides": overrides})
    grid = LocalGrid(ClientApp(), simulated_nodes(4))
    with pytest.raises(
        ConfigError, match=r"simulation\.engine is a setting of `fl-he run`, got ray"
    ):
        server_app.app(grid, context)
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_may_use_another_engine(tmp_path: Path) -> None:
    config = experiment("rounds=3", "simulation.engine=local", folder=tmp_path)

    class KilledError(Exception):
        pass

    def kill(_: object) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        simulation.run(config, tmp_path, on_round(kill))
    again = compose("config", [f"resume={tmp_path}"])
    assert again.simulation.engine == "local"
    assert compose("config", [f"resume={tmp_path}", "simulation.engine=ray"]) != again
    assert len(simulation.run(again, tmp_path)["rounds"]) == 3


@pytest.mark.waits
def test_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fl_he.cli", "run", "rounds=100000", "crypto.key_bits=1024"]
    with subprocess.Popen(
        [*command, "simulation.engine=local", f"output_dir={tmp_path}/run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("round 3/"):
                break
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait() == 130, rest
    assert "Traceback" not in rest
    assert f"fl-he: interrupted; `fl-he run resume={tmp_path}/run` continues it" in rest
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        ".hydra",
        "checkpoint.json",
        "checkpoint.opened.jsonl",
        "checkpoint.rounds.jsonl",
    ]
