"""Run the commands of README and docs, word for word, in a fresh clone.

A plugin of pytest: ``make commands`` runs it over all pages, ``make commands ARGS=docs/runs.md``
over one, and with ``ALL=1`` also the blocks that take minutes. Sybil finds the blocks. Each block
in ``sh`` runs as one script of bash that ends with its first failing command; what it exports and
the folder that it leaves are the next block's, as in the reader's terminal. Every page begins anew
in the clone's folder, and a README of an example in that example's. Blocks in ``python`` of a page
share their names.

What cannot run says so above the block, with the reason: ``<!--- skip: next "takes an hour" -->``.
What takes minutes: ``<!--- skip: next if(quick, reason="five runs") -->``.
What the reader has done by then, such as to activate an environment, is an invisible block:
``<!--- invisible-code-block: sh``.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import pytest
from flower_command import end_processes_with
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 900  # that one block may take
_SHOWN_LINES = 40

#: Runs the block in $1 in the state that the last one left, and leaves its own in the same files.
_SESSION = """
cd "$(cat "$STATE/folder")"
source "$STATE/exports"
trap 'status=$?; pwd >"$STATE/folder"; declare -px >"$STATE/exports"; exit $status' EXIT
set -eo pipefail
source "$1"
"""


@dataclass
class Clone:
    """A fresh clone, and the environment of a reader's terminal."""

    folder: Path
    environment: dict[str, str]


@contextmanager
def _fresh_clone() -> Iterator[Clone]:
    """Clone the repository; finally end the processes that were started from the clone."""
    work = Path(tempfile.mkdtemp(prefix="fl-he."))  # short: the paths of Ray's sockets have a limit
    folder, home = work / "fl-he", work / "flwr"
    home.mkdir()
    (work / "tmp").mkdir()
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("127.0.0.1", 0))
        ports = [str(one.getsockname()[1]) for one in (first, second)]
    # Not in a reader's terminal: settings of this environment and of make.
    ours = ("PYTEST_", "FLWR_", "VIRTUAL_ENV", "PYTHON", "MAKE", "MFLAGS", "ARGS", "ALL")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    inside = str(Path(sys.executable).parent)
    environment["PATH"] = os.pathsep.join(
        place for place in environment["PATH"].split(os.pathsep) if place != inside
    )
    environment |= {
        "CI": "true",
        "TMPDIR": str(work / "tmp"),
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_LOCAL_CONTROL_API_PORT": ports[0],
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": ports[1],
    }
    try:
        clone = ["git", "clone", "--quiet", str(ROOT), str(folder)]
        subprocess.run(clone, check=True)
        yield Clone(folder, environment)
    finally:
        end_processes_with(f"FLWR_HOME={home}".encode())
        rmtree(work, ignore_errors=True)


@pytest.fixture(scope="session")
def clone() -> Iterator[Clone]:
    """Give the clone in which all pages are read."""
    with _fresh_clone() as made:
        before = Path.cwd()
        os.chdir(made.folder)
        yield made
        os.chdir(before)


def _set_up(namespace: dict[str, object]) -> None:
    """Give a page's blocks the name that conditions of skipping use."""
    namespace["quick"] = not os.environ.get("ALL_COMMANDS")


def _run(example: Example) -> None:
    """Run a block of shell commands; its failure is the test's."""
    clone: Clone = example.namespace["clone"]
    page = Path(example.path).relative_to(ROOT)
    state = clone.folder.parent / "state" / str(page).replace("/", "-")
    if not state.exists():
        state.mkdir(parents=True)
        start = page.parent if page.parts[0] == "examples" else Path()
        (state / "folder").write_text(str(clone.folder / start))
        exports = (f"export {k}={shlex.quote(v)}\n" for k, v in clone.environment.items())
        (state / "exports").write_text("".join(exports))
    block = state / "block"
    block.write_text(example.parsed)
    print(f"\n== {page}:{example.line}\n{example.parsed.rstrip()}", flush=True)
    began = time.monotonic()
    with (state / "output").open("w+") as output:
        process = subprocess.Popen(
            ["/bin/bash", "-c", _SESSION, "bash", str(block)],
            env={**clone.environment, "STATE": str(state)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code: int | str = process.wait(_SECONDS)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            code = f"nothing for {_SECONDS} s"
        output.seek(0)
        shown = "\n".join(output.read().splitlines()[-_SHOWN_LINES:])
    if code != 0:
        pytest.fail(f"{page}:{example.line} ended with {code}:\n{example.parsed}\n{shown}", False)
    print(f"-- ok after {time.monotonic() - began:.0f} s", flush=True)


pytest_collect_file = Sybil(
    parsers=[CodeBlockParser("sh", _run), PythonCodeBlockParser(), SkipParser()],
    patterns=["*.md"],
    path=str(ROOT),
    setup=_set_up,
    fixtures=["clone"],
).pytest()
