"""quickstart: A Flower / scikit-learn app."""

from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from sklearn.metrics import log_loss

from fl_he import encryption_mod, hospital_partition, with_key_holder
from quickstart.task import CLASSES, get_arrays, get_model, load_data, set_arrays

# Flower ClientApp
app = with_key_holder(ClientApp(mods=[encryption_mod]))


def local_data(context: Context):
    """Return this node's partition of the data."""
    partition_id, num_partitions = hospital_partition(context)
    return load_data(partition_id, num_partitions)


@app.train()
def train(msg: Message, context: Context):
    """Train the model on local data."""
    model = get_model(context.run_config["learning-rate"])
    set_arrays(model, msg.content["arrays"])
    features, labels, _, _ = local_data(context)
    for _ in range(context.run_config["local-epochs"]):
        model.partial_fit(features, labels, classes=CLASSES)
    loss = log_loss(labels, model.predict_proba(features), labels=CLASSES)
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(labels)})
    content = RecordDict({"arrays": get_arrays(model), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context):
    """Evaluate the model on local data."""
    model = get_model(context.run_config["learning-rate"])
    set_arrays(model, msg.content["arrays"])
    _, _, features, labels = local_data(context)
    accuracy = model.score(features, labels)
    metrics = MetricRecord({"eval_acc": accuracy, "num-examples": len(labels)})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)
