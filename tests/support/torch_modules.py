"""Modules with the class names and attributes of PyTorch's, and their forward pass by scipy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import correlate2d

Numbers = NDArray[np.float64]


class Tensor:
    """Looks like a tensor of PyTorch's."""

    def __init__(self, values: Numbers) -> None:
        self.values = values

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> Numbers:
        return self.values

    def __len__(self) -> int:
        return len(self.values)


def module(kind: str, **members: Any) -> Any:
    return type(kind, (SimpleNamespace,), {})(**members)


def _random(which: int, *shape: int) -> Tensor:
    """Return random numbers, the same for any order of tests."""
    return Tensor(np.random.default_rng((24, which, *shape)).normal(size=shape))


def conv2d(
    outputs: int, inputs: int, size: int = 3, *, stride: int = 1, padding: int = 0, **changes: Any
) -> Any:
    """Return a Conv2d with random weights."""
    per_group = inputs // int(changes.get("groups", 1))
    weight = _random(0, outputs, per_group, size, size)
    plain = {"groups": 1, "dilation": (1, 1), "padding_mode": "zeros", "weight": weight}
    sizes = {"stride": (stride, stride), "padding": (padding, padding)}
    bias = {"bias": _random(1, outputs)}
    return module("Conv2d", **{**plain, **sizes, **bias, **changes})


def linear(outputs: int, inputs: int, *, bias: bool = True) -> Any:
    """Return a Linear with random weights."""
    offsets = _random(1, outputs) if bias else None
    return module("Linear", weight=_random(0, outputs, inputs), bias=offsets)


def batch_norm(kind: str, channels: int, *, affine: bool = True) -> Any:
    """Return a BatchNorm1d or BatchNorm2d with random statistics."""
    weight, bias = (_random(which, channels) if affine else None for which in range(2))
    return module(
        kind,
        running_mean=_random(2, channels),
        running_var=Tensor(np.exp(_random(3, channels).values / 4)),
        eps=1e-5,
        weight=weight,
        bias=bias,
    )


def average(size: int, *, stride: int | None = None, padding: int = 0, **changes: Any) -> Any:
    """Return an AvgPool2d."""
    plain = {"ceil_mode": False, "count_include_pad": True, "divisor_override": None}
    sizes = {"kernel_size": size, "stride": stride, "padding": padding}
    return module("AvgPool2d", **{**plain, **sizes, **changes})


RELU, FLATTEN, DROPOUT = module("ReLU"), module("Flatten"), module("Dropout")


def forward(modules: Iterable[Any], x: Numbers) -> Numbers:
    """Return the output for one input of shape (channels, height, width)."""
    for one in modules:
        x = _STEPS[type(one).__name__](one, x)
    return x


def _conv2d(one: Any, x: Numbers) -> Numbers:
    kernels, (down, across) = one.weight.values, one.stride
    above, left = one.padding
    padded = np.pad(x, ((0, 0), (above, above), (left, left)))
    each = len(kernels) // one.groups
    planes = []
    for number, kernel in enumerate(kernels):
        start = number // each * kernel.shape[0]
        inputs = padded[start : start + kernel.shape[0]]
        plane = sum(correlate2d(i, k, mode="valid") for i, k in zip(inputs, kernel, strict=True))
        offset = 0.0 if one.bias is None else one.bias.values[number]
        planes.append(plane[::down, ::across] + offset)
    return np.array(planes)


def _batch_norm(one: Any, x: Numbers) -> Numbers:
    sizes = (-1, *[1] * (x.ndim - 1))
    mean, variance = one.running_mean.values, one.running_var.values
    scaled = (x - mean.reshape(sizes)) / np.sqrt(variance.reshape(sizes) + one.eps)
    if one.weight is None:
        return np.asarray(scaled)
    return np.asarray(scaled * one.weight.values.reshape(sizes) + one.bias.values.reshape(sizes))


def _average(one: Any, x: Numbers) -> Numbers:
    size, pad = one.kernel_size, one.padding
    stride = size if one.stride is None else one.stride
    sides = ((0, 0), (pad, pad), (pad, pad))
    padded, counted = np.pad(x, sides), np.pad(np.ones_like(x), sides)
    if one.count_include_pad:
        counted = np.ones_like(counted)
    rows, columns = ((n - size) // stride + 1 for n in padded.shape[1:])
    out = np.empty((len(x), rows, columns))
    for row, column in np.ndindex(rows, columns):
        window = np.s_[
            :, row * stride : row * stride + size, column * stride : column * stride + size
        ]
        out[:, row, column] = padded[window].sum(axis=(1, 2)) / counted[window].sum(axis=(1, 2))
    return out


def _zeros(one: Any, x: Numbers) -> Numbers:
    left, right, top, bottom = one.padding
    return np.pad(x, ((0, 0), (top, bottom), (left, right)))


def _linear(one: Any, x: Numbers) -> Numbers:
    offsets = 0.0 if one.bias is None else one.bias.values
    return np.asarray(one.weight.values @ x + offsets)


_STEPS: dict[str, Callable[[Any, Numbers], Numbers]] = {
    "Conv2d": _conv2d,
    "Linear": _linear,
    "BatchNorm1d": _batch_norm,
    "BatchNorm2d": _batch_norm,
    "AvgPool2d": _average,
    "AdaptiveAvgPool2d": lambda _, x: x.mean(axis=(1, 2), keepdims=True),
    "ZeroPad2d": _zeros,
    "ReLU": lambda _, x: np.maximum(x, 0.0),
    "Flatten": lambda _, x: x.reshape(-1),
    "Dropout": lambda _, x: x,
    "Sequential": forward,
    "Residual": lambda one, x: forward(one.body, x) + forward(one.shortcut, x),
}
