"""Convolutions against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import correlate2d

from fl_he.learning.errors import DataError
from fl_he.learning.voting.answering import Layer
from fl_he.learning.voting.layers import Convolution, network

RNG = np.random.default_rng(0)


def correlated(image: NDArray[np.float64], convolution: Convolution) -> NDArray[np.float64]:
    """Apply a convolution to an image of shape (channels, height, width) with scipy."""
    (down, across), (above, left) = convolution.stride, convolution.padding
    padded = np.pad(image, ((0, 0), (above, above), (left, left)))
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


def test_matrices_that_are_too_large_are_refused_before_one_is_made() -> None:
    huge = Convolution(np.ones((1, 1, 1, 1)), np.zeros(1), padding=(10_000, 10_000))
    with pytest.raises(DataError, match="must hold at most 16777216 numbers in all"):
        network([huge], (1, 1, 1))
    dense = Layer(np.broadcast_to(0.0, (4000, 4000)), np.zeros(4000))
    with pytest.raises(DataError, match="got 32000000 up to layer 1"):
        network([dense, dense], (1, 1, 4000))
