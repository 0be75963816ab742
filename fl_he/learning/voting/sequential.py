"""Networks out of trained PyTorch modules in a row, with all that is linear folded together.

Between two ReLUs a trained network is one linear map of any layers: batch normalisation
and average pooling are convolutions, and a sum of two branches is a sum of two maps. A residual
block with a ReLU inside carries its shortcut past the ReLU as units that the ReLU leaves as they
are: numbers that are at least 0, or else a number's positive and negative part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.voting.answering import AnsweringModel, Layer
from fl_he.learning.voting.layers import Convolution, Shape, network

#: Modules that change nothing in a trained network whose numbers lie channel by channel.
_PASSED_OVER = ("Flatten", "Identity", "Dropout", "Dropout1d", "Dropout2d", "AlphaDropout")


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """A sum of two branches with the same input: ``body(x) + shortcut(x)``.

    A PyTorch module of this name with these attributes is read as well.

    Parameters
    ----------
    body : torch.nn.Module or iterable of these
        In a row, such as a ``torch.nn.Sequential``.
    shortcut : torch.nn.Module or iterable of these
        Linear; none for x itself.
    """

    body: Any
    shortcut: Any = ()


def from_sequential(sequential: Iterable[Any], shape: Shape) -> AnsweringModel:
    """Return the network of trained modules; see `folded`."""
    return network(folded(sequential, shape), shape)


def folded(sequential: Iterable[Any], shape: Shape) -> list[Layer | Convolution]:
    """Return the layers of a trained ``torch.nn.Sequential``; PyTorch is not imported here.

    Parameters
    ----------
    sequential : iterable of torch.nn.Module or Residual
        Linear, Conv2d, ReLU, BatchNorm1d, BatchNorm2d, AvgPool2d, AdaptiveAvgPool2d to size 1,
        ZeroPad2d, Flatten, Dropout, Identity, Residual, and a Sequential of these. All are taken as
        they are after ``eval()``.
    shape : tuple of int
        Of an input.

    Returns
    -------
    list of Layer or Convolution
        For `network`: a ReLU is behind each but the last.

    Raises
    ------
    DataError
        For any other module, by its name, for modules that do not fit each other, and for a ReLU
        at the end.
    """
    folding = _Folding(shape)
    folding.run(sequential)
    if folding.pending is None:
        raise DataError("a network must end with a linear module, not with a ReLU or nothing")
    return [*folding.layers, folding.pending]


@dataclass(slots=True, eq=False)
class _Shortcut:
    """A branch that waits for its block's end.

    Attributes
    ----------
    branch : Layer
        On the units that carry it, or on the same numbers as the block before the first ReLU.
    units : int or None
        How many carry it since the first ReLU of the block.
    """

    branch: Layer
    units: int | None = None


class _Folding:
    """Modules one after another: the layers so far, and what is linear behind the last ReLU.

    The units behind a ReLU are the network's own and, behind these, those that carry shortcuts, of
    the innermost block first.

    Attributes
    ----------
    layers : list of Layer or Convolution
    pending : Layer, Convolution or None
        On the network's own units, that is the `start`; None changes nothing.
    shape : tuple of int
        Of what the pending map gives; (n, 1, 1) of n numbers in a row.
    """

    def __init__(self, shape: Shape) -> None:
        self.layers: list[Layer | Convolution] = []
        self.pending: Layer | Convolution | None = None
        self.start = self.shape = shape
        self._shortcuts: list[_Shortcut] = []

    def run(self, modules: Iterable[Any]) -> None:
        """Take modules in a row."""
        for module in _in_a_row(modules):
            kind = type(module).__name__
            if kind == "ReLU":
                self._relu()
            elif kind == "Residual":
                self._residual(module)
            else:
                self._then(*_linear(module, kind, self.shape))

    def _then(self, made: Layer | Convolution, output: Shape) -> None:
        """Put a linear map behind the pending one."""
        first, shape = self.pending, self.shape
        self.shape = output
        if first is None:
            # a convolution's input has a shape that a matrix before it has not
            dense = any(isinstance(layer, Layer) for layer in self.layers)
            self.pending = _matrix(made, shape) if dense else made
        elif isinstance(first, Convolution) and isinstance(made, Convolution) and _is_point(made):
            by_channel = made.kernel[:, :, 0, 0]
            kernel = np.einsum("oc,cihw->oihw", by_channel, first.kernel)
            offsets = by_channel @ first.offsets + made.offsets
            self.pending = Convolution(kernel, offsets, first.stride, first.padding)
        else:
            self.pending = _behind(_matrix(first, self.start), _matrix(made, shape))

    def _relu(self) -> None:
        if self.pending is None and self.layers:
            return  # the same units as behind the ReLU before
        waiting = [one for one in reversed(self._shortcuts) if one.units is None]
        own, carried = prod(self.start), sum(one.units or 0 for one in self._shortcuts)
        if not waiting and not carried and self.pending is not None:
            self.layers.append(self.pending)
        else:
            rows = [_matrix(self.pending, self.start)]
            for one in waiting:
                rows.append(self._carry(one, own))
            above = _stacked(rows)
            weights = np.zeros((len(above.offsets) + carried, own + carried))
            weights[: len(above.offsets), :own] = above.weights
            weights[len(above.offsets) :, own:] = np.eye(carried)
            self.layers.append(Layer(weights, np.append(above.offsets, np.zeros(carried))))
        self.pending, self.start = None, self.shape

    def _carry(self, shortcut: _Shortcut, own: int) -> Layer:
        """Return the units that carry a shortcut past its first ReLU."""
        branch = shortcut.branch
        if self.layers:  # on units of a ReLU, which are at least 0
            shortcut.units = own
            return _identity(own)
        # a number is its positive part less its negative one
        count = len(branch.offsets)
        shortcut.units = 2 * count
        shortcut.branch = Layer(np.hstack([np.eye(count), -np.eye(count)]), np.zeros(count))
        return _stacked([branch, Layer(-branch.weights, -branch.offsets)])

    def _residual(self, module: Any) -> None:
        pending, shape = self.pending, self.shape
        number = len(self.layers)
        self.run(_branch(getattr(module, "shortcut", ())))
        if len(self.layers) > number:
            raise DataError("the shortcut of a Residual has a ReLU: it must be linear")
        shortcut = _Shortcut(_matrix(self.pending, self.start))
        wanted, self.pending, self.shape = self.shape, pending, shape
        self._shortcuts.append(shortcut)
        self.run(_branch(module.body))
        self._shortcuts.pop()
        if self.shape != wanted:
            raise DataError(
                "body and shortcut of a Residual must have one shape, got "
                f"{self.shape} and {wanted}"
            )
        body, branch = _matrix(self.pending, self.start), shortcut.branch
        offsets = body.offsets + branch.offsets
        if shortcut.units is None:
            self.pending = Layer(body.weights + branch.weights, offsets)
        else:
            self.start = (prod(self.start) + shortcut.units, 1, 1)
            self.pending = Layer(np.hstack([body.weights, branch.weights]), offsets)


def _branch(modules: Any) -> Iterable[Any]:
    return modules if isinstance(modules, Iterable) else [modules]


def _in_a_row(modules: Iterable[Any]) -> Iterator[Any]:
    for module in modules:
        kind = type(module).__name__
        if kind == "Sequential":
            yield from _in_a_row(module)
        elif kind not in _PASSED_OVER:
            yield module


def _linear(module: Any, kind: str, shape: Shape) -> tuple[Layer | Convolution, Shape]:
    """Read a linear module on inputs of a shape; return also the shape of its outputs."""
    if kind == "Linear":
        made = Layer(_array(module.weight), _offsets(module))
        if made.weights.shape[1:] != (prod(shape),):
            raise DataError(
                f"a Linear must have {prod(shape)} inputs here, got weights {made.weights.shape}"
            )
        return made, (len(made.offsets), 1, 1)
    if kind in _CONVOLUTIONS:
        convolution = _CONVOLUTIONS[kind](module, shape)
        output = convolution.output_shape(shape)
        if kind == "AvgPool2d" and not module.count_include_pad:
            layer = convolution.as_layer(shape)  # of each window those count that are in the input
            shares = layer.weights / layer.weights.sum(axis=1, keepdims=True)
            return Layer(shares, layer.offsets), output
        return convolution, output
    advice = ""
    if kind.startswith(("MaxPool", "AdaptiveMaxPool")):
        advice = ": a maximum is not linear; train with AvgPool2d, or a Conv2d with a stride"
    known = ["Linear", "ReLU", *_CONVOLUTIONS, "Residual", *_PASSED_OVER]
    raise DataError(f"a network must be of {', '.join(known)}, got {kind}{advice}")


def _convolution(module: Any, _: Shape) -> Convolution:
    plain = (
        tuple(module.dilation) == (1, 1)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )
    if not plain:
        raise DataError("a Conv2d has a dilation, or a padding other than a number of zeros")
    kernel, groups = _array(module.weight), int(module.groups)
    if groups != 1:
        kernel = _ungrouped(kernel, groups)
    stride, padding = _pair(module.stride), _pair(module.padding)
    return Convolution(kernel, _offsets(module), stride, padding)


def _ungrouped(kernel: Array, groups: int) -> Array:
    """Return the kernel of a convolution in groups as one on all channels."""
    outputs, inputs = len(kernel) // groups, kernel.shape[1]
    full = np.zeros((len(kernel), inputs * groups, *kernel.shape[2:]))
    for group in range(groups):
        rows = slice(group * outputs, (group + 1) * outputs)
        full[rows, group * inputs : (group + 1) * inputs] = kernel[rows]
    return full


def _batch_norm(module: Any, _: Shape) -> Convolution:
    """Return ``(x - mean) / sqrt(variance + eps) * weight + bias``, by channel."""
    if module.running_mean is None or module.running_var is None:
        raise DataError("batch normalisation has no running statistics")
    mean, variance = _array(module.running_mean), _array(module.running_var)
    weight = np.ones(len(mean)) if module.weight is None else _array(module.weight)
    bias = np.zeros(len(mean)) if module.bias is None else _array(module.bias)
    factor = weight / np.sqrt(variance + module.eps)
    return Convolution(np.diag(factor)[:, :, None, None], bias - mean * factor)


def _average(module: Any, shape: Shape) -> Convolution:
    if module.ceil_mode or module.divisor_override is not None:
        raise DataError("an AvgPool2d must have neither ceil_mode nor divisor_override")
    size, padding = _pair(module.kernel_size), _pair(module.padding)
    stride = _pair(module.kernel_size if module.stride is None else module.stride)
    return _by_channel(np.ones(size) / prod(size), shape[0], stride, padding)


def _average_of_all(module: Any, shape: Shape) -> Convolution:
    if _pair(module.output_size) != (1, 1):
        raise DataError("an AdaptiveAvgPool2d must have output size 1: use AvgPool2d")
    return _by_channel(np.ones(shape[1:]) / prod(shape[1:]), shape[0])


def _by_channel(
    kernel: Array,
    channels: int,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
) -> Convolution:
    """Return a convolution that does the same to each channel."""
    kernels = np.eye(channels)[:, :, None, None] * kernel
    return Convolution(kernels, np.zeros(channels), stride, padding)


def _zeros_around(module: Any, shape: Shape) -> Convolution:
    left, right, top, bottom = module.padding
    if min(left, right, top, bottom) < 0:
        raise DataError("a ZeroPad2d must have no padding below 0")
    # a kernel with a one in its corner moves the input, so that the sides may differ
    across, down = max(left, right), max(top, bottom)
    kernel = np.zeros((2 * down - top - bottom + 1, 2 * across - left - right + 1))
    kernel[down - top, across - left] = 1.0
    return _by_channel(kernel, shape[0], padding=(down, across))


_CONVOLUTIONS: dict[str, Callable[[Any, Shape], Convolution]] = {
    "Conv2d": _convolution,
    "BatchNorm1d": _batch_norm,
    "BatchNorm2d": _batch_norm,
    "AvgPool2d": _average,
    "AdaptiveAvgPool2d": _average_of_all,
    "ZeroPad2d": _zeros_around,
}


def _is_point(convolution: Convolution) -> bool:
    """Tell whether a convolution maps the channels of each place by themselves."""
    sizes = (*convolution.kernel.shape[2:], *convolution.stride)
    return sizes == (1, 1, 1, 1) and convolution.padding == (0, 0)


def _matrix(made: Layer | Convolution | None, shape: Shape) -> Layer:
    if made is None:
        return _identity(prod(shape))
    return made if isinstance(made, Layer) else made.as_layer(shape)


def _identity(size: int) -> Layer:
    return Layer(np.eye(size), np.zeros(size))


def _behind(first: Layer, second: Layer) -> Layer:
    offsets = second.weights @ first.offsets + second.offsets
    return Layer(second.weights @ first.weights, offsets)


def _stacked(layers: Sequence[Layer]) -> Layer:
    """Return the outputs of all layers, which have the same inputs."""
    weights = np.vstack([layer.weights for layer in layers])
    return Layer(weights, np.concatenate([layer.offsets for layer in layers]))


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, tuple | list) else (value, value)
    return int(first), int(second)


def _offsets(module: Any) -> Array:
    return np.zeros(len(module.weight)) if module.bias is None else _array(module.bias)


def _array(tensor: Any) -> Array:
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64)
