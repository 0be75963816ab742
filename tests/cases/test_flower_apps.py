"""Flower apps of other people: situations from issue threads, against plain Flower's mean.

Each app runs in plain and then encrypted, with the two lines of docs/integrate.md. Where plain
Flower has no right answer itself, the right one is given. Metrics: test_flower_metrics.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from echo_app import encrypted_app, grid
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdam, FedAvg
from local_grid import simulated_nodes
from other_apps import (
    EXAMPLES,
    HOSPITALS,
    AppReply,
    Arrays,
    InOrder,
    W,
    arrays_of,
    encrypted,
    mean_over,
    moved,
    plain,
    record,
    reply_of,
    round_of,
)
from quick import slow_but

from fl_he.wire.records import ProtocolError


def assert_same(got: ArrayRecord, expected: ArrayRecord, dtypes: Arrays) -> None:
    """Compare with plain Flower's arrays, whose own rounding in float16 and float32 is coarser."""
    assert list(got) == list(expected)
    for name, array in arrays_of(expected).items():
        values, dtype = got[name].numpy(), np.asarray(dtypes[name]).dtype
        assert values.dtype == dtype, name
        assert values.shape == array.shape, name
        if dtype.kind in "biu":
            np.testing.assert_array_equal(values, np.rint(array).astype(dtype), err_msg=name)
        else:
            tolerance = {"float16": 2e-3, "float32": 1e-6}.get(dtype.name, 1e-7)
            np.testing.assert_allclose(values, array, rtol=tolerance, atol=tolerance, err_msg=name)


@dataclass(frozen=True)
class Case:
    """An app that trains as in plain Flower, with its source and its documented result."""

    source: str
    model: Arrays
    app: AppReply = lambda client, message: (moved(client, message), {"loss": 1.0 / (client + 1)})
    told: str = ""
    rounds: int = 2
    ways: dict[str, Any] = field(default_factory=dict)


RNG = np.random.default_rng(3)


def adapters_only(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
    """LoRA: the frozen layers are not sent back; the app has them."""
    model = arrays_of(message.content.array_records["arrays"])
    return {k: a + client for k, a in model.items() if "lora" in k}, {}


def counted(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
    """Each client does its own number of batches."""
    model = moved(client, message)
    model["bn.num_batches_tracked"] = np.asarray(np.int64(3 * client + round_of(message)))
    return model, {"loss": 0.5}


def masked(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
    return {"mask": np.array([True, client > 1, client > 2, False])}, {"loss": 0.5}


def quantised(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
    rng = np.random.default_rng([client, round_of(message)])
    low = rng.integers(-128, 128, (4, 5)).astype("int8")
    high = rng.integers(0, 256, 7).astype("uint8")
    return {"q.weight": low, "q.scale": rng.random(1).astype("float32"), "q.offset": high}, {}


SAME_AS_PLAIN = {
    "BatchNorm's counter, integer of no dimensions": Case(
        "cases/README.md; NVIDIA/NVFlare#156; flwrlabs/flower#886",
        {**W, "bn.running_var": np.ones(3, "float32"), "bn.num_batches_tracked": np.asarray(7)},
        rounds=1,
    ),
    "counters that differ from hospital to hospital": Case(
        "TsingZ0/PFLlib#269",
        {**W, "bn.num_batches_tracked": np.asarray(0)},
        counted,
        told="the mean of the array 'bn.num_batches_tracked' is rounded to its type, int64",
    ),
    "integers that no pattern names": Case(
        "cases/README.md",
        {**W, "bn.num_batches_tracked": np.asarray(7)},
        rounds=1,
        ways={"encrypt": ["w"]},
    ),
    "integers in plain": Case(
        "APPFL/APPFL#86",
        {**W, "bn.num_batches_tracked": np.asarray(7)},
        rounds=1,
        ways={"integers": "plain"},
    ),
    "scalars of no dimensions": Case("flwrlabs/flower#5824", {"temperature": np.asarray(0.25)}),
    "arrays without values": Case(
        "flwrlabs/flower#886",
        {**W, "empty": np.empty((0, 3)), "none": np.empty(0, "int64")},
        rounds=1,
    ),
    "half precision": Case("NVIDIA/NVFlare#3059", {"w": RNG.normal(size=(3, 4)).astype("float16")}),
    "weights quantised to 8 bits": Case(
        "NVIDIA/NVFlare#3222",
        {
            "q.weight": np.zeros((4, 5), "int8"),
            "q.scale": np.ones(1, "float32"),
            "q.offset": np.zeros(7, "uint8"),
        },
        quantised,
        told="the mean of the array 'q.weight' is rounded to its type, int8",
    ),
    "masks of truth values": Case(
        "VectorInstitute/FL4Health#197",
        {"mask": np.ones(4, bool)},
        masked,
        told="the mean of the array 'mask' is rounded to its type, bool",
    ),
    "arrays in Fortran's order": Case(
        "numpy's own file format",
        {"w": np.asfortranarray(RNG.normal(size=(3, 4)))},
    ),
    "large models in units that are not small": Case(
        "flwrlabs/flower#2342", {"w": np.array([1e5, -1e5, 1e-7])}
    ),
}


@pytest.mark.filterwarnings("ignore:only arrays named like", "ignore:arrays of integers are not")
@pytest.mark.parametrize("topology", slow_but(["fold", "chain"], "fold"))
@pytest.mark.parametrize("name", SAME_AS_PLAIN)
def test_the_arrays_are_plain_flowers(
    name: str, topology: str, caplog: pytest.LogCaptureFixture
) -> None:
    case = SAME_AS_PLAIN[name]
    reply = reply_of(case.app)
    expected = plain(reply, case.model, rounds=case.rounds)
    result = encrypted(reply, case.model, rounds=case.rounds, topology=topology, **case.ways)
    assert_same(result.arrays, expected.arrays, case.model)
    for got, wanted in zip(
        result.train_metrics_clientapp.values(),
        expected.train_metrics_clientapp.values(),
        strict=True,
    ):
        assert got == pytest.approx(dict(wanted), abs=1e-6)
    assert case.told in caplog.text
    assert caplog.text.count(case.told) == 1 or not case.told, "the same is told once"


def test_lora_adapters_alone_come_back() -> None:
    """Source: NVIDIA/NVFlare#3959."""
    model = {"base.weight": np.ones((8, 8)), "lora_A": np.ones((2, 8)), "lora_B": np.zeros((8, 2))}
    reply = reply_of(adapters_only)
    expected = plain(reply, model, rounds=1)
    result = encrypted(reply, model, rounds=1)
    assert list(result.arrays) == ["lora_A", "lora_B"]
    assert_same(result.arrays, expected.arrays, model)


def test_server_side_optimizers_with_integer_state() -> None:
    """Source: flwrlabs/flower#1060."""
    model = {**W, "bn.num_batches_tracked": np.asarray(7)}
    reply = reply_of(lambda k, m: ({**moved(k, m), "bn.num_batches_tracked": np.asarray(9)}, {}))
    expected = plain(reply, model, inner=FedAdam(fraction_evaluate=0.0))
    result = encrypted(reply, model, inner=FedAdam(fraction_evaluate=0.0))
    for name in model:
        np.testing.assert_allclose(
            result.arrays[name].numpy(), expected.arrays[name].numpy(), rtol=1e-6
        )


@pytest.mark.parametrize("topology", ["fold", "chain"])
def test_integers_that_stay_at_the_hospitals(topology: str) -> None:
    """Source: secretflow/secretflow#1009. BatchNorm's counter is the hospital's own."""
    seen: dict[tuple[int, int], int] = {}

    def app(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
        model = moved(client, message)
        seen[client, round_of(message)] = int(model["count"]) - client - 1
        return model, {}

    start = {"first": np.asarray(100), **W, "count": np.asarray(5)}
    result = encrypted(reply_of(app), start, rounds=3, integers="local", topology=topology)
    assert seen == {
        (client, number): 5 + (number - 1) * (client + 1)
        for client in range(HOSPITALS)
        for number in (1, 2, 3)
    }
    assert list(result.arrays) == list(start), "a model keeps its arrays, in their order"
    assert (int(result.arrays["count"].numpy()), int(result.arrays["first"].numpy())) == (5, 100)
    mean = np.average([1, 2, 3, 4], weights=EXAMPLES)
    np.testing.assert_allclose(result.arrays["w"].numpy(), W["w"] + 3 * mean, atol=1e-6)


def test_a_kept_integer_takes_no_place_of_another_shape() -> None:
    class Resizing(FedAvg):
        def configure_train(
            self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
        ) -> Iterable[Message]:
            for message in super().configure_train(server_round, arrays, config, grid):
                message.content["arrays"] = record({**W, "n": np.full(server_round, 8)})
                yield message

    seen = set[tuple[int, ...]]()

    def app(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
        model = arrays_of(message.content.array_records["arrays"])
        seen.add(tuple(model["n"].tolist()))
        return {**model, "n": np.full(1, 3)}, {}

    strategy = Resizing(fraction_evaluate=0.0)
    encrypted(reply_of(app), {**W, "n": np.full(1, 8)}, inner=strategy, integers="local")
    assert seen == {(8,), (8, 8)}


@pytest.mark.filterwarnings("ignore:only arrays named like")
def test_a_value_in_plain_that_is_not_finite_spoils_no_model() -> None:
    def app(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
        return {"w": np.ones(3), "p": np.full(2, math.nan if client == 1 else 1.0)}, {}

    with pytest.raises(ProtocolError, match=r"hospital-2: a value of an array .* is not finite"):
        encrypted(reply_of(app), {**W, "p": np.ones(2)}, encrypt=["w"])


class Both(FedAvg):
    """Keeps control variates in addition to the model, as SCAFFOLD's server does."""

    controls: ArrayRecord

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        (reply,) = replies
        self.controls = reply.content.array_records["controls"]
        metrics = reply.content.metric_records["metrics"]
        return reply.content.array_records["arrays"], metrics


def test_two_array_records_as_scaffold_has_them() -> None:
    """Source: fedbiomed/fedbiomed#342, VectorInstitute/FL4Health#19."""

    def reply(client: int, message: Message) -> RecordDict:
        content = reply_of(lambda k, m: (moved(k, m), {}))(client, message)
        content["controls"] = record({"w": np.full(3, 0.1 * client), "steps": np.asarray(client)})
        return content

    strategy = Both(fraction_evaluate=0.0)
    result = encrypted(reply, W, rounds=1, inner=strategy)
    mean = np.average([1, 2, 3, 4], weights=EXAMPLES)
    np.testing.assert_allclose(result.arrays["w"].numpy(), W["w"] + mean, atol=1e-7)
    np.testing.assert_allclose(strategy.controls["w"].numpy(), 0.1 * (mean - 1), atol=1e-7)
    assert int(strategy.controls["steps"].numpy()) == round(mean - 1)


class Sent(Both):
    """Sends the control variates as well."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        for message in super().configure_train(server_round, arrays, config, grid):
            message.content["controls"] = self.controls
            yield message


@pytest.mark.parametrize("whole", [True, False])
def test_integers_of_one_name_in_two_records_stay_apart(whole: bool) -> None:
    """SCAFFOLD with BatchNorm: the counter, and its control variate, which may be a float."""
    seen: dict[tuple[int, int], tuple[int, float]] = {}

    def reply(client: int, message: Message) -> RecordDict:
        records = message.content.array_records
        count = int(records["arrays"]["n"].numpy())
        seen[client, round_of(message)] = count, float(records["controls"]["n"].numpy())
        content = reply_of(lambda *_: ({**W, "n": np.asarray(count + 1)}, {}))(client, message)
        mine = np.asarray(100 * (client + 1)) if whole else np.asarray(0.5 * client)
        content["controls"] = record({"n": mine})
        return content

    strategy = Sent(fraction_evaluate=0.0)
    strategy.controls = record({"n": np.asarray(0 if whole else 0.0)})
    encrypted(reply, {**W, "n": np.asarray(5)}, inner=strategy, integers="local")
    mean = mean_over([0.0, 0.5, 1.0, 1.5], [0, 1, 2, 3])
    for client in range(HOSPITALS):
        control = 100 * (client + 1) if whole else pytest.approx(mean, abs=1e-7)
        assert (seen[client, 1], seen[client, 2]) == ((5, 0.0), (6, control))


def test_a_hospital_that_comes_late() -> None:
    """Source: flwrlabs/flower#1485, epfml/disco#718. The fourth one joins in round 2."""
    app = reply_of(lambda client, message: (moved(client, message), {"loss": 0.5}))
    nodes = grid(
        encrypted_app(app), [*simulated_nodes(HOSPITALS)[:3], simulated_nodes(HOSPITALS)[-1]]
    )
    late = simulated_nodes(HOSPITALS)[3]

    class Late(FedAvg):
        def aggregate_train(
            self, server_round: int, replies: Iterable[Message]
        ) -> tuple[ArrayRecord | None, MetricRecord | None]:
            nodes.join(2000, late)
            return super().aggregate_train(server_round, replies)

    result = encrypted(app, W, inner=Late(fraction_evaluate=0.0), nodes=nodes)
    first, second = mean_over([1, 2, 3, 4], [0, 1, 2]), mean_over([1, 2, 3, 4], [0, 1, 2, 3])
    np.testing.assert_allclose(result.arrays["w"].numpy(), W["w"] + first + second, atol=1e-6)


DIFFERENT: dict[str, tuple[str, Arrays, str]] = {
    "another number of classes": (
        "flwrlabs/flower#1368, secretflow/secretflow#1331",
        {"w": np.ones(3), "head": np.ones((2, 6))},
        r"it has the array 'head' of type float64 and shape \(2, 6\), and the others have "
        r"'head' of type float64 and shape \(2, 2\)",
    ),
    "Opacus's prefix": (
        "meta-pytorch/opacus#435",
        {"_module.w": np.ones(3), "_module.head": np.ones((2, 2))},
        r"it has the array '_module\.w', and the others do not",
    ),
    "an array less": (
        "mapillary/inplace_abn#130",
        {"w": np.ones(3)},
        "it lacks the array 'head', which the others have",
    ),
    "another type": (
        "NVIDIA/NVFlare#3059",
        {"w": np.ones(3, "float32"), "head": np.ones((2, 2))},
        r"it has the array 'w' of type float32 and shape \(3,\), and the others have 'w' of type",
    ),
    "another order": (
        "roytseng-tw/Detectron.pytorch#118",
        {"head": np.ones((2, 2)), "w": np.ones(3)},
        "it has its arrays in another order than the others, from 'head' on",
    ),
}


@pytest.mark.parametrize(("topology", "odd"), [("fold", 0), ("fold", 2), ("chain", 0)])
@pytest.mark.parametrize("name", DIFFERENT)
def test_a_hospital_whose_arrays_differ_is_skipped_and_the_array_named(
    name: str, topology: str, odd: int, caplog: pytest.LogCaptureFixture
) -> None:
    _, arrays, words = DIFFERENT[name]

    def app(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
        right = {"w": np.full(3, float(client)), "head": np.ones((2, 2))}
        return (arrays if client == odd else right), {"loss": 0.5}

    result = encrypted(reply_of(app), W, inner=InOrder(), topology=topology)
    expected = mean_over([0.0, 1.0, 2.0, 3.0], [k for k in range(HOSPITALS) if k != odd])
    np.testing.assert_allclose(result.arrays["w"].numpy(), expected, atol=1e-7)
    (line, again) = [m for m in caplog.messages if "is skipped in this round" in m]
    assert line == again
    assert line.startswith(f"hospital-{odd + 1} is skipped")
    assert re.search(words, line)


def bfloat16(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
    """Return the bytes of bfloat16 as numpy writes them for ml_dtypes: of type void."""
    return {"w": np.zeros(3, "V2")}, {}


def of_objects(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
    return {"w": np.array([None, {}], dtype=object)}, {}


REFUSED: dict[str, tuple[str, AppReply, str]] = {
    "no example anywhere": (
        "flwrlabs/flower#7708",
        lambda client, message: (moved(client, message), {"num-examples": 0}),
        "the total of 'num-examples' must be positive: at least one hospital must have examples",
    ),
    "bfloat16": ("NVIDIA/NVFlare#3273", bfloat16, "got void16: convert it, or leave it out"),
    "arrays of objects": ("flwrlabs/flower#2550", of_objects, "Object arrays cannot be saved"),
    "metrics of numpy's types": (
        "fedbiomed/fedbiomed#289",
        lambda client, message: (moved(client, message), {"mse": np.float32(0.5)}),
        "TypeError: .*numpy.float32.* was passed",
    ),
    "a model that has diverged": (
        "flwrlabs/flower#2342",
        lambda client, message: ({"w": np.full(3, 1e9)}, {}),
        r"the array 'w' at \[0\] does not fit its slot .*: raise integer_bits",
    ),
    "NaN weights": (
        "londonaicentre/FLIP#764",
        lambda client, message: ({"w": np.full(3, math.nan)}, {}),
        r"the array 'w' at \[0\] is NaN or infinite once weighted .*: lower the learning rate",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_to_do(name: str) -> None:
    _, app, words = REFUSED[name]
    with pytest.raises(ProtocolError, match=words):
        encrypted(reply_of(app), W)


def test_a_config_record_in_a_reply_is_refused() -> None:
    """Source: flwrlabs/flower#1385. Values that are no metrics at all."""

    def reply(client: int, message: Message) -> RecordDict:
        content = reply_of(lambda k, m: (moved(k, m), {}))(client, message)
        content["notes"] = ConfigRecord({"phase": "warm-up"})
        return content

    with pytest.raises(ProtocolError, match="cannot be averaged, so leave it out, or make it a"):
        encrypted(reply, W)


def batch_norm_app(client: int, message: Message) -> tuple[Arrays, dict[str, Any]]:
    """Train a network with batch normalisation by gradient descent, five batches in a round.

    As PyTorch's ``BatchNorm1d`` does, with momentum 0.1 and the counter in int64.
    """
    w = {k: a.copy() for k, a in arrays_of(message.content.array_records["arrays"]).items()}
    rng = np.random.default_rng(client)
    X = rng.normal(client, 1.0 + client, size=(EXAMPLES[client], 4))
    y = np.sin(X[:, 0]) + X[:, 1]
    for batch in np.array_split(np.arange(len(X)), 5):
        mean, variance = X[batch].mean(axis=0), X[batch].var(axis=0)
        Z = (X[batch] - mean) / np.sqrt(variance + 1e-5)
        error = (Z * w["bn.weight"] + w["bn.bias"]) @ w["head.weight"] - y[batch]
        back = np.outer(error, w["head.weight"]) / len(batch)
        head = (Z * w["bn.weight"] + w["bn.bias"]).T @ error / len(batch)
        w["bn.weight"] -= 0.05 * (Z * back).sum(axis=0)
        w["bn.bias"] -= 0.05 * back.sum(axis=0)
        w["head.weight"] -= 0.05 * head
        w["bn.running_mean"] += 0.1 * (mean - w["bn.running_mean"])
        w["bn.running_var"] += 0.1 * (variance - w["bn.running_var"])
        w["bn.num_batches_tracked"] = np.asarray(w["bn.num_batches_tracked"] + 1)
    return w, {"loss": float(np.mean(error**2))}


@pytest.mark.parametrize("topology", ["fold", "chain"])
def test_an_app_with_batch_normalisation_trains_to_plain_flowers_arrays(topology: str) -> None:
    model = {
        "bn.weight": np.ones(4),
        "bn.bias": np.zeros(4),
        "bn.running_mean": np.zeros(4),
        "bn.running_var": np.ones(4),
        "bn.num_batches_tracked": np.asarray(0),
        "head.weight": np.linspace(-0.5, 0.5, 4),
    }
    reply = reply_of(batch_norm_app)
    expected = plain(reply, model, rounds=5)
    result = encrypted(reply, model, rounds=5, topology=topology)
    for name, array in arrays_of(expected.arrays).items():
        np.testing.assert_allclose(result.arrays[name].numpy(), array, atol=1e-6, err_msg=name)
    assert result.arrays["bn.num_batches_tracked"].numpy() == 25
    assert result.arrays["bn.num_batches_tracked"].numpy().dtype == np.int64
