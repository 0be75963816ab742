"""An app whose weighted mean is easy to know, and the strategy that encrypts it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg, Strategy

from fl_he.clients.encryption import EncryptionMod
from fl_he.clients.key_holder import with_key_holder
from fl_he.clients.node.node import KeyHolderPolicy
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.schemes import PAILLIER
from fl_he.strategies.encrypted_sum import EncryptedSum
from fl_he.wire.arrays import read_array

MODEL = ArrayRecord({"w": Array(np.array([1.0, -2.0])), "b": Array(np.array([0.5], "float32"))})


def train_app(
    features: Callable[[Context], tuple[str, ...]] = lambda _: (),
    packing: Packing | None = None,
    encrypt: str | list[str] = "all",
) -> ClientApp:
    """Return an app whose hospital k has 10 * k examples and moves the model by k."""
    packing = packing or Packing()
    app = ClientApp(mods=[EncryptionMod(lambda _: packing, encrypt=encrypt)])

    def number(context: Context) -> int:
        return int(context.node_config["partition-id"]) + 1

    @app.train()
    def train(message: Message, context: Context) -> Message:
        k = number(context)
        arrays = message.content.array_records["arrays"]
        moved = {
            name: Array((read_array(a) + k).astype(read_array(a).dtype))
            for name, a in arrays.items()
        }
        metrics = MetricRecord({"loss": 1.0 / k, "num-examples": 10 * k})
        content = RecordDict({"arrays": ArrayRecord(moved), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        k = number(context)
        metrics = MetricRecord({"loss": float(k), "num-examples": k})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    policy = KeyHolderPolicy(min_contributors=3, packing=packing, key_bits=1024)
    return with_key_holder(app, lambda _: policy, features)


def strategy(
    inner: Strategy | None = None, *, wait: float = 0.0, scheme: str = PAILLIER, **settings: Any
) -> EncryptedSum:
    inner = inner or FedAvg(min_train_nodes=3, min_available_nodes=3)
    return EncryptedSum(inner, node_timeout=wait, scheme=scheme, **settings)
