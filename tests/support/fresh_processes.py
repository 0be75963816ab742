"""Processes that begin with the imports done: forks of a process that has done nothing else.

Starting Python and importing Hydra takes longer than most commands. Run as a program, this module
is that process: it reads requests from a socket and forks for each. A fork runs its code as Python
would: with its own exit code, signals, environment, folder and open files.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Imported once; only modules that read no environment and start no thread while imported.
MODULES = (
    *(f"fl_he.commands.{name}" for name in ("run", "predict", "federation", "keygen", "report")),
    "fl_he.config.composition",
    "fl_he.crypto.envelopes.manifest",
    "fl_he.crypto.key_files",
    "fl_he.experiment.jobs",
    "fl_he.terminal.progress",
    "rich.markdown",
    "typer.rich_utils",
)


def run_forked(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], typed: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run ``python`` with arguments that begin with ``-c`` or ``-m``, but for its start."""
    with tempfile.TemporaryDirectory() as name:
        places = [Path(name) / stream for stream in ("stdin", "stdout", "stderr")]
        places[0].write_text(typed)
        request = {
            "arguments": list(arguments),
            "folder": str(folder),
            "environment": dict(environment),
            "files": list(map(str, places)),
        }
        server = _server()
        server.write(json.dumps(request).encode() + b"\n")
        server.flush()
        code = int(server.readline())
        out, err = (path.read_text() for path in places[1:])
    return subprocess.CompletedProcess(list(arguments), code, out, err)


@functools.cache
def _server() -> Any:
    ours, others = socket.socketpair()
    with others:
        process = subprocess.Popen(
            [sys.executable, __file__, str(others.fileno())],
            pass_fds=[others.fileno()],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            start_new_session=True,  # Ctrl-C at the tests is not for it
        )
    stream = ours.makefile("rwb")

    def end() -> None:
        ours.shutdown(socket.SHUT_RDWR)
        process.wait()

    atexit.register(end)
    return stream


def _serve(channel: socket.socket) -> dict[str, Any]:
    """Fork for each request until there are no more; return the request in the fork."""
    stream = channel.makefile("rwb")
    while line := stream.readline():
        pid = os.fork()
        if pid == 0:
            channel.close()
            request: dict[str, Any] = json.loads(line)
            return request
        _, status = os.waitpid(pid, 0)
        stream.write(b"%d\n" % os.waitstatus_to_exitcode(status))
        stream.flush()
    os._exit(0)


def _become(request: Mapping[str, Any]) -> None:
    """Be the process that was asked for, and run its code."""
    os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    modes = (os.O_RDONLY, *[os.O_WRONLY | os.O_CREAT | os.O_APPEND] * 2)
    for number, (path, mode) in enumerate(zip(request["files"], modes, strict=True)):
        os.dup2(os.open(path, mode, 0o600), number)
    option, what, *rest = request["arguments"]
    sys.path[0] = ""
    sys.argv = [option, *rest]
    if option == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 - the tests' own code


if __name__ == "__main__":
    for module in MODULES:
        importlib.import_module(module)
    gc.freeze()  # else each fork would copy all that its garbage collector looks at
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _become(_serve(socket.socket(fileno=int(sys.argv[1]))))
