"""Models and queries in fixed point: what is computed under encryption, exactly.

Only the order of the classes counts, so each layer's weights and offsets may be scaled together
until the numbers fill the bits that there are for a comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.voting.answering import AnsweringModel, Layer

#: Longer weights make the evaluation slower and no better.
_MOST_SCALE_BITS = 16
_FEWEST_SCALE_BITS = 3
#: A unit may stand for no more, or floats would overflow.
_MOST_UNIT = 2.0**200
_SMALLEST = 2.0**-100  # largest weight of a layer that is not 0
#: Less than what sums in floats may be wrong by.
_EXACT = 1.0 - 2.0**-40


@dataclass(frozen=True, slots=True, eq=False)
class IntegerLayer:
    """A linear map in integers.

    Attributes
    ----------
    weights : list of list of int, shape (outputs, inputs)
    offsets : list of int, shape (outputs,)
    bits : int
        Outputs are below ``2**bits`` in size.
    """

    weights: list[list[int]] = field(repr=False)
    offsets: list[int] = field(repr=False)
    bits: int


#: Layers with a ReLU behind each but the last.
IntegerModel = tuple[IntegerLayer, ...]


def in_integers(
    model: AnsweringModel,
    *,
    fraction_bits: int,
    integer_bits: int | Sequence[int],
    compared_bits: int,
    largest_difference: int,
) -> IntegerModel:
    """Scale and round a model so that no query makes a number outgrow its bits.

    The bits of a hidden layer's units depend on the arguments, the number of layers and their sizes
    only, as those who compare the units see them. From layer to layer numbers grow by as many bits,
    but by no more than weights of 16 bits can fill: a comparison leaves out the lowest of them.

    Parameters
    ----------
    model : AnsweringModel
    fraction_bits : int
        Fixed point of the features.
    integer_bits : int or sequence of int
        Features are below ``2**integer_bits`` in size; for all of them, or for each.
    compared_bits : int
        Number of a unit's highest bits by which it is compared with 0.
    largest_difference : int
        Between two classes' numbers.

    Raises
    ------
    DataError
        If too few bits would be left for the weights.
    """
    inputs, count = model.layers[0].weights.shape[1], len(model.layers)
    each = [integer_bits] * inputs if isinstance(integer_bits, int) else integer_bits
    reach, unit = [1 << (fraction_bits + bits) for bits in each], float(1 << fraction_bits)
    first, last = fraction_bits + max(each), largest_difference.bit_length() - 1
    layers: list[IntegerLayer] = []
    before = first
    for number, layer in enumerate((*model.layers[:-1], _centred(model.layers[-1])), 1):
        bits, limit = last, (largest_difference - 1) / 2.0
        if number < count:
            most = before + _MOST_SCALE_BITS + layer.weights.shape[1].bit_length()
            bits = min(first + max(0, last - first) * number // count, most)
            # a unit that lost its lowest bits and got a carry must not need another bit
            limit = (1 << bits) - (1 << max(0, bits - compared_bits))
        made, reach, unit = _rounded(layer, bits, reach, unit, limit)
        layers.append(made)
        before = bits
    return tuple(layers)


def fixed_point(
    features: Array, fraction_bits: int, integer_bits: int | Sequence[int]
) -> NDArray[np.int64]:
    """Round features of shape (m, d) to fixed point; `integer_bits` for all of them, or for each.

    Raises
    ------
    DataError
        For the first one that is not finite or too large, by its place.
    """
    with np.errstate(over="ignore"):
        scaled = np.rint(np.ldexp(features, fraction_bits))
    bits = np.broadcast_to(np.asarray(integer_bits), features.shape[1:])
    fits = np.abs(scaled) < np.ldexp(1.0, fraction_bits + bits)
    if not fits.all():
        row, column = np.argwhere(~fits)[0]
        raise DataError(
            f"feature {column} of query {row} must be below 2**{bits[column]} in size: raise "
            "integer_bits, or scale the feature"
        )
    return scaled.astype(np.int64)


def _centred(layer: Layer) -> Layer:
    """Return the same layer around the mean of the classes that it knows; others are 0 in it."""
    known = np.isfinite(layer.offsets)
    weights, offsets = np.zeros_like(layer.weights), np.full_like(layer.offsets, -np.inf)
    weights[known] = layer.weights[known] - layer.weights[known].mean(axis=0)
    offsets[known] = layer.offsets[known] - layer.offsets[known].mean()
    return Layer(weights, offsets)


def _rounded(
    layer: Layer, bits: int, reach: Sequence[int], unit: float, limit: float
) -> tuple[IntegerLayer, list[int], float]:
    """Return a layer scaled so that its outputs fill their limit, their reach and their unit.

    Rows one by one: a small file of convolutions may stand for a large matrix, mostly of zeros.
    reach : how large each input may be;  unit : which input stands for 1.
    """
    known = np.isfinite(layer.offsets)
    offsets, rows = np.where(known, layer.offsets, 0.0), layer.weights
    reaches = np.array([float(r) for r in reach])
    # half a step for the rounding of each number
    rounding = 0.5 * (max(float(reaches[row != 0.0].sum()) for row in rows) + 1.0)
    sizes = np.array([float(np.abs(row) @ reaches) for row in rows])
    size = float((sizes + np.abs(offsets) * unit).max())
    largest = max(float(np.abs(row).max(initial=0.0)) for row in rows)
    most = 2.0**_MOST_SCALE_BITS / max(largest, _SMALLEST)
    scale = min((limit * _EXACT - rounding) / max(size, _SMALLEST), most)
    if scale <= 0.0 or 0.0 < scale * largest < 2.0**_FEWEST_SCALE_BITS or unit * scale > _MOST_UNIT:
        raise DataError(
            f"a model must leave at least {_FEWEST_SCALE_BITS} bits to its weights: raise "
            "value_bits, or lower fraction_bits or integer_bits"
        )
    scaled = [np.rint(row * scale).astype(np.int64).tolist() for row in rows]
    shifts = [round(float(offset) * scale * unit) for offset in offsets]
    grown = [_size(row, reach) + abs(shift) for row, shift in zip(scaled, shifts, strict=True)]
    # a class that is not known is below all others for any query
    below = [s if k else -max(grown) - 1 for s, k in zip(shifts, known, strict=True)]
    return IntegerLayer(scaled, below, bits), grown, unit * scale


def _size(weights: Sequence[int], reach: Sequence[int]) -> int:
    """Return how large an output may become without its offset."""
    return sum(abs(weight) * most for weight, most in zip(weights, reach, strict=True) if weight)
