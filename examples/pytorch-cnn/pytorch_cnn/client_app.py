"""The hospitals, and company X."""

from __future__ import annotations

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch.utils.data import DataLoader

from fl_he import encryption_mod, hospital_partition, with_key_holder
from fl_he.clients import KeyHolderPolicy
from pytorch_cnn import task


def policy(context: Context) -> KeyHolderPolicy:
    """Return company X's policy; a deployed company X loads its key from a file instead."""
    return KeyHolderPolicy(key_bits=int(context.run_config["key-bits"]))


app = with_key_holder(ClientApp(mods=[encryption_mod]), policy)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the received network on this hospital's images."""
    net = received_net(message)
    loader, _ = data(context)
    loss = task.train(
        net,
        loader,
        int(context.run_config["local-epochs"]),
        float(context.run_config["learning-rate"]),
    )
    metrics = MetricRecord({"train-loss": loss, "num-examples": len(loader.dataset)})
    content = RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the received network on images that this hospital did not train on."""
    _, loader = data(context)
    loss, accuracy = task.test(received_net(message), loader)
    metrics = MetricRecord(
        {"loss": loss, "accuracy": accuracy, "num-examples": len(loader.dataset)}
    )
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def received_net(message: Message) -> task.Net:
    """Return the network that a message carries."""
    torch.set_num_threads(1)  # nodes of a simulation share the cores already
    net = task.Net()
    net.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    return net


def data(context: Context) -> tuple[DataLoader, DataLoader]:
    """Return this hospital's share of the digits; company X has none."""
    return task.load_data(*hospital_partition(context))
