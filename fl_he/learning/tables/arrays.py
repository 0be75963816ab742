"""Validated, read-only float64 arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fl_he.learning.errors import DataError


def finite_array(values: ArrayLike, name: str, dimensions: int) -> NDArray[np.float64]:
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
