"""The network, its training, and the data. Nothing here knows of encryption."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray
from sklearn.datasets import load_digits

PIXELS, CLASSES = 64, 10
BATCH, LEARNING_RATE = 50, 0.05

Floats = NDArray[np.float32]
Weights = dict[str, Floats]
Split = tuple[Floats, NDArray[np.int64]]


def new_model(hidden_units: int, rank: int) -> Weights:
    """Return a network of three layers with the same random weights everywhere.

    The middle layer of shape (hidden_units, hidden_units) has an adapter, the product of
    two matrices of `rank` columns and rows (Hu et al. 2022, section 4). It is zero at the start.
    """
    random = np.random.default_rng(0)

    def layer(inputs: int, outputs: int) -> Floats:
        return random.standard_normal((inputs, outputs), np.float32) * np.float32(
            (2 / inputs) ** 0.5
        )

    return {
        "input.weight": layer(PIXELS, hidden_units),
        "middle.weight": layer(hidden_units, hidden_units),
        "adapter.down": layer(hidden_units, rank),
        "adapter.up": np.zeros((rank, hidden_units), np.float32),
        "output.weight": layer(hidden_units, CLASSES) * np.float32(0.1),
        "output.bias": np.zeros(CLASSES, np.float32),
    }


def trained_names(train: str) -> tuple[str, ...]:
    """Return the names of the arrays that are trained and sent: ``all``, or ``adapters``."""
    head = ("output.weight", "output.bias")
    if train == "adapters":
        return ("adapter.down", "adapter.up", *head)
    return ("input.weight", "middle.weight", *head)


def record(model: Weights, names: tuple[str, ...]) -> ArrayRecord:
    """Return the arrays that are sent."""
    return ArrayRecord({name: Array(model[name]) for name in names})


def fit(model: Weights, features: Floats, labels: NDArray[np.int64], train: str) -> float:
    """Pass over the images once by gradient descent; return the mean cross-entropy."""
    names, losses = trained_names(train), []
    for at in range(0, len(labels), BATCH):
        x, y = features[at : at + BATCH], labels[at : at + BATCH]
        first, second, logits = _forward(model, x)
        chances = _softmax(logits)
        losses.append(-np.log(chances[np.arange(len(y)), y]).mean())
        slope = (chances - np.eye(CLASSES, dtype=np.float32)[y]) / len(y)
        gradients = {"output.weight": second.T @ slope, "output.bias": slope.sum(axis=0)}
        slope = (slope @ model["output.weight"].T) * (second > 0)
        if train == "adapters":
            gradients["adapter.up"] = (first @ model["adapter.down"]).T @ slope
            gradients["adapter.down"] = first.T @ (slope @ model["adapter.up"].T)
        else:
            gradients["middle.weight"] = first.T @ slope
            slope = (slope @ model["middle.weight"].T) * (first > 0)
            gradients["input.weight"] = x.T @ slope
        for name in names:
            model[name] -= np.float32(LEARNING_RATE) * gradients[name]
    return float(np.mean(losses))


def accuracy(model: Weights, features: Floats, labels: NDArray[np.int64]) -> float:
    """Return the share of images whose digit the network names."""
    return float((_forward(model, features)[2].argmax(axis=1) == labels).mean())


def load_data(hospital: int, hospitals: int) -> tuple[Split, Split]:
    """Return one hospital's images and labels, four fifths to train on and one to evaluate on."""
    features, labels = load_digits(return_X_y=True)
    features = (features / 16).astype(np.float32)
    mine = np.array_split(np.random.default_rng(10).permutation(len(labels)), hospitals)[hospital]
    train, test = np.split(mine, [len(mine) * 4 // 5])
    return (features[train], labels[train]), (features[test], labels[test])


def _forward(model: Weights, x: Floats) -> tuple[Floats, Floats, Floats]:
    first = np.maximum(x @ model["input.weight"], 0)
    middle = first @ model["middle.weight"] + first @ model["adapter.down"] @ model["adapter.up"]
    second = np.maximum(middle, 0)
    return first, second, second @ model["output.weight"] + model["output.bias"]


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances: Floats = powers / powers.sum(axis=1, keepdims=True)
    return chances
