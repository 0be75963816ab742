"""A hospital's logistic learning on its own data: plain, it knows nothing of encryption.

Behind ``encryption_mod`` every reply leaves encrypted; without the mod the same app is an
ordinary Flower app.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from fl_he.learning import descent, logistic
from fl_he.learning.data import Dataset
from fl_he.learning.errors import PrivacyError
from fl_he.learning.model import LogisticModel
from fl_he.learning.privacy import clipped_sum
from fl_he.learning.scaling import Scaling
from fl_he.messages import (
    ACCURACY,
    FINISH,
    LOSS,
    NUM_EXAMPLES,
    ProtocolError,
    model_arrays,
    read_model_arrays,
    read_model_message,
    update_content,
)
from fl_he.records import take


@dataclass(frozen=True, slots=True)
class Clipping:
    """How each patient's gradient is clipped under differential privacy.

    Attributes
    ----------
    norm : float
        The largest L2 norm.
    fraction_bits : int
        Of the fixed-point numbers on which the sum is counted.
    """

    norm: float
    fraction_bits: int


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
    clipping : Clipping or None
        With it training replies hold clipped gradients, and neither loss nor accuracy.
    """

    dataset: Dataset
    scaling: Scaling
    model_path: Path | None
    clipping: Clipping | None = None


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
        hospital = data(context)
        dataset = hospital.dataset
        model = _model_for(dataset, message)
        if hospital.clipping is None:
            gradient = logistic.gradient(dataset.features, dataset.labels, *model)
            metrics = _metrics(dataset, *model)
        else:
            gradient = _clipped_gradient(dataset, *model, hospital.clipping)
            metrics = MetricRecord({NUM_EXAMPLES: dataset.examples})
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
                positive=hospital.dataset.positive,
            ).save(hospital.model_path)
        return Message(RecordDict(), reply_to=message)

    return app


def zero_model(dataset: Dataset) -> ArrayRecord:
    """Return the model from which logistic training starts."""
    return model_arrays(np.zeros(len(dataset.feature_names)), 0.0)


def descent_step(model: ArrayRecord, mean: RecordDict, config: ConfigRecord) -> ArrayRecord:
    """Take the step of gradient descent that a round's mean gradient gives.

    Parameters
    ----------
    model : ArrayRecord
    mean : RecordDict
        The hospitals' mean gradient, with the number of all examples.
    config : ConfigRecord
        ``lr``, the step length, and ``C`` as in scikit-learn where there is a penalty.

    Raises
    ------
    ProtocolError
        If the config or the mean is not of this kind.
    """
    rate, strength = take(config, "lr", float), take(config, "C", float) if "C" in config else None
    if not (rate > 0 and (strength is None or strength > 0)):
        raise ProtocolError("lr and C in the train config must be greater than 0")
    metrics = next(iter(mean.metric_records.values()))
    stepped = descent.step(
        read_model_arrays(model),
        read_model_arrays(next(iter(mean.array_records.values()))),
        rate,
        strength,
        int(cast(float, metrics[NUM_EXAMPLES])),
    )
    return model_arrays(*stepped)


def _model_for(dataset: Dataset, message: Message) -> tuple[NDArray[np.float64], float]:
    coefficients, intercept = read_model_message(message.content)
    features = len(dataset.feature_names)
    if len(coefficients) != features:
        raise ProtocolError(
            f"a model must have one coefficient for each of this hospital's {features} features, "
            f"got {len(coefficients)}"
        )
    return coefficients, intercept


def _clipped_gradient(
    dataset: Dataset, coefficients: NDArray[np.float64], intercept: float, clipping: Clipping
) -> tuple[NDArray[np.float64], float]:
    """Return the mean of the clipped gradients, whose sum is on the lattice."""
    gradients = logistic.example_gradients(
        dataset.features, dataset.labels, coefficients, intercept
    )
    try:
        total = clipped_sum(gradients, clipping.norm, clipping.fraction_bits)
    except PrivacyError as error:  # public: the clipping norm, the bits, the number of patients
        raise ProtocolError(str(error)) from None
    mean = np.ldexp(total.astype(np.float64), -clipping.fraction_bits) / dataset.examples
    return mean[:-1], float(mean[-1])


def _metrics(dataset: Dataset, coefficients: NDArray[np.float64], intercept: float) -> MetricRecord:
    features, labels = dataset.features, dataset.labels
    return MetricRecord(
        {
            LOSS: logistic.log_loss(features, labels, coefficients, intercept),
            ACCURACY: logistic.accuracy(features, labels, coefficients, intercept),
            NUM_EXAMPLES: len(labels),
        }
    )
