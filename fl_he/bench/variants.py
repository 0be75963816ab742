"""Variants of one federated round: encrypted, plain, and with empty messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter

import numpy as np
from flwr.app import Context, Message, MessageType, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fl_he import client_app
from fl_he.bench.groups import GroupGrid, SideBySide
from fl_he.bench.session import HOP_TIMEOUT, CountingSum, timed_rounds
from fl_he.clients.hospital import HospitalData, add_hospital
from fl_he.clients.node import read_node
from fl_he.config_schema import Config
from fl_he.model_messages import model_arrays
from fl_he.simulated_data import simulated_data
from fl_he.strategies.exchange import exchange
from fl_he.strategies.gradient_descent import GradientDescent
from fl_he.strategies.grid import DelegatingGrid, HospitalGrid

ENCRYPTED = "encrypted"
PLAIN = "plain"
PLAIN_POLLED = "plain, fl-he's polling"
PLAIN_TRAIN = "plain, train only"
EMPTY = "empty messages"

_PLAIN_GROUP, _EMPTY_GROUP = "plain", "empty"

#: Runs so many rounds and returns the wall seconds of each.
Variant = Callable[[int], list[float]]


class PolledGrid(DelegatingGrid):
    """Looks for replies as often as fl-he does, every 0.02 s instead of every 0.1 s."""

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """See Grid."""
        return list(exchange(self, messages, HOP_TIMEOUT if timeout is None else timeout))


def all_apps(config: Config) -> ClientApp:
    """Return the app of the nodes: encrypted, plain or empty, by the message's group."""
    return SideBySide(
        client_app.build(lambda _: config),
        {_PLAIN_GROUP: _plain_app(config), _EMPTY_GROUP: _empty_app()},
    )


def all_variants(grid: Grid, config: Config, encrypted: CountingSum) -> dict[str, Variant]:
    """Return the variants by name.

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
    features = len(simulated_data(config).train.feature_names)
    model = model_arrays(np.zeros(features), 0.0)
    plain = HospitalGrid(GroupGrid(grid, _PLAIN_GROUP), roster.hospitals)
    empty = GroupGrid(grid, _EMPTY_GROUP)
    evaluating, training = descent(config, evaluate=True), descent(config)
    return {
        ENCRYPTED: lambda rounds: timed_rounds(encrypted, grid, model, rounds),
        PLAIN: lambda rounds: timed_rounds(evaluating, plain, model, rounds),
        PLAIN_POLLED: lambda rounds: timed_rounds(evaluating, PolledGrid(plain), model, rounds),
        PLAIN_TRAIN: lambda rounds: timed_rounds(training, plain, model, rounds),
        EMPTY: lambda rounds: _empty_rounds(
            empty, list(roster.hospitals), roster.key_holder, rounds
        ),
    }


def descent(config: Config, *, evaluate: bool = False) -> GradientDescent:
    """Return the experiment's strategy, on request with a message hop to evaluate each round."""
    strategy = GradientDescent(config.optimizer.lr, config.hospitals, config.C)
    if evaluate:
        strategy.fraction_evaluate = 1.0
        strategy.min_evaluate_nodes = config.hospitals
    return strategy


def _empty_rounds(grid: Grid, hospitals: list[int], key_holder: int, rounds: int) -> list[float]:
    """Send what an encrypted round sends, without any content: hospitals, then the key holder."""
    marks = [perf_counter()]
    for _ in range(rounds):
        for _ in exchange(grid, [_empty_message(node) for node in hospitals], HOP_TIMEOUT):
            pass
        for _ in exchange(grid, [_empty_message(key_holder)], HOP_TIMEOUT):
            pass
        marks.append(perf_counter())
    seconds: list[float] = np.diff(marks).tolist()
    return seconds


def _empty_message(node_id: int) -> Message:
    return Message(RecordDict(), node_id, MessageType.TRAIN)


def _plain_app(config: Config) -> ClientApp:
    """Return the hospitals' app as it is without encryption."""

    def data(context: Context) -> HospitalData:
        dataset = simulated_data(config).hospitals[read_node(context).partition or 0]
        return HospitalData(dataset, model_path=None)

    return add_hospital(ClientApp(), data)


def _empty_app() -> ClientApp:
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(RecordDict(), reply_to=message)

    return app
