"""Convolutions against scipy's, and networks read from modules that look like PyTorch's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import correlate2d

from fl_he.learning.errors import DataError
from fl_he.learning.voting.answering import AnsweringModel, Layer
from fl_he.learning.voting.layers import Convolution, from_sequential, network

RNG = np.random.default_rng(0)


def correlated(image: NDArray[np.float64], convolution: Convolution) -> NDArray[np.float64]:
    """Apply a convolution to an image of shape (channels, height, width) with scipy."""
    (down, across), (above, beside) = convolution.stride, convolution.padding
    padded = np.pad(image, ((0, 0), (above, above), (beside, beside)))
    return np.array(
        [
            sum(correlate2d(p, k, mode="valid") for p, k in zip(padded, kernels, strict=True))[
                ::down, ::across
            ]
            + offset
            for kernels, offset in zip(convolution.kernel, convolution.offsets, strict=True)
        ]
    )


@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 2)])
def test_a_convolution_is_scipys(stride: tuple[int, int], padding: tuple[int, int]) -> None:
    convolution = Convolution(RNG.normal(size=(3, 2, 3, 2)), RNG.normal(size=3), stride, padding)
    image = RNG.normal(size=(2, 7, 6))
    layer = convolution.as_layer(image.shape)
    wanted = correlated(image, convolution)
    assert convolution.output_shape(image.shape) == wanted.shape
    np.testing.assert_allclose(
        layer.weights @ image.reshape(-1) + layer.offsets, wanted.reshape(-1), atol=1e-12
    )


def test_a_network_has_a_relu_behind_each_layer_but_the_last() -> None:
    convolution = Convolution(RNG.normal(size=(2, 1, 3, 3)), RNG.normal(size=2), (2, 2), (1, 1))
    dense = Layer(RNG.normal(size=(4, 32)), RNG.normal(size=4))
    images = RNG.normal(size=(20, 64))
    wanted = []
    for image in images:
        units = np.maximum(correlated(image.reshape(1, 8, 8), convolution), 0.0).reshape(-1)
        wanted.append(int(np.argmax(dense.weights @ units + dense.offsets)))
    made = network([convolution, dense], (1, 8, 8))
    assert made.predict(images).tolist() == wanted
    assert len(set(wanted)) > 1


class Tensor:
    """Looks like a tensor of PyTorch's."""

    def __init__(self, values: NDArray[np.float64]) -> None:
        self.values = values

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> NDArray[np.float64]:
        return self.values

    def __len__(self) -> int:
        return len(self.values)


def module(kind: str, **members: Any) -> Any:
    return type(kind, (SimpleNamespace,), {})(**members)


def conv2d(kernel: NDArray[np.float64], **changes: Any) -> Any:
    plain = {"groups": 1, "dilation": (1, 1), "padding_mode": "zeros"}
    sizes = {"stride": (2, 2), "padding": (1, 1)}
    weights = {"weight": Tensor(kernel), "bias": Tensor(np.ones(len(kernel)))}
    return module("Conv2d", **{**plain, **sizes, **weights, **changes})


KERNEL = RNG.normal(size=(2, 1, 3, 3))
DENSE = RNG.normal(size=(4, 32))


def linear(weights: NDArray[np.float64] = DENSE) -> Any:
    return module("Linear", weight=Tensor(weights), bias=None)


def test_a_sequential_is_the_network_of_its_modules() -> None:
    modules = [conv2d(KERNEL), module("ReLU"), module("Flatten"), module("Dropout"), linear()]
    read = from_sequential(modules, (1, 8, 8))
    convolution = Convolution(KERNEL, np.ones(2), (2, 2), (1, 1))
    made = network([convolution, Layer(DENSE, np.zeros(4))], (1, 8, 8))
    images = RNG.normal(size=(30, 64))
    assert isinstance(read, AnsweringModel)
    assert read.predict(images).tolist() == made.predict(images).tolist()


@pytest.mark.parametrize(
    "modules",
    [
        [],
        [linear(), module("ReLU")],
        [linear(), linear()],
        [module("ReLU"), linear()],
        [conv2d(KERNEL), module("Sigmoid"), linear()],
        [conv2d(KERNEL), module("ReLU"), module("MaxPool2d"), linear()],
        [linear(RNG.normal(size=(32, 64))), module("ReLU"), conv2d(KERNEL)],
        [conv2d(KERNEL, groups=2), module("ReLU"), linear()],
        [conv2d(KERNEL, padding="same"), module("ReLU"), linear()],
        [conv2d(KERNEL, dilation=(2, 2)), module("ReLU"), linear()],
        [conv2d(RNG.normal(size=(2, 3, 3, 3))), module("ReLU"), linear()],
        [conv2d(RNG.normal(size=(2, 1, 11, 11))), module("ReLU"), linear()],
        [conv2d(KERNEL, stride=(0, 1)), module("ReLU"), linear()],
    ],
)
def test_what_cannot_be_evaluated_is_refused(modules: list[Any]) -> None:
    with pytest.raises(DataError):
        from_sequential(modules, (1, 8, 8))
