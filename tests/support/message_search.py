"""Look for plaintext in recorded messages."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from math import gcd

import numpy as np
from flwr.app import ArrayRecord, Message
from plaintext_search import DOUBLES, SINGLES, found_in


def blobs(messages: Iterable[Message]) -> list[bytes]:
    """Return everything in the messages' records as bytes, numbers in each likely form."""
    found: list[bytes] = []
    for message in messages:
        if message.has_error():
            found.append(str(message.error.reason).encode())
            continue
        for array_record in message.content.array_records.values():
            found += [array_record[name].data for name in array_record.keys()]  # noqa: SIM118
        for record in message.content.values():
            if isinstance(record, ArrayRecord):
                continue
            for value in record.values():
                for item in value if isinstance(value, list) else [value]:
                    found.append(item if isinstance(item, bytes) else str(item).encode())
                    if isinstance(item, int | float):
                        found.append(np.array([item], "<f8").tobytes())
    return found


def leaks(
    messages: Iterable[Message],
    values: dict[str, float],
    dtypes: Sequence[str] = (*DOUBLES, *SINGLES),
) -> set[str]:
    """Return the names of the values that the messages contain."""
    return found_in(b"\n".join(blobs(messages)), values, dtypes)


def factors(messages: Iterable[Message], modulus: int) -> list[int]:
    """Return the common factors of the modulus with all numbers in the messages."""
    width = modulus.bit_length() // 16
    numbers: set[int] = set()
    for blob in blobs(messages):
        for start in range(max(1, len(blob) - width + 1)):
            for order in ("big", "little"):
                numbers.add(int.from_bytes(blob[start : start + width], order))
        for word in re.findall(rb"[A-Za-z0-9_-]{40,}", blob):
            padded = word + b"=" * (-len(word) % 4)
            numbers.add(int.from_bytes(base64.urlsafe_b64decode(padded), "big"))
        numbers |= {int(word) for word in re.findall(rb"[0-9]{40,4000}", blob)}
    return [g for g in (gcd(number, modulus) for number in numbers if number) if 1 < g < modulus]
