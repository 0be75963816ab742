"""One hospital's update as a flat vector.

An update is what a Flower app replies with: arrays, metrics and the number of examples n that
weights them. As a vector it is ``[1, n, n * arrays..., n * metrics...]``. Such vectors can be
summed by somebody who cannot read them; :mod:`fl_he.wire.update_layout` turns the sum into a mean.

Arrays that are not to be encrypted, if there are any, are a vector of their own, ``n * arrays...``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from flwr.app import MetricRecord, RecordDict
from numpy.typing import NDArray

from fl_he.wire.arrays import read_array
from fl_he.wire.records import PrivateReasonError, ProtocolError
from fl_he.wire.update_layout import DTYPES, MAX_DIMENSIONS, ArraySlot, MetricSlot, UpdateLayout


def flatten(
    content: RecordDict, weighted_by: str, encrypts: Callable[[str], bool] = lambda _: True
) -> tuple[NDArray[np.float64], NDArray[np.float64], UpdateLayout]:
    """Return an app's reply as the vectors of the module's docstring, with their layout.

    Parameters
    ----------
    content : RecordDict
        ArrayRecords (none in an evaluate reply) and exactly one MetricRecord.
    weighted_by : str
        The metric that weights the mean.
    encrypts : callable
        Tells by an array's name whether it is to be encrypted.

    Returns
    -------
    values : ndarray, shape (len(layout),)
        What is to be encrypted.
    plain : ndarray, shape (layout.plain_length,)
        What is not.
    layout : UpdateLayout

    Raises
    ------
    ProtocolError
        If the reply holds something that cannot be averaged under encryption: it says what, and
        what to do instead.
    """
    if content.config_records:
        raise ProtocolError(
            "a reply must hold arrays and metrics only, got config records "
            f"{sorted(content.config_records.keys())}: a config value cannot be averaged"
        )
    if len(content.metric_records) != 1:
        raise ProtocolError(
            f"a reply must hold exactly one MetricRecord, got {len(content.metric_records)}"
        )
    metric_record, metrics = next(iter(content.metric_records.items()))
    examples = _examples(metrics, weighted_by)
    arrays: list[ArraySlot] = []
    metric_slots: list[MetricSlot] = []
    parts: list[NDArray[np.float64]] = [np.array([1.0, examples])]
    plain: list[NDArray[np.float64]] = [np.empty(0)]
    for record_name, record in sorted(content.array_records.items()):
        for name, array in record.items():
            values = read_array(array)
            if values.ndim > MAX_DIMENSIONS:
                raise ProtocolError(
                    f"the array {name!r} must have at most {MAX_DIMENSIONS} dimensions, "
                    f"got {values.ndim}"
                )
            if str(values.dtype) not in DTYPES:
                raise ProtocolError(
                    f"the array {name!r} must be of a float type {DTYPES}, got {values.dtype}: "
                    "convert it, or leave it out of the reply"
                )
            slot = ArraySlot(record_name, name, str(values.dtype), values.shape, encrypts(name))
            arrays.append(slot)
            weighted = values.ravel().astype(np.float64) * examples
            (parts if slot.encrypted else plain).append(weighted)
    for name, value in sorted(metrics.items()):
        if name == weighted_by:
            continue
        metric_slots.append(MetricSlot(name, len(value) if isinstance(value, list) else None))
        try:
            numbers = np.atleast_1d(np.asarray(value, dtype=np.float64))
        except OverflowError:  # an integer of hundreds of digits
            raise PrivateReasonError(f"the metric {name!r} must fit float64") from None
        parts.append(numbers * examples)
    layout = UpdateLayout(tuple(arrays), metric_record, tuple(metric_slots), weighted_by)
    return np.concatenate(parts), np.concatenate(plain), layout


def _examples(metrics: MetricRecord, weighted_by: str) -> float:
    examples = metrics.get(weighted_by)
    if examples is None:
        raise ProtocolError(
            f"a reply's metrics must hold {weighted_by!r}, the weight of the mean, and they do not"
        )
    if isinstance(examples, list):
        raise ProtocolError(f"the metric {weighted_by!r} must be a single number, got a list")
    if not 0 < examples < 2**63:
        raise PrivateReasonError(f"the metric {weighted_by!r} must be a positive number")
    return float(examples)
