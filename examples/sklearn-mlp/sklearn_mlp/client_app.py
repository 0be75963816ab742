"""The hospitals, and company X."""

from __future__ import annotations

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from sklearn.metrics import log_loss
from sklearn.neural_network import MLPClassifier

from fl_he import encryption_mod, hospital_partition, with_key_holder
from fl_he.clients import KeyHolderPolicy
from sklearn_mlp.task import CLASSES, Split, load_data, new_model, set_weights, weights


def policy(context: Context) -> KeyHolderPolicy:
    """Return company X's policy; a deployed company X loads its key from a file instead."""
    return KeyHolderPolicy(key_bits=int(context.run_config["key-bits"]))


app = with_key_holder(ClientApp(mods=[encryption_mod]), policy)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the received model on this hospital's images."""
    model = received_model(message, context)
    (features, labels), _ = data(context)
    for _ in range(int(context.run_config["local-epochs"])):
        model.partial_fit(features, labels)
    metrics = MetricRecord({"train-loss": float(model.loss_), "num-examples": len(labels)})
    content = RecordDict({"arrays": weights(model), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Evaluate the received model on images that this hospital did not train on."""
    model = received_model(message, context)
    _, (features, labels) = data(context)
    metrics = MetricRecord(
        {
            "accuracy": float(model.score(features, labels)),
            "loss": float(log_loss(labels, model.predict_proba(features), labels=CLASSES)),
            "num-examples": len(labels),
        }
    )
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def received_model(message: Message, context: Context) -> MLPClassifier:
    """Return the model that a message carries."""
    model = new_model(int(context.run_config["hidden-units"]))
    set_weights(model, message.content.array_records["arrays"])
    return model


def data(context: Context) -> tuple[Split, Split]:
    """Return this hospital's share of the digits; company X has none."""
    return load_data(*hospital_partition(context))
