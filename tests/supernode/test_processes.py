"""A SuperNode and the processes that answer: they begin, end and are replaced together."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import numpy as np
import psutil
import pytest
from flower_command import end_processes_with, processes_with
from quick import slow_but

from fl_he.errors import FlHeError
from fl_he.supernode import processes
from fl_he.supernode.processes import Worker

PATIENCE = 300.0  # seconds on a busy machine
SECRET = "5ec2e75ec2e7" * 3
#: A node whose processes wait for tasks that never come; the second starts another process.
NODE = f"""
import signal, subprocess, sys, time
from fl_he.errors import FlHeError
from fl_he.supernode import processes
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
processes._HOUR = 1.0
def work():
    subprocess.Popen(["sleep", "600"])
    time.sleep(600)
try:
    processes.run(sys.argv[1:], b"{SECRET}", work, print, lambda: print("an hour", flush=True))
except FlHeError as error:
    sys.exit(f"fl-he: {{error}}")
"""


class RunningNode:
    """A node without a SuperLink, in a separate process."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as first, socket.socket() as second:
            for one in (first, second):
                one.bind(("127.0.0.1", 0))
            superlink, port = first.getsockname()[1], second.getsockname()[1]
        (folder / "node.py").write_text(NODE)
        self.log, self.mark = folder / "log", f"FLWR_HOME={folder}".encode()
        options = ["--insecure", "--superlink", f"127.0.0.1:{superlink}", "--port", str(port)]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(folder / "node.py"), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "FLWR_HOME": str(folder), "FLWR_TELEMETRY_ENABLED": "0"},
            )
        self.wait_for(lambda: b"retrying in" in self.log.read_bytes() and self.sleeps())

    def wait_for(self, condition: object) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():  # type: ignore[operator]
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def children(self) -> tuple[psutil.Process, psutil.Process]:
        """Return the SuperNode and the process that waits for a task."""
        found = psutil.Process(self.process.pid).children()
        found.sort(key=lambda child: "fl_he.supernode.child" not in child.cmdline())
        node, worker = found
        return node, worker

    def sleeps(self) -> list[int]:
        """Return the processes that those have started that answer messages."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        return [one.pid for one in family if one.name() == "sleep"]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RunningNode]:
    node = RunningNode(tmp_path)
    yield node
    end_processes_with(node.mark)


@pytest.mark.parametrize("name", slow_but(["SIGINT", "SIGTERM", "SIGHUP"], "SIGTERM"))
def test_a_signal_ends_all_and_is_no_failure(node: RunningNode, name: str) -> None:
    node.process.send_signal(signal.Signals[name])
    assert node.process.wait(PATIENCE) == 0
    assert "SuperNode terminated gracefully" in node.log.read_text()
    assert not processes_with(node.mark)


@pytest.mark.slow
def test_hours_go_by_without_a_message(node: RunningNode) -> None:
    before = node.children()[1].pid
    hours = node.log.read_text().count("an hour")
    assert hours
    node.wait_for(lambda: node.log.read_text().count("an hour") >= hours + 3)
    assert node.children()[1].pid == before


def test_nothing_outlives_a_killed_parent(node: RunningNode) -> None:
    assert len(processes_with(node.mark)) == 4
    node.process.kill()
    node.process.wait()
    node.wait_for(lambda: not processes_with(node.mark))


@pytest.mark.slow
def test_the_command_ends_with_its_supernode_and_says_so(node: RunningNode) -> None:
    node.children()[0].kill()
    assert node.process.wait(PATIENCE) == 1
    last = node.log.read_text().splitlines()[-1]
    assert last.startswith("fl-he: Flower's SuperNode ended with signal 9: ")
    assert not processes_with(node.mark)


@pytest.mark.slow
def test_a_killed_process_is_replaced_and_its_own_processes_end(node: RunningNode) -> None:
    (before,), worker = node.sleeps(), node.children()[1]
    worker.kill()
    node.wait_for(lambda: node.sleeps() not in ([before], []))
    node.wait_for(lambda: before not in processes_with(node.mark))
    assert node.children()[1] != worker


@pytest.mark.slow
def test_processes_have_no_secret_and_no_connection_that_is_not_theirs(node: RunningNode) -> None:
    secret = SECRET.encode()
    for child in node.children():
        proc = Path("/proc") / str(child.pid)
        assert secret not in (proc / "cmdline").read_bytes()
        assert secret not in (proc / "environ").read_bytes()
    supernode, worker = node.children()
    assert "--superexec-auth-secret-file /dev/fd/" in " ".join(supernode.cmdline())
    assert worker.cmdline() == psutil.Process(node.process.pid).cmdline()
    of_parent = descriptors(node.process.pid)
    assert not any(name.startswith("socket:") for name in of_parent)
    (lifeline,) = set(of_parent) & set(descriptors(worker.pid))
    assert (of_parent.count(lifeline), descriptors(worker.pid).count(lifeline)) == (2, 1)
    assert lifeline == str((Path("/proc") / str(supernode.pid) / "fd" / "0").readlink())


def descriptors(pid: int) -> list[str]:
    """Return the open files of a process, except its standard streams."""
    open_files = (Path("/proc") / str(pid) / "fd").iterdir()
    return [str(link.readlink()) for link in open_files if int(link.name) > 2]


@pytest.mark.slow
def test_a_supernode_that_cannot_start_ends_the_command_with_its_reason() -> None:
    with pytest.raises(FlHeError, match="ended with exit code 1: Unable to parse the private key"):
        processes.run(
            ["--auth-supernode-private-key", __file__, "--insecure"],
            SECRET.encode(),
            lambda: time.sleep(60),
            print,
        )


def test_a_process_with_threads_is_not_forked() -> None:
    waiting = Thread(target=time.sleep, args=(1,))
    waiting.start()
    with pytest.raises(FlHeError, match="must start no thread when it is imported"):
        processes.run([], b"x", lambda: None, print)
    waiting.join()


def test_each_fork_has_its_own_random_numbers(tmp_path: Path) -> None:
    def work() -> None:
        (tmp_path / str(os.getpid())).write_text(f"{random.random()} {np.random.randint(2**62)}")  # noqa: NPY002 - the one that forks share

    lifeline, writer = os.pipe()
    for _ in range(2):
        worker = Worker(work, lifeline, [writer])
        while worker.ended() is None:
            time.sleep(0.01)
    for end in (lifeline, writer):
        os.close(end)
    first, second = (path.read_text().split() for path in tmp_path.iterdir())
    assert set(first).isdisjoint(second)
