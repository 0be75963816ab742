"""Messages under fuzzing: valid records with entries gone, added, renamed, or of another type."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from fuzz.choices import Choices, edited

_STYPES = (
    *("numpy.ndarray", "fl-he.encrypted-vector", "fl-he.total", "fl-he.plain"),
    *("fl-he.envelope", "fl-he.capc-part", "", "pickle", "\ud800"),
)
_DTYPES = ("float64", "<f8", "O", "int64", "c16", "V8", "U4", "M8[s]", "b1", "", "x" * 300)
_SHAPES: tuple[tuple[int, ...], ...] = (
    *((), (0,), (1,), (3,), (-1,), (2**62, 2**62), (2**31,), (1,) * 70, (0, 2**63)),
)
_HEADERS = (
    "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<f8', 'fortran_order': True, 'shape': (0, 9223372036854775807), }",
    "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '|V0', 'fortran_order': False, 'shape': (9223372036854775807,), }",
    "{'descr': '|S0', 'fortran_order': False, 'shape': (99999999999,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }",
    "{'descr': '<m8[s]', 'fortran_order': False, 'shape': (1,), }",
    "(" * 900,
    "{'descr': " + "[" * 400 + "]" * 400 + "}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': " + "9" * 5000 + "}",
)


def changed(content: RecordDict, data: bytes) -> RecordDict:
    """Return a message's content with as many changes as there are bytes for, at most eight.

    Values that Flower's own record types refuse are left out.
    """
    choices = Choices(data)
    records = dict(content.items())
    for _ in range(8):
        if choices.left <= 0:
            break
        with suppress(TypeError, ValueError, OverflowError, KeyError, AttributeError):
            _change(records, choices)
    return RecordDict(records)


def _change(records: dict[str, Any], choices: Choices) -> None:
    names = list(records)
    action = choices.below(12)
    if not names or action == 0:
        name = choices.text() or names[0] if names else "fl-he"
        records[name] = _record(choices)
        return
    name = names[choices.below(len(names))]
    record = records[name]
    if action == 1:
        del records[name]
    elif action == 2:
        records[name] = _record(choices)
    elif action == 3:
        records[choices.text()] = records.pop(name)
    elif isinstance(record, ArrayRecord):
        records[name] = _arrays(record, choices)
    else:
        members = edited(dict(record.items()), choices)
        records[name] = type(record)(members)


def _record(choices: Choices) -> ArrayRecord | ConfigRecord | MetricRecord:
    kind = choices.below(4)
    if kind == 0:
        return ArrayRecord({choices.text(): _array(None, choices)})
    if kind == 1:
        return MetricRecord({choices.text(): [choices.integer()] * choices.below(5)})
    if kind == 2:
        return ConfigRecord()
    return ConfigRecord({choices.text(): choices.value()})


def _arrays(record: ArrayRecord, choices: Choices) -> ArrayRecord:
    arrays = dict(record.items())
    names = list(arrays)
    action = choices.below(8)
    if not names or action == 0:
        arrays[choices.text()] = _array(None, choices)
    else:
        name = names[choices.below(len(names))]
        if action == 1:
            del arrays[name]
        elif action == 2:
            arrays[choices.text()] = arrays.pop(name)
        else:
            arrays[name] = _array(arrays[name], choices)
    return ArrayRecord(arrays)


def _array(array: Array | None, choices: Choices) -> Array:
    dtype, shape, stype, data = (
        ("float64", (1,), "numpy.ndarray", b"")
        if array is None
        else (array.dtype, array.shape, array.stype, array.data)
    )
    action = choices.below(9)
    if action == 0:
        stype = _STYPES[choices.below(len(_STYPES))]
    elif action == 1:
        dtype = _DTYPES[choices.below(len(_DTYPES))]
    elif action == 2:
        shape = _SHAPES[choices.below(len(_SHAPES))]
    elif action == 3:
        data = _npy(_HEADERS[choices.below(len(_HEADERS))], choices)
    elif action == 4:
        data = choices.rest()
    elif action == 5:
        stype, data = "numpy.ndarray", _saved(choices)
    elif data and action == 6:
        at = choices.below(len(data))
        data = data[:at] + choices.take(choices.below(32)) + data[at + choices.below(32) :]
    elif data and action == 7:
        data = data[: choices.below(len(data))]
    else:
        values = np.array([np.nan, np.inf, -np.inf, 1e308, 1.0])[: choices.below(6)]
        data = values.astype("<f8").tobytes()
    return Array(dtype=dtype, shape=shape, stype=stype, data=data)


def _npy(header: str, choices: Choices) -> bytes:
    """Return a file of numpy's format with a header of our own."""
    text = header.encode() + b"\n"
    version = bytes([1 + choices.below(3), 0])
    size = len(text).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + size + text + choices.take(24)


def _saved(choices: Choices) -> bytes:
    """Return numpy's bytes of an array of any type, or of several in a zip archive."""
    kinds = (np.float16, np.float32, np.float64, np.int64, np.bool_, np.complex128, "U3", "M8[s]")
    count = choices.below(8)
    array = np.zeros(count, dtype=kinds[choices.below(len(kinds))])
    file = io.BytesIO()
    if choices.below(8) == 7:
        np.savez(file, a=array)
    else:
        np.save(file, array.reshape((1,) * choices.below(30) + array.shape))
    return file.getvalue()
