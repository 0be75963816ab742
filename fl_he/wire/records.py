"""Values out of the records that another node sent: each is checked, or refused by its name.

numpy's own file format, from a node that need not be trusted.

``numpy.load`` makes room for the array that a header announces before it looks whether the numbers
are there, takes zip archives for arrays too, and reads the header with Python's parser. So a
message of a hundred bytes asks for terabytes. Here a header is what ``numpy.save`` writes for
numbers or text (the format's version 1.0 in numpy's documentation, ``numpy.lib.format``), or it is
refused, and the numbers behind it must be all there.

Sealed envelopes as Flower's records carry them, among the hostile records of a message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite, prod
from typing import TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from numpy.typing import NDArray

from fl_he.errors import FlHeError

#: The config record of fl-he's own in every message.
RECORD = "fl-he"

_Scalar = TypeVar("_Scalar", str, int, float, bool)


class ProtocolError(FlHeError):
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


_START = re.compile(rb"\x93NUMPY\x01\x00(..)", re.DOTALL)
_HEADER = re.compile(
    rb"\{'descr': '([<>|][a-zA-Z][0-9]{1,4})', 'fortran_order': (False|True), "
    rb"'shape': \(((?:[0-9]{1,19}, ?)*(?:[0-9]{1,19})?)\), \} *\n"
)


def array_from_bytes(data: bytes) -> NDArray[np.generic]:
    """Read what ``numpy.save`` wrote of an array of numbers or text.

    Parameters
    ----------
    data : bytes
        The whole file.

    Returns
    -------
    ndarray
        A copy, of the shape and type that the header says.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    start = _START.match(data)
    if start is None:
        raise ValueError("an array must start as numpy.save writes it")
    end = start.end() + int.from_bytes(start[1], "little")
    header = _HEADER.fullmatch(data[start.end() : end])
    if header is None:
        raise ValueError("an array must have the header that numpy.save writes for numbers")
    try:
        dtype = np.dtype(header[1].decode("ascii"))
    except TypeError:
        raise ValueError("an array must be of a type that numpy knows") from None
    shape = tuple(int(length) for length in header[3].split(b",") if length.strip())
    if dtype.hasobject or not dtype.itemsize or prod(shape) * dtype.itemsize != len(data) - end:
        raise ValueError("an array must hold as many numbers as its header says")
    flat = np.frombuffer(data, dtype=dtype, offset=end) if len(data) > end else np.empty(0, dtype)
    array = flat.reshape(shape[::-1]).T if header[2] == b"True" else flat.reshape(shape)
    return array.copy(order="A")


ENVELOPE_STYPE = "fl-he.envelope"


def envelope_arrays(envelopes: Mapping[str, bytes]) -> ArrayRecord:
    """Return the record that carries envelopes under their names."""
    return ArrayRecord(
        {
            name: Array(dtype="envelope", shape=(len(data),), stype=ENVELOPE_STYPE, data=data)
            for name, data in envelopes.items()
        }
    )


def read_envelopes(content: RecordDict, key: str) -> dict[str, bytes]:
    """Return the envelopes of a record; raises :class:`ProtocolError`."""
    record = content.array_records.get(key)
    if record is None:
        raise ProtocolError(f"a message must hold envelopes in the record {key!r}")
    for array in record.values():
        if array.stype != ENVELOPE_STYPE:
            raise ProtocolError(f"an array must be of type {ENVELOPE_STYPE!r}, got {array.stype!r}")
    return {name: array.data for name, array in record.items()}


def read_envelope(content: RecordDict, key: str) -> bytes:
    """Return the one envelope of a record, named as the record; raises :class:`ProtocolError`."""
    envelopes = read_envelopes(content, key)
    if list(envelopes) != [key]:
        raise ProtocolError(f"the record {key!r} must hold one envelope")
    return envelopes[key]
