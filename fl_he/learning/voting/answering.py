"""Models that an answering party can evaluate under encryption.

A linear classifier's class is the one with the largest ``weights @ features + offset``. A neural
network's is that of its last layer, after layers of the same form with a ReLU behind each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A linear map.

    Parameters
    ----------
    weights : ndarray, shape (outputs, inputs)
    offsets : ndarray, shape (outputs,)
        In the last layer ``-inf`` for a class that the model does not know.
    """

    weights: Array = field(repr=False)
    offsets: Array = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class AnsweringModel:
    """Layers with a ReLU behind each but the last.

    Parameters
    ----------
    layers : tuple of Layer
        At least one; the last one's outputs are the classes.

    Raises
    ------
    DataError
        If the layers do not fit each other, or hold anything but finite numbers.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not self.layers:
            raise DataError("a model must have at least one layer")
        inputs = self.layers[0].weights.shape[1:]
        for number, layer in enumerate(self.layers):
            shape, last = layer.weights.shape, number == len(self.layers) - 1
            if len(shape) != 2 or shape[1:] != inputs or layer.offsets.shape != shape[:1]:
                raise DataError(
                    f"layer {number} must have {inputs} inputs and an offset for each output, got "
                    f"weights {shape} and offsets {layer.offsets.shape}"
                )
            offsets = layer.offsets[layer.offsets != -np.inf] if last else layer.offsets
            if not (np.isfinite(layer.weights).all() and np.isfinite(offsets).all()):
                raise DataError("a model must hold finite numbers only")
            inputs = shape[:1]

    def predict(self, features: Array) -> NDArray[np.int64]:
        """Return the class of each row of features, shape (m, d)."""
        return np.asarray(self.scores(features).argmax(axis=1), dtype=np.int64)

    def scores(self, features: Array) -> Array:
        """Return the numbers of all classes, of which the largest wins, shape (m, classes)."""
        values = features
        for layer in self.layers[:-1]:
            values = np.maximum(values @ layer.weights.T + layer.offsets, 0.0)
        last = self.layers[-1]
        scores: Array = values @ last.weights.T + last.offsets
        return scores

    def on_scaled(self, bounds: Sequence[tuple[float, float]]) -> AnsweringModel:
        """Return the same model on scaled features: bounds of each become -1 and 1."""
        low, high = np.array(bounds).T
        first, *rest = self.layers
        with np.errstate(over="ignore", invalid="ignore"):  # refused where it matters
            offsets = first.offsets + first.weights @ ((low + high) / 2.0)
            weights = first.weights * ((high - low) / 2.0)
        return AnsweringModel((Layer(weights, offsets), *rest))
