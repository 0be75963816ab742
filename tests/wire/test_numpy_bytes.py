from __future__ import annotations

import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from fl_he.wire.arrays import array_from_bytes

NUMBERS = "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }"


def saved(array: NDArray[np.generic]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def with_header(header: str, data: bytes = bytes(24), version: bytes = b"\1\0") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + data


@given(
    arrays.arrays(
        dtype=arrays.scalar_dtypes() | arrays.unicode_string_dtypes(min_len=1),
        shape=arrays.array_shapes(min_dims=0, min_side=0),
    ).flatmap(
        lambda made: arrays.basic_indices(made.shape, allow_ellipsis=True).map(made.__getitem__)
    )
)
def test_what_numpy_saves_is_read_as_numpy_reads_it(array: NDArray[np.generic]) -> None:
    array = np.asarray(array)
    for written in (array, np.asfortranarray(array)):
        data = saved(written)
        expected = np.load(io.BytesIO(data))
        if array.dtype.kind in "mM":  # dates have a unit in brackets, and are no numbers
            with pytest.raises(ValueError, match="the header"):
                array_from_bytes(data)
            continue
        found = array_from_bytes(data)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tobytes() == expected.tobytes()
        assert found.flags.writeable
        assert found.flags.f_contiguous == expected.flags.f_contiguous


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not numpy",
        with_header(NUMBERS)[:-1],
        with_header(NUMBERS) + b"\0",
        with_header(NUMBERS)[:20],
        with_header(NUMBERS, version=b"\2\0"),
        with_header("(" * 900),
        with_header("-" * 9000 + "1"),
        with_header(NUMBERS.replace("3", "-3")),
        with_header(NUMBERS.replace("3", "9" * 5000)),
        with_header(NUMBERS.replace("3,", "0, 9999999999999999999"), b""),
        with_header(NUMBERS.replace("3,", "1, " * 70), bytes(8)),
        with_header(NUMBERS.replace("<f8", "|O")),
        with_header(NUMBERS.replace("<f8", "|V0"), b""),
        with_header(NUMBERS.replace("<f8", "|S0"), b""),
        with_header(NUMBERS.replace("<f8", "<f3")),
        with_header(NUMBERS.replace("'<f8'", "[('a', '<f8')]")),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"an array must|reshape|dimension|size|too large"):
        array_from_bytes(data)


def test_no_room_is_made_for_numbers_that_are_not_there() -> None:
    data = with_header(NUMBERS.replace("3", "1000000000"))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="as many numbers as its header says"):
            array_from_bytes(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
