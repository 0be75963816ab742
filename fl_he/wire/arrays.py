"""numpy's own file format, from a node that need not be trusted.

``numpy.load`` makes room for the array that a header announces before it looks whether the numbers
are there, takes zip archives for arrays too, and reads the header with Python's parser. So a
message of a hundred bytes asks for terabytes. Here a header is what ``numpy.save`` writes for
numbers or text (the format's version 1.0 in numpy's documentation, ``numpy.lib.format``), or it is
refused, and the numbers behind it must be all there.
"""

from __future__ import annotations

import re
from math import prod

import numpy as np
from flwr.app import Array, ArrayRecord
from flwr.common.constant import SType
from numpy.typing import NDArray

from fl_he.wire.records import ENCRYPTED_STYPE, ProtocolError

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


def read_array(array: Array) -> NDArray[np.generic]:
    """Return a plain numpy array of a record; raises :class:`ProtocolError` for any other kind."""
    if array.stype == ENCRYPTED_STYPE:
        raise ProtocolError("an array is encrypted where a plain one was expected")
    try:
        if array.stype != SType.NUMPY:
            raise ValueError(array.stype)
        return array_from_bytes(array.data)
    except ValueError:
        raise ProtocolError(
            f"an array must be a numpy array, got {array.stype!r} of {len(array.data)} bytes"
        ) from None


def array_fields(arrays: ArrayRecord) -> list[bytes]:
    """Return names, types, shapes and numbers by name, for a digest; see `encode_fields`."""
    named = [(name, read_array(array)) for name, array in sorted(arrays.items())]
    return [
        field
        for name, values in named
        for field in (name.encode(), f"{values.dtype} {values.shape}".encode(), values.tobytes())
    ]
