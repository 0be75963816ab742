"""Section `large-model`: a round of a foreign app with a million parameters, encrypted and plain.

The app is a multinomial regression that knows nothing of encryption: in a round each hospital
passes over its rows by gradient descent, five times as in federated averaging's own experiments
(McMahan et al. 2017, E = 5), once, or never. The messages are the same.
As in section `federation`, all variants run in one Ray session, on the same nodes, in short blocks
that take turns.

Flower's own loop looks for replies 0.1 s apart or more, which rounds plain rounds up; fl-he's looks
more often. The variants with fl-he's polling are plain rounds with replies fetched as the encrypted
variant fetches them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from fl_he.bench.federation import (
    ENCRYPTED,
    KEY_BITS,
    PLAIN,
    PLAIN_GROUP,
    POLLED,
    CountingSum,
    FederationPlan,
    GroupGrid,
    Rounds,
    SideBySide,
    in_blocks,
    step_seconds,
    timed_start,
)
from fl_he.bench.timing import Follow
from fl_he.clients import KeyHolderPolicy, encryption_mod, hospital_partition, with_key_holder
from fl_he.crypto.schemes import MASKS
from fl_he.experiment.ray_engine import run_in_ray
from fl_he.strategies.grid import HospitalGrid

Floats = NDArray[np.float32]

FULL = FederationPlan(warm_up=2, blocks=5, rounds=4)
QUICK = FederationPlan(warm_up=1, blocks=2, rounds=3)

HOSPITALS = 3
#: Features and classes: the model has a million weights.
WIDTH = 1000
_ROWS, _BATCH, _LEARNING_RATE = 1000, 50, np.float32(0.1)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of round.

    Attributes
    ----------
    name : str
    passes : int
        Passes of each hospital over its rows.
    evaluates : bool
        Whether the hospitals evaluate the new model, in messages of their own.
    """

    name: str
    passes: int
    evaluates: bool


#: The last one has the messages of the two before alone.
KINDS = (
    Kind("5 passes, evaluate", passes=5, evaluates=True),
    Kind("5 passes", passes=5, evaluates=False),
    Kind("1 pass", passes=1, evaluates=False),
    Kind("no training", passes=0, evaluates=False),
)


def measure(plan: FederationPlan, follow: Follow) -> dict[str, Any]:
    """Measure each kind of round.

    Returns
    -------
    dict
        ``hospitals``, ``parameters``, ``scheme``, ``topology``; ``rows``: for each kind of round
        and each variant the figures of `in_blocks`, ``encrypted_to_this``: the ratio of the
        encrypted variant's median, ``encrypted_to_this_cpu``: of its CPU seconds (None where
        those of the row are 0), and ``added_seconds``: the difference of the medians; ``steps``:
        seconds of a sum of updates to encrypt and add, over all who do, and to decrypt.
    """
    follow(f"starting Ray and {HOSPITALS} hospitals")
    return run_in_ray(
        lambda grid: measure_rounds(grid, WIDTH, plan, follow), all_apps(KEY_BITS), HOSPITALS + 1
    )


def measure_rounds(grid: Grid, width: int, plan: FederationPlan, follow: Follow) -> dict[str, Any]:
    """Measure on a grid whose nodes run `all_apps`; see `measure`."""
    numbers = itertools.count(1)
    sums = {kind: masked_sum(kind, numbers) for kind in KINDS}
    variants = {kind: all_variants(grid, width, kind, total) for kind, total in sums.items()}
    named = {
        f"{kind.name}: {name}": run for kind, own in variants.items() for name, run in own.items()
    }
    found = iter(in_blocks(named, plan, follow))
    rows: list[dict[str, Any]] = []
    for kind, own in variants.items():
        rows += _compared([{**next(found), "round": kind.name, "variant": name} for name in own])
    last = sums[KINDS[-1]]
    return {
        "hospitals": HOSPITALS,
        "parameters": width * width,
        "scheme": last.scheme,
        "topology": last.topology,
        "rows": rows,
        "steps": step_seconds(last.sums[plan.warm_up :]),
    }


def _compared(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of one kind of round with the encrypted variant's ratios to them."""
    encrypted = next(row for row in rows if row["variant"] == ENCRYPTED)
    return [
        {
            **row,
            "encrypted_to_this": encrypted["median_seconds"] / row["median_seconds"],
            # Seconds of CPU time count in hundredths: a tiny model's rounds may take none.
            "encrypted_to_this_cpu": encrypted["cpu_seconds"] / cpu if cpu else None,
            "added_seconds": encrypted["median_seconds"] - row["median_seconds"],
        }
        for row in rows
        for cpu in [row["cpu_seconds"]]
    ]


def all_variants(grid: Grid, width: int, kind: Kind, encrypted: CountingSum) -> dict[str, Rounds]:
    """Return the variants of a kind of round by name.

    - encrypted: FedAvg in `EncryptedSum` under masks, in a fold;
    - plain: FedAvg by itself, in Flower's own loop;
    - plain, fl-he's polling: the same, but replies are looked for as often as fl-he does.

    Parameters
    ----------
    grid : Grid
        With the nodes of `all_apps`.
    width : int
        Features and classes of the model.
    kind : Kind
    encrypted : CountingSum
        The encrypted variant's strategy.
    """
    hospitals = encrypted.call_roll(grid).hospitals
    plain, polled = (
        HospitalGrid(GroupGrid(grid, PLAIN_GROUP, polled=polled), hospitals)
        for polled in (False, True)
    )
    ways = {
        ENCRYPTED: (encrypted, grid),
        PLAIN: (average(kind), plain),
        POLLED: (average(kind), polled),
    }
    config = ConfigRecord({"passes": kind.passes})
    return {
        name: partial(timed_start, strategy, own, first_model(width), config=config)
        for name, (strategy, own) in ways.items()
    }


def average(kind: Kind) -> FedAvg:
    """Return Flower's strategy for a kind of round."""
    strategy = FedAvg(
        min_train_nodes=HOSPITALS, min_evaluate_nodes=HOSPITALS, min_available_nodes=HOSPITALS
    )
    if not kind.evaluates:
        strategy.fraction_evaluate = 0.0  # as an argument it is warned of
    return strategy


def masked_sum(kind: Kind, numbers: Iterator[int]) -> CountingSum:
    """Return the same strategy for masked updates."""
    return CountingSum(average(kind), numbers, scheme=MASKS)


def first_model(width: int) -> ArrayRecord:
    """Return float32 weights of shape (width, width), always the same."""
    weights = np.random.default_rng(10).standard_normal((width, width), np.float32)
    return ArrayRecord({"weights": Array(weights / np.float32(width))})


def all_apps(key_bits: int) -> ClientApp:
    """Return the app of the nodes: encrypted or plain, by the message's group."""
    encrypted = _add_training(ClientApp(mods=[encryption_mod]))
    return SideBySide(
        with_key_holder(encrypted, lambda _: KeyHolderPolicy(key_bits=key_bits)),
        {PLAIN_GROUP: _add_training(ClientApp())},
    )


def _add_training(app: ClientApp) -> ClientApp:
    """Add the foreign app's functions."""

    @app.train()
    def train(message: Message, context: Context) -> Message:
        weights, loss = _weights(message), 0.0
        for _ in range(int(str(message.content.config_records["config"]["passes"]))):
            loss = _descend(weights, hospital_partition(context)[0])
        metrics = MetricRecord({"train-loss": loss, "num-examples": _ROWS})
        arrays = ArrayRecord({"weights": Array(weights)})
        return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        X, y = _batch(hospital_partition(context)[0], 0, len(weights := _weights(message)))
        accuracy = float(((X @ weights).argmax(axis=1) == y).mean())
        metrics = MetricRecord({"accuracy": accuracy, "num-examples": len(y)})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def _weights(message: Message) -> Floats:
    (weights,) = message.content.array_records["arrays"].to_numpy_ndarrays()
    return weights.copy()


def _batch(hospital: int, number: int, width: int) -> tuple[Floats, NDArray[np.int64]]:
    """Return rows of a hospital, shape (50, width), and their classes, always the same."""
    rng = np.random.default_rng((hospital, number))
    X = rng.standard_normal((_BATCH, width), np.float32)
    return X, X[:, : width // 2].argmax(axis=1)


def _descend(weights: Floats, hospital: int) -> float:
    """Pass over a hospital's rows by gradient descent, in place; return the last loss."""
    for number in range(_ROWS // _BATCH):
        X, y = _batch(hospital, number, len(weights))
        logits = X @ weights
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        own = np.arange(len(y)), y
        loss = float(-np.log(chances[own]).mean())
        chances[own] -= 1
        weights -= _LEARNING_RATE / len(y) * (X.T @ chances)
    return loss
