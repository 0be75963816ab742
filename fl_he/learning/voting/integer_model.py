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


@dataclass(frozen=True, slots=True, eq=False)
class IntegerLayer:
    """A linear map in integers.

    Attributes
    ----------
    weights : list of list of int, shape (outputs, inputs)
    offsets : list of int, shape (outputs,)
    """

    weights: list[list[int]] = field(repr=False)
    offsets: list[int] = field(repr=False)


#: Layers with a ReLU behind each but the last.
IntegerModel = tuple[IntegerLayer, ...]


def in_integers(
    model: AnsweringModel,
    *,
    fraction_bits: int,
    integer_bits: int | Sequence[int],
    largest_value: int,
    largest_difference: int,
) -> IntegerModel:
    """Scale and round a model so that no query makes a number outgrow its bits.

    Parameters
    ----------
    model : AnsweringModel
    fraction_bits : int
        Fixed point of the features.
    integer_bits : int or sequence of int
        Features are below ``2**integer_bits`` in size; for all of them, or for each.
    largest_value : int
        Of a unit before its ReLU.
    largest_difference : int
        Between two classes' numbers.

    Raises
    ------
    DataError
        If too few bits would be left for the weights.
    """
    inputs = model.layers[0].weights.shape[1]
    each = [integer_bits] * inputs if isinstance(integer_bits, int) else integer_bits
    reaches = [1 << (fraction_bits + bits) for bits in each]
    # All layers get as many bits, the last one what is left, too.
    for bits in range(_MOST_SCALE_BITS, _FEWEST_SCALE_BITS - 1, -1):
        layers: list[IntegerLayer] = []
        reach, unit = list(reaches), float(1 << fraction_bits)
        for layer in model.layers[:-1]:
            made, reach, unit = _rounded(layer, bits, reach, unit)
            layers.append(made)
            if max(reach) > largest_value or unit > _MOST_UNIT:
                break
        else:
            fewest = bits if layers else _FEWEST_SCALE_BITS
            last = _last_layer(model.layers[-1], reach, unit, largest_difference, fewest)
            if last is not None:
                return (*layers, last)
    raise DataError(
        f"a model must leave at least {_FEWEST_SCALE_BITS} bits to its weights: raise value_bits, "
        "or lower fraction_bits or integer_bits"
    )


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
            f"feature {column} of query {row} must be below 2**{bits[column]} in size, got a "
            "larger one: raise integer_bits, or scale the feature"
        )
    return scaled.astype(np.int64)


def _rounded(
    layer: Layer, bits: int, reach: Sequence[int], unit: float
) -> tuple[IntegerLayer, list[int], float]:
    """Return a layer with its largest weight of this many bits, its units' reach, their unit.

    reach : how large each input may be;  unit : which input stands for 1.
    """
    # with offsets alone any scale will do
    largest = max(float(np.abs(layer.weights).max(initial=0.0)) or 1.0, _SMALLEST)
    scale = 2.0 ** (bits - int(np.ceil(np.log2(largest))))
    weights = np.rint(layer.weights * scale).astype(np.int64)
    offsets = [round(float(offset) * scale * unit) for offset in layer.offsets]
    grown = [
        size + abs(offset) for size, offset in zip(_sizes(weights, reach), offsets, strict=True)
    ]
    return IntegerLayer(weights.tolist(), offsets), grown, unit * scale


def _sizes(weights: NDArray[np.int64], reach: Sequence[int]) -> list[int]:
    """Return how large each output may become without its offset."""
    sizes: list[int] = (np.abs(weights).astype(object) @ np.array(reach, dtype=object)).tolist()
    return sizes


def _last_layer(
    layer: Layer, reach: Sequence[int], unit: float, largest_difference: int, fewest_bits: int
) -> IntegerLayer | None:
    """Return the layer scaled to fill what it may; None if that is too little."""
    known = np.isfinite(layer.offsets)
    weights, offsets = np.zeros_like(layer.weights), np.zeros_like(layer.offsets)
    weights[known] = layer.weights[known] - layer.weights[known].mean(axis=0)
    offsets[known] = layer.offsets[known] - layer.offsets[known].mean()
    # How far a class's number may be from 0; half a step for the rounding of each weight.
    share = (largest_difference - 1) / 2.0
    reaches = np.array([float(r) for r in reach])
    rounding = 0.5 * (float(((weights != 0.0) @ reaches).max()) + 1.0)
    size = (np.abs(weights) @ reaches + np.abs(offsets) * unit).max()
    largest = float(np.abs(weights).max())
    most = 2.0**_MOST_SCALE_BITS / max(largest, 1e-300)
    scale = min((share - rounding) / max(float(size), 1e-300), most)
    if scale <= 0.0 or 0.0 < scale * largest < 2.0**fewest_bits:
        return None
    scaled = np.rint(weights * scale).astype(np.int64)
    shifts = [round(float(offset) * scale * unit) for offset in offsets]
    grown = max(_sizes(scaled, reach)) + max(map(abs, shifts))
    # below all others for any query
    below = [s if k else -grown - 1 for s, k in zip(shifts, known, strict=True)]
    return IntegerLayer(scaled.tolist(), below)
