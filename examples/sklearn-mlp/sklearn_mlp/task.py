"""The model, its weights as arrays, and the data. Nothing here knows of encryption."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

PIXELS = 64
CLASSES = np.arange(10)

Split = tuple[NDArray[np.float64], NDArray[np.int64]]


def new_model(hidden_units: int) -> MLPClassifier:
    """Return a network with the same random weights everywhere."""
    model = MLPClassifier(hidden_layer_sizes=(hidden_units,), learning_rate_init=0.01)
    model.random_state = 0
    # scikit-learn makes the weights when it sees data first.
    return model.partial_fit(np.zeros((10, PIXELS)), CLASSES, classes=CLASSES)


def weights(model: MLPClassifier) -> ArrayRecord:
    """Return a network's weights, layer by layer."""
    layers = zip(model.coefs_, model.intercepts_, strict=True)
    arrays = {}
    for number, (coefficients, intercepts) in enumerate(layers):
        arrays[f"layer{number}.weight"] = Array(coefficients)
        arrays[f"layer{number}.bias"] = Array(intercepts)
    return ArrayRecord(arrays)


def set_weights(model: MLPClassifier, arrays: ArrayRecord) -> None:
    """Give a network the weights of a record."""
    for number in range(len(model.coefs_)):
        model.coefs_[number] = arrays[f"layer{number}.weight"].numpy().copy()
        model.intercepts_[number] = arrays[f"layer{number}.bias"].numpy().copy()


def load_data(hospital: int, hospitals: int) -> tuple[Split, Split]:
    """Return one hospital's images and labels, four fifths to train on and one to evaluate on."""
    features, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(10).permutation(len(labels))
    mine = np.array_split(order, hospitals)[hospital]
    train, test = np.split(mine, [len(mine) * 4 // 5])
    return (features[train] / 16, labels[train]), (features[test] / 16, labels[test])
