from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from fl_he.bench.fresh import BenchError, FreshProcess, PeakMemory, report, run_cold_unit
from fl_he.bench.kernel import measure_long_vector
from fl_he.bench.schemes import example_updates
from fl_he.crypto.paillier.private_key import PrivateKey

KEY = PrivateKey.generate(1024)
MIB = 2**20


def descendants() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def noted(number: int) -> tuple[int, int]:
    """Report twice and return the argument and the process: a job."""
    report("noting", 1, 2)
    report("noting", 2, 2)
    return number, os.getpid()


def test_a_fresh_process_is_gone_afterwards() -> None:
    before = descendants()
    with FreshProcess() as process:
        assert process.pid in descendants()
        assert process.start_seconds > 0
    assert descendants() <= before
    assert not psutil.pid_exists(process.pid)


def test_a_job_is_done_elsewhere_and_followed() -> None:
    seen: list[tuple[str, int, int]] = []
    with FreshProcess(lambda *progress: seen.append(progress)) as process:
        assert process.do(noted, 7) == (7, process.pid)
    assert seen == [("noting", 1, 2), ("noting", 2, 2)]


def test_an_interrupt_ends_it() -> None:
    with pytest.raises(KeyboardInterrupt), FreshProcess() as process:
        raise KeyboardInterrupt
    assert not psutil.pid_exists(process.pid)


def half_an_answer() -> None:
    """End in the middle of an answer: a job."""
    sys.stdout.buffer.write(pickle.dumps(("answer", bytes(1000)))[:500])
    sys.stdout.buffer.flush()
    os._exit(1)


def test_a_process_that_is_killed_before_or_in_its_answer_is_an_error() -> None:
    with FreshProcess() as process, pytest.raises(BenchError, match="ended before it answered"):
        process.do(half_an_answer)
    with FreshProcess() as process:
        os.kill(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(BenchError, match="ended before it answered"):
            process.do(len, bytes(1 << 20))


def test_a_job_that_fails_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with FreshProcess() as process, pytest.raises(BenchError, match="ended before it answered"):
        process.do(int, "no number")
    assert "ValueError" in capfd.readouterr().err


def test_every_step_in_a_process_of_its_own() -> None:
    updates = example_updates(20)
    run = run_cold_unit(KEY, 1, updates)
    np.testing.assert_allclose(run.result, sum(updates), rtol=0, atol=1.5 * 2**-24)
    assert min(run.encrypt, run.add, run.decrypt, run.start) > 0
    assert run.bytes == 56 + 2 * 256, "20 values need two ciphertexts of 1024 bits"


def test_a_long_vector_is_followed_and_measured() -> None:
    shown: list[tuple[str, int, int | None]] = []

    def follow(text: str, done: int = 0, total: int | None = None) -> None:
        shown.append((text, done, total))

    row = measure_long_vector(KEY, 3000, follow)
    assert (row["key_bits"], row["length"]) == (1024, 3000)
    assert row["bytes"] == 56 + 256 * -(-3000 // 17)
    assert 0 < row["largest_error"] <= 1.0 * 2**-24
    assert 20 * MIB < row["peak_bytes"] < row["limit_bytes"] == 2 * 2**30
    assert min(row[f"{step}_seconds"] for step in ("encrypt", "add", "decrypt")) > 0
    texts = [text for text, done, total in shown if done == total == 3000]
    about = "1024 bits, 3,000 values: "
    steps = ["encrypting 1 of 2", "encrypting 2 of 2", "decrypting"]
    assert texts == [about + step for step in steps]


#: Allocates that number of MiB, gives them back, and waits; so does each of its descendants.
HUNGRY = """
import subprocess, sys
child, (code, mebibytes, descendants) = None, sys.argv[1:]
if int(descendants):
    child = subprocess.Popen(
        [sys.executable, "-c", code, code, mebibytes, str(int(descendants) - 1)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )
    child.stdout.readline()
data = b"x" * (int(mebibytes) * 2**20)
del data
print("ready", flush=True)
sys.stdin.read()
if child is not None:
    child.communicate()
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("descendants", [0, 1, 2])
def test_peak_of_a_process_and_all_that_descend_from_it(descendants: int) -> None:
    mebibytes = 100
    with subprocess.Popen(
        [sys.executable, "-c", HUNGRY, HUNGRY, str(mebibytes), str(descendants)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        with PeakMemory(process.pid) as peak:
            pass
        process.communicate()
    expected = mebibytes * MIB * (1 + descendants)
    interpreters = 30 * MIB * (1 + descendants)
    assert expected <= peak.bytes < expected + interpreters


def test_the_peak_of_a_process_that_has_ended_stays() -> None:
    with FreshProcess() as process, PeakMemory(process.pid) as peak:
        process.do(noted, 1)
    assert peak.bytes > 10 * MIB
