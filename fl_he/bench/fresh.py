"""Fresh processes: nothing is loaded, no table is built, as when Flower starts a ClientApp."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from time import perf_counter
from typing import IO, Any, cast

_MAIN = "from fl_he.bench.jobs import main; main()"

Progress = Callable[[str, int, int], None]


class BenchError(ValueError):
    """A benchmark that cannot be run as asked."""


class FreshProcess:
    """A Python process that has imported fl-he's cryptography and does one job.

    A context manager; when it is left, the process and all that it started are gone.

    Attributes
    ----------
    start_seconds : float
        How long the interpreter and its imports took.
    """

    def __init__(self) -> None:
        start = perf_counter()
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)  # noqa: PTH109
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
            [sys.executable, "-P", "-c", _MAIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
            # A group of its own: Ctrl-C reaches the caller alone, which then ends all of it.
            process_group=0,
        )
        # Popen's type does not know that PIPE was asked for.
        self._request = cast(IO[str], self._process.stdin)
        self._answer = cast(IO[str], self._process.stdout)
        try:
            self._read()
        except BaseException:
            self._end()
            raise
        self.start_seconds = perf_counter() - start

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def __enter__(self) -> FreshProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def do(
        self, job: str, request: Mapping[str, Any], on_progress: Progress = lambda *_: None
    ) -> dict[str, Any]:
        """Have a job of `jobs` done.

        Parameters
        ----------
        job : str
            Its name.
        request : mapping
            What it needs.
        on_progress : callable
            Called with what is at work, how much of it is done and how much there is.

        Returns
        -------
        dict
            The job's answer.

        Raises
        ------
        BenchError
            If the process ends without one; its traceback is on standard error.
        """
        json.dump({"job": job, **request}, self._request)
        self._request.close()
        while "answer" not in (line := self._read()):
            on_progress(line["text"], line["done"], line["total"])
        answer: dict[str, Any] = line["answer"]
        return answer

    def _read(self) -> dict[str, Any]:
        text = self._answer.readline()
        if not text:
            raise BenchError("a fresh process must answer, got none before it ended")
        line: dict[str, Any] = json.loads(text)
        return line

    def _end(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS: a zombie
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(BrokenPipeError):
            self._request.close()
        self._answer.close()
        self._process.wait()
