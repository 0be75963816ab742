"""Checked fields of frozen dataclasses: read-only float64 arrays, and names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError

#: What the statistics of this room work on.
Array = NDArray[np.float64]


def finite_array(values: object, name: str, dimensions: int) -> Array:
    """Copy values into a read-only array of finite numbers.

    Parameters
    ----------
    values
        Anything that numpy turns into numbers.
    name
        What the values are, for the error message.
    dimensions
        The number of axes that they must have.

    Returns
    -------
    NDArray[np.float64]
        A copy, so that a later change of ``values`` does not reach it.

    Raises
    ------
    DataError
        If a value is not a finite number, or the number of axes is another one.
    """
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        # numpy's message quotes the value, which may be a record.
        raise DataError(f"{name} must be numbers in a rectangular array") from None
    if array.ndim != dimensions:
        raise DataError(f"{name} must have {dimensions} axes, got {array.ndim}")
    unusable = int(np.count_nonzero(~np.isfinite(array)))
    if unusable:
        raise DataError(f"{name} must be finite, got {unusable} values that are not")
    array.setflags(write=False)
    return array


def different_names(what: str, names: Sequence[str], least: int) -> tuple[str, ...]:
    """Return names, this many at least, no name twice; raises DataError."""
    if len(names) < least or len(set(names)) != len(names):
        raise DataError(
            f"{what} must be different names, at least {least}, got {len(names)} of which "
            f"{len(set(names))} differ"
        )
    return tuple(names)


def set_fields(instance: object, **values: object) -> None:
    """Set checked values of a frozen dataclass while it is made."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)
