"""An app's reply as the vector of one hospital, laid out as `fl_he.wire.update_layout` says.

Arrays are looked at by name, then by type. Metrics cost no update: a metric that is no number,
or does not fit its slot, is left out of the mean of that metric alone. A reply of 0 examples is a
vector of zeros behind the contributor count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from flwr.app import Array, MetricRecord, RecordDict
from numpy.typing import NDArray

from fl_he.crypto.paillier.packing import Packing
from fl_he.wire.arrays import read_array
from fl_he.wire.records import PrivateReasonError, ProtocolError
from fl_he.wire.selection import ENCRYPTED, LOCAL, PLAIN, Selection
from fl_he.wire.update_layout import (
    FLOATS,
    INTEGERS,
    MAX_DIMENSIONS,
    ArraySlot,
    MetricSlot,
    UpdateLayout,
    first_value,
)


@dataclass(frozen=True, slots=True)
class Form:
    """Everything that says how a reply becomes a vector.

    Attributes
    ----------
    weighted_by : str
        The metric that weights the mean.
    selection : Selection
        Which arrays are encrypted.
    packing : Packing
        Fixed-point format of the vector.
    required : bool
        Whether every hospital has every metric, a number that fits. Else each has its own weight.
    restricted : bool
        Whether company X must not give out the sum.
    expected : UpdateLayout or None
        Of the sum that the vector is for: its metrics are in the vector, whether the reply has
        them or not.
    exact : bool
        Whether other metrics are left out; else they are in the vector as well.
    """

    weighted_by: str
    selection: Selection = field(default_factory=Selection)
    packing: Packing = field(default_factory=Packing)
    required: bool = False
    restricted: bool = False
    expected: UpdateLayout | None = None
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """One hospital's update.

    Attributes
    ----------
    values : ndarray, shape (len(layout),)
        What is to be encrypted.
    plain : ndarray, shape (layout.plain_length,)
        What is not.
    layout : UpdateLayout
    local : dict of str to dict of str to Array
        What stays at the hospital, by record and name.
    left_out : tuple of MetricSlot
        Metrics of the declared form that the expected layout lacks.
    no_number : tuple of str
        Names of metrics that are not in their means; private.
    undeclared : tuple of str
        Names of metrics of the reply that the declared form lacks; private.
    """

    values: NDArray[np.float64] = field(repr=False)
    plain: NDArray[np.float64] = field(repr=False)
    layout: UpdateLayout
    local: dict[str, dict[str, Array]] = field(repr=False)
    left_out: tuple[MetricSlot, ...] = ()
    no_number: tuple[str, ...] = field(default=(), repr=False)
    undeclared: tuple[str, ...] = field(default=(), repr=False)


def layout_of(content: RecordDict, form: Form) -> UpdateLayout:
    """Return the layout of an app's reply, independent of other hospitals' replies.

    Parameters
    ----------
    content : RecordDict
        ArrayRecords (none in an evaluate reply) and exactly one MetricRecord.
    form : Form

    Raises
    ------
    ProtocolError
        If the reply holds something that cannot be averaged under encryption: it says what, and
        what to do instead.
    """
    metric_record, metrics = _metrics(content)
    _weight(metrics, form.weighted_by)
    slots = tuple(
        MetricSlot(name, len(value) if isinstance(value, list) else None, form.required)
        for name, value in sorted(metrics.items())
        if name != form.weighted_by
    )
    arrays = tuple(slot for slot, _, _ in _arrays(content, form.selection))
    bits = form.packing.fraction_bits
    return UpdateLayout(arrays, metric_record, slots, form.weighted_by, bits)


def joined(own: UpdateLayout, form: Form) -> tuple[UpdateLayout, tuple[MetricSlot, ...]]:
    """Return the layout with the metrics of the sum, and the own ones that the sum lacks."""
    if form.expected is None:
        return own, ()
    record = form.expected.metric_record
    if form.required:
        return replace(own, metric_record=record), ()
    # Not required here, even if another node says so: the app's lack of one would be refused.
    known = {slot.name: replace(slot, required=False) for slot in form.expected.metrics}
    extra = tuple(slot for slot in own.metrics if slot.name not in known)
    slots = tuple(known.values())
    if not form.exact:
        slots, extra = tuple(sorted((*slots, *extra), key=lambda slot: slot.name)), ()
    return replace(own, metric_record=record, metrics=slots), extra


def zeros(own: UpdateLayout, form: Form) -> Update:
    """Return the update of a hospital whose app gave no reply of its form."""
    layout, left_out = joined(own, form)
    first = first_value(form.packing, fits=False, restricted=form.restricted)
    values = np.append(first, np.zeros(len(layout) - 1))
    return Update(values, np.zeros(layout.plain_length), layout, {}, left_out)


def flatten(content: RecordDict, form: Form, declared: UpdateLayout | None = None) -> Update:
    """Return an app's reply as an update.

    Parameters
    ----------
    content : RecordDict
        See `layout_of`.
    form : Form
    declared : UpdateLayout or None
        The layout that the reply must have: other arrays are refused, other metrics left out.
        ``None``: its own.

    Raises
    ------
    ProtocolError
        See `layout_of`; or if the reply has other arrays than declared.
    """
    own = layout_of(content, form)
    difference = (
        declared.array_difference(own, "its other replies") if declared is not None else None
    )
    if difference is not None:
        raise PrivateReasonError(f"the app's reply must have the form of the session: {difference}")
    layout, left_out = joined(declared or own, form)
    _, metrics = _metrics(content)
    examples = _examples(metrics, form.weighted_by, form.packing)
    first = first_value(form.packing, fits=True, restricted=form.restricted)
    parts = {ENCRYPTED: [np.array([first, examples])], PLAIN: []}
    local: dict[str, dict[str, Array]] = {}
    for slot, array, values in _arrays(content, form.selection):
        if slot.way == LOCAL:
            local.setdefault(slot.record, {})[slot.name] = array
        else:
            parts[slot.way].append(_weighted(values, slot, examples, form.packing))
    optional: list[NDArray[np.float64]] = []
    no_number: list[str] = []
    for metric in layout.metrics:
        numbers = _numbers(metrics.get(metric.name), metric)
        if metric.required:
            with np.errstate(over="ignore", invalid="ignore"):
                parts[ENCRYPTED].append(numbers * examples)
            continue
        columns = _with_weight(numbers, examples, form.packing.maximum)
        optional.append(columns)
        if not columns[0].all():
            no_number.append(metric.name)
    tail = np.concatenate([np.empty((3, 0)), *optional], axis=1).ravel()
    return Update(
        np.concatenate([*parts[ENCRYPTED], tail]),
        np.concatenate([np.empty(0), *parts[PLAIN]]),
        layout,
        local,
        left_out,
        tuple(no_number),
        tuple(slot.name for slot in own.metrics if slot not in (declared or own).metrics),
    )


def _metrics(content: RecordDict) -> tuple[str, MetricRecord]:
    if content.config_records:
        raise ProtocolError(
            "a reply must hold arrays and metrics only, got config records "
            f"{sorted(content.config_records.keys())}: a config value cannot be averaged, so leave "
            "it out, or make it a metric"
        )
    if len(content.metric_records) != 1:
        raise ProtocolError(
            f"a reply must hold exactly one MetricRecord, got {len(content.metric_records)}: put "
            "all metrics into one"
        )
    return next(iter(content.metric_records.items()))


def _arrays(
    content: RecordDict, selection: Selection
) -> Iterator[tuple[ArraySlot, Array, NDArray[np.generic]]]:
    for record_name, record in sorted(content.array_records.items()):
        for name, array in record.items():
            try:
                values = read_array(array)
            except ProtocolError as error:
                raise ProtocolError(_not_numbers(name, array.dtype)) from error
            if values.ndim > MAX_DIMENSIONS:
                raise ProtocolError(
                    f"the array {name!r} must have at most {MAX_DIMENSIONS} dimensions, "
                    f"got {values.ndim}"
                )
            dtype = values.dtype.name
            if dtype not in (*FLOATS, *INTEGERS):
                raise ProtocolError(_not_numbers(name, dtype))
            way = selection.way(name, dtype, whole=dtype in INTEGERS)
            yield ArraySlot(record_name, name, dtype, values.shape, way), array, values


def _not_numbers(name: str, dtype: str) -> str:
    return (
        f"the array {name!r} must be of a float type {FLOATS}, of integers or of truth values, got "
        f"{dtype}: convert it, or leave it out of the reply"
    )


def _weighted(
    values: NDArray[np.generic], slot: ArraySlot, examples: float, packing: Packing
) -> NDArray[np.float64]:
    if not examples:
        return np.zeros(slot.size)
    with np.errstate(over="ignore"):
        weighted: NDArray[np.float64] = values.ravel().astype(np.float64) * examples
    if not slot.whole or slot.way == PLAIN:
        return weighted
    if not examples.is_integer():
        raise PrivateReasonError(
            f"the weight must be a whole number where integers such as {slot.name!r} are averaged: "
            "convert the array to float, or give the mod and the strategy integers='local'"
        )
    return np.ldexp(weighted, -packing.fraction_bits)


def _numbers(value: object, metric: MetricSlot) -> NDArray[np.float64]:
    """Return a metric's numbers, NaN for a metric that is absent or of another length."""
    length = len(value) if isinstance(value, list) else None
    if value is None or length != metric.length:
        return np.full(metric.size, np.nan)
    try:
        return np.atleast_1d(np.asarray(value, dtype=np.float64))
    except OverflowError:  # an integer of hundreds of digits
        return np.full(metric.size, np.inf)


def _with_weight(
    numbers: NDArray[np.float64], examples: float, maximum: float
) -> NDArray[np.float64]:
    """Return counts, weights and weighted numbers, a row each; zeros for what is no number."""
    with np.errstate(over="ignore", invalid="ignore"):
        weighted = numbers * examples
        has_one = (np.abs(weighted) <= maximum) & (examples > 0)
    return np.array([has_one, has_one * examples, np.where(has_one, weighted, 0.0)], np.float64)


def _weight(metrics: MetricRecord, weighted_by: str) -> float:
    examples = metrics.get(weighted_by)
    if examples is None:
        raise ProtocolError(
            f"a reply's metrics must hold {weighted_by!r}, the weight of the mean, and they do not"
        )
    if isinstance(examples, list):
        raise ProtocolError(f"the metric {weighted_by!r} must be a single number, not a list")
    return examples


def _examples(metrics: MetricRecord, weighted_by: str, packing: Packing) -> float:
    examples = _weight(metrics, weighted_by)
    if not 0 <= examples <= packing.maximum:
        raise PrivateReasonError(
            f"the metric {weighted_by!r} must be 0 or a positive number below "
            f"2**{packing.integer_bits}: for larger ones raise integer_bits (in a run's "
            "configuration crypto.integer_bits), or weight by thousands in an app of your own"
        )
    return float(examples)
