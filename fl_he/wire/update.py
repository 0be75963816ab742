"""One hospital's update as a flat vector, its layout, and the way back to a reply.

An update is what a Flower app replies with: arrays, metrics and the number of examples n that
weights them. As a vector it is ``[1, n, n * arrays..., n * metrics...]``. Such vectors can be
summed by somebody who cannot read them: a sum has the number of contributors first, and everything
behind the second value, divided by the second one, is the weighted mean. A restricted update begins
with -1: company X does not give out the sum of such updates.

Arrays that are not to be encrypted, if there are any, are a vector of their own, ``n * arrays...``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fl_he.crypto.encoding.fields import Limit, at_least, at_most, choice, form_of, row_of
from fl_he.crypto.encoding.strict_json import Document
from fl_he.wire.arrays import read_array
from fl_he.wire.records import PrivateReasonError, ProtocolError

#: Position of the contributor count in every vector.
CONTRIBUTORS = 0
EXAMPLES = 1
_FIRST_VALUE = 2

DTYPES = ("float16", "float32", "float64")
#: Limits on a layout that another node sends. Numpy's arrays have at most 64 dimensions.
_MAX_LENGTH = 1 << 30
MAX_DIMENSIONS = 32
_MAX_TEXT = 1 << 20

_Size = Annotated[int, at_least(0), at_most(_MAX_LENGTH)]


def _fits(shape: tuple[int, ...]) -> bool:
    # Without its zeros, too: numpy multiplies before it sees that nothing is there.
    size = prod(length for length in shape if length)
    return len(shape) <= MAX_DIMENSIONS and size <= _MAX_LENGTH


_SHAPE = Limit(f"have at most {MAX_DIMENSIONS} dimensions and {_MAX_LENGTH} values", _fits)


@dataclass(frozen=True, slots=True)
class ArraySlot:
    """Where an array came from, what it looked like, and whether it is encrypted. Public."""

    record: str
    name: str
    dtype: Annotated[str, choice(*DTYPES)]
    shape: Annotated[tuple[_Size, ...], _SHAPE]
    encrypted: bool = True

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class MetricSlot:
    """A metric: a number, or a list of ``length`` numbers (``None``: a single number)."""

    name: str
    length: _Size | None

    @property
    def size(self) -> int:
        """Number of values."""
        return 1 if self.length is None else self.length


@dataclass(frozen=True, slots=True)
class UpdateLayout:
    """What the values of an update's vector are. Public: names, shapes and dtypes only."""

    arrays: tuple[Annotated[ArraySlot, row_of(ArraySlot)], ...]
    metric_record: str
    metrics: tuple[Annotated[MetricSlot, row_of(MetricSlot)], ...]
    weighted_by: str

    def __len__(self) -> int:
        """Return the length of the vector to encrypt."""
        return _FIRST_VALUE + _size(self._encrypted)

    @property
    def plain_length(self) -> int:
        """Length of the vector that is not encrypted."""
        return _size(self._in_plain)

    @property
    def _encrypted(self) -> list[ArraySlot | MetricSlot]:
        return [*(slot for slot in self.arrays if slot.encrypted), *self.metrics]

    @property
    def _in_plain(self) -> list[ArraySlot]:
        return [slot for slot in self.arrays if not slot.encrypted]

    def locate(self, index: int) -> str:
        """Return words for the value at ``index``: which array or metric, and where in it."""
        if index == CONTRIBUTORS:
            return "the contributor count"
        if index == EXAMPLES:
            return f"the metric {self.weighted_by!r}"
        name, position = self.place(index)
        return f"the metric {name!r}" if position is None else f"the array {name!r} at {position}"

    def place(self, index: int) -> tuple[str, list[int] | None]:
        """Return which array or metric the value at ``index`` is of, and where in an array."""
        if index in (CONTRIBUTORS, EXAMPLES):
            return self.weighted_by, None
        offset = index - _FIRST_VALUE
        for slot in self._encrypted if offset >= 0 else ():
            if offset < slot.size:
                if isinstance(slot, MetricSlot):
                    return slot.name, None
                return slot.name, [int(i) for i in np.unravel_index(offset, slot.shape)]
            offset -= slot.size
        raise IndexError(index)

    def mean(self, total: NDArray[np.float64], plain: NDArray[np.float64]) -> RecordDict:
        """Turn a sum of vectors into one reply that holds the weighted mean.

        Parameters
        ----------
        total : ndarray, shape (len(self),)
            A sum of vectors of this layout.
        plain : ndarray, shape (plain_length,)
            The sum of their parts that were not encrypted.

        Returns
        -------
        RecordDict
            Arrays of their original record, shape and dtype; metrics; the number of examples.

        Raises
        ------
        ProtocolError
            If the length is wrong or the number of examples is not positive.
        """
        if total.shape != (len(self),):
            raise ProtocolError(f"a total must hold {len(self)} values, got {total.shape}")
        if plain.shape != (self.plain_length,):
            raise ProtocolError(
                f"the plain part must hold {self.plain_length} values, got {plain.shape}"
            )
        examples = float(total[EXAMPLES])
        if not examples > 0:
            raise ProtocolError(f"the total of {self.weighted_by!r} must be positive")
        opened = _pieces(total[_FIRST_VALUE:] / examples, self._encrypted)
        seen = _pieces(plain / examples, self._in_plain)
        records: dict[str, dict[str, Array]] = {}
        for array in self.arrays:
            values = _cast(next(opened if array.encrypted else seen), array)
            records.setdefault(array.record, {})[array.name] = Array(values.reshape(array.shape))
        metrics = MetricRecord()
        for metric in self.metrics:
            values = next(opened)
            metrics[metric.name] = float(values[0]) if metric.length is None else values.tolist()
        metrics[self.weighted_by] = int(examples) if examples.is_integer() else examples
        content = RecordDict({name: ArrayRecord(arrays) for name, arrays in records.items()})
        content[self.metric_record] = metrics
        return content

    def to_json(self) -> str:
        """Return canonical JSON: equal layouts give equal text."""
        return _DOCUMENT.dumps(self)

    @classmethod
    def from_json(cls, text: str) -> UpdateLayout:
        """Read a layout that another node sent; raises :class:`ProtocolError`."""
        layout = _DOCUMENT.loads(text, cls)
        if _size((*layout.arrays, *layout.metrics)) > _MAX_LENGTH:
            raise ProtocolError(f"a layout must name at most {_MAX_LENGTH} values")
        if layout.metric_record in {slot.record for slot in layout.arrays}:
            raise ProtocolError("a layout must keep arrays and metrics in different records")
        names = [(slot.record, slot.name) for slot in layout.arrays]
        metrics = [slot.name for slot in layout.metrics] + [layout.weighted_by]
        if len(set(names)) < len(names) or len(set(metrics)) < len(metrics):
            raise ProtocolError("a layout must name each array and metric once")
        return layout


_DOCUMENT = Document("a layout", form_of(UpdateLayout).members, _MAX_TEXT, ProtocolError)


def flatten(
    content: RecordDict,
    weighted_by: str,
    encrypts: Callable[[str], bool] = lambda _: True,
    *,
    restricted: bool = False,
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
    restricted : bool
        Whether company X must not give out the sum.

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
    parts: list[NDArray[np.float64]] = [np.array([-1.0 if restricted else 1.0, examples])]
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


def _size(slots: Iterable[ArraySlot | MetricSlot]) -> int:
    return sum(slot.size for slot in slots)


def _pieces(
    values: NDArray[np.float64], slots: Iterable[ArraySlot | MetricSlot]
) -> Iterator[NDArray[np.float64]]:
    return iter(np.split(values, np.cumsum([slot.size for slot in slots], dtype=np.int64)))


def _cast(values: NDArray[np.float64], array: ArraySlot) -> NDArray[np.floating[Any]]:
    with np.errstate(over="ignore"):
        cast = values.astype(array.dtype)
    if not np.isfinite(cast).all():
        raise ProtocolError(f"the mean of {array.name!r} does not fit {array.dtype}")
    return cast
