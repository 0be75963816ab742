"""A model's parameters as one vector: all coefficients, row by row, then the intercepts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array


def join(coefficients: Array, intercepts: Array) -> Array:
    """Return the vector of coefficients of shape (d,) or (r, d), and intercepts."""
    return np.concatenate([np.ravel(coefficients), np.ravel(intercepts)])


def split(parameters: Array, features: int) -> tuple[Array, Array]:
    """Return coefficients of shape (r, d) and intercepts of shape (r,).

    Raises
    ------
    DataError
        If the vector's length is that of no model of this many features.
    """
    rows, rest = divmod(len(parameters), features + 1)
    if rest or not rows:
        raise DataError(
            f"parameters must be {features + 1} for each row of a model, got {len(parameters)}"
        )
    return parameters[: rows * features].reshape(rows, features), parameters[rows * features :]


def is_penalised(parameters: Array, features: int) -> NDArray[np.bool_]:
    """Return which parameters are coefficients: intercepts are not penalised."""
    rows = len(parameters) // (features + 1)
    return np.arange(len(parameters)) < rows * features


def margins(parameters: Array, features: Array) -> Array:
    """Return ``features @ coefficients.T + intercepts``, shape (m, r).

    Raises
    ------
    DataError
        If there are no rows of features, or the parameters are of other features.
    """
    if features.ndim != 2 or len(features) == 0:
        raise DataError(f"features must have rows, and columns, got shape {features.shape}")
    coefficients, intercepts = split(parameters, features.shape[1])
    result: Array = features @ coefficients.T + intercepts
    return result


def row_places(rows: int, features: int) -> NDArray[np.intp]:
    """Return the places of each row's coefficients and intercept, shape (r, d + 1)."""
    places, coefficients = np.arange(rows * (features + 1)), rows * features
    return np.column_stack([places[:coefficients].reshape(rows, features), places[coefficients:]])
