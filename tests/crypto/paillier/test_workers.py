from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fl_he.crypto.paillier import workers
from fl_he.crypto.paillier.encrypted_vector import EncryptedVector
from fl_he.crypto.paillier.masking import Masker
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.private_key import PrivateKey
from fl_he.crypto.paillier.workers import Worker, encrypt_blocks, serve


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers for vectors that are short enough for a test."""
    monkeypatch.setattr(workers, "_WORTH_A_PROCESS", 4)


def fresh(key: PrivateKey) -> Masker:
    public = key.public_key
    return Masker(public.n, public.h_s, public.masker.exponent_bytes)


def children() -> set[str]:
    return {
        stat.parent.name
        for stat in Path("/proc").glob("[0-9]*/stat")
        if _parent(stat) == os.getpid()
    }


def _parent(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def encrypt_all(key: PrivateKey, plaintexts: list[int], cores: int) -> tuple[list[int], set[str]]:
    """Encrypt in blocks of two; return the ciphertexts and the threads that delivered them."""
    masker = fresh(key)
    ciphertexts = [0] * len(plaintexts)
    threads = set()

    def sink(block: int, part: list[int]) -> None:
        ciphertexts[2 * block : 2 * block + 2] = part
        threads.add(threading.current_thread().name)

    encrypt_blocks(
        masker,
        len(plaintexts),
        -(-len(plaintexts) // 2),
        lambda block: plaintexts[2 * block : 2 * block + 2],
        sink,
        cores=cores,
    )
    return ciphertexts, threads


def test_a_worker_encrypts_and_ends(small_key: PrivateKey) -> None:
    public = small_key.public_key
    before = children()
    with Worker(fresh(small_key), 1000) as worker:
        for plaintexts in ([1, 2, -3], [0] * 40, [public.n // 2]):
            ciphertexts = worker.encrypt(plaintexts)
            expected = [plaintext % public.n for plaintext in plaintexts]
            assert small_key.decrypt(ciphertexts) == expected
        first, second = worker.encrypt([5]), worker.encrypt([5])
        assert first != second
        assert len(children()) == len(before) + 1
    assert children() == before


@pytest.mark.usefixtures("eager")
def test_all_blocks_are_encrypted_once_on_any_number_of_cores(small_key: PrivateKey) -> None:
    plaintexts = list(range(301))
    before = children()
    for cores in (1, 3):
        ciphertexts, _ = encrypt_all(small_key, plaintexts, cores)
        assert small_key.decrypt(ciphertexts) == plaintexts
        assert len(set(ciphertexts)) == len(plaintexts)
    assert children() == before


def test_short_vectors_start_no_worker(
    small_key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a worker was started")

    monkeypatch.setattr(workers, "Worker", refuse)
    ciphertexts, threads = encrypt_all(small_key, [1, 2, 3, 4, 5, 6], 8)
    assert small_key.decrypt(ciphertexts) == [1, 2, 3, 4, 5, 6]
    assert threads == {threading.current_thread().name}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    "script", [None, "exit 1", "head -c 9999 /dev/zero | tr '\\0' x; cat > /dev/null"]
)
def test_what_a_failed_worker_leaves_is_done_here(
    small_key: PrivateKey, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str | None
) -> None:
    # No interpreter, one that fails, and one whose output is something else.
    executable = tmp_path / "python"
    if script is not None:
        executable.write_text(f"#!/bin/sh\n{script}\n")
        executable.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(executable))
    before = children()
    with pytest.warns(RuntimeWarning, match="of 2 encryption workers failed"):
        ciphertexts, _ = encrypt_all(small_key, list(range(50)), 3)
    assert small_key.decrypt(ciphertexts) == list(range(50))
    assert children() == before


@pytest.mark.usefixtures("eager")
def test_what_a_worker_leaves_after_all_else_is_done(
    small_key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    masker = fresh(small_key)
    taken, rest_is_done = threading.Event(), threading.Event()
    ciphertexts: dict[int, list[int]] = {}

    class LateFailure(Worker):
        def encrypt(self, plaintexts: list[int]) -> list[int]:
            taken.set()
            rest_is_done.wait(60)
            raise EOFError

    def source(block: int) -> list[int]:
        if threading.current_thread() is threading.main_thread():
            taken.wait(60)
        return [block]

    def sink(block: int, part: list[int]) -> None:
        ciphertexts[block] = part
        if len(ciphertexts) == 9:
            rest_is_done.set()

    monkeypatch.setattr(workers, "Worker", LateFailure)
    with pytest.warns(RuntimeWarning, match="1 of 1 encryption workers failed"):
        encrypt_blocks(masker, 10, 10, source, sink, cores=2)
    assert small_key.decrypt([ciphertexts[block][0] for block in range(10)]) == list(range(10))


@pytest.mark.usefixtures("eager")
def test_an_error_of_the_caller_leaves_no_worker_behind(small_key: PrivateKey) -> None:
    masker = fresh(small_key)
    before = children()

    def source(block: int) -> list[int]:
        raise KeyError(block)

    with pytest.raises(KeyError):
        encrypt_blocks(masker, 100, 50, source, lambda *_: None, cores=3)
    assert children() == before


@pytest.mark.usefixtures("eager")
def test_a_vector_on_two_cores_is_exact(small_key: PrivateKey) -> None:
    values = np.random.default_rng(1).normal(size=3000)
    packing = Packing()
    seen: list[int] = []
    vector = EncryptedVector.encrypt(
        small_key.public_key, packing, values, cores=2, progress=lambda done, _: seen.append(done)
    )
    assert small_key.decrypt_integers(vector).tolist() == packing.encode(values).tolist()
    assert seen == sorted(seen)
    assert seen[-1] == 3000


def test_the_child_answers_in_order_until_its_input_ends(
    small_key: PrivateKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = small_key.public_key
    blocks = [[1, 2, public.n - 3], [], [public.n // 2]]
    greeting = (public.n, public.h_s, 32, 1000)
    request = b"".join(
        len(data).to_bytes(4, "big") + data
        for number in greeting
        for data in [number.to_bytes((number.bit_length() + 7) // 8, "big")]
    )
    for block in blocks:
        request += len(block).to_bytes(4, "big")
        request += b"".join(plaintext.to_bytes(64, "big") for plaintext in block)
    streams = SimpleNamespace(buffer=io.BytesIO(request)), SimpleNamespace(buffer=io.BytesIO())
    monkeypatch.setattr(sys, "stdin", streams[0])
    monkeypatch.setattr(sys, "stdout", streams[1])
    with pytest.raises(EOFError):
        serve()
    ready, answer = streams[1].buffer.getvalue()[:13], streams[1].buffer.getvalue()[13:]
    assert ready == b"fl-he worker\n"
    ciphertexts = [
        int.from_bytes(answer[at : at + 128], "big") for at in range(0, len(answer), 128)
    ]
    assert small_key.decrypt(ciphertexts) == [plaintext for block in blocks for plaintext in block]


def test_a_worker_ends_with_its_parent(small_key: PrivateKey) -> None:
    # The child's whole input, then a closed pipe: it must end by itself.
    public = small_key.public_key
    process = subprocess.run(
        [sys.executable, "-c", "from fl_he.crypto.paillier.workers import serve; serve()"],
        input=b"".join(
            len(data).to_bytes(4, "big") + data
            for data in (public.n.to_bytes(64, "big"), public.h_s.to_bytes(128, "big"), b"\x01")
        ),
        capture_output=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout in (b"", b"fl-he worker\n")
    assert b"EOFError" in process.stderr
