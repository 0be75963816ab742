"""Apps of other people in a grid of four hospitals, plain and encrypted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from echo_app import Reply, encrypted_app, grid, plain_app
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result, Strategy
from local_grid import LocalGrid, simulated_nodes
from numpy.typing import NDArray

from fl_he.clients import EncryptionMod
from fl_he.strategies import SequentialPaillier

W = {"w": np.array([1.0, -2.0, 0.5])}
HOSPITALS = 4
EXAMPLES = [10, 20, 30, 60]
Arrays = dict[str, NDArray[Any]]
AppReply = Callable[[int, Message], tuple[Arrays, dict[str, Any]]]


def record(arrays: Arrays) -> ArrayRecord:
    return ArrayRecord({name: Array(np.asarray(values)) for name, values in arrays.items()})


def arrays_of(model: ArrayRecord) -> Arrays:
    return {name: array.numpy() for name, array in model.items()}


def round_of(message: Message) -> int:
    return int(str(message.content.config_records["config"]["server-round"]))


def moved(client: int, message: Message) -> Arrays:
    """Return the model that came, each value moved by the client's number from 1."""
    model = arrays_of(message.content.array_records["arrays"])
    return {name: np.asarray(a + a.dtype.type(client + 1)) for name, a in model.items()}


def reply_of(app: AppReply) -> Reply:
    def reply(client: int, message: Message) -> RecordDict:
        arrays, metrics = app(client, message)
        content = RecordDict(
            {"metrics": MetricRecord({"num-examples": EXAMPLES[client], **metrics})}
        )
        if message.metadata.message_type == "train":
            content["arrays"] = record(arrays)
        return content

    return reply


def plain(reply: Reply, model: Arrays, *, rounds: int = 2, inner: Strategy | None = None) -> Result:
    strategy = inner or FedAvg(fraction_evaluate=0.0)
    nodes = grid(plain_app(reply), simulated_nodes(HOSPITALS - 1))
    return strategy.start(nodes, record(model), num_rounds=rounds)


def encrypted(
    reply: Reply,
    model: Arrays,
    *,
    rounds: int = 2,
    inner: Strategy | None = None,
    nodes: LocalGrid | None = None,
    topology: str = "fold",
    **ways: Any,
) -> Result:
    strategy = SequentialPaillier(
        inner or FedAvg(fraction_evaluate=0.0), node_timeout=0.0, topology=topology, **ways
    )
    app = encrypted_app(reply, [EncryptionMod(**ways)])
    nodes = nodes or grid(app, simulated_nodes(HOSPITALS))
    return strategy.start(nodes, record(model), num_rounds=rounds)


def mean_over(values: list[float], hospitals: list[int]) -> float:
    return float(
        np.average([values[k] for k in hospitals], weights=[EXAMPLES[k] for k in hospitals])
    )


class InOrder(FedAvg):
    """Asks hospitals by their numbers, so that the first one begins a chain."""

    def __init__(self) -> None:
        super().__init__(fraction_evaluate=0.0)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        messages = super().configure_train(server_round, arrays, config, grid)
        return sorted(messages, key=lambda message: message.metadata.dst_node_id)
