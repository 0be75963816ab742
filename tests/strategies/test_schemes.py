"""Masks and Paillier: the same totals bit for bit, in each topology, for any updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from echo_app import encrypted_app, grid
from flwr.app import Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg, Result
from local_grid import LocalGrid, simulated_nodes
from lost_replies import error_of
from masked_transcripts import schemes_in
from numpy.typing import NDArray
from other_apps import Arrays, InOrder, record, round_of
from quick import slow

from fl_he.clients import EncryptionMod
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.schemes import MASKS, PAILLIER, SCHEMES
from fl_he.strategies import EncryptedSum
from fl_he.strategies.opened_sum import MisfitError
from fl_he.wire.encrypted_sum import DECRYPT, DecryptReply, MisfitReply

TOPOLOGIES: list[dict[str, Any]] = [
    {"topology": "fold"},
    {"topology": "chain"},
    {"topology": "chain", "segments": 2},
    {"topology": "chain", "segments": "auto"},
]
THREE_WAYS = pytest.mark.parametrize("settings", TOPOLOGIES[:3], ids=str)
EXAMPLES = (10, 20, 30, 60, 7)
MODEL: Arrays = {
    "w": np.array([[1.0, -2.0, 0.5], [1e4, 1e-7, -3.0]]),
    "half": np.array([0.25, 3.0], "float16"),
    "count": np.asarray(7),
}
#: Returns the arrays and metrics of a hospital, from its number and the round.
Change = Callable[[int, int, Arrays, dict[str, Any]], tuple[Arrays, dict[str, Any]]]


def update(client: int, number: int) -> Arrays:
    """Return a hospital's arrays of a round, the same each time."""
    rng = np.random.default_rng([client, number])
    return {
        "w": rng.normal(scale=1e3, size=(2, 3)),
        "half": rng.normal(size=2).astype("float16"),
        "count": np.asarray(rng.integers(-100, 100)),
    }


def loss(client: int, number: int) -> float:
    return 1.0 / (client + number + 1)


def mean_of(name: str, number: int, clients: Sequence[int]) -> NDArray[np.float64]:
    values = [np.asarray(update(k, number)[name], dtype=np.float64) for k in clients]
    mean = np.average(values, axis=0, weights=[EXAMPLES[k] for k in clients])
    return np.asarray(mean, dtype=np.float64)


def mean_loss(number: int, clients: Sequence[int]) -> float:
    return float(
        np.average([loss(k, number) for k in clients], weights=[EXAMPLES[k] for k in clients])
    )


@dataclass
class Run:
    """One run: its result, and all messages."""

    strategy: EncryptedSum
    grid: LocalGrid
    result: Result | None = None

    @property
    def done(self) -> Result:
        assert self.result is not None
        return self.result

    @property
    def schemes(self) -> set[str]:
        """Schemes of all sums in messages."""
        messages = self.grid.sent + self.grid.received
        return schemes_in(messages, self.strategy.roster.public_key)

    @property
    def bits(self) -> object:
        """All numbers of the run, to the bit, but for bytes and seconds that it took."""
        opened = [
            DecryptReply.from_content(reply.content).total.tobytes()
            for reply in self.grid.received
            if reply.metadata.message_type == DECRYPT
        ]
        result = self.done
        metrics = result.train_metrics_clientapp, result.evaluate_metrics_clientapp
        arrays = {name: (a.dtype, a.shape, a.data) for name, a in result.arrays.items()}
        return (
            *(opened, arrays, repr(metrics)),  # all digits of floats, and NaN equals NaN
            [(s.purpose, s.round, s.contributors, s.examples) for s in self.strategy.sums],
            [[one.name for one in s.skipped] for s in self.strategy.sums],
        )


class Evaluating(InOrder):
    """Evaluates the model as well."""

    def __init__(self) -> None:
        super().__init__()
        self.fraction_evaluate = 1.0


class Failing:
    """A network on which the first replies of some hospitals are errors, or lost."""

    def __init__(self, clients: Sequence[int]) -> None:
        self.left = set(clients)

    def __call__(self, reply: Message) -> Message | None:
        client = reply.metadata.src_node_id - 1000
        if reply.metadata.message_type != "train" or client not in self.left:
            return reply
        self.left.remove(client)
        if client % 2:
            return None
        return error_of(reply, 6, "not today")


def app_of(change: Change) -> Callable[[int, Message], RecordDict]:
    def reply(client: int, message: Message) -> RecordDict:
        number = round_of(message)
        arrays, metrics = change(
            *(client, number, update(client, number), {"loss": loss(client, number)})
        )
        content = RecordDict(
            {"metrics": MetricRecord({"num-examples": EXAMPLES[client], **metrics})}
        )
        if message.metadata.message_type == "train":
            content["arrays"] = record(arrays)
        return content

    return reply


def run_of(
    scheme: str,
    *,
    hospitals: int = 3,
    change: Change = lambda client, number, arrays, metrics: (arrays, metrics),
    network: Callable[[], Callable[[Message], Message | None]] = lambda: lambda reply: reply,
    inner: Callable[[], FedAvg] = InOrder,
    ways: Mapping[str, Any] = {},
    **settings: Any,
) -> Run:
    """Return a run that has not begun."""
    app = encrypted_app(app_of(change), [EncryptionMod(**ways)])
    nodes = grid(app, simulated_nodes(hospitals))
    nodes.tamper = network()
    settings = {"node_timeout": 0.0, "hop_timeout": 5.0, **ways, **settings}
    return Run(EncryptedSum(inner(), scheme=scheme, **settings), nodes)


def both(rounds: int = 2, **settings: Any) -> Run:
    """Run with each scheme; the bits must be the same. Return the run with masks."""
    masks, paillier = (run_of(scheme, **settings) for scheme in SCHEMES)
    for run in (masks, paillier):
        run.result = run.strategy.start(run.grid, record(MODEL), num_rounds=rounds)
    assert (masks.schemes, paillier.schemes) == ({MASKS}, {PAILLIER})
    assert masks.bits == paillier.bits
    return masks


def check_arrays(run: Run, number: int, clients: Sequence[int], *names: str) -> None:
    for name in names or MODEL:
        mean = mean_of(name, number, clients)
        array = run.done.arrays[name].numpy()
        assert array.dtype == MODEL[name].dtype
        if array.dtype.kind in "ib":
            assert int(array) == np.rint(mean)
        else:
            tolerance = 1e-3 if array.dtype == np.float16 else 1e-6
            np.testing.assert_allclose(array, mean, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("hospitals", [3, 5])
@pytest.mark.parametrize("settings", TOPOLOGIES, ids=str)
def test_the_weighted_mean(settings: dict[str, Any], hospitals: int) -> None:
    run = both(hospitals=hospitals, inner=Evaluating, **settings)
    check_arrays(run, 2, range(hospitals))
    expected = pytest.approx(mean_loss(1, range(hospitals)), abs=1e-7)
    assert run.done.train_metrics_clientapp[1]["loss"] == expected
    assert run.done.evaluate_metrics_clientapp[1]["loss"] == expected
    assert [s.examples for s in run.strategy.sums] == [sum(EXAMPLES[:hospitals])] * 4


@THREE_WAYS
def test_metrics_that_some_hospitals_lack(settings: dict[str, Any]) -> None:
    """The first hospital has no AUC, another's is NaN in round 1, and a third has one more."""

    def change(
        client: int, number: int, arrays: Arrays, metrics: dict[str, Any]
    ) -> tuple[Arrays, dict[str, Any]]:
        if client:
            metrics["auc"] = math.nan if (client, number) == (1, 1) else 0.1 * client
        if client == 3:
            metrics["curve"] = [0.5, 1.5]
        return arrays, metrics

    run = both(hospitals=5, change=change, **settings)
    check_arrays(run, 2, range(5))
    second = run.done.train_metrics_clientapp[2]
    weights = EXAMPLES[1:]
    assert second["auc"] == pytest.approx(np.average([0.1, 0.2, 0.3, 0.4], weights=weights))
    assert second["loss"] == pytest.approx(mean_loss(2, range(5)), abs=1e-7)
    assert np.isnan(second["curve"]).all(), "a metric of one hospital is told to nobody"


@pytest.mark.filterwarnings("ignore:only arrays named like", "ignore:arrays of integers are not")
@pytest.mark.parametrize(
    "ways",
    [
        {"encrypt": ["w"]},
        {"encrypt": ["half", "count"]},
        {"integers": "plain"},
        {"integers": "local"},
    ],
    ids=str,
)
@pytest.mark.parametrize("settings", TOPOLOGIES[:2], ids=str)
def test_arrays_that_are_not_encrypted(settings: dict[str, Any], ways: dict[str, Any]) -> None:
    run = both(ways=ways, **settings)
    names = ["w", "half"]
    if ways.get("integers") == "local":
        assert int(run.done.arrays["count"].numpy()) == MODEL["count"]
    else:
        names.append("count")
    check_arrays(run, 2, range(3), *names)


def test_values_as_large_as_there_is_room_for() -> None:
    """Each hospital's value is the largest that fits, of one sign or the other."""
    largest = 2.0 ** Packing().integer_bits - 2.0 ** -Packing().fraction_bits
    signs = (1, -1, 1, 1)

    def change(
        client: int, number: int, arrays: Arrays, metrics: dict[str, Any]
    ) -> tuple[Arrays, dict[str, Any]]:
        edge = signs[client] * largest / EXAMPLES[client]
        return {**arrays, "w": np.array([[edge, -edge, 0.0], [0.0, 0.0, 2.0**-24]])}, metrics

    run = both(1, hospitals=4, change=change)
    mean = 2 * largest / sum(EXAMPLES[:4])
    expected = [[mean, -mean, 0.0], [0.0, 0.0, 2.0**-24]]
    np.testing.assert_allclose(run.done.arrays["w"].numpy(), expected, rtol=1e-12, atol=1e-7)


@THREE_WAYS
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("value", [math.nan, -math.inf, 1e12], ids=str)
def test_a_value_that_does_not_fit_is_flagged_and_nothing_is_opened(
    scheme: str, value: float, settings: dict[str, Any]
) -> None:
    def change(
        client: int, number: int, arrays: Arrays, metrics: dict[str, Any]
    ) -> tuple[Arrays, dict[str, Any]]:
        if (client, number) == (1, 2):
            arrays["w"][0, 1] = value
        return arrays, metrics

    run = run_of(scheme, change=change, **settings)
    with pytest.raises(MisfitError, match=r"^hospital-2: .*; so the sum is discarded$") as caught:
        run.strategy.start(run.grid, record(MODEL), num_rounds=2)
    assert "'w'" in str(caught.value)
    assert run.schemes == {scheme}
    opened = [r.content for r in run.grid.received if r.metadata.message_type == DECRYPT]
    assert [MisfitReply.is_in(content) for content in opened] == [False, True]
    assert not opened[1].array_records
    assert [s.round for s in run.strategy.sums] == [1]


@THREE_WAYS
def test_a_hospital_whose_layout_differs(settings: dict[str, Any]) -> None:
    def change(
        client: int, number: int, arrays: Arrays, metrics: dict[str, Any]
    ) -> tuple[Arrays, dict[str, Any]]:
        if client == 2:
            arrays["w"] = np.zeros((3, 2))
        return arrays, metrics

    run = both(hospitals=5, change=change, **settings)
    check_arrays(run, 2, (0, 1, 3, 4))
    assert {(s.contributors, s.skipped[0].name) for s in run.strategy.sums} == {(4, "hospital-3")}


@pytest.mark.parametrize("settings", TOPOLOGIES, ids=str)
@pytest.mark.parametrize("absent", [(0,), *slow(((3,),), ((4, 1),))], ids=str)
def test_hospitals_that_drop_out(
    clock: list[float], settings: dict[str, Any], absent: tuple[int, ...]
) -> None:
    """Some send an error in round 1, others nothing; in round 2 all are there."""
    run = both(hospitals=5, network=lambda: Failing(absent), on_dropout="continue", **settings)
    there = [k for k in range(5) if k not in absent]
    first, second = run.strategy.sums
    assert (first.contributors, second.contributors) == (len(there), 5)
    assert {one.name for one in first.skipped} == {f"hospital-{k + 1}" for k in absent}
    assert first.examples == sum(EXAMPLES[k] for k in there)
    assert run.done.train_metrics_clientapp[1]["loss"] == pytest.approx(
        mean_loss(1, there), abs=1e-7
    )
    check_arrays(run, 2, range(5))
