"""A long vector within a memory limit: encrypted, added and decrypted in a fresh process."""

from __future__ import annotations

from typing import Any

from fl_he.bench.follow import Follow
from fl_he.bench.fresh import FreshProcess
from fl_he.bench.memory import PeakMemory
from fl_he.crypto.private_key import PrivateKey

#: What one million values are promised to need at most.
LIMIT_BYTES = 2 * 2**30


def measure_long_vector(key: PrivateKey, length: int, follow: Follow) -> dict[str, Any]:
    """Measure time and memory of two encryptions, one addition and one decryption.

    Parameters
    ----------
    key : PrivateKey
        The key holder's.
    length : int
        Number of values.
    follow : Follow
        Is told how far it is.

    Returns
    -------
    dict
        ``key_bits``, ``length``, ``bytes`` of one update, seconds of one encryption, of the
        addition and of the decryption, ``largest_error``, ``limit_bytes`` and ``peak_bytes``: the
        largest memory at any time of the process and its workers together, interpreters included.
    """
    about = f"{key.public_key.key_bits} bits, {length:,} values"

    def show(text: str, done: int, total: int) -> None:
        follow(f"{about}: {text}", done, total)

    follow(about)
    with FreshProcess() as process, PeakMemory(process.pid) as peak:
        request = {"key": key.to_json(), "length": length}
        answer = process.do("long vector", request, show)
    return {
        "key_bits": key.public_key.key_bits,
        "length": length,
        **answer,
        # What the process itself knows stands in where the system does not show its children.
        "peak_bytes": max(peak.bytes, answer["peak_bytes"]),
        "limit_bytes": LIMIT_BYTES,
    }
