"""The hospitals, and company X."""

from __future__ import annotations

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fl_he import encryption_mod, hospital_partition, with_key_holder
from fl_he.clients import KeyHolderPolicy
from large_model.task import (
    Split,
    Weights,
    accuracy,
    fit,
    load_data,
    new_model,
    record,
    trained_names,
)


def policy(context: Context) -> KeyHolderPolicy:
    """Return company X's policy; a deployed company X loads its key from a file instead."""
    return KeyHolderPolicy(key_bits=int(context.run_config["key-bits"]))


app = with_key_holder(ClientApp(mods=[encryption_mod]), policy)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the received model on this hospital's images."""
    model, choice = received_model(message, context), str(context.run_config["train"])
    (features, labels), _ = data(context)
    metrics = MetricRecord(
        {"train-loss": fit(model, features, labels, choice), "num-examples": len(labels)}
    )
    content = RecordDict({"arrays": record(model, trained_names(choice)), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the received model on images that this hospital did not train on."""
    model = received_model(message, context)
    _, (features, labels) = data(context)
    metrics = MetricRecord(
        {"accuracy": accuracy(model, features, labels), "num-examples": len(labels)}
    )
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def received_model(message: Message, context: Context) -> Weights:
    """Return the network with the arrays that a message carries in their places."""
    config = context.run_config
    model = new_model(int(config["hidden-units"]), int(config["rank"]))
    arrays = message.content.array_records["arrays"]
    return {**model, **{name: array.numpy().copy() for name, array in arrays.items()}}


def data(context: Context) -> tuple[Split, Split]:
    """Return this hospital's share of the digits; company X has none."""
    return load_data(*hospital_partition(context))
