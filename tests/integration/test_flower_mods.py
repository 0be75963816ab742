"""Flower's own mods in front of encryption_mod and behind it.

Flower calls the first mod first and gives it the reply last. Behind encryption_mod a mod works on
the plain reply, as it does without encryption; that is the place of mods that clip, add noise or
measure what the app makes. In front of it a mod sees ciphertexts.
"""

from __future__ import annotations

import logging

import numpy as np
import pytest
from echo_app import CLIENTS, encrypted_app, grid, plain_app, plain_grid
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp.mod import LocalDpMod, arrays_size_mod, fixedclipping_mod, message_size_mod
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    FedAvg,
    Result,
    Strategy,
)

from fl_he.clients import encryption_mod
from fl_he.strategies import SequentialPaillier
from fl_he.wire.records import ProtocolError

START = np.zeros(3)
#: Each client's new model, and its norm: clients 1 and 2 exceed the clipping norm.
MOVES = [np.array([0.3, 0.0, 0.0]), np.array([0.0, 3.0, 4.0]), np.array([-6.0, 0.0, 8.0])]
EXAMPLES = [10, 20, 70]
NORM = 2.0


def reply(client: int, _: Message) -> RecordDict:
    np.random.seed(client)  # noqa: NPY002 - LocalDpMod draws from here
    metrics = MetricRecord({"num-examples": EXAMPLES[client]})
    return RecordDict({"arrays": ArrayRecord({"w": Array(MOVES[client])}), "metrics": metrics})


def federated() -> Strategy:
    return FedAvg(fraction_evaluate=0.0)


def clipping(strategy: Strategy) -> Strategy:
    return DifferentialPrivacyClientSideFixedClipping(strategy, 0.0, NORM, CLIENTS)


def run(
    mods: list[Mod], train_mods: list[Mod] | None = None, strategy: Strategy | None = None
) -> Result:
    outer = strategy or SequentialPaillier(federated(), node_timeout=0.0)
    app = encrypted_app(reply, mods, train_mods or [])
    return outer.start(grid(app), ArrayRecord({"w": Array(START)}), num_rounds=1)


def clipped_mean() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    moves = [move * min(1.0, NORM / np.linalg.norm(move)) for move in MOVES]
    return np.average(moves, axis=0, weights=EXAMPLES)


@pytest.mark.parametrize("registered", ["with the app", "with train"])
@pytest.mark.parametrize("order", ["inside", "around"])
def test_clipping_behind_encryption(registered: str, order: str) -> None:
    ours = SequentialPaillier(
        clipping(federated()) if order == "inside" else federated(), node_timeout=0.0
    )
    strategy = ours if order == "inside" else clipping(ours)
    if registered == "with the app":
        result = run([encryption_mod, fixedclipping_mod], strategy=strategy)
    else:
        result = run([encryption_mod], [fixedclipping_mod], strategy)
    np.testing.assert_allclose(result.arrays["w"].numpy(), clipped_mean(), atol=1e-7)


@pytest.mark.parametrize("registered", ["with the app", "with train"])
def test_local_noise_behind_encryption(registered: str) -> None:
    noise = LocalDpMod(clipping_norm=NORM, sensitivity=0.1, epsilon=1.0, delta=1e-5)
    plain = federated().start(
        plain_grid(plain_app(reply, [noise])), ArrayRecord({"w": Array(START)}), num_rounds=1
    )
    if registered == "with the app":
        result = run([encryption_mod, noise])
    else:
        result = run([encryption_mod], [noise])
    np.testing.assert_allclose(result.arrays["w"].numpy(), plain.arrays["w"].numpy(), atol=1e-7)
    assert np.abs(result.arrays["w"].numpy() - clipped_mean()).max() > 0.01


@pytest.mark.parametrize(
    ("mod", "strategy"),
    [
        (fixedclipping_mod, lambda: clipping(federated())),
        (LocalDpMod(NORM, 0.1, 1.0, 1e-5), federated),
    ],
    ids=["fixedclipping_mod", "LocalDpMod"],
)
def test_clipping_in_front_of_encryption_is_an_error(mod: Mod, strategy: type[Strategy]) -> None:
    encrypted = SequentialPaillier(strategy(), node_timeout=0.0)
    with pytest.raises(ProtocolError, match=r"hospital-.: .*(Mod|_mod) expects"):
        run([mod, encryption_mod], strategy=encrypted)


def test_mods_that_log_sizes_in_front_and_behind(caplog: pytest.LogCaptureFixture) -> None:
    sizes: list[Mod] = [message_size_mod, arrays_size_mod]
    with caplog.at_level(logging.INFO, logger="flwr"):
        result = run([*sizes, encryption_mod, *sizes])
    mean = np.average(MOVES, axis=0, weights=EXAMPLES)
    np.testing.assert_allclose(result.arrays["w"].numpy(), mean, atol=1e-7)

    lines = [record.getMessage() for record in caplog.records]
    sent = [int(line.split()[-2]) for line in lines if line.startswith("Total array elements sent")]
    plain, encrypted = sent[0::2], sent[1::2]
    assert len(plain) == len(encrypted) == CLIENTS
    # A numpy array of three float64 with its header; a ciphertext of 1024 bits in bytes.
    assert max(plain) < 1024 // 4 < min(encrypted)


def test_a_mod_in_front_that_adds_something_plain_is_refused() -> None:
    def talkative(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        answer = call_next(message, context)
        if message.metadata.message_type == "train":
            answer.content["loss"] = MetricRecord({"loss": 0.5})
        return answer

    with pytest.raises(ProtocolError, match="encryption_mod must be the first of the app's mods"):
        run([talkative, encryption_mod])
