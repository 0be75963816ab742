"""Replies that an app may give, and a strategy's use of their mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from echo_app import CLIENTS, Reply, encrypted_app, grid, plain_app, plain_grid
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.exception import InconsistentMessageReplies
from flwr.serverapp.strategy import FedAvg, Result, Strategy
from numpy.typing import NDArray

from fl_he import Packing
from fl_he.clients import EncryptionMod, KeyHolderPolicy, with_key_holder
from fl_he.strategies import SequentialPaillier

EXAMPLES = [10, 20, 70]
SHAPES: dict[str, tuple[int, ...]] = {
    "of no dimensions": (),
    "vector": (5,),
    "a single value": (1, 1),
    "convolution": (2, 3, 3, 2),
    "empty": (0,),
    "empty matrix": (0, 4),
}
DTYPES = ["float16", "float32", "float64"]
TOLERANCE = {"float16": 1e-3, "float32": 1e-7, "float64": 1e-8}


def values(client: int, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    rng = np.random.default_rng([client, DTYPES.index(dtype), *shape])
    return np.asarray(rng.normal(size=shape)).astype(dtype)


def model(client: int) -> dict[str, NDArray[Any]]:
    return {
        f"{dtype}, {name}": values(client, dtype, shape)
        for dtype in DTYPES
        for name, shape in SHAPES.items()
    }


def record(arrays: dict[str, NDArray[Any]]) -> ArrayRecord:
    return ArrayRecord({name: Array(a) for name, a in arrays.items()})


def mean(arrays: Callable[[int], NDArray[Any]]) -> NDArray[np.float64]:
    """Return the weighted mean over the clients, in float64."""
    weighted = [arrays(k).astype(np.float64) * EXAMPLES[k] for k in range(CLIENTS)]
    return np.asarray(sum(weighted) / sum(EXAMPLES))


def mean_of(dtype: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return mean(lambda client: values(client, dtype, shape))


def run(reply: Reply, strategy: Strategy | None = None, rounds: int = 1) -> Result:
    inner = strategy or FedAvg(fraction_evaluate=0.0)
    encrypted = SequentialPaillier(inner, node_timeout=0.0)
    return encrypted.start(grid(encrypted_app(reply)), record(model(0)), num_rounds=rounds)


def all_shapes(client: int, _: Message) -> RecordDict:
    metrics = MetricRecord({"num-examples": EXAMPLES[client]})
    return RecordDict({"arrays": record(model(client)), "metrics": metrics})


@pytest.mark.parametrize("topology", ["fold", "chain"])
def test_any_shape_and_float_type(topology: str) -> None:
    encrypted = SequentialPaillier(
        FedAvg(fraction_evaluate=0.0), topology=topology, node_timeout=0.0
    )
    result = encrypted.start(grid(encrypted_app(all_shapes)), record(model(0)), num_rounds=1)
    assert list(result.arrays) == list(model(0))
    for dtype in DTYPES:
        for name, shape in SHAPES.items():
            got = result.arrays[f"{dtype}, {name}"].numpy()
            assert got.dtype == dtype
            assert got.shape == shape
            np.testing.assert_allclose(
                got, mean_of(dtype, shape), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
            )


def float16_error(result: Result) -> float:
    """Return the summed distance of the float16 arrays from their exact means."""
    error = 0.0
    for name, shape in SHAPES.items():
        got = result.arrays[f"float16, {name}"].numpy()
        error += float(np.abs(got - mean_of("float16", shape)).sum())
    return error


def test_float16_is_rounded_once_and_so_nearer_to_the_mean_than_flowers_own() -> None:
    plain = FedAvg(fraction_evaluate=0.0).start(
        plain_grid(plain_app(all_shapes)), record(model(0)), num_rounds=1
    )
    assert float16_error(run(all_shapes)) < float16_error(plain)


def two_records(client: int, _: Message) -> RecordDict:
    return RecordDict(
        {
            "body": record({"w": values(client, "float32", (2, 3)), "b": np.ones(2) * client}),
            "head": record({"w": values(client, "float64", (4,))}),
            "metrics": MetricRecord({"num-examples": EXAMPLES[client]}),
        }
    )


class Remembering(FedAvg):
    """Keeps the received replies, of any number of records."""

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        self.replies = list(replies)
        return None, None


def test_two_array_records_reach_a_strategy_that_wants_them() -> None:
    strategy = Remembering(fraction_evaluate=0.0)
    run(two_records, strategy)
    (reply,) = strategy.replies
    records = reply.content.array_records
    assert {key: list(record) for key, record in records.items()} == {
        "body": ["w", "b"],
        "head": ["w"],
    }
    body, head = records["body"]["w"].numpy(), records["head"]["w"].numpy()
    assert body.dtype == np.float32
    np.testing.assert_allclose(body, mean_of("float32", (2, 3)), rtol=1e-6)
    np.testing.assert_allclose(
        records["body"]["b"].numpy(), mean(lambda k: np.ones(2) * k), atol=1e-8
    )
    np.testing.assert_allclose(head, mean_of("float64", (4,)), atol=1e-8)


def test_flowers_fedavg_wants_one_array_record_with_and_without_encryption() -> None:
    plain = FedAvg(fraction_evaluate=0.0)
    with pytest.raises(InconsistentMessageReplies, match="exactly one ArrayRecord"):
        plain.start(plain_grid(plain_app(two_records)), record(model(0)), num_rounds=1)
    with pytest.raises(InconsistentMessageReplies, match="exactly one ArrayRecord"):
        run(two_records)


def test_extra_metrics_and_lists_of_them() -> None:
    def reply(client: int, message: Message) -> RecordDict:
        metrics: dict[str, Any] = {
            "a count": client,
            "quantiles": [0.1 * client, -2.0, 1e-3],
            "num-examples": EXAMPLES[client],
            "accuracy": 0.5 + 0.1 * client,
        }
        content = RecordDict({"a name": MetricRecord(metrics)})
        if message.metadata.message_type == "train":
            content["weights"] = record({"w": np.ones(3) * client})
        return content

    result = run(reply, FedAvg(), rounds=2)
    k = (10 * 0 + 20 * 1 + 70 * 2) / 100
    for metrics in (result.train_metrics_clientapp[2], result.evaluate_metrics_clientapp[2]):
        assert set(metrics) == {"a count", "quantiles", "accuracy"}
        assert metrics["a count"] == pytest.approx(k, abs=1e-7)
        assert metrics["accuracy"] == pytest.approx(0.5 + 0.1 * k, abs=1e-7)
        assert metrics["quantiles"] == pytest.approx([0.1 * k, -2.0, 1e-3], abs=1e-7)


def test_a_strategy_with_other_keys() -> None:
    def reply(client: int, message: Message) -> RecordDict:
        assert "model" in message.content.array_records
        assert message.content.config_records["settings"]["server-round"] == 1
        return RecordDict(
            {
                "model": record({"w": np.ones(3) * client}),
                "metrics": MetricRecord({"patients": EXAMPLES[client], "num-examples": 1}),
            }
        )

    app = encrypted_app(reply, mods=[EncryptionMod(weighted_by="patients")])
    inner = FedAvg(
        fraction_evaluate=0.0,
        weighted_by_key="patients",
        arrayrecord_key="model",
        configrecord_key="settings",
    )
    encrypted = SequentialPaillier(inner, node_timeout=0.0)
    result = encrypted.start(grid(app), record(model(0)), num_rounds=1)
    np.testing.assert_allclose(result.arrays["w"].numpy(), np.full(3, 1.6), atol=1e-7)
    assert result.train_metrics_clientapp[1] == {"num-examples": pytest.approx(1)}


def test_the_aggregation_of_metrics_gets_one_record_that_holds_the_means() -> None:
    seen: list[list[RecordDict]] = []

    def aggregate(records: list[RecordDict], weighted_by: str) -> MetricRecord:
        seen.append(records)
        assert weighted_by == "num-examples"
        return MetricRecord({"called": len(seen)})

    def reply(client: int, _: Message) -> RecordDict:
        metrics = MetricRecord({"loss": float(client), "num-examples": EXAMPLES[client]})
        return RecordDict({"arrays": record({"w": np.ones(1)}), "metrics": metrics})

    result = run(reply, FedAvg(train_metrics_aggr_fn=aggregate, evaluate_metrics_aggr_fn=aggregate))
    assert result.train_metrics_clientapp[1] == {"called": 1}
    assert result.evaluate_metrics_clientapp[1] == {"called": 2}
    for records in seen:
        (only,) = records
        assert only.metric_records["metrics"] == {
            "loss": pytest.approx(1.6, abs=1e-7),
            "num-examples": 100,
        }


def test_a_wider_range_is_set_in_three_places() -> None:
    packing = Packing(integer_bits=30)
    policy = KeyHolderPolicy(packing=packing, key_bits=1024)

    def reply(client: int, _: Message) -> RecordDict:
        metrics = MetricRecord({"num-examples": EXAMPLES[client]})
        return RecordDict({"arrays": record({"w": np.full(2, -(2.0**23))}), "metrics": metrics})

    app = plain_app(reply, [EncryptionMod(lambda _: packing)])
    encrypted = SequentialPaillier(FedAvg(fraction_evaluate=0.0), packing=packing, node_timeout=0.0)
    result = encrypted.start(
        grid(with_key_holder(app, lambda _: policy)), record(model(0)), num_rounds=1
    )
    np.testing.assert_allclose(result.arrays["w"].numpy(), -(2.0**23), rtol=1e-12)
