"""Networks read from modules that look like PyTorch's, against their forward pass by scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch_modules as tm
from torch_modules import DROPOUT, FLATTEN, RELU, Numbers, module

from fl_he.learning.errors import DataError
from fl_he.learning.voting.answering import AnsweringModel
from fl_he.learning.voting.layers import Convolution
from fl_he.learning.voting.sequential import Residual, folded, from_sequential

SHAPE = (2, 8, 7)


def scores(model: AnsweringModel, x: Numbers) -> Numbers:
    for layer in model.layers[:-1]:
        x = np.maximum(layer.weights @ x + layer.offsets, 0.0)
    return np.asarray(model.layers[-1].weights @ x + model.layers[-1].offsets)


def conv_bn(*sizes: int, **changes: Any) -> list[Any]:
    return [tm.conv2d(*sizes, **changes), tm.batch_norm("BatchNorm2d", sizes[0])]


def block(channels: int, *inner: Any, shortcut: Any = ()) -> Residual:
    body = [*conv_bn(channels, channels, 3, padding=1), RELU, *inner]
    return Residual([*body, tm.conv2d(channels, channels, 3, padding=1)], shortcut)


NETWORKS: dict[str, tuple[list[Any], list[int]]] = {
    # modules, and the outputs of each layer
    "plain": ([tm.conv2d(3, 2, stride=2), RELU, FLATTEN, tm.linear(4, 27)], [27, 4]),
    "one layer": ([FLATTEN, tm.linear(4, 112), DROPOUT], [4]),
    "linear maps in a row": (
        [FLATTEN, tm.linear(30, 112), tm.linear(6, 30, bias=False), RELU, tm.linear(4, 6)],
        [6, 4],
    ),
    "batch normalisation": (
        [
            *conv_bn(3, 2, padding=1),
            RELU,
            FLATTEN,
            tm.linear(9, 168),
            tm.batch_norm("BatchNorm1d", 9, affine=False),
            RELU,
            tm.linear(4, 9),
        ],
        [168, 9, 4],
    ),
    "batch normalisation first": (
        [
            tm.batch_norm("BatchNorm2d", 2),
            tm.conv2d(3, 2, padding=1),
            RELU,
            FLATTEN,
            tm.linear(4, 168),
        ],
        [168, 4],
    ),
    "average pooling": (
        [
            tm.conv2d(3, 2, padding=1),
            tm.average(2),
            RELU,
            tm.average(2, stride=1, padding=1),
            FLATTEN,
            tm.linear(4, 60),
        ],
        [36, 4],
    ),
    "average without the padding": (
        [
            tm.average(3, stride=2, padding=1, count_include_pad=False),
            tm.conv2d(3, 2),
            RELU,
            FLATTEN,
            tm.linear(4, 12),
        ],
        [12, 4],
    ),
    "point convolution with padding": (
        [tm.conv2d(3, 2), tm.conv2d(3, 3, 1, padding=1), RELU, FLATTEN, tm.linear(4, 168)],
        [168, 4],
    ),
    "average of all": (
        [
            tm.conv2d(5, 2),
            RELU,
            module("AdaptiveAvgPool2d", output_size=1),
            FLATTEN,
            tm.linear(4, 5),
        ],
        [150, 4],
    ),
    "uneven zeros": (
        [
            module("ZeroPad2d", padding=(1, 0, 2, 1)),
            tm.conv2d(3, 2, 5, stride=2),
            RELU,
            FLATTEN,
            tm.linear(4, 24),
        ],
        [24, 4],
    ),
    "groups": ([tm.conv2d(4, 2, groups=2), RELU, FLATTEN, tm.linear(4, 120)], [120, 4]),
    # two channels of each group, which is not every second channel
    "groups of channels": (
        [tm.conv2d(4, 2), RELU, tm.conv2d(6, 4, groups=2), RELU, FLATTEN, tm.linear(4, 72)],
        [120, 72, 4],
    ),
    "in a Sequential": (
        [
            type("Sequential", (list,), {})([tm.conv2d(3, 2, stride=2), RELU]),
            FLATTEN,
            tm.linear(4, 27),
        ],
        [27, 4],
    ),
    "two ReLUs": ([tm.conv2d(3, 2, stride=2), RELU, RELU, FLATTEN, tm.linear(4, 27)], [27, 4]),
    "linear residual": (
        [Residual([tm.conv2d(2, 2, padding=1)]), RELU, FLATTEN, tm.linear(4, 112)],
        [112, 4],
    ),
    # units of a ReLU carry the shortcut: as many again
    "residual behind a ReLU": (
        [tm.conv2d(3, 2, stride=2), RELU, block(3), RELU, FLATTEN, tm.linear(4, 27)],
        [27, 54, 27, 4],
    ),
    # the input's positive and negative parts: twice as many
    "residual of the input": (
        [block(2), RELU, FLATTEN, tm.linear(4, 112)],
        [112 + 224, 112, 4],
    ),
    "residual behind a linear map": (
        [
            tm.conv2d(3, 2, stride=2),
            RELU,
            *conv_bn(2, 3, padding=1),
            block(2),
            FLATTEN,
            tm.linear(4, 18),
        ],
        [27, 18 + 27, 4],
    ),
    "shortcut with a stride": (
        [
            tm.conv2d(3, 2),
            RELU,
            Residual(
                [tm.conv2d(4, 3, stride=2), RELU, tm.conv2d(4, 4, 3, padding=1)],
                shortcut=conv_bn(4, 3, 3, stride=2),
            ),
            RELU,
            FLATTEN,
            tm.linear(4, 16),
        ],
        [90, 16 + 90, 16, 4],
    ),
    "two ReLUs inside": (
        [
            tm.conv2d(3, 2, stride=2),
            RELU,
            block(3, *conv_bn(3, 3, padding=1), RELU),
            RELU,
            FLATTEN,
            tm.linear(4, 27),
        ],
        [27, 54, 54, 27, 4],
    ),
    "residual in a residual": (
        [
            tm.conv2d(3, 2, stride=2),
            RELU,
            block(3, block(3), RELU),
            RELU,
            block(3),
            FLATTEN,
            tm.linear(4, 27),
        ],
        [27, 54, 81, 54, 27, 54, 4],
    ),
    "residual first in a residual": (
        [Residual([block(2), tm.conv2d(2, 2, padding=1), RELU]), FLATTEN, tm.linear(4, 112)],
        [112 + 224 + 224, 112 + 224, 4],
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_network_gives_what_its_modules_give(name: str) -> None:
    modules, outputs = NETWORKS[name]
    read = from_sequential(modules, SHAPE)
    assert [len(layer.offsets) for layer in read.layers] == outputs
    for image in np.random.default_rng(1).normal(size=(10, *SHAPE)):
        wanted = tm.forward(modules, image)
        np.testing.assert_allclose(scores(read, image.reshape(-1)), wanted, rtol=1e-9, atol=1e-9)


def test_convolutions_stay_convolutions_with_a_batch_normalisation_folded_in() -> None:
    modules = [*conv_bn(3, 2, stride=2), RELU, *conv_bn(4, 3), RELU, FLATTEN, tm.linear(4, 4)]
    kinds = [isinstance(layer, Convolution) for layer in folded(modules, SHAPE)]
    assert kinds == [True, True, False]


@pytest.mark.parametrize(
    ("modules", "reason"),
    [
        ([], "must end with a linear module"),
        ([FLATTEN, tm.linear(4, 112), RELU], "must end with a linear module"),
        ([tm.conv2d(3, 2), module("Sigmoid")], r"must be of Linear, ReLU, Conv2d, .* got Sigmoid$"),
        ([module("MaxPool2d")], "got MaxPool2d: a maximum is not linear; train with AvgPool2d, or"),
        ([module("AdaptiveMaxPool2d")], "train with AvgPool2d"),
        ([tm.conv2d(3, 2), tm.linear(4, 7)], "a Linear must have 90 inputs here"),
        ([tm.linear(4, 112), tm.conv2d(3, 2)], "a convolution must have 4 input channels"),
        ([tm.conv2d(3, 2, padding=1, dilation=(2, 2))], "has a dilation"),
        ([module("Conv2d", dilation=(1, 1), padding_mode="zeros", padding="same")], "number of"),
        ([tm.conv2d(3, 2, padding_mode="reflect")], "zeros"),
        ([tm.conv2d(2, 3)], "must have 2 input channels"),
        ([tm.conv2d(2, 2, 9)], "must fit its input"),
        ([tm.conv2d(2, 2, stride=0)], "stride must be above 0"),
        ([tm.average(2, ceil_mode=True)], "neither ceil_mode"),
        ([tm.average(2, divisor_override=3)], "nor divisor_override"),
        ([module("AdaptiveAvgPool2d", output_size=(2, 2))], "must have output size 1"),
        ([module("ZeroPad2d", padding=(1, 1, -1, 0))], "no padding below 0"),
        ([module("BatchNorm2d", running_mean=None, running_var=None)], "has no running statistics"),
        ([Residual([tm.conv2d(3, 2)])], "must have one shape, got"),
        (
            [Residual([], [tm.conv2d(2, 2, 1), RELU])],
            "the shortcut of a Residual has a ReLU: it must be linear",
        ),
    ],
)
def test_modules_that_cannot_be_folded_are_refused_by_name(modules: list[Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        from_sequential(modules, SHAPE)


def test_modules_of_pytorch_itself_are_read() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    nn = torch.nn
    network = nn.Sequential(
        nn.ZeroPad2d((1, 0, 1, 0)),
        nn.Conv2d(2, 4, 3, groups=2),
        nn.BatchNorm2d(4),
        nn.AvgPool2d(2, padding=1, count_include_pad=False),
        nn.ReLU(),
        nn.Conv2d(4, 3, 2),
        nn.Dropout(),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(3, 5),
        nn.BatchNorm1d(5),
    ).double()
    network(torch.randn(20, *SHAPE, dtype=torch.float64))  # statistics
    network.eval()
    images = torch.randn(10, *SHAPE, dtype=torch.float64)
    read, wanted = from_sequential(network, SHAPE), network(images).detach().numpy()
    for image, one in zip(images.numpy(), wanted, strict=True):
        np.testing.assert_allclose(scores(read, image.reshape(-1)), one, atol=1e-9)
