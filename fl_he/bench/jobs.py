"""What a fresh process is asked to do: the child's half of `fresh`.

A job is an object with the member ``job`` on standard input; the answer is an object on standard
output. Numbers and ciphertexts are base64, keys are the JSON that they have everywhere. The keys
are made for the benchmark and die with it.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

import numpy as np

from fl_he.bench.memory import own_peak
from fl_he.bench.scheme import example_updates, largest_error
from fl_he.crypto.encrypted_vector import EncryptedVector, Progress
from fl_he.crypto.packing import Packing
from fl_he.crypto.private_key import PrivateKey
from fl_he.crypto.public_key import PublicKey

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


def _progress(text: str) -> Progress:
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
