"""Encryption of long vectors on several cores.

The loop over a table of powers holds the interpreter lock, so threads do not help and processes
do. A worker is a plain child that is fed through its pipes. Unlike multiprocessing's it does not
run the caller's main module again, does not fork a process that has threads, and may be started
by a daemon. It gets the public key and plaintexts of its parent, never a private key.
"""

from __future__ import annotations

import functools
import os
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import BinaryIO, cast

from fl_he.crypto.paillier.masking import Masker
from fl_he.crypto.paillier.threads import available_cores

_SERVE = "from fl_he.crypto.paillier.workers import serve; serve()"
_NUMBER = struct.Struct(">I")
_READY = b"fl-he worker\n"  # comes first, so that stray output of an import is noticed

# A worker needs a third of a second before it encrypts, so it must save more. In plaintexts times
# key_bits squared; at 2048 bits this is 2,048 plaintexts, about 0.8 s on one core.
_WORTH_A_PROCESS = 2**33

Source = Callable[[int], list[int]]
Sink = Callable[[int, list[int]], None]
Progress = Callable[[int], None]
Encrypt = Callable[[list[int]], list[int]]


class Worker:
    """A child process that encrypts blocks of plaintexts; a context manager.

    Parameters
    ----------
    masker : Masker
        The key.
    count : int
        How many encryptions are to be expected: it decides on the size of the child's table.
    """

    def __init__(self, masker: Masker, count: int) -> None:
        self._plaintext_bytes, self._ciphertext_bytes = _widths(masker.n)
        self._n = masker.n
        self._process, self._request, self._answer = start_python(_SERVE, stderr=subprocess.DEVNULL)
        self._ready = False
        self._greeting = b"".join(
            _NUMBER.pack(len(data)) + data
            for number in (masker.n, masker.h_s, masker.exponent_bytes, count)
            for data in [number.to_bytes((number.bit_length() + 7) // 8, "big")]
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        # Killing is safe: a worker has no state and each answer was read in full.
        self._process.kill()
        self._process.communicate()

    def encrypt(self, plaintexts: list[int]) -> list[int]:
        """Encrypt one block; raises OSError or EOFError if the child fails."""
        request, answer = self._request, self._answer
        request.write(self._greeting)
        self._greeting = b""
        request.write(_NUMBER.pack(len(plaintexts)))
        request.writelines(
            (plaintext % self._n).to_bytes(self._plaintext_bytes, "big") for plaintext in plaintexts
        )
        request.flush()
        if not self._ready:
            self._ready = _read(answer, len(_READY)) == _READY
            if not self._ready:
                raise EOFError("the worker wrote something else than its answer")
        return _read_integers(answer, len(plaintexts), self._ciphertext_bytes)


def start_python(
    code: str, *, stderr: int | None = None, process_group: int | None = None
) -> tuple[subprocess.Popen[bytes], BinaryIO, BinaryIO]:
    """Start a plain child that imports what this process can import.

    Parameters
    ----------
    code : str
        Python that the child runs.
    stderr, process_group
        As for `subprocess.Popen`.

    Returns
    -------
    (Popen, stream, stream)
        The child, its standard input and its standard output.
    """
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)  # noqa: PTH109 - texts, as in sys.path
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
        [sys.executable, "-P", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env={**os.environ, "PYTHONPATH": paths},
        process_group=process_group,
    )
    # Popen's type does not know that PIPE was asked for.
    return process, cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)


def encrypt_blocks(
    masker: Masker,
    count: int,
    blocks: int,
    source: Source,
    sink: Sink,
    *,
    cores: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Encrypt blocks of plaintexts here and, where they are many, in worker processes too.

    Whoever is idle takes the next block. What a failed worker leaves is done here.

    Parameters
    ----------
    masker : Masker
        The key.
    count : int
        Number of plaintexts in all blocks.
    blocks : int
        Number of blocks.
    source : callable
        Returns the plaintexts of a block; called from several threads.
    sink : callable
        Takes a block's number and its ciphertexts; called from several threads.
    cores : int, optional
        How many cores to use at most; by default all that this process has.
    progress : callable, optional
        Called by the calling thread with the number of finished blocks.

    Warns
    -----
    RuntimeWarning
        If workers failed.
    """
    cores = cores or available_cores()
    worth = count * masker.n.bit_length() ** 2 >= _WORTH_A_PROCESS
    workers = min(cores, blocks) - 1 if worth else 0
    waiting = list(reversed(range(blocks)))
    finished: list[int] = []
    failures: list[Exception] = []

    def work(encrypt: Encrypt, report: Progress | None = None) -> None:
        while True:
            try:
                block = waiting.pop()  # one step of the interpreter, so no lock is needed
            except IndexError:
                return
            try:
                ciphertexts = encrypt(source(block))
            except BaseException:
                waiting.append(block)
                raise
            sink(block, ciphertexts)
            finished.append(block)
            if report is not None and len(finished) < blocks:
                report(len(finished))

    def feed(worker: Worker) -> None:
        try:
            work(worker.encrypt)
        except (OSError, EOFError) as failure:
            failures.append(failure)

    encrypt_here = functools.partial(masker.encrypt, cores=cores)
    share = count // (workers + 1)
    with ExitStack() as stack:
        feeding = []
        if workers:
            # The threads are entered first and so left last: by then the workers are gone, and
            # a thread that still waits for one gets an EOFError.
            threads = stack.enter_context(ThreadPoolExecutor(workers))
            try:
                pool = [stack.enter_context(Worker(masker, share)) for _ in range(workers)]
                feeding = [threads.submit(feed, worker) for worker in pool]
            except OSError as failure:
                failures.append(failure)
        masker.prepare(share, cores)
        work(encrypt_here, progress)
        for fed in feeding:
            fed.result()
        work(encrypt_here)  # what a failed worker left
    if progress is not None:
        progress(blocks)
    if failures:
        warnings.warn(
            f"{len(failures)} of {workers} encryption workers failed; their share was done by "
            f"the calling process",
            RuntimeWarning,
            stacklevel=2,
        )


def serve() -> None:
    """Encrypt what the parent sends until it closes the pipe: the child's main function."""
    request, answer = sys.stdin.buffer, sys.stdout.buffer
    answer.write(_READY)
    n, h_s, exponent_bytes, count = (
        int.from_bytes(_read(request, _read_number(request)), "big") for _ in range(4)
    )
    plaintext_bytes, ciphertext_bytes = _widths(n)
    masker = Masker(n, h_s, exponent_bytes)
    masker.prepare(count)
    while True:
        plaintexts = _read_integers(request, _read_number(request), plaintext_bytes)
        for ciphertext in masker.encrypt(plaintexts, cores=1):
            answer.write(ciphertext.to_bytes(ciphertext_bytes, "big"))
        answer.flush()


def _widths(n: int) -> tuple[int, int]:
    return -(-n.bit_length() // 8), -(-2 * n.bit_length() // 8)


def _read(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError("the other side has closed its pipe")
    return data


def _read_number(stream: BinaryIO) -> int:
    number: int = _NUMBER.unpack(_read(stream, _NUMBER.size))[0]
    return number


def _read_integers(stream: BinaryIO, count: int, width: int) -> list[int]:
    data = _read(stream, count * width)
    return [int.from_bytes(data[at : at + width], "big") for at in range(0, len(data), width)]
