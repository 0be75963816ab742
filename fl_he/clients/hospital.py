"""A hospital's logistic learning on its own data: plain, it knows nothing of encryption.

Behind ``encryption_mod`` every reply leaves encrypted; without the mod the same app is an
ordinary Flower app.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from fl_he.learning import logistic
from fl_he.learning.data import Dataset
from fl_he.learning.model import LogisticModel
from fl_he.learning.scaling import Scaling
from fl_he.messages import (
    ACCURACY,
    FINISH,
    LOSS,
    NUM_EXAMPLES,
    ProtocolError,
    model_arrays,
    read_model_message,
    update_content,
)


@dataclass(frozen=True, slots=True)
class HospitalData:
    """What a hospital trains on and where its model goes.

    Attributes
    ----------
    dataset : Dataset
        In the units in which the model is trained.
    scaling : Scaling
        From the units of the hospital's table to those of ``dataset``.
    model_path : Path or None
        Where the final model is saved; ``None``: nowhere.
    """

    dataset: Dataset
    scaling: Scaling
    model_path: Path | None


def add_hospital(app: ClientApp, data: Callable[[Context], HospitalData]) -> ClientApp:
    """Register the handlers that train, evaluate and save a logistic model.

    Parameters
    ----------
    app : ClientApp
        It is changed and returned.
    data : callable
        Returns the data of the node that asks.
    """

    @app.train()
    def train(message: Message, context: Context) -> Message:
        dataset = data(context).dataset
        coefficients, intercept = _model_for(dataset, message)
        gradient = logistic.gradient(dataset.features, dataset.labels, coefficients, intercept)
        metrics = _metrics(dataset, coefficients, intercept)
        return Message(update_content(model_arrays(*gradient), metrics), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        dataset = data(context).dataset
        metrics = _metrics(dataset, *_model_for(dataset, message))
        return Message(update_content(None, metrics), reply_to=message)

    @app.query(FINISH.split(".")[1])
    def finish(message: Message, context: Context) -> Message:
        hospital = data(context)
        coefficients, intercept = _model_for(hospital.dataset, message)
        if hospital.model_path is not None:
            LogisticModel(
                feature_names=hospital.dataset.feature_names,
                mean=hospital.scaling.mean,
                scale=hospital.scaling.scale,
                coefficients=coefficients,
                intercept=intercept,
            ).save(hospital.model_path)
        return Message(RecordDict(), reply_to=message)

    return app


def _model_for(dataset: Dataset, message: Message) -> tuple[NDArray[np.float64], float]:
    coefficients, intercept = read_model_message(message.content)
    features = len(dataset.feature_names)
    if len(coefficients) != features:
        raise ProtocolError(
            f"a model must have one coefficient for each of this hospital's {features} features, "
            f"got {len(coefficients)}"
        )
    return coefficients, intercept


def _metrics(dataset: Dataset, coefficients: NDArray[np.float64], intercept: float) -> MetricRecord:
    features, labels = dataset.features, dataset.labels
    return MetricRecord(
        {
            LOSS: logistic.log_loss(features, labels, coefficients, intercept),
            ACCURACY: logistic.accuracy(features, labels, coefficients, intercept),
            NUM_EXAMPLES: len(labels),
        }
    )
