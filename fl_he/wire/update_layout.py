"""Layout of an update's vector, and the way from a sum of vectors back to a reply.

The vector of one hospital with n examples is::

    [1, n, n * arrays..., n * required metrics..., counts..., weights..., n * other metrics...]

Such vectors can be summed by somebody who cannot read them. In a sum the first value is the number
of contributors, the second one the number of examples N, and arrays divided by N are the weighted
mean. A restricted update begins with -1: company X does not give out the sum of such updates.

A hospital with a value that does not fit its slot adds to its 1 a fraction so small that the sum of
all such fractions is below 1: see `first_value`. Nobody sees which hospitals did.

A metric that a hospital may lack has a count and a weight for each of its numbers: 1 and n where
there is a number, else 0 and 0, and 0 in place of the number. So its mean is that of the hospitals
that have it, and nobody sees which of them do. Company X puts the mean and the weight 1 in the
place of sum and weight, or zeros if too few hospitals have the metric.

Arrays that are not to be encrypted, if there are any, are a vector of their own, ``n * arrays...``.
An integer times n is an integer, and is given the whole slot: in the vector it is divided by
``2**fraction_bits``, the fixed-point step. So the sum of integers is exact, and the range larger.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import floor, prod
from typing import Annotated, Any

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from numpy.typing import NDArray

from fl_he.crypto.encoding.fields import Limit, at_least, at_most, choice, form_of, row_of
from fl_he.crypto.encoding.strict_json import Document
from fl_he.crypto.paillier.packing import Packing
from fl_he.wire.records import ProtocolError
from fl_he.wire.selection import ENCRYPTED, LOCAL, PLAIN

#: Position of the contributor count in every vector.
CONTRIBUTORS = 0
EXAMPLES = 1
FIRST_VALUE = 2
#: Slots that a number of a metric takes which a hospital may lack: count, weight and number.
METRIC_SLOTS = 3

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
#: Limits on a layout that another node sends. Numpy's arrays have at most 64 dimensions.
_MAX_LENGTH = 1 << 30
MAX_DIMENSIONS = 32
#: A node that lacks such metrics makes room for them all the same.
_MAX_METRIC_VALUES = 1 << 20
_MAX_TEXT = 1 << 20
#: Rounding to fixed point that is told of, in a mean.
_COARSE = 1e-6

_Size = Annotated[int, at_least(0), at_most(_MAX_LENGTH)]


def first_value(packing: Packing, *, fits: bool, restricted: bool = False) -> float:
    """Return the first value of one hospital's vector.

    Parameters
    ----------
    packing : Packing
    fits : bool
        Whether all values of the update, metrics with weights of their own apart, fit their slots.
    restricted : bool
        Whether company X must not give out the sum.

    Raises
    ------
    ProtocolError
        If the packing has no room for the fraction.
    """
    value = 1.0 if fits else 1.0 + _mark(packing)
    return -value if restricted else value


def read_first_value(value: float, packing: Packing) -> tuple[int, int] | None:
    """Return how many hospitals are in a sum, negative if it is restricted, and how many misfit.

    ``None``: the value is no sum of first values.

    Examples
    --------
    >>> packing = Packing()
    >>> values = [first_value(packing, fits=fits) for fits in (True, False, True, False)]
    >>> read_first_value(sum(values), packing)
    (4, 2)
    """
    contributors = floor(abs(value))
    misfits = (abs(value) - contributors) / _mark(packing)
    if not misfits.is_integer() or misfits > contributors:
        return None
    return (-contributors if value < 0 else contributors), int(misfits)


def _mark(packing: Packing) -> float:
    bits = packing.headroom + 1
    if packing.fraction_bits < bits:
        raise ProtocolError(
            f"fraction_bits must be at least {bits} with max_contributors="
            f"{packing.max_contributors}, got {packing.fraction_bits}"
        )
    return 2.0**-bits


class NoMeanError(ProtocolError):
    """A round without a mean: too few hospitals contributed, or none has an example."""


def _fits(shape: tuple[int, ...]) -> bool:
    # Without its zeros, too: numpy multiplies before it sees that nothing is there.
    size = prod(length for length in shape if length)
    return len(shape) <= MAX_DIMENSIONS and size <= _MAX_LENGTH


_SHAPE = Limit(f"have at most {MAX_DIMENSIONS} dimensions and {_MAX_LENGTH} values", _fits)


@dataclass(frozen=True, slots=True)
class ArraySlot:
    """An array's record, name, type and shape, and the way it goes. Public."""

    record: str
    name: str
    dtype: Annotated[str, choice(*FLOATS, *INTEGERS)]
    shape: Annotated[tuple[_Size, ...], _SHAPE]
    way: Annotated[str, choice(ENCRYPTED, PLAIN, LOCAL)] = ENCRYPTED

    @property
    def size(self) -> int:
        """Number of values."""
        return prod(self.shape)

    @property
    def whole(self) -> bool:
        """Whether the values are integers or truth values."""
        return self.dtype in INTEGERS

    def __str__(self) -> str:
        """Return words for messages to people."""
        return f"{self.name!r} of type {self.dtype} and shape {self.shape}"


@dataclass(frozen=True, slots=True)
class MetricSlot:
    """A metric: a number, or a list of ``length`` numbers (``None``: a single number).

    ``required`` says that every hospital has it; it needs no weight of its own then.
    """

    name: str
    length: _Size | None
    required: bool = False

    @property
    def size(self) -> int:
        """Number of values."""
        return 1 if self.length is None else self.length


@dataclass(frozen=True, slots=True)
class UpdateLayout:
    """The values of an update's vector: names, shapes and types only. Public."""

    arrays: tuple[Annotated[ArraySlot, row_of(ArraySlot)], ...]
    metric_record: str
    metrics: tuple[Annotated[MetricSlot, row_of(MetricSlot)], ...]
    weighted_by: str
    fraction_bits: Annotated[int, at_least(0), at_most(63)]

    def __len__(self) -> int:
        """Return the length of the vector to encrypt."""
        return FIRST_VALUE + _size(self._always) + METRIC_SLOTS * self.metric_values

    @property
    def plain_length(self) -> int:
        """Length of the vector that is not encrypted."""
        return _size(self._in_plain)

    @property
    def metric_values(self) -> int:
        """Number of values of metrics that a hospital may lack."""
        return _size(self.optional)

    @property
    def optional(self) -> list[MetricSlot]:
        """Metrics that a hospital may lack."""
        return [slot for slot in self.metrics if not slot.required]

    @property
    def _always(self) -> list[ArraySlot | MetricSlot]:
        encrypted = (slot for slot in self.arrays if slot.way == ENCRYPTED)
        return [*encrypted, *(slot for slot in self.metrics if slot.required)]

    @property
    def _in_plain(self) -> list[ArraySlot]:
        return [slot for slot in self.arrays if slot.way == PLAIN]

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
        offset = index - FIRST_VALUE
        for slot in (*self._always, *METRIC_SLOTS * self.optional) if offset >= 0 else ():
            if offset < slot.size:
                if isinstance(slot, MetricSlot):
                    return slot.name, None
                return slot.name, [int(i) for i in np.unravel_index(offset, slot.shape)]
            offset -= slot.size
        raise IndexError(index)

    def array_difference(self, other: UpdateLayout, most: str = "the others") -> str | None:
        """Return words for the first array of another layout that differs, ``None`` if none.

        Parameters
        ----------
        other : UpdateLayout
        most : str
            Words for those who have this layout.
        """
        mine, theirs = ({(a.record, a.name): a for a in one.arrays} for one in (self, other))
        for key, array in theirs.items():
            if key not in mine:
                return f"it has the array {array.name!r}, and {most} do not"
            if array != mine[key]:
                both = array, mine[key]
                words = (str(a) for a in both) if str(both[0]) != str(both[1]) else map(repr, both)
                return f"it has the array {next(words)}, and {most} have {next(words)}"
        for key, array in mine.items():
            if key not in theirs:
                return f"it lacks the array {array.name!r}, which {most} have"
        if list(mine) != list(theirs):
            name = next(b[1] for a, b in zip(mine, theirs, strict=True) if a != b)
            return f"it has its arrays in another order than {most}, from {name!r} on"
        if self.fraction_bits != other.fraction_bits:
            return f"it has integers in another packing than {most}"
        return None

    def with_metrics(self, others: Iterable[MetricSlot]) -> UpdateLayout:
        """Return the layout with the metrics of others that it lacks, in the order of names."""
        known = {slot.name: slot for slot in (*others, *self.metrics)}
        return replace(self, metrics=tuple(slot for _, slot in sorted(known.items())))

    def mean(
        self,
        total: NDArray[np.float64],
        plain: NDArray[np.float64],
        local: Mapping[str, ArrayRecord] | None = None,
    ) -> RecordDict:
        """Turn a sum of vectors into one reply that holds the weighted mean.

        Parameters
        ----------
        total : ndarray, shape (len(self),)
            A sum of vectors of this layout, or the one that company X makes of it.
        plain : ndarray, shape (plain_length,)
            The sum of their parts that were not encrypted.
        local : mapping of str to ArrayRecord, optional
            Records with arrays in the place of those that stay at the hospitals, which are left
            out where there are none.

        Returns
        -------
        RecordDict
            Arrays of their original record, shape and dtype, integers rounded; metrics, NaN for a
            number that is not known; the number of examples.

        Raises
        ------
        NoMeanError
            If the number of examples is not positive.
        ProtocolError
            If the length is wrong.
        """
        values, local = self._means(total, plain), local or {}
        names = {slot.record for slot in self.arrays}
        records: dict[str, dict[str, Array]] = {}
        for slot in self.arrays:
            if slot.way != LOCAL:
                array = Array(_cast(values[slot.record, slot.name], slot).reshape(slot.shape))
            else:
                sent = counterpart(slot.record, names, local)
                if sent is None or slot.name not in local[sent]:
                    continue
                array = local[sent][slot.name]
            records.setdefault(slot.record, {})[slot.name] = array
        metrics = MetricRecord()
        for metric in self.metrics:
            numbers = values["", metric.name].tolist()
            metrics[metric.name] = numbers[0] if metric.length is None else numbers
        examples = float(total[EXAMPLES])
        metrics[self.weighted_by] = int(examples) if examples.is_integer() else examples
        content = RecordDict({name: ArrayRecord(arrays) for name, arrays in records.items()})
        content[self.metric_record] = metrics
        return content

    def remarks(self, total: NDArray[np.float64], plain: NDArray[np.float64]) -> Iterator[str]:
        """Yield what is to be told of a mean: rounding, and metrics that hospitals lack."""
        values = self._means(total, plain)
        for slot in self.arrays:
            exact = values.get((slot.record, slot.name), np.empty(0)) if slot.whole else np.empty(0)
            if (exact != np.rint(exact)).any():
                yield f"the mean of the array {slot.name!r} is rounded to its type, {slot.dtype}"
        contributors = round(abs(float(total[CONTRIBUTORS])))
        error = np.ldexp(contributors, -self.fraction_bits - 1) / float(total[EXAMPLES])
        if error > _COARSE:
            yield (
                f"the mean is exact to {error:.0e} only: raise fraction_bits, or weight by larger "
                f"numbers than {self.weighted_by!r}"
            )
        counts, weights, _ = self._metric_sums(total)
        for metric, count, weight in zip(
            self.optional,
            _pieces(counts, self.optional),
            _pieces(weights, self.optional),
            strict=True,
        ):
            least = round(float(min(count, default=contributors)))
            if least and not all(weight):
                yield (
                    f"the metric {metric.name!r} is withheld by company X: only {least} of "
                    f"{contributors} hospitals have a number for it, and a mean of few hospitals, "
                    "or of all but few, could show single ones"
                )
            elif least < contributors:
                yield (
                    f"the metric {metric.name!r} is the mean of {least} of {contributors} "
                    "hospitals: the others have no number for it that fits"
                )

    def _means(
        self, total: NDArray[np.float64], plain: NDArray[np.float64]
    ) -> dict[tuple[str, str], NDArray[np.float64]]:
        """Return the means, by record (empty for a metric) and name."""
        if total.shape != (len(self),):
            raise ProtocolError(f"a total must hold {len(self)} values, got {total.shape}")
        if plain.shape != (self.plain_length,):
            raise ProtocolError(
                f"the plain part must hold {self.plain_length} values, got {plain.shape}"
            )
        examples = float(total[EXAMPLES])
        if not examples > 0:
            raise NoMeanError(
                f"the total of {self.weighted_by!r} must be positive: at least one hospital must "
                "have examples in a round"
            )
        sums = total[FIRST_VALUE : len(self) - METRIC_SLOTS * self.metric_values]
        _, weights, numbers = self._metric_sums(total)
        has_some = weights > 0
        numbers = np.divide(numbers, weights, out=np.full_like(numbers, np.nan), where=has_some)
        found: dict[tuple[str, str], NDArray[np.float64]] = {}
        for slots, means in (
            (self._always, sums / examples),
            (self._in_plain, plain / examples),
            (self.optional, numbers),
        ):
            for slot, piece in zip(slots, _pieces(means, slots), strict=True):
                if isinstance(slot, MetricSlot):
                    found["", slot.name] = piece
                elif slot.whole and slot.way == ENCRYPTED:
                    found[slot.record, slot.name] = np.ldexp(piece, self.fraction_bits)
                else:
                    found[slot.record, slot.name] = piece
        return found

    def _metric_sums(self, total: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return counts, weights and weighted sums, a row each."""
        start = len(self) - METRIC_SLOTS * self.metric_values
        return total[start:].reshape(METRIC_SLOTS, self.metric_values)

    def to_json(self) -> str:
        """Return canonical JSON: equal layouts give equal text."""
        return _DOCUMENT.dumps(self)

    @classmethod
    def from_json(cls, text: str) -> UpdateLayout:
        """Read a layout that another node sent; raises :class:`ProtocolError`."""
        layout = _DOCUMENT.loads(text, cls)
        if _size((*layout.arrays, *METRIC_SLOTS * layout.metrics)) > _MAX_LENGTH:
            raise ProtocolError(f"a layout must name at most {_MAX_LENGTH} values")
        if layout.metric_values > _MAX_METRIC_VALUES:
            raise ProtocolError(
                f"a layout must name at most {_MAX_METRIC_VALUES} numbers of metrics, "
                f"got {layout.metric_values}"
            )
        if layout.metric_record in {slot.record for slot in layout.arrays}:
            raise ProtocolError("a layout must keep arrays and metrics in different records")
        names = [(slot.record, slot.name) for slot in layout.arrays]
        metrics = [slot.name for slot in layout.metrics] + [layout.weighted_by]
        if len(set(names)) < len(names) or len(set(metrics)) < len(metrics):
            raise ProtocolError("a layout must name each array and metric once")
        return layout


def counterpart(record: str, records: Collection[str], others: Collection[str]) -> str | None:
    """Return the record among others that answers one of these: its namesake, or each the only one.

    Examples
    --------
    >>> counterpart("arrays", ["arrays", "controls"], ["controls", "arrays"])
    'arrays'
    >>> counterpart("arrays", ["arrays"], ["model"])
    'model'
    >>> counterpart("controls", ["arrays", "controls"], ["arrays"]) is None
    True
    """
    if record in others:
        return record
    return next(iter(others)) if len(records) == len(others) == 1 else None


_DOCUMENT = Document("a layout", form_of(UpdateLayout).members, _MAX_TEXT, ProtocolError)


def _size(slots: Iterable[ArraySlot | MetricSlot]) -> int:
    return sum(slot.size for slot in slots)


def _pieces(
    values: NDArray[np.float64], slots: Sequence[ArraySlot | MetricSlot]
) -> list[NDArray[np.float64]]:
    starts = accumulate((slot.size for slot in slots), initial=0)
    return [values[start : start + slot.size] for slot, start in zip(slots, starts, strict=False)]


def _cast(values: NDArray[np.float64], array: ArraySlot) -> NDArray[Any]:
    if array.whole:
        values = np.rint(values)
    with np.errstate(over="ignore", invalid="ignore"):
        cast: NDArray[Any] = values.astype(array.dtype)
    fits = (cast == values) if array.whole else np.isfinite(cast)
    if not fits.all():
        raise ProtocolError(f"the mean of {array.name!r} does not fit {array.dtype}")
    return cast
