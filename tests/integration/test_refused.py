"""Refuse strategies and mods that cannot work under encryption, and say what to do instead.

Strategies that need single updates: tests/strategies/test_mean_only.py. Mods in the wrong order:
test_flower_mods.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import flwr.server.strategy as legacy_strategies
import numpy as np
import pytest
from echo_app import CLIENTS, Reply, encrypted_app, grid, plain_app
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client import Client, NumPyClient
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, Strategy
from local_grid import LocalGrid, simulated_nodes
from numpy.typing import NDArray

from fl_he.clients import EncryptionMod, encryption_mod, with_key_holder
from fl_he.strategies import SequentialPaillier
from fl_he.wire.records import ProtocolError

MODEL = ArrayRecord({"w": Array(np.zeros(3))})


def start(app: ClientApp, strategy: Strategy | None = None) -> None:
    inner = strategy or FedAvg(fraction_evaluate=0.0)
    SequentialPaillier(inner, node_timeout=0.0).start(grid(app), MODEL, num_rounds=1)


def replying(
    array: NDArray[Any] | None = None,
    metrics: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
) -> Reply:
    """Return a reply of which a test changes one thing; it is made when the client is asked."""

    def reply(client: int, message: Message) -> RecordDict:
        content = RecordDict()
        content["arrays"] = ArrayRecord({"w": Array(np.ones(3) if array is None else array)})
        content["metrics"] = MetricRecord({"num-examples": 9} if metrics is None else metrics)
        if config is not None:
            content["notes"] = ConfigRecord(config)
        return content

    return reply


def test_the_reply_of_which_the_others_differ_is_welcome() -> None:
    start(encrypted_app(replying()))


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            replying(array=np.array([1.0], "longdouble")),
            r"the array 'w' must be of a float type .*, got float128: convert it, or leave it out",
        ),
        (
            replying(array=np.ones(2, dtype=np.complex128)),
            "the array 'w' must be of a float type .*, got complex128",
        ),
        (
            replying(metrics={"loss": 0.5}),
            "metrics must hold 'num-examples', the weight of the mean, and they do not",
        ),
        (
            replying(metrics={"num-examples": [4, 5]}),
            "'num-examples' must be a single number, not a list",
        ),
        (
            replying(metrics={"num-examples": -1}),
            "'num-examples' must be 0 or a positive number",
        ),
        (
            replying(metrics={"num-examples": 9, "phase": "warm-up"}),
            # Flower's own words: a MetricRecord of such a value cannot be made.
            r"TypeError: .*Expected `int \| float \| .*but `<class 'str'>` was passed",
        ),
        (
            replying(config={"phase": "warm-up"}),
            r"must hold arrays and metrics only, got config records \['notes'\]: a config value "
            "cannot be averaged",
        ),
        (
            replying(array=np.array([1.0, -2.0, 2.0**24 / 9]), metrics={"num-examples": 9}),
            r"the array 'w' at \[2\] does not fit its slot once weighted by 'num-examples': "
            "raise integer_bits",
        ),
        (
            replying(array=np.array([2**60]), metrics={"num-examples": 9}),
            r"the array 'w' at \[0\] does not fit its slot .*: raise integer_bits",
        ),
        (
            replying(array=np.arange(3), metrics={"num-examples": 0.5}),
            "the weight must be a whole number where integers such as 'w' are averaged: "
            "convert the array to float, or give the mod and the strategy integers='local'",
        ),
        (
            replying(array=np.array([1.0, np.nan])),
            r"the array 'w' at \[1\] is NaN or infinite once weighted .*: lower the learning rate",
        ),
    ],
)
def test_replies_that_cannot_be_averaged_under_encryption(reply: Reply, words: str) -> None:
    end = r"(min_contributors\), got 0|so the sum is discarded)$"
    with pytest.raises(ProtocolError, match=rf"^hospital-.*: .*{words}.*; .*{end}"):
        start(encrypted_app(reply))


def test_clients_that_disagree_on_their_arrays() -> None:
    def reply(client: int, message: Message) -> RecordDict:
        return replying(array=np.ones(3 + client))(client, message)

    with pytest.raises(
        ProtocolError,
        match=r"^hospital-.: it has the array 'w' of type float64 and shape \(.,\), and the "
        r"others have 'w' of type float64 and shape \(.,\): all hospitals must have the same model"
        r".*, got 1$",
    ):
        start(encrypted_app(reply))


@pytest.mark.parametrize("array", [np.arange(3), np.array([True, False])], ids=["int64", "bool"])
def test_integers_where_they_are_to_be_refused(array: NDArray[Any]) -> None:
    app = encrypted_app(replying(array=array), mods=[EncryptionMod(integers="refuse")])
    with pytest.raises(
        ProtocolError,
        match=f"the array 'w' must be of a float type, got {array.dtype}: convert it, leave it out",
    ):
        start(app)


def test_integers_that_the_mod_treats_otherwise_than_the_strategy() -> None:
    app = encrypted_app(replying(array=np.arange(3)), mods=[EncryptionMod(integers="local")])
    with pytest.raises(ProtocolError, match="give the mod and the strategy the same integers"):
        start(app)


def test_another_weight_than_the_mod_knows() -> None:
    reply = replying(metrics={"patients": 9})
    with pytest.raises(ProtocolError, match="must be weighted by 'num-examples', got 'patients'"):
        start(encrypted_app(reply), FedAvg(weighted_by_key="patients"))
    # The content of the message:
    start(
        encrypted_app(reply, mods=[EncryptionMod(weighted_by="patients")]),
        FedAvg(weighted_by_key="patients", fraction_evaluate=0.0),
    )


class Legacy(NumPyClient):
    """A client as Flower's examples had it before the Message API."""

    def fit(
        self, parameters: list[NDArray[Any]], config: dict[str, Any]
    ) -> tuple[list[NDArray[Any]], int, dict[str, Any]]:
        return parameters, 9, {}


def legacy_client(_: Context) -> Client:
    return Legacy().to_client()


def test_a_legacy_client_cannot_play_the_key_holder() -> None:
    app = ClientApp(client_fn=legacy_client, mods=[encryption_mod])
    with pytest.raises(
        ProtocolError,
        match=r"has a client_fn: register functions with @app\.train\(\) and @app\.evaluate\(\), .*"
        "Flower's guide 'Upgrade to Message API'",
    ):
        with_key_holder(app)


@pytest.mark.parametrize(
    "app",
    [
        lambda: ClientApp(client_fn=legacy_client, mods=[encryption_mod]),
        lambda: plain_app(replying(), [encryption_mod]),
        lambda: plain_app(replying()),
    ],
    ids=["legacy client", "without with_key_holder", "plain app"],
)
def test_an_app_without_with_key_holder(app: Callable[[], ClientApp]) -> None:
    with pytest.raises(
        ProtocolError, match=r"^the nodes run an app without with_key_holder: .*describe"
    ):
        start(app())


def test_an_app_without_the_mod_sends_nothing() -> None:
    plain = grid(encrypted_app(replying(), mods=[]))
    strategy = SequentialPaillier(FedAvg(fraction_evaluate=0.0), node_timeout=0.0)
    with pytest.raises(
        ProtocolError,
        match=r"hospital-.: a reply would leave this node in plain: .*"
        r"ClientApp\(mods=\[encryption_mod, \.\.\.\]\)",
    ):
        strategy.start(plain, MODEL, num_rounds=1)
    trained = [m for m in plain.received if m.metadata.message_type == "train"]
    assert trained
    assert not any(message.has_content() for message in trained)


def test_a_client_that_answers_in_plain_all_the_same_is_named() -> None:
    """A node can run any code."""
    app = grid(encrypted_app(replying()))

    def tamper(answer: Message) -> Message:
        if answer.metadata.message_type == "train" and answer.metadata.src_node_id == 1001:
            answer.content = replying()(1, answer)
        return answer

    app.tamper = tamper
    with pytest.raises(
        ProtocolError,
        match=r"^hospital-2: .*must be encrypted, got plain records \['arrays', 'metrics'\].*"
        "encryption_mod",
    ):
        SequentialPaillier(FedAvg(), node_timeout=0.0).start(app, MODEL, num_rounds=1)


def test_a_legacy_strategy() -> None:
    with pytest.raises(
        ProtocolError,
        match=r"must be one of flwr\.serverapp\.strategy, got flwr\.server\.strategy\..*FedAvg",
    ):
        SequentialPaillier(legacy_strategies.FedAvg())  # type: ignore[arg-type]


class Withholding(LocalGrid):
    """A network on which the train reply of one client never arrives."""

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [
            reply
            for reply in super().pull_messages(message_ids)
            if (reply.metadata.message_type, reply.metadata.src_node_id) != ("train", 1001)
        ]


@pytest.mark.parametrize("topology", ["fold", "chain"])
def test_a_client_that_does_not_answer(topology: str) -> None:
    strategy = SequentialPaillier(
        FedAvg(fraction_evaluate=0.0), topology=topology, node_timeout=0.0, hop_timeout=0.5
    )
    nodes = Withholding(encrypted_app(replying()), simulated_nodes(CLIENTS))
    with pytest.raises(
        ProtocolError,
        match=r"^hospital-2: no answer within 0\.5 s.*at least 3 contributors .*, got 2$",
    ):
        strategy.start(nodes, MODEL, num_rounds=1)


def test_two_runs_of_rounds_in_one_run() -> None:
    """Company X opens each round once, so that nobody can ask twice and compare."""
    nodes = grid(encrypted_app(replying()))
    strategy = SequentialPaillier(FedAvg(fraction_evaluate=0.0), node_timeout=0.0)
    strategy.start(nodes, MODEL, num_rounds=2)
    with pytest.raises(ProtocolError, match="a round is opened once, in order: train 2 is open"):
        strategy.start(nodes, MODEL, num_rounds=1)
