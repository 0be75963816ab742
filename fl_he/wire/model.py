"""A model, its derivatives and named sums as the records of ordinary Flower messages.

Plain learning needs no more than these, with encryption or without it. What is read comes from
another node: :class:`ProtocolError` says what was expected.
"""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fl_he.learning.optimizers.task import most_models
from fl_he.wire.arrays import read_array
from fl_he.wire.records import CONFIG, ProtocolError, record_of

_ARRAYS = "arrays"
_METRICS = "metrics"
#: The model's, or their derivatives.
COEFFICIENTS = "coefficients"
_INTERCEPT = "intercept"
#: Digits of the sums of losses, gradients and Hessians.
DERIVATIVES = "derivatives"
#: Digits of the sums of the derivatives of Firth's penalty.
ADJUSTMENTS = "adjustments"
_MODELS, _ROOTS = "models", "roots"
#: Of coefficients, where each of more than two classes has one.
_FEWEST_ROWS = 3


def named_arrays(**arrays: NDArray[np.float64]) -> ArrayRecord:
    """Return an ArrayRecord of float64 arrays under their names."""
    return ArrayRecord({name: Array(np.asarray(a, np.float64)) for name, a in arrays.items()})


def read_named_array(arrays: ArrayRecord, name: str) -> NDArray[np.float64]:
    """Return one float64 array of a record; raises :class:`ProtocolError`."""
    if name not in arrays:
        raise ProtocolError(f"arrays must hold {name!r}, got {sorted(arrays.keys())}")
    values = read_array(arrays[name])
    if values.dtype != np.float64:
        raise ProtocolError(f"the array {name!r} must be float64, got {values.dtype}")
    return values.astype(np.float64)


def model_arrays(
    coefficients: NDArray[np.float64], intercept: float | NDArray[np.float64]
) -> ArrayRecord:
    """Return the ArrayRecord of a logistic or softmax model, or of its gradient.

    Parameters
    ----------
    coefficients : ndarray, shape (d,) or (k, d)
    intercept : float or ndarray, shape (k,)
    """
    # Softmax of one row does not exist: a row is a logistic model's.
    rows = coefficients[0] if coefficients.ndim == 2 and len(coefficients) == 1 else coefficients
    return named_arrays(**{COEFFICIENTS: rows, _INTERCEPT: np.atleast_1d(intercept)})


def read_parameters(arrays: ArrayRecord) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coefficients of shape (k, d) and intercepts of shape (k,), k = 1 for two classes.

    Raises
    ------
    ProtocolError
        If the arrays are of no logistic or softmax model.
    """
    if set(arrays.keys()) != {COEFFICIENTS, _INTERCEPT}:
        raise ProtocolError(
            f"a logistic model must hold the arrays {COEFFICIENTS!r} and {_INTERCEPT!r}, "
            f"got {sorted(arrays.keys())}"
        )
    coefficients, intercepts = (read_array(arrays[name]) for name in (COEFFICIENTS, _INTERCEPT))
    if (
        {coefficients.dtype, intercepts.dtype} != {np.dtype(np.float64)}
        or coefficients.ndim not in (1, 2)
        or (coefficients.ndim == 2 and len(coefficients) < _FEWEST_ROWS)
        or intercepts.shape != np.atleast_2d(coefficients).shape[:1]
    ):
        raise ProtocolError(
            "a logistic model must be float64 coefficients of shape (d,) and a float64 intercept "
            "of shape (1,), or for k > 2 classes (k, d) and (k,), got "
            f"{coefficients.dtype} {coefficients.shape} and {intercepts.dtype} {intercepts.shape}"
        )
    if not (np.isfinite(coefficients).all() and np.isfinite(intercepts).all()):
        raise ProtocolError("a logistic model must hold finite numbers only")
    return np.atleast_2d(coefficients.astype(np.float64)), intercepts.astype(np.float64)


def read_model_arrays(arrays: ArrayRecord) -> tuple[NDArray[np.float64], float]:
    """Return coefficients of shape (d,) and the intercept; raises :class:`ProtocolError`."""
    coefficients, intercepts = read_parameters(arrays)
    if len(coefficients) > 1:
        raise ProtocolError(
            f"a logistic model must be of two classes, got coefficients for {len(coefficients)}"
        )
    return coefficients[0], float(intercepts[0])


def model_message_content(arrays: ArrayRecord, config: ConfigRecord | None = None) -> RecordDict:
    """Return the content that carries a model, and its terms: ``query.finish``."""
    records: dict[str, ArrayRecord | ConfigRecord] = {_ARRAYS: arrays}
    if config is not None:
        records[CONFIG] = config
    return RecordDict(dict(records))


def models_content(
    models: NDArray[np.float64], config: ConfigRecord, roots: NDArray[np.float64] | None = None
) -> RecordDict:
    """Return the content that carries several models, and their terms.

    Parameters
    ----------
    models : ndarray, shape (k, p)
        Parameters, as :mod:`fl_he.learning.regression.parameters` lays them out.
    config : ConfigRecord
    roots : ndarray, shape (k, p, p), or None
        Of the inverse of the pooled information at each model.
    """
    arrays = {_MODELS: models} if roots is None else {_MODELS: models, _ROOTS: roots}
    return model_message_content(named_arrays(**arrays), config)


def read_models(content: RecordDict, size: int) -> NDArray[np.float64]:
    """Return the models of a message, shape (k, size) with k from 1 to `most_models`.

    Raises :class:`ProtocolError`.
    """
    models, most = _finite(content, _MODELS), most_models(size)
    if models.ndim != 2 or models.shape[1] != size or not 1 <= len(models) <= most:
        raise ProtocolError(
            f"models must be from 1 to {most}, of {size} parameters each, got shape {models.shape}"
        )
    return models


def read_roots(content: RecordDict, models: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a matrix for each model of a message, shape (k, p, p); raises ProtocolError."""
    roots = _finite(content, _ROOTS)
    if roots.shape != (*models.shape, models.shape[1]):
        raise ProtocolError(
            f"roots must have shape {(*models.shape, models.shape[1])}, got {roots.shape}"
        )
    return roots


def _finite(content: RecordDict, name: str) -> NDArray[np.float64]:
    values = read_named_array(read_arrays(content), name)
    if not np.isfinite(values).all():
        raise ProtocolError(f"the array {name!r} must hold finite numbers only")
    return values


def read_arrays(content: RecordDict) -> ArrayRecord:
    """Return the arrays of the model that a message carries; raises :class:`ProtocolError`."""
    arrays = record_of(content, _ARRAYS, ArrayRecord)
    if arrays is None:
        raise ProtocolError(f"message has no model: the array record {_ARRAYS!r} is missing")
    return arrays


def update_content(arrays: ArrayRecord | None, metrics: MetricRecord) -> RecordDict:
    """Return an app's ordinary train (arrays and metrics) or evaluate reply (metrics)."""
    content = RecordDict({_METRICS: metrics})
    if arrays is not None:
        content[_ARRAYS] = arrays
    return content
