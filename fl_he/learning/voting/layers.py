"""Layers of convolutional networks as linear maps, with channels first, as PyTorch has them.

A network for CaPC is a list of linear and convolution layers with a ReLU behind each but the last
(as in CryptoNets-ReLU, whose activations CaPC's authors use). A convolution is a matrix most of
whose entries are 0, which costs nothing under encryption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.voting.answering import AnsweringModel, Layer

#: Channels, height, width.
Shape = tuple[int, int, int]


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

    def as_layer(self, shape: Shape) -> Layer:
        """Return the same as a matrix on inputs of a shape, flattened."""
        channels, height, width = self.output_shape(shape)
        down, across = self.padding
        padded = (shape[0], shape[1] + 2 * down, shape[2] + 2 * across)
        weights = np.zeros((channels, height, width, *padded))
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
        If the layers do not fit each other.
    """
    made: list[Layer] = []
    current: Shape | None = shape
    for layer in layers:
        if isinstance(layer, Layer):
            made.append(layer)
            current = None
        elif current is None:
            raise DataError("a convolution must not come after a linear layer")
        else:
            made.append(layer.as_layer(current))
            current = layer.output_shape(current)
    return AnsweringModel(tuple(made))


def from_sequential(sequential: Iterable[Any], shape: Shape) -> AnsweringModel:
    """Return the network of a trained ``torch.nn.Sequential``; PyTorch is not imported here.

    Parameters
    ----------
    sequential : iterable of torch.nn.Module
        Linear and Conv2d with a ReLU behind each but the last, Flatten between them; Dropout does
        nothing in a trained network.
    shape : tuple of int
        Of an input.

    Raises
    ------
    DataError
        For any other module, by its name, and for a ReLU that is missing or too many.
    """
    readers: dict[str, Callable[[Any], Layer | Convolution]] = {
        "Linear": lambda module: Layer(_array(module.weight), _offsets(module)),
        "Conv2d": _convolution,
    }
    passed_over = ("Flatten", "Dropout", "Identity")
    modules = [module for module in sequential if type(module).__name__ not in passed_over]
    kinds = [type(module).__name__ for module in modules]
    layers, between = kinds[::2], kinds[1::2]
    if len(layers) == len(between) or set(layers) - readers.keys() or set(between) - {"ReLU"}:
        raise DataError(
            "a network must be of Linear, Conv2d, ReLU, Flatten and Dropout, with one ReLU "
            f"behind each layer but the last, got {', '.join(kinds) or 'none'}"
        )
    made = [readers[kind](module) for kind, module in zip(layers, modules[::2], strict=True)]
    return network(made, shape)


def _convolution(module: Any) -> Convolution:
    plain = (
        module.groups == 1
        and tuple(module.dilation) == (1, 1)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )
    if not plain:
        raise DataError(
            "a Conv2d must have one group, no dilation, and padding by a number of zeros, got one "
            "that does not"
        )
    stride, padding = tuple(module.stride), tuple(module.padding)
    return Convolution(_array(module.weight), _offsets(module), stride, padding)


def _offsets(module: Any) -> Array:
    return np.zeros(len(module.weight)) if module.bias is None else _array(module.bias)


def _array(tensor: Any) -> Array:
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64)
