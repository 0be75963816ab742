"""fl-he with a fresh process for each operation, as a deployed node meets every message."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from fl_he.bench.fresh import FreshProcess
from fl_he.bench.jobs import to_bytes, to_text
from fl_he.bench.scheme import UnitRun, Vector
from fl_he.crypto.packing import Packing
from fl_he.crypto.private_key import PrivateKey


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
