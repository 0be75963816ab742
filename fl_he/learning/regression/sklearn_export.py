"""A trained model as scikit-learn's own: a Pipeline of its scaler and a linear model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fl_he.atomic import replace_file
from fl_he.learning.errors import DataError
from fl_he.learning.regression.gamma import GammaModel
from fl_he.learning.regression.gaussian import GaussianModel
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.learning.regression.parameters import split
from fl_he.learning.regression.poisson import PoissonModel
from fl_he.learning.regression.softmax import SoftmaxModel
from fl_he.learning.regression.trained import TrainedModel

_REGRESSORS: Mapping[type[TrainedModel], str] = {
    GaussianModel: "LinearRegression",
    PoissonModel: "PoissonRegressor",
    GammaModel: "GammaRegressor",
}


def to_pipeline(model: TrainedModel) -> Any:
    """Return a fitted Pipeline that predicts what the model predicts, from the tables' units.

    Parameters
    ----------
    model
        The labels of classes are 0 and 1, or the names of more than two classes.

    Returns
    -------
    sklearn.pipeline.Pipeline
        Steps ``scaler``, and ``classifier`` or ``regressor``. It knows the features' names, as if
        it had been fitted to a data frame.

    Raises
    ------
    DataError
        If scikit-learn has no such model.
    """
    from sklearn import linear_model  # noqa: PLC0415 - lazy: slow to load
    from sklearn.pipeline import Pipeline  # noqa: PLC0415 - lazy: slow to load
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415 - lazy: slow to load

    names = np.array(model.feature_names, dtype=object)
    scaler = StandardScaler()
    scaler.mean_, scaler.scale_ = np.array(model.mean), np.array(model.scale)
    scaler.var_ = np.square(scaler.scale_)
    scaler.n_features_in_, scaler.feature_names_in_ = len(names), names
    step, coefficients, intercepts = "classifier", *map(np.array, split(model.theta, len(names)))
    if isinstance(model, LogisticModel | SoftmaxModel):
        fitted = linear_model.LogisticRegression()
        fitted.classes_ = model.labels
        fitted.coef_, fitted.intercept_ = coefficients, intercepts
    elif (kind := _REGRESSORS.get(type(model))) is not None:
        step, fitted = "regressor", getattr(linear_model, kind)()
        fitted.coef_, fitted.intercept_ = coefficients[0], float(intercepts[0])
        # Of a link scikit-learn keeps the loss that it minimised.
        if hasattr(fitted, "_get_loss"):
            fitted._base_loss = fitted._get_loss()
    else:
        raise DataError(
            f"scikit-learn has no estimator for a model of format {model.FORMAT!r}: read model.json"
        )
    fitted.n_features_in_ = len(names)
    return Pipeline([("scaler", scaler), (step, fitted)])


def save_pipeline(model: TrainedModel, path: Path) -> None:
    """Write the Pipeline in skops' format, which runs no code when it is read.

    Raises
    ------
    DataError
        If skops is not installed.
    OSError
        If the file cannot be written.
    """
    try:
        from skops import io  # noqa: PLC0415 - lazy: an extra
    except ImportError:
        raise DataError(
            "skops must be installed to export to scikit-learn: pip install 'fl-he[export]'"
        ) from None
    replace_file(path, io.dumps(to_pipeline(model)))
