"""Flower's strategies inside SequentialPaillier give the same results as without it.

All strategies share two grids, one plain and one encrypted. In the encrypted one they also share a
company X, which opens each round once. Apps on Flower's own engine: test_examples.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod, fixedclipping_mod
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.serverapp import Grid
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedProx,
    FedYogi,
    Result,
    Strategy,
)
from later import Later
from small_app import (
    CLIENTS,
    Arrays,
    add_learning,
    arrays,
    config,
    examples,
    initial_model,
    train,
    weighted_mean,
)

from fl_he.clients import KeyHolderPolicy, encryption_mod, with_key_holder
from fl_he.experiment.local_grid import LocalGrid, simulated_nodes
from fl_he.strategies import SequentialPaillier

ROUNDS = 3
SAMPLED = 3
STEPS = "steps"


def rmse(records: list[RecordDict], weighted_by: str) -> MetricRecord:
    """Return the root of the weighted mean loss, and over how many examples it was taken."""
    metrics = [record.metric_records["metrics"] for record in records]
    weights = [float(str(m[weighted_by])) for m in metrics]
    mean = np.average([float(str(m["loss"])) for m in metrics], weights=weights)
    return MetricRecord({"rmse": sqrt(mean), "examples": sum(weights)})


class OwnSteps(FedAvg):
    """Tell each node another number of steps."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Give the n-th node n steps, the next round one more."""
        messages = super().configure_train(server_round, arrays, config, grid)
        for number, message in enumerate(messages):
            own = ConfigRecord({**config, STEPS: server_round + number})
            content = RecordDict({"arrays": arrays, "config": own})
            metadata = message.metadata
            yield Message(content, metadata.dst_node_id, metadata.message_type)


ALL_NODES: dict[str, Any] = {
    "min_train_nodes": CLIENTS,
    "min_available_nodes": CLIENTS,
    "fraction_evaluate": 0.0,
}


def clipped(noise_multiplier: float) -> Strategy:
    return DifferentialPrivacyClientSideFixedClipping(
        FedAvg(**ALL_NODES), noise_multiplier, 0.2, CLIENTS
    )


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "FedAvg": lambda: FedAvg(**ALL_NODES),
    "FedAvgM": lambda: FedAvgM(**ALL_NODES, server_learning_rate=0.8, server_momentum=0.9),
    "FedAdam": lambda: FedAdam(**ALL_NODES),
    "FedYogi": lambda: FedYogi(**ALL_NODES),
    "FedAdagrad": lambda: FedAdagrad(**ALL_NODES),
    "FedProx": lambda: FedProx(**ALL_NODES, proximal_mu=2.0),
    "clipped": lambda: clipped(0.0),
    "clipped, with noise": lambda: clipped(0.05),
    "local noise": lambda: FedAvg(**ALL_NODES),
    "own aggregation of metrics": lambda: FedAvg(
        min_train_nodes=CLIENTS,
        min_evaluate_nodes=CLIENTS,
        min_available_nodes=CLIENTS,
        train_metrics_aggr_fn=rmse,
        evaluate_metrics_aggr_fn=rmse,
    ),
    "some of the nodes": lambda: FedAvg(
        **{**ALL_NODES, "min_train_nodes": SAMPLED}, fraction_train=0.75
    ),
    "own steps": lambda: OwnSteps(**ALL_NODES),
}
TRAIN_CONFIG = {"local noise": ConfigRecord({"local-noise": True})}


def encrypted(strategy: Strategy, number: int) -> Strategy:
    """Return the strategy wrapped, for the number-th run of a session."""
    done = number * ROUNDS
    topology = "chain" if number % 2 else "fold"
    return Later(SequentialPaillier(Later(strategy, -done), topology=topology), done)


def run_all(grid: Grid, wrap: Callable[[Strategy, int], Strategy]) -> dict[str, Result]:
    """Run all strategies, one after another, from the same seeds."""
    results = {}
    for number, (name, make) in enumerate(STRATEGIES.items()):
        random.seed(number)  # Flower samples nodes from here
        np.random.seed(number)  # noqa: NPY002 - and its noise from here
        results[name] = wrap(make(), number).start(
            grid, initial_model(), num_rounds=ROUNDS, train_config=TRAIN_CONFIG.get(name)
        )
    return results


def when(key: str, mod: Mod) -> Mod:
    """Return the mod for messages whose configuration holds the key, so that runs can share it."""

    def chosen(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if key in config(message):
            return mod(message, context, call_next)
        return call_next(message, context)

    return chosen


def app(mods: list[Mod]) -> ClientApp:
    local_noise = LocalDpMod(clipping_norm=0.3, sensitivity=0.01, epsilon=5.0, delta=1e-5)
    train_mods = [when("clipping_norm", fixedclipping_mod), when("local-noise", local_noise)]
    return add_learning(ClientApp(mods=mods), train_mods)


@dataclass
class Runs:
    plain: dict[str, Result] = field(default_factory=dict)
    encrypted: dict[str, Result] = field(default_factory=dict)


@pytest.fixture(scope="module")
def runs() -> Runs:
    policy = KeyHolderPolicy(key_bits=1024)
    ours = with_key_holder(app([encryption_mod]), lambda _: policy)
    return Runs(
        run_all(LocalGrid(app([]), simulated_nodes(CLIENTS)), lambda strategy, _: strategy),
        run_all(LocalGrid(ours, simulated_nodes(CLIENTS + 1)), encrypted),
    )


def check_close(actual: Arrays, expected: Arrays) -> None:
    """Assert that the arrays are equal to 1e-6, relative to the largest value of each."""
    assert list(actual) == list(expected)
    for name, values in expected.items():
        assert actual[name].dtype == values.dtype
        assert actual[name].shape == values.shape
        np.testing.assert_allclose(
            actual[name], values, rtol=0, atol=1e-6 * float(np.abs(values).max()), err_msg=name
        )


@pytest.mark.parametrize(
    "name", [n for n in STRATEGIES if n not in ("some of the nodes", "own steps")]
)
def test_encrypted_equals_plain(runs: Runs, name: str) -> None:
    result = runs.encrypted[name]
    check_close(arrays(result.arrays), arrays(runs.plain[name].arrays))
    metrics = runs.plain[name].train_metrics_clientapp
    assert list(result.train_metrics_clientapp) == list(metrics) == [1, 2, 3]
    for server_round, plain in metrics.items():
        for key, value in plain.items():
            assert result.train_metrics_clientapp[server_round][key] == pytest.approx(
                value, rel=1e-6, abs=1e-7
            )


def test_the_runs_differ_in_what_their_strategies_do(runs: Runs) -> None:
    """Otherwise the comparison above would show nothing."""
    ends = [result.arrays["hidden.weight"].numpy() for result in runs.plain.values()]
    same = [
        (i, j)
        for i in range(len(ends))
        for j in range(i)
        if np.allclose(ends[i], ends[j], rtol=1e-4)
    ]
    names = list(STRATEGIES)
    assert {(names[i], names[j]) for i, j in same} == {("own aggregation of metrics", "FedAvg")}
    moved = arrays(runs.plain["FedAvg"].arrays)["hidden.weight"]
    assert not np.allclose(moved, arrays(initial_model())["hidden.weight"], rtol=0.01)


def test_metrics_are_aggregated_by_the_users_function(runs: Runs) -> None:
    result, plain = (r["own aggregation of metrics"] for r in (runs.encrypted, runs.plain))
    total = sum(map(examples, range(CLIENTS)))
    for server_round in range(1, ROUNDS + 1):
        train_metrics = result.train_metrics_clientapp[server_round]
        assert set(train_metrics) == {"rmse", "examples"}
        evaluated = result.evaluate_metrics_clientapp[server_round]
        assert evaluated["examples"] == train_metrics["examples"] == total
        assert evaluated["rmse"] == pytest.approx(
            plain.evaluate_metrics_clientapp[server_round]["rmse"], rel=1e-6
        )


def participants(metrics: MetricRecord) -> dict[int, int]:
    """Return the participants and their numbers of steps, from the weighted means."""
    member, steps = metrics["member"], metrics[STEPS]
    assert isinstance(member, list)
    assert isinstance(steps, list)
    return {
        client: round(steps[client] / share) for client, share in enumerate(member) if share > 1e-6
    }


def check_replayed(result: Result) -> list[dict[int, int]]:
    """Assert that a run gave the results of its participants in this process; return them."""
    model = arrays(initial_model())
    rounds = [participants(metrics) for metrics in result.train_metrics_clientapp.values()]
    for took_part in rounds:
        trained = [train(model, client, steps, 0.0) for client, steps in took_part.items()]
        model = weighted_mean(trained, [examples(client) for client in took_part])
    check_close(arrays(result.arrays), model)
    return rounds


@pytest.mark.parametrize("kind", ["plain", "encrypted"])
def test_some_of_the_nodes(runs: Runs, kind: str) -> None:
    rounds = check_replayed(getattr(runs, kind)["some of the nodes"])
    assert [len(took_part) for took_part in rounds] == [SAMPLED] * ROUNDS


@pytest.mark.parametrize("kind", ["plain", "encrypted"])
def test_each_node_is_told_something_else(runs: Runs, kind: str) -> None:
    rounds = check_replayed(getattr(runs, kind)["own steps"])
    assert [sorted(took_part.values()) for took_part in rounds] == [
        [1, 2, 3, 4],
        [2, 3, 4, 5],
        [3, 4, 5, 6],
    ]
