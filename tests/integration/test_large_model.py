"""Large models in Ray: three rounds, three clients."""

from __future__ import annotations

import os

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from fl_he.bench.fresh import PeakMemory
from fl_he.clients import encryption_mod, with_key_holder
from fl_he.experiment.ray_engine import run_in_ray
from fl_he.strategies import EncryptedSum, SequentialPaillier

INPUTS, OUTPUTS = 399, 250
CLIENTS, ROUNDS = 3, 3
EXAMPLES = [30, 40, 50]

Model = dict[str, NDArray[np.float32]]


def data(client: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(client)
    truth = np.random.default_rng(99).normal(size=(INPUTS, OUTPUTS))
    X = rng.normal(size=(EXAMPLES[client], INPUTS))
    return X, X @ truth + 1.0


def loss(model: Model, client: int) -> float:
    X, y = data(client)
    return float(np.mean((X @ model["weight"] + model["bias"] - y) ** 2))


def train(model: Model, client: int) -> Model:
    """Return a linear model after two steps of gradient descent."""
    X, y = data(client)
    weight, bias = model["weight"].astype(np.float64), model["bias"].astype(np.float64)
    for _ in range(2):
        error = X @ weight + bias - y
        weight, bias = weight - 0.02 * X.T @ error / len(y), bias - 0.02 * error.mean(axis=0)
    return {"weight": weight.astype(np.float32), "bias": bias.astype(np.float32)}


def start() -> Model:
    return {
        "weight": np.zeros((INPUTS, OUTPUTS), np.float32),
        "bias": np.zeros(OUTPUTS, np.float32),
    }


def record(model: Model) -> ArrayRecord:
    return ArrayRecord({name: Array(values) for name, values in model.items()})


def app() -> ClientApp:
    app = with_key_holder(ClientApp(mods=[encryption_mod]))

    @app.train()
    def train_handler(message: Message, context: Context) -> Message:
        client = int(context.node_config["partition-id"])
        received = message.content.array_records["arrays"]
        trained = train({name: array.numpy() for name, array in received.items()}, client)
        metrics = MetricRecord({"loss": loss(trained, client), "num-examples": EXAMPLES[client]})
        content = RecordDict({"arrays": record(trained), "metrics": metrics})
        return Message(content, reply_to=message)

    return app


@pytest.mark.release
def test_a_model_of_100_000_parameters() -> None:
    strategy = SequentialPaillier(FedAvg(fraction_evaluate=0.0, min_train_nodes=CLIENTS))
    result = run_in_ray(
        lambda grid: strategy.start(grid, record(start()), num_rounds=ROUNDS), app(), CLIENTS + 1
    )

    model = start()
    assert sum(values.size for values in model.values()) == 100_000
    for server_round in range(1, ROUNDS + 1):
        trained = [train(model, client) for client in range(CLIENTS)]
        model = {
            name: np.average(
                [t[name].astype(np.float64) for t in trained], axis=0, weights=EXAMPLES
            ).astype(np.float32)
            for name in model
        }
        mean_loss = np.average([loss(t, c) for c, t in enumerate(trained)], weights=EXAMPLES)
        got = result.train_metrics_clientapp[server_round]["loss"]
        assert isinstance(got, float)
        np.testing.assert_allclose(got, mean_loss, rtol=1e-6)
    for name, values in model.items():
        trained_values = result.arrays[name].numpy()
        assert trained_values.dtype == np.float32
        scale = float(np.abs(values).max())
        np.testing.assert_allclose(trained_values, values, rtol=0, atol=1e-6 * scale)

    assert strategy.roster.public_key.key_bits == 2048
    # 35 numbers of 58 bits in a ciphertext: 100,000 parameters, a loss and two counts.
    assert {s.ciphertexts for s in strategy.sums} == {-(-100_003 // 35)}
    losses = [m["loss"] for m in result.train_metrics_clientapp.values()]
    assert losses == sorted(losses, reverse=True)


@pytest.mark.release
def test_a_model_of_ten_million_parameters_within_8_gib() -> None:
    """A mean of ten million numbers that is known, without the time of a real training."""
    values = 10_000_000
    app = with_key_holder(ClientApp(mods=[encryption_mod]))

    @app.train()
    def train_handler(message: Message, context: Context) -> Message:
        client = int(context.node_config["partition-id"])
        received = message.content.array_records["arrays"]["w"].numpy()
        arrays = ArrayRecord({"w": Array(received * np.float32(0.5) + np.float32(client))})
        metrics = MetricRecord({"num-examples": EXAMPLES[client]})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    strategy = EncryptedSum(FedAvg(fraction_evaluate=0.0, min_train_nodes=CLIENTS))
    first = np.random.default_rng(4).normal(size=values).astype(np.float32)
    start = ArrayRecord({"w": Array(first)})
    with PeakMemory(os.getpid()) as memory:
        result = run_in_ray(
            lambda grid: strategy.start(grid, start, num_rounds=ROUNDS), app, CLIENTS + 1
        )

    model = first
    for _ in range(ROUNDS):
        trained = [(model * np.float32(0.5) + np.float32(client)) for client in range(CLIENTS)]
        means = np.average([t.astype(np.float64) for t in trained], axis=0, weights=EXAMPLES)
        model = means.astype(np.float32)
    np.testing.assert_allclose(result.arrays["w"].numpy(), model, rtol=0, atol=1e-6)
    assert [one.ciphertexts for one in strategy.sums] == [1] * ROUNDS
    print(f"{memory.bytes / 2**30:.2f} GiB at the peak")
    assert values * 4 < memory.bytes < 8 * 2**30
