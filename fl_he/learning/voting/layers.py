"""Layers of convolutional networks as linear maps, with channels first, as PyTorch has them.

A network for CaPC is a list of linear and convolution layers with a ReLU behind each but the last
(as in CryptoNets-ReLU, whose activations CaPC's authors use). A convolution is a matrix most of
whose entries are 0, which costs nothing under encryption.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.voting.answering import AnsweringModel, Layer

#: Channels, height, width.
Shape = tuple[int, int, int]
#: Numbers in the matrices of one network: 128 MiB.
_MOST_NUMBERS = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class Convolution:
    """A two-dimensional convolution (in PyTorch's sense: a cross-correlation).

    Parameters
    ----------
    kernel : ndarray, shape (channels out, channels in, height, width)
    offsets : ndarray, shape (channels out,)
    stride : tuple of int
        Down and across, at least 1.
    padding : tuple of int
        Rows and columns of zeros on each side, at least 0.
    """

    kernel: Array = field(repr=False)
    offsets: Array = field(repr=False)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape of the output for inputs of a shape.

        Raises
        ------
        DataError
            If the convolution does not fit such inputs.
        """
        fits = self.kernel.ndim == 4 and self.kernel.shape[1] == shape[0]
        if not fits or self.offsets.shape != self.kernel.shape[:1]:
            raise DataError(
                f"a convolution must have {shape[0]} input channels and an offset for each output "
                f"channel, got a kernel {self.kernel.shape} and offsets {self.offsets.shape}"
            )
        if min(self.stride) < 1 or min(self.padding) < 0:
            raise DataError(f"stride must be above 0 and padding not below, got {self!r}")
        height, width = (
            (size + 2 * padding - kernel) // stride + 1
            for size, padding, kernel, stride in zip(
                shape[1:], self.padding, self.kernel.shape[2:], self.stride, strict=True
            )
        )
        if height < 1 or width < 1:
            raise DataError(f"a kernel must fit its input {shape}, got {self.kernel.shape}")
        return len(self.kernel), height, width

    def padded(self, shape: Shape) -> Shape:
        """Return the shape of inputs with their zeros on each side."""
        down, across = self.padding
        return shape[0], shape[1] + 2 * down, shape[2] + 2 * across

    def as_layer(self, shape: Shape) -> Layer:
        """Return the same as a matrix on inputs of a shape, flattened."""
        channels, height, width = self.output_shape(shape)
        down, across = self.padding
        weights = np.zeros((channels, height, width, *self.padded(shape)))
        for row, column in np.ndindex(height, width):
            top, left = row * self.stride[0], column * self.stride[1]
            bottom, right = top + self.kernel.shape[2], left + self.kernel.shape[3]
            weights[:, row, column, :, top:bottom, left:right] = self.kernel
        weights = weights[..., down : down + shape[1], across : across + shape[2]]
        size = channels * height * width
        return Layer(weights.reshape(size, -1), np.repeat(self.offsets, height * width))


def network(layers: Iterable[Layer | Convolution], shape: Shape) -> AnsweringModel:
    """Return a network on inputs of a shape, flattened channel by channel, row by row.

    Parameters
    ----------
    layers : iterable of Layer or Convolution
        A ReLU is behind each but the last. No convolution comes after a Layer.
    shape : tuple of int

    Raises
    ------
    DataError
        If the layers do not fit each other, or their matrices would be too large: that is found
        before one is made.
    """
    made: list[Layer] = []
    current: Shape | None = shape
    numbers = 0
    for layer in layers:
        if isinstance(layer, Layer):
            numbers += layer.weights.size
        elif current is not None:
            numbers += prod(layer.output_shape(current)) * prod(layer.padded(current))
        if numbers > _MOST_NUMBERS:
            raise DataError(
                f"the matrices of a network must hold at most {_MOST_NUMBERS} numbers in all, got "
                f"{numbers} up to layer {len(made)}: choose fewer units, or longer strides"
            )
        if isinstance(layer, Layer):
            made.append(layer)
            current = None
        elif current is None:
            raise DataError("a convolution must not come after a linear layer")
        else:
            made.append(layer.as_layer(current))
            current = layer.output_shape(current)
    return AnsweringModel(tuple(made))
