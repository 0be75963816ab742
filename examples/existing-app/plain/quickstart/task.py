"""Model and data."""

import numpy as np
from flwr.app import Array, ArrayRecord
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

CLASSES = np.arange(10)


def get_model(learning_rate: float) -> SGDClassifier:
    """Return a linear classifier whose weights are zeros."""
    model = SGDClassifier("log_loss", learning_rate="constant", eta0=learning_rate, random_state=1)
    model.classes_ = CLASSES
    model.coef_ = np.zeros((len(CLASSES), 64))
    model.intercept_ = np.zeros(len(CLASSES))
    return model


def get_arrays(model: SGDClassifier) -> ArrayRecord:
    """Return the model's weights."""
    return ArrayRecord({"coef": Array(model.coef_), "intercept": Array(model.intercept_)})


def set_arrays(model: SGDClassifier, arrays: ArrayRecord) -> None:
    """Set the model's weights."""
    model.coef_ = arrays["coef"].numpy().copy()
    model.intercept_ = arrays["intercept"].numpy().copy()


def load_data(partition_id: int, num_partitions: int):
    """Return features and labels of one partition, to train on and to test on."""
    features, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(10).permutation(len(labels))
    mine = np.array_split(order, num_partitions)[partition_id]
    train, test = np.split(mine, [len(mine) * 4 // 5])
    return features[train] / 16, labels[train], features[test] / 16, labels[test]
