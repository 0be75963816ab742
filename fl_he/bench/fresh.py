"""Fresh processes: nothing is loaded, no table is built, as when Flower starts a ClientApp.

`FreshProcess` runs one function in such a process, and `PeakMemory` watches the memory of a
process and its children. `run_cold_unit` is fl-he with a fresh process for each step, as a deployed
node meets every message. Keys are made for the benchmark and die with it.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from threading import Event, Thread
from time import perf_counter
from typing import Any, cast

import psutil

from fl_he.bench.schemes import UnitRun, Vector
from fl_he.bench.timing import Follow, Result
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.crypto.paillier.workers import start_python
from fl_he.errors import FlHeError

_SERVE = "from fl_he.bench.fresh import serve; serve()"
_LOOK_SECONDS = 0.05


class BenchError(FlHeError):
    """A benchmark that cannot be run as asked."""


class FreshProcess:
    """A Python process that has imported fl-he's cryptography and does one job.

    A context manager; when it is left, the process and all that it started are gone.

    Parameters
    ----------
    on_progress : callable
        Called with each `report` of the job.

    Attributes
    ----------
    pid : int
        Id of the process.
    start_seconds : float
        How long the interpreter and its imports took.
    """

    def __init__(self, on_progress: Follow = lambda *_: None) -> None:
        start = perf_counter()
        self._on_progress = on_progress
        # A group of its own: Ctrl-C reaches the caller alone, which then ends all of it.
        self._process, self._request, self._answer = start_python(_SERVE, process_group=0)
        try:
            self._read()
        except BaseException:
            self._end()
            raise
        self.pid = self._process.pid
        self.start_seconds = perf_counter() - start

    def __enter__(self) -> FreshProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def do(self, job: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function of a module in the process.

        Parameters
        ----------
        job : callable
        arguments
            The function's; they and the result are pickled.

        Raises
        ------
        BenchError
            If the process ends without an answer; its traceback is on standard error.
        """
        with suppress(BrokenPipeError):  # the process has ended: there is no answer to read
            pickle.dump((job, arguments), self._request)
            self._request.close()
        while (line := self._read())[0] == "progress":
            self._on_progress(*line[1:])
        return cast(Result, line[1])

    def _read(self) -> tuple[Any, ...]:
        try:
            return cast(tuple[Any, ...], pickle.load(self._answer))  # noqa: S301 - our own child
        except (EOFError, pickle.UnpicklingError):  # no answer, or half of one
            raise BenchError("a fresh process ended before it answered") from None

    def _end(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS: a zombie
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(BrokenPipeError):
            self._request.close()
        self._answer.close()
        self._process.wait()


def serve() -> None:
    """Say that everything is imported, then do one job: the process's main function."""
    _say("ready")
    with suppress(EOFError):  # the caller has gone
        job, arguments = pickle.load(sys.stdin.buffer)  # noqa: S301 - our own parent
        _say("answer", job(*arguments))


def report(text: str, done: int, total: int) -> None:
    """Tell the caller how far the job of this process is."""
    _say("progress", text, done, total)


def _say(*line: Any) -> None:
    pickle.dump(line, sys.stdout.buffer)
    sys.stdout.buffer.flush()


class PeakMemory:
    """Watches a process and all that descend from it; a context manager.

    The memory of a process is its resident set. On Linux it is the largest so far, so that a short
    peak between two looks counts too. Pages that processes share count once for each of them.

    Attributes
    ----------
    bytes : int
        Largest sum so far.
    """

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._process = psutil.Process(pid)
        self._stop = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        with suppress(psutil.Error):  # the process has ended
            family = [self._process, *self._process.children(recursive=True)]
            self.bytes = max(self.bytes, sum(_resident(process) for process in family))


def family_cpu_seconds() -> float:
    """Return the CPU time of this process and of all that it has started and that still run."""
    seconds, own = 0.0, psutil.Process()
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.Error):  # the process has ended
            times = process.cpu_times()
            seconds += times.user + times.system
    return seconds


def _resident(process: psutil.Process) -> int:
    with suppress(OSError, psutil.Error):  # the process has ended
        if not psutil.LINUX:
            return int(process.memory_info().rss)
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def run_cold_unit(key: PrivateKey, cores: int, updates: Sequence[Vector]) -> UnitRun:
    """Encrypt each update, add them all and decrypt the sum, each step in a fresh process.

    What is timed starts with the JSON of the key, whose numbers were checked in the run's first
    message, and ends with the bytes of the result. The start of the interpreter and its imports are
    reported apart.

    Parameters
    ----------
    key : PrivateKey
        Company X's.
    cores : int
        How many cores a step may use.
    updates : sequence of float64 arrays of shape (d,)
    """
    known, public = key.public_key.fingerprint, key.public_key.to_json()
    packing = Packing().to_json()
    starts: list[float] = []

    def step(job: Callable[..., Result], *arguments: Any) -> tuple[float, Result]:
        with FreshProcess() as process:
            starts.append(process.start_seconds)
            return process.do(_timed, job, *arguments)

    encrypted = [step(_encrypt, public, known, packing, values, cores) for values in updates]
    vectors = [vector for _, vector in encrypted]
    add_seconds, total = step(_add, public, known, vectors)
    decrypt_seconds, result = step(_decrypt, key.to_json(), known, total, cores)
    return UnitRun(
        encrypt=fmean(seconds for seconds, _ in encrypted),
        add=add_seconds / (len(updates) - 1),
        decrypt=decrypt_seconds,
        bytes=len(vectors[0]),
        result=result,
        start=fmean(starts),
    )


def _timed(job: Callable[..., Result], *arguments: Any) -> tuple[float, Result]:
    start = perf_counter()
    result = job(*arguments)
    return perf_counter() - start, result


def _encrypt(public: str, known: str, packing: str, values: Vector, cores: int) -> bytes:
    key = PublicKey.from_json(public, known=known)
    return EncryptedVector.encrypt(key, Packing.from_json(packing), values, cores=cores).to_bytes()


def _add(public: str, known: str, updates: Sequence[bytes]) -> bytes:
    key = PublicKey.from_json(public, known=known)
    total = EncryptedVector.from_bytes(updates[0], key)
    for update in updates[1:]:
        total.add_in_place(EncryptedVector.from_bytes(update, key), key)
    return total.to_bytes()


def _decrypt(private: str, known: str, data: bytes, cores: int) -> Vector:
    key = PrivateKey.from_json(private, known=known)
    return key.decrypt_vector(EncryptedVector.from_bytes(data, key.public_key), cores=cores)
