"""A small Flower app that really learns. It is written for Flower, without fl-he.

The same functions run in a plaintext federation and behind ``encryption_mod``. Their results
depend only on the node's partition and on the message, so that two runs can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import Mod
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.float64]]

#: How many clients there are; client k has 20 + 7 * k examples.
CLIENTS = 4
LEARNING_RATE = 0.05


def examples(client: int) -> int:
    """Return a client's number of examples."""
    return 20 + 7 * client


def data(client: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a client's features, shape (n, 4), and targets, shape (n,)."""
    rng = np.random.default_rng(100 + client)
    X = rng.normal(size=(examples(client), 4))
    return X, np.tanh(X[:, 0] - 0.5 * X[:, 1] * X[:, 2]) + 0.1 * rng.normal(size=len(X)) + 2.0


def initial_model() -> ArrayRecord:
    """Return a network of one hidden layer: a matrix, two vectors and an array of no dimensions."""
    rng = np.random.default_rng(1)
    return record(
        {
            "hidden.weight": rng.normal(size=(4, 3)),
            "hidden.bias": rng.normal(size=3),
            "head.weight": rng.normal(size=3),
            "head.bias": np.asarray(0.25),
        }
    )


def record(arrays: Arrays) -> ArrayRecord:
    """Return numpy arrays as a record."""
    return ArrayRecord({name: Array(np.asarray(values)) for name, values in arrays.items()})


def arrays(model: ArrayRecord) -> Arrays:
    """Return a record's arrays."""
    return {name: array.numpy() for name, array in model.items()}


def loss(model: Arrays, client: int) -> float:
    """Return the mean squared error on a client's data."""
    X, y = data(client)
    hidden = np.tanh(X @ model["hidden.weight"] + model["hidden.bias"])
    return float(np.mean((hidden @ model["head.weight"] + model["head.bias"] - y) ** 2))


def train(model: Arrays, client: int, steps: int, mu: float) -> Arrays:
    """Return the model after gradient descent on a client's data.

    ``mu`` is the proximal term's weight of FedProx (Li et al. 2020, section 3.2).
    """
    X, y = data(client)
    w = {name: values.copy() for name, values in model.items()}
    for _ in range(steps):
        hidden = np.tanh(X @ w["hidden.weight"] + w["hidden.bias"])
        error = 2 * (hidden @ w["head.weight"] + w["head.bias"] - y) / len(y)
        back = np.outer(error, w["head.weight"]) * (1 - hidden**2)
        gradient = {
            "hidden.weight": X.T @ back,
            "hidden.bias": back.sum(axis=0),
            "head.weight": hidden.T @ error,
            "head.bias": error.sum(),
        }
        w = {
            name: w[name] - LEARNING_RATE * (gradient[name] + mu * (w[name] - model[name]))
            for name in w
        }
    return w


def add_learning(app: ClientApp, train_mods: Sequence[Mod] = ()) -> ClientApp:
    """Register the app's functions and return it."""

    @app.train(mods=list(train_mods))
    def train_handler(message: Message, context: Context) -> Message:
        client = int(context.node_config["partition-id"])
        config = message.content.config_records["config"]
        model = arrays(message.content.array_records["arrays"])
        steps = int(str(config.get("steps", 5)))
        trained = train(model, client, steps, float(str(config.get("proximal-mu", 0.0))))
        if "local-noise" in config:
            # Flower's LocalDpMod draws its noise from here once this function has returned.
            np.random.seed([client, int(str(config["server-round"]))])  # noqa: NPY002
        metrics = MetricRecord(
            {
                "loss": loss(trained, client),
                # Weighted means of these show the participants and their numbers of steps.
                "member": [float(other == client) for other in range(CLIENTS)],
                "steps": [float(steps * (other == client)) for other in range(CLIENTS)],
                "num-examples": examples(client),
            }
        )
        content = RecordDict({"arrays": record(trained), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate_handler(message: Message, context: Context) -> Message:
        client = int(context.node_config["partition-id"])
        model = arrays(message.content.array_records["arrays"])
        metrics = MetricRecord({"loss": loss(model, client), "num-examples": examples(client)})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def weighted_mean(models: Sequence[Arrays], weights: Sequence[int]) -> Arrays:
    """Return the weighted mean of models."""
    return {
        name: np.asarray(np.average([model[name] for model in models], axis=0, weights=weights))
        for name in models[0]
    }


def config(message: Message) -> ConfigRecord:
    """Return the configuration that a message carries."""
    return message.content.config_records["config"]
