"""Values out of the records that another node sent: each is checked, or refused by its name."""

from __future__ import annotations

from math import isfinite
from typing import TypeVar

from flwr.app import ConfigRecord, RecordDict

#: The config record of fl-he's own in every message.
RECORD = "fl-he"

_Scalar = TypeVar("_Scalar", str, int, float, bool)


class ProtocolError(ValueError):
    """A message, or a federation, that fl-he refuses; the text holds public values only."""


def config_of(content: RecordDict, key: str = RECORD) -> ConfigRecord:
    """Return a message's config record."""
    record = content.config_records.get(key)
    if record is None:
        raise ProtocolError(f"a message must hold the config record {key!r}, and it does not")
    return record


def take(record: ConfigRecord, key: str, kind: type[_Scalar]) -> _Scalar:
    """Return a value of one type."""
    value = record.get(key)
    # bool is an int for Python, never for us
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        got = "nothing" if value is None else type(value).__name__
        raise ProtocolError(f"{key} must be {kind.__name__}, got {got}")
    return value


def texts(record: ConfigRecord, key: str) -> tuple[str, ...]:
    """Return a list of texts."""
    value = record.get(key)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ProtocolError(f"{key} must be a list of strings")
    return tuple(str(text) for text in value)


def integers(record: ConfigRecord, key: str) -> tuple[int, ...]:
    """Return a list of integers."""
    value = record.get(key)
    if not isinstance(value, list) or not all(type(number) is int for number in value):
        raise ProtocolError(f"{key} must be a list of integers")
    return tuple(number for number in value if isinstance(number, int))


def floats(record: ConfigRecord, key: str) -> tuple[float, ...]:
    """Return a list of finite numbers; empty if there is none."""
    value = record.get(key, [])
    if not isinstance(value, list) or not all(type(number) is float for number in value):
        raise ProtocolError(f"{key} must be a list of numbers")
    numbers = tuple(float(number) for number in value)
    if not all(isfinite(number) for number in numbers):
        raise ProtocolError(f"{key} must hold finite numbers only")
    return numbers


def natural(record: ConfigRecord, key: str) -> int:
    """Return an integer of at least 1."""
    value = take(record, key, int)
    if value < 1:
        raise ProtocolError(f"{key} must be at least 1, got {value}")
    return value


def whole(record: ConfigRecord, key: str) -> int:
    """Return an integer of at least 0."""
    value = take(record, key, int)
    if value < 0:
        raise ProtocolError(f"{key} must be at least 0, got {value}")
    return value


def seconds(record: ConfigRecord, key: str) -> float:
    """Return a time."""
    value = take(record, key, float)
    if not 0 <= value < float("inf"):
        raise ProtocolError(f"{key} must be a time in seconds, got {value}")
    return value
