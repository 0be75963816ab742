"""Fresh processes: nothing is loaded, no table is built, as when Flower starts a ClientApp.

What a fresh process is asked to do: the child's half of `fresh`.

A job is an object with the member ``job`` on standard input; the answer is an object on standard
output. Numbers and ciphertexts are base64, keys are the JSON that they have everywhere. The keys
are made for the benchmark and die with it.

fl-he with a fresh process for each operation, as a deployed node meets every message.

Peak memory of a process and its children.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from threading import Event, Thread
from time import perf_counter
from typing import IO, Any, cast

import numpy as np

from fl_he.bench.schemes import UnitRun, Vector, example_updates, largest_error
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.encrypted_vector import Progress as VectorProgress
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.errors import FlHeError

_MAIN = "from fl_he.bench.fresh import main; main()"

Progress = Callable[[str, int, int], None]


class BenchError(FlHeError):
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


_PROC = Path("/proc")
_INTERVAL = 0.05  # seconds between two looks
#: ru_maxrss is in KiB on Linux and in bytes on macOS.
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


class PeakMemory:
    """Watches a process and all that descend from it; a context manager.

    The memory of a process is its resident set, at its highest so far: a short peak between two
    looks counts too. Pages that processes share count once for each of them.

    Parameters
    ----------
    pid : int
        The process.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._peak = 0

    @property
    def bytes(self) -> int:
        """Largest sum so far; 0 where the system does not tell (it does on Linux)."""
        return self._peak

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._stop.wait(_INTERVAL):
            self._look()

    def _look(self) -> None:
        family = [self._pid, *descendants(self._pid)]
        self._peak = max(self._peak, sum(_high_water_mark(pid) for pid in family))


def own_peak() -> int:
    """Return the peak of this process plus that of its largest finished child, in bytes."""
    parts = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(resource.getrusage(part).ru_maxrss for part in parts) * _MAXRSS_UNIT


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and theirs; none without ``/proc``."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        for tasks in _PROC.glob(f"{parent}/task/*/children"):
            children = [int(child) for child in _read(tasks).split()]
            found += children
            waiting += children
    return found


def _high_water_mark(pid: int) -> int:
    for line in _read(_PROC / str(pid) / "status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended
        return ""


Answer = dict[str, Any]
Job = Callable[[Mapping[str, Any]], Answer]


def main() -> None:
    """Say that everything is imported, then read one job, do it and answer."""
    _say({"ready": True})
    text = sys.stdin.read()
    if not text:  # whoever wanted something has gone
        return
    request = json.loads(text)
    _say({"answer": _JOBS[request["job"]](request)})


def to_text(data: bytes) -> str:
    """Return bytes as they stand in a job or an answer."""
    return base64.b64encode(data).decode()


def to_bytes(text: str) -> bytes:
    """Undo `to_text`."""
    return base64.b64decode(text)


def _encrypt(request: Mapping[str, Any]) -> Answer:
    values = np.frombuffer(to_bytes(request["values"]))
    start = perf_counter()
    public_key = PublicKey.from_json(request["key"], known=request["known"])
    packing = Packing.from_json(request["packing"])
    vector = EncryptedVector.encrypt(public_key, packing, values, cores=request["cores"])
    data = vector.to_bytes()
    return {"seconds": perf_counter() - start, "vector": to_text(data)}


def _add(request: Mapping[str, Any]) -> Answer:
    updates = [to_bytes(update) for update in request["updates"]]
    start = perf_counter()
    public_key = PublicKey.from_json(request["key"], known=request["known"])
    total = EncryptedVector.from_bytes(updates[0], public_key)
    for update in updates[1:]:
        total.add_in_place(EncryptedVector.from_bytes(update, public_key), public_key)
    data = total.to_bytes()
    return {"seconds": perf_counter() - start, "vector": to_text(data)}


def _decrypt(request: Mapping[str, Any]) -> Answer:
    data = to_bytes(request["vector"])
    start = perf_counter()
    key = PrivateKey.from_json(request["key"], known=request["known"])
    vector = EncryptedVector.from_bytes(data, key.public_key)
    values = key.decrypt_vector(vector, cores=request["cores"])
    return {"seconds": perf_counter() - start, "values": to_text(values.tobytes())}


def _long_vector(request: Mapping[str, Any]) -> Answer:
    """Encrypt two long vectors, add them and decrypt the sum."""
    key = PrivateKey.from_json(request["key"])
    public_key, packing = key.public_key, Packing()
    updates = example_updates(request["length"])[:2]
    marks = [perf_counter()]
    vectors = [
        EncryptedVector.encrypt(
            public_key, packing, values, progress=_progress(f"encrypting {number} of 2")
        )
        for number, values in enumerate(updates, start=1)
    ]
    marks.append(perf_counter())
    size = vectors[0].nbytes
    vectors[0].add_in_place(vectors.pop(), public_key)
    marks.append(perf_counter())
    result = key.decrypt_vector(vectors[0], progress=_progress("decrypting"))
    marks.append(perf_counter())
    return {
        "encrypt_seconds": (marks[1] - marks[0]) / len(updates),
        "add_seconds": marks[2] - marks[1],
        "decrypt_seconds": marks[3] - marks[2],
        "bytes": size,
        "peak_bytes": own_peak(),
        "largest_error": largest_error(result, updates),
    }


def _progress(text: str) -> VectorProgress:
    return lambda done, total: _say({"text": text, "done": done, "total": total})


def _say(line: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


_JOBS: dict[str, Job] = {
    "encrypt": _encrypt,
    "add": _add,
    "decrypt": _decrypt,
    "long vector": _long_vector,
}


def run_cold_unit(key: PrivateKey, cores: int, updates: Sequence[Vector]) -> UnitRun:
    """Encrypt each update, add them all and decrypt the sum, each step in a process of its own.

    What is timed starts with the JSON of the key, whose numbers were checked in the run's first
    message, and ends with the bytes of the result. The start of the interpreter and its imports are
    reported apart.

    Parameters
    ----------
    key : PrivateKey
        The key holder's.
    cores : int
        How many cores a step may use.
    updates : sequence of float64 arrays of shape (d,)
    """
    known = key.public_key.fingerprint
    public = {"key": key.public_key.to_json(), "packing": Packing().to_json(), "cores": cores}
    starts: list[float] = []

    def step(job: str, **request: Any) -> dict[str, Any]:
        with FreshProcess() as process:
            starts.append(process.start_seconds)
            return process.do(job, {**request, "known": known})

    encrypted = [step("encrypt", **public, values=to_text(values.tobytes())) for values in updates]
    vectors = [answer["vector"] for answer in encrypted]
    total = step("add", key=public["key"], updates=vectors)
    opened = step("decrypt", key=key.to_json(), vector=total["vector"], cores=cores)
    return UnitRun(
        encrypt=fmean(answer["seconds"] for answer in encrypted),
        add=total["seconds"] / (len(updates) - 1),
        decrypt=opened["seconds"],
        bytes=len(to_bytes(vectors[0])),
        result=np.frombuffer(to_bytes(opened["values"])),
        start=fmean(starts),
    )
