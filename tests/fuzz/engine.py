"""Runs targets under atheris, each in a separate process, within limits, and counts.

atheris (https://github.com/google/atheris) drives libFuzzer by the coverage of our Python code.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import re
import resource
import struct
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import atheris
from fuzz.target import Target

#: Limits of one input.
SECONDS = 1.0
MEGABYTES = 500.0

_COUNTERS = struct.Struct("4d")  # inputs, refused, slowest in CPU seconds, growth in MB


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of fuzzing one target.

    Attributes
    ----------
    inputs, refused : int
    seconds : float
        Wall time.
    slowest : float
        CPU seconds of the costliest input.
    megabytes : float
        By how much the process grew at its peak, in all inputs together.
    edges : int or None
        Edges of our code that were reached.
    finding : str
        The fault, empty if there is none.
    """

    name: str
    inputs: int
    refused: int
    seconds: float
    slowest: float
    megabytes: float
    edges: int | None
    finding: str


class CostError(Exception):
    """An input that costs too much."""


def run(target: Target, inputs: int, seed: int, findings: Path) -> Outcome:
    """Fuzz one target.

    Parameters
    ----------
    target : Target
    inputs : int
        How many.
    seed : int
        Of libFuzzer, from 1; the same one gives the same inputs.
    findings : Path
        Folder for an input that breaks the target.
    """
    shared = mmap.mmap(-1, _COUNTERS.size)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        child = os.fork()
        if child == 0:
            arguments = _arguments(target, inputs, seed, folder, findings)
            _be_child(target, arguments, Path(folder), findings, shared)
        _, status = os.waitpid(child, 0)
        text = log.read_text(errors="replace")
    count, refused, slowest, megabytes = _COUNTERS.unpack(shared[:])
    edges = re.findall(r"cov: (\d+)", text)
    finding = ""
    if status != 0 or count < inputs:
        reason = re.findall(r"^(?:\w+[.])*\w*(?:Error|Exception|Exit|Interrupt)\b.*$", text, re.M)
        finding = (reason or [text[-2000:]])[0]
        (findings / f"{target.name}.log").write_text(text)
    return Outcome(
        target.name,
        int(count),
        int(refused),
        time.perf_counter() - start,
        slowest,
        megabytes,
        int(edges[-1]) if edges else None,
        finding,
    )


def _arguments(target: Target, inputs: int, seed: int, folder: str, findings: Path) -> list[str]:
    """Return libFuzzer's command line."""
    return [
        "fuzz",
        f"-runs={inputs}",
        f"-seed={seed}",
        f"-max_len={target.limit}",
        "-timeout=60",
        "-rss_limit_mb=0",
        f"-artifact_prefix={findings / target.name}-",
        f"{folder}/corpus",
    ]


def _be_child(
    target: Target, arguments: list[str], folder: Path, findings: Path, shared: mmap.mmap
) -> None:
    """Fuzz and end; the parent needs no cleaning up."""
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        _fuzz(target, arguments, folder, findings, shared)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def _fuzz(
    target: Target, arguments: list[str], folder: Path, findings: Path, shared: mmap.mmap
) -> None:
    warnings.simplefilter("ignore")
    work = folder / "work"
    corpus = folder / "corpus"
    for made in (work, corpus):
        made.mkdir()
    os.chdir(work)
    for number, data in enumerate(target.seeds()):
        (corpus / str(number)).write_bytes(data)
    for data in target.seeds()[:1]:
        target.read(data)  # warms up imports and caches
    _limit_memory()
    before = _peak()
    counters = [0.0] * 4

    def one(data: bytes) -> None:
        start = time.process_time()
        try:
            counters[1] += target.refuses(data)
        except BaseException:
            (findings / f"{target.name}-input").write_bytes(data)
            raise
        spent = time.process_time() - start
        grown = _peak() - before
        counters[0] += 1
        counters[2] = max(counters[2], spent)
        costly = spent > SECONDS or grown - counters[3] > MEGABYTES
        counters[3] = max(counters[3], grown)
        shared[:] = _COUNTERS.pack(*counters)
        if costly:
            (findings / f"{target.name}-input").write_bytes(data)
            raise CostError(f"{spent:.2f} s of CPU, {grown:.0f} MB")

    atheris.Setup(arguments, one)
    atheris.Fuzz()  # ends the process


def _peak() -> float:
    """Return the largest resident size of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _limit_memory() -> None:
    """Let an allocation of gigabytes fail, whether or not anybody writes to it."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 3 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def instrumented() -> contextlib.AbstractContextManager[None]:
    """Have the modules of fl_he that are imported inside report their coverage."""
    if any(name.partition(".")[0] == "fl_he" for name in sys.modules):
        raise RuntimeError("fl_he was imported before its instrumentation")
    made: contextlib.AbstractContextManager[None] = atheris.instrument_imports(include=["fl_he"])
    return made
