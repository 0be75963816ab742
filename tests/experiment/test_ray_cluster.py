"""A Ray cluster that runs already: a head node and a worker node, started apart."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import pytest
from experiments import experiment
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from test_simulation_engine import steady

from fl_he import simulation
from fl_he.config.constraints import ConfigError
from fl_he.experiment import ray_engine
from fl_he.experiment.ray_engine import run_in_ray
from fl_he.strategies.exchange import exchange

RAY = Path(sys.executable).with_name("ray")


@pytest.fixture
def cluster() -> Iterator[str]:
    """Start two nodes with a core each, and return the address of their cluster."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, nodes = f"127.0.0.1:{port}", list[subprocess.Popen[str]]()
    # Sockets of Unix have short names.
    with TemporaryDirectory(dir="/tmp") as folder:
        head = ("--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}")
        try:
            for role in (head, (f"--address={address}",)):
                command = [RAY, "start", *role, "--num-cpus=1", "--disable-usage-stats", "--block"]
                node = subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    start_new_session=True,
                    env={**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
                )
                nodes.append(node)
                assert node.stdout is not None
                assert any("Ray runtime started" in line for line in node.stdout)
            yield address
        finally:
            for node in reversed(nodes):
                node.terminate()
                node.communicate(timeout=300)


@pytest.mark.release
def test_a_simulation_on_two_nodes_of_a_cluster(tmp_path: Path, cluster: str) -> None:
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        import ray  # noqa: PLC0415 - in the cluster's processes

        time.sleep(0.5)
        place = ray.get_runtime_context().get_node_id()
        return Message(RecordDict({"node": ConfigRecord({"id": place})}), reply_to=message)

    there = ("simulation.engine=ray", f"simulation.ray_address={cluster}")
    command = [sys.executable, "-m", "fl_he.cli", "run", *there]

    def main(grid: Grid) -> None:
        while len(nodes := list(grid.get_node_ids())) < 4:  # Flower registers them meanwhile
            time.sleep(0.1)
        messages = [Message(RecordDict(), node, "query") for node in nodes]
        replies = list(exchange(grid, messages, 60))
        assert len(replies) == 4
        assert len({reply.content["node"]["id"] for reply in replies}) == 2
        while_taken = subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, check=False
        )
        assert while_taken.returncode == 1
        assert while_taken.stderr == (
            f"fl-he: the Ray cluster at simulation.ray_address={cluster} has no free core\n"
        )

    run_in_ray(main, app, 4, address=cluster)
    found = []
    for settings in (there, ("simulation.engine=local",)):
        folder = tmp_path / str(len(settings))
        config = experiment("rounds=2", *settings, folder=folder)
        found.append(steady(simulation.run(config, folder)))
        assert len(list(folder.glob("hospitals/*/model.json"))) == 3
    assert found[0] == found[1]
    with subprocess.Popen(
        [*command, "rounds=100000", "tolerance=1e-12", "optimizer=gd", "crypto.key_bits=1024"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as interrupted:
        assert interrupted.stdout is not None
        assert any(line.startswith("round 2/") for line in interrupted.stdout)
        interrupted.send_signal(signal.SIGINT)
        assert interrupted.wait() == 130
    deadline = time.monotonic() + 300
    while True:  # until the cluster has ended the processes of the run that is gone
        try:
            run_in_ray(main, app, 4, address=cluster)
        except (ConfigError, AssertionError):
            assert time.monotonic() < deadline
        else:
            break


def respond(server: socket.socket, answer: bytes, kept: list[socket.socket]) -> None:
    kept.append(server.accept()[0])
    kept[0].sendall(answer)


def test_an_answer_may_come_in_pieces() -> None:
    def in_pieces() -> None:
        connection, _ = server.accept()
        with closing(connection):
            for piece in (bytes([0, 0, 0, 4]), bytes(5)):
                connection.sendall(piece)
                time.sleep(0.05)

    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        thread = Thread(target=in_pieces)
        thread.start()
        ray_engine._require_answer(f"127.0.0.1:{server.getsockname()[1]}")
        thread.join()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, ".*refused"),
        (b"", "timed out"),
        (b"HTTP/1.1 400 Bad Request", "something else answers"),
    ],
)
def test_a_cluster_that_is_not_there_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes | None, reason: str
) -> None:
    monkeypatch.setattr(ray_engine, "_PATIENCE", 1.0)
    kept: list[socket.socket] = []
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        if answer is not None:
            taken.listen()
            Thread(target=respond, args=[taken, answer, kept]).start()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = experiment(f"simulation.ray_address={address}", folder=tmp_path)
        words = (
            rf"simulation\.ray_address={address} is not a Ray cluster that this machine is part "
            rf"of \({reason}.*\): `ray start` starts one or joins it"
        )
        with pytest.raises(ConfigError, match=words):
            simulation.run(config, tmp_path)
        for connection in kept:
            connection.close()
