from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fl_he.bench.fresh import (
    BenchError,
    FreshProcess,
    descendants,
    run_cold_unit,
    to_bytes,
    to_text,
)
from fl_he.bench.kernel import measure_long_vector
from fl_he.bench.schemes import example_updates
from fl_he.crypto.paillier.private_key import PrivateKey

KEY = PrivateKey.generate(1024)


def test_a_fresh_process_is_gone_afterwards() -> None:
    before = set(descendants(os.getpid()))
    with FreshProcess() as process:
        assert process.pid in descendants(os.getpid())
        assert process.start_seconds > 0
    assert set(descendants(os.getpid())) <= before
    assert not Path(f"/proc/{process.pid}").exists()


def test_an_interrupt_ends_it() -> None:
    with pytest.raises(KeyboardInterrupt), FreshProcess() as process:
        raise KeyboardInterrupt
    assert not Path(f"/proc/{process.pid}").exists()


def test_a_job_that_fails_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with FreshProcess() as process, pytest.raises(BenchError, match="before it ended"):
        process.do("no such job", {})
    assert "KeyError" in capfd.readouterr().err


def test_every_step_in_a_process_of_its_own() -> None:
    updates = example_updates(20)
    run = run_cold_unit(KEY, 1, updates)
    np.testing.assert_allclose(run.result, sum(updates), rtol=0, atol=1.5 * 2**-24)
    assert min(run.encrypt, run.add, run.decrypt, run.start) > 0
    assert run.bytes == 56 + 2 * 256, "20 values need two ciphertexts of 1024 bits"


def test_bytes_as_text() -> None:
    data = bytes(range(256))
    assert to_bytes(to_text(data)) == data


def test_a_long_vector_is_followed_and_measured() -> None:
    shown: list[tuple[str, int, int | None]] = []

    def follow(text: str, done: int = 0, total: int | None = None) -> None:
        shown.append((text, done, total))

    row = measure_long_vector(KEY, 3000, follow)
    assert (row["key_bits"], row["length"]) == (1024, 3000)
    assert row["bytes"] == 56 + 256 * -(-3000 // 17)
    assert 0 < row["largest_error"] <= 1.0 * 2**-24
    assert 20 * 2**20 < row["peak_bytes"] < row["limit_bytes"] == 2 * 2**30
    assert min(row[f"{step}_seconds"] for step in ("encrypt", "add", "decrypt")) > 0
    texts = [text for text, done, total in shown if done == total == 3000]
    about = "1024 bits, 3,000 values: "
    steps = ["encrypting 1 of 2", "encrypting 2 of 2", "decrypting"]
    assert texts == [about + step for step in steps]
