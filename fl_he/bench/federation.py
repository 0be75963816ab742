"""Section `federation`: what encryption adds to a round of the default experiment.

All variants run in one Ray session, on the same nodes, in short blocks that take turns. A message's
group says which variant's app answers it. A round's time is the wall time between two calls of
``evaluate_fn`` in Flower's own ``Strategy.start``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import fmean, median
from time import perf_counter
from typing import Any

import numpy as np
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MessageType,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from fl_he import client_app
from fl_he.bench.fresh import family_cpu_seconds
from fl_he.bench.timing import Follow, spread
from fl_he.clients.hospital import HospitalData, add_hospital
from fl_he.clients.node.node import SimulatedNode
from fl_he.config.composition import compose
from fl_he.config.run import Config
from fl_he.crypto.schemes import PAILLIER
from fl_he.experiment.data import simulated_data
from fl_he.experiment.ray_engine import run_in_ray
from fl_he.experiment.tables import whole_table
from fl_he.strategies.encrypted_sum import EncryptedSum
from fl_he.strategies.exchange import exchange
from fl_he.strategies.gradient_descent import GradientDescent
from fl_he.strategies.grid import DelegatingGrid, HospitalGrid
from fl_he.strategies.opened_sum import OpenedSum
from fl_he.wire.learning_terms import LearningTerms
from fl_he.wire.model import model_arrays

KEY_BITS = 2048
#: Seconds to wait for replies: what is measured takes a fraction of it.
HOP_TIMEOUT = 120.0

ENCRYPTED, EMPTY = "encrypted", "empty messages"
PLAIN, POLLED = "plain", "plain, fl-he's polling"
PLAIN_GROUP, _EMPTY_GROUP = "plain", "empty"

#: Runs a number of rounds and returns the wall seconds of each.
Rounds = Callable[[int], list[float]]


@dataclass(frozen=True, slots=True)
class FederationPlan:
    """Extent of the section.

    Attributes
    ----------
    warm_up : int
        Rounds of each variant before anything counts.
    blocks, rounds : int
        Each variant runs this many blocks of this many rounds, of which the first is discarded.
    """

    warm_up: int
    blocks: int
    rounds: int


FULL = FederationPlan(warm_up=4, blocks=8, rounds=6)
QUICK = FederationPlan(warm_up=2, blocks=2, rounds=4)


def measure(plan: FederationPlan, follow: Follow) -> dict[str, Any]:
    """Measure encrypted, plain and empty rounds.

    Returns
    -------
    dict
        ``variants``: seconds of a round of each (median, quartiles, mean), how much that is beyond
        the empty messages, and CPU seconds of a round in all processes (median of the blocks);
        ``ratios`` of the encrypted round to the others; ``steps``: seconds to encrypt and add,
        summed over all who do, and to decrypt.
    """
    config = compose("config", [f"crypto.key_bits={KEY_BITS}"])
    follow(f"starting Ray and {config.hospitals} hospitals")
    return run_in_ray(
        lambda grid: measure_variants(grid, config, plan, follow),
        all_apps(config),
        config.hospitals + 1,
    )


def measure_variants(
    grid: Grid, config: Config, plan: FederationPlan, follow: Follow
) -> dict[str, Any]:
    """Measure on a grid whose nodes run `all_apps`; see `measure`."""
    encrypted = CountingSum(descent(config), itertools.count(1))
    rows = in_blocks(all_variants(grid, config, encrypted), plan, follow)
    empty = next(row["median_seconds"] for row in rows if row["variant"] == EMPTY)
    return {
        "hospitals": config.hospitals,
        "topology": str(config.topology),
        "key_bits": config.crypto.key_bits,
        "variants": [
            {**row, "beyond_empty_seconds": row["median_seconds"] - empty} for row in rows
        ],
        "ratios": ratios(rows, ENCRYPTED),
        "steps": step_seconds(encrypted.sums[plan.warm_up :]),
    }


def in_blocks(
    variants: Mapping[str, Rounds], plan: FederationPlan, follow: Follow
) -> list[dict[str, Any]]:
    """Run the variants in blocks that take turns.

    Returns
    -------
    list of dict
        For each variant its name, wall seconds of a round (median, quartiles, mean), CPU seconds
        of a round in all processes (median of the blocks), and the number of rounds.
    """
    for name, run in variants.items():
        follow(f"{name}: warming up")
        run(plan.warm_up)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    cpu: dict[str, list[float]] = {name: [] for name in variants}
    for block in range(plan.blocks):
        for name, run in variants.items():
            follow(f"{name}: block {block + 1} of {plan.blocks}", block, plan.blocks)
            before = family_cpu_seconds()
            seconds[name] += run(plan.rounds)[1:]
            cpu[name].append((family_cpu_seconds() - before) / plan.rounds)
    return [
        {
            "variant": name,
            **spread(values),
            "mean_seconds": fmean(values),
            "cpu_seconds": median(cpu[name]),
            "rounds": len(values),
        }
        for name, values in seconds.items()
    ]


def ratios(rows: Iterable[Mapping[str, Any]], encrypted: str) -> list[dict[str, Any]]:
    """Return the ratios of the encrypted variant's round to that of each other row."""
    others = {row["variant"]: row for row in rows}
    own = others.pop(encrypted)
    return [
        {
            "encrypted_to": name,
            "of_medians": own["median_seconds"] / row["median_seconds"],
            "of_means": own["mean_seconds"] / row["mean_seconds"],
        }
        for name, row in others.items()
    ]


def step_seconds(sums: Iterable[OpenedSum]) -> dict[str, float]:
    """Return the median seconds of a sum to encrypt and add, over all who do, and to decrypt."""
    costs = [total.cost for total in sums]
    return {
        f"{step}_seconds": median(getattr(cost, f"{step}_seconds") for cost in costs)
        for step in ("encrypt", "add", "decrypt")
    }


def all_variants(grid: Grid, config: Config, encrypted: CountingSum) -> dict[str, Rounds]:
    """Return the variants by name: each runs a number of rounds and returns their wall seconds.

    - encrypted: hospitals train, company X decrypts;
    - plain: the same hospitals without mod and wrapper train, then evaluate: as many hops. All
      of it is Flower's: ``Strategy.start`` and ``send_and_receive`` of the grid;
    - plain, fl-he's polling: the same, but replies are looked for as often as fl-he does;
    - plain, train only: half the hops, what a plain round costs that measures nothing;
    - empty messages: the encrypted round's hops, with nothing in the messages.

    Parameters
    ----------
    grid : Grid
        With the nodes of `all_apps`.
    config : Config
        The experiment.
    encrypted : CountingSum
        The encrypted variant's strategy.
    """
    roster = encrypted.call_roll(grid)
    plain, polled = (
        HospitalGrid(GroupGrid(grid, PLAIN_GROUP, polled=polled), roster.hospitals)
        for polled in (False, True)
    )
    empty = GroupGrid(grid, _EMPTY_GROUP)
    evaluating, training = descent(config, evaluate=True), descent(config)
    return {
        ENCRYPTED: partial(timed_rounds, encrypted, grid, config),
        PLAIN: partial(timed_rounds, evaluating, plain, config),
        POLLED: partial(timed_rounds, evaluating, polled, config),
        "plain, train only": partial(timed_rounds, training, plain, config),
        EMPTY: partial(_empty_rounds, empty, list(roster.hospitals), roster.key_holder),
    }


def all_apps(config: Config) -> ClientApp:
    """Return the app of the nodes: encrypted, plain or empty, by the message's group."""
    empty = ClientApp()
    empty.train()(lambda message, context: Message(RecordDict(), reply_to=message))
    return SideBySide(
        client_app.build(lambda _: config),
        {PLAIN_GROUP: _plain_app(config), _EMPTY_GROUP: empty},
    )


def _plain_app(config: Config) -> ClientApp:
    """Return the hospitals' app as it is without encryption."""

    def data(context: Context) -> HospitalData:
        dataset = simulated_data(config).hospitals[SimulatedNode(context).numbers[0]]
        return HospitalData(dataset, model_path=None)

    return add_hospital(ClientApp(), data)


def _empty_rounds(grid: Grid, hospitals: list[int], key_holder: int, rounds: int) -> list[float]:
    """Send what an encrypted round sends, without any content: hospitals, then company X."""
    marks = [perf_counter()]
    for _ in range(rounds):
        for nodes in (hospitals, [key_holder]):
            messages = [Message(RecordDict(), node, MessageType.TRAIN) for node in nodes]
            list(exchange(grid, messages, HOP_TIMEOUT))
        marks.append(perf_counter())
    return [end - start for start, end in itertools.pairwise(marks)]


def descent(config: Config, *, evaluate: bool = False) -> GradientDescent:
    """Return the experiment's strategy, on request with a message hop to evaluate each round."""
    strategy = GradientDescent(config.optimizer.lr, config.hospitals, config.C)
    if evaluate:
        strategy.fraction_evaluate = 1.0
        strategy.min_evaluate_nodes = config.hospitals
    return strategy


class CountingSum(EncryptedSum):
    """Numbers its rounds on from one start to the next: company X opens a round once.

    Parameters
    ----------
    strategy : Strategy
        The wrapped one.
    numbers : iterator of int
        Gives each round its number; strategies that share company X share it.
    scheme : str
    options
        See EncryptedSum.
    """

    def __init__(
        self,
        strategy: Strategy,
        numbers: Iterator[int],
        *,
        scheme: str = PAILLIER,
        **options: Any,
    ) -> None:
        super().__init__(strategy, scheme=scheme, hop_timeout=HOP_TIMEOUT, **options)
        self.numbers = numbers
        self._number = 0

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """See EncryptedSum; ``server_round`` starts from 1 each time."""
        self._number = next(self.numbers)
        return super().aggregate_train(self._number, replies)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """See EncryptedSum; it has the number of the round's training."""
        return super().aggregate_evaluate(self._number, replies)


def timed_rounds(strategy: Strategy, grid: Grid, config: Config, rounds: int) -> list[float]:
    """Run a strategy on the experiment from a model of zeros; see `timed_start`."""
    features = len(whole_table(config.data).feature_names)
    # Units in which no gradient outgrows its slot, without a round to find them.
    terms = LearningTerms("local").to_config()
    return timed_start(strategy, grid, model_arrays(np.zeros(features), 0.0), rounds, terms)


def timed_start(
    strategy: Strategy,
    grid: Grid,
    arrays: ArrayRecord,
    rounds: int,
    config: ConfigRecord | None = None,
) -> list[float]:
    """Run a strategy as any Flower app does and return the wall seconds of each round.

    Parameters
    ----------
    strategy, grid
    arrays : ArrayRecord
        The first model.
    rounds : int
    config : ConfigRecord, optional
        Goes out with each message.
    """
    marks: list[float] = []

    def mark(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
        marks.append(perf_counter())
        return None

    strategy.start(
        grid,
        initial_arrays=arrays,
        num_rounds=rounds,
        timeout=HOP_TIMEOUT,
        train_config=config,
        evaluate_config=config,
        evaluate_fn=mark,
    )
    return [end - start for start, end in itertools.pairwise(marks)]


class SideBySide(ClientApp):
    """Several apps on the same nodes; a message's group says which one answers it.

    Parameters
    ----------
    default : ClientApp
        Answers messages without a group.
    groups : mapping of str to ClientApp
        Answer those of `GroupGrid`.
    """

    def __init__(self, default: ClientApp, groups: Mapping[str, ClientApp]) -> None:
        super().__init__()
        self._default = default
        self._groups = groups

    def __call__(self, message: Message, context: Context) -> Message:
        """See ClientApp."""
        return self._groups.get(message.metadata.group_id, self._default)(message, context)


class GroupGrid(DelegatingGrid):
    """Puts every message into one group.

    Parameters
    ----------
    grid : Grid
    group : str
    polled : bool
        Whether to look for replies as often as fl-he does, every 0.02 s, and not every 0.1 s.
    """

    def __init__(self, grid: Grid, group: str, *, polled: bool = False) -> None:
        super().__init__(grid)
        self._group = group
        self._polled = polled

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See Grid."""
        return self._grid.push_messages(self._labelled(messages))

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """See Grid."""
        if self._polled:
            return list(exchange(self, messages, HOP_TIMEOUT if timeout is None else timeout))
        return self._grid.send_and_receive(self._labelled(messages), timeout=timeout)

    def _labelled(self, messages: Iterable[Message]) -> Iterator[Message]:
        for message in messages:
            message.metadata.group_id = self._group
            yield message
