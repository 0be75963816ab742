"""A trained model as scikit-learn's own: a Pipeline of its scaler and LogisticRegression."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fl_he.atomic import replace_file
from fl_he.learning.errors import DataError
from fl_he.learning.regression.parameters import split
from fl_he.learning.regression.trained import TrainedModel


def to_pipeline(model: TrainedModel) -> Any:
    """Return a fitted Pipeline that predicts what the model predicts, from the tables' units.

    Parameters
    ----------
    model
        Its labels are 0 and 1, or the names of more than two classes.

    Returns
    -------
    sklearn.pipeline.Pipeline
        Steps ``scaler`` and ``classifier``. It knows the features' names, as if it had been fitted
        to a data frame.

    Raises
    ------
    DataError
        If scikit-learn has no such model.
    """
    if not model.LOG_ODDS:
        raise DataError(f"scikit-learn has no classifier for a model of format {model.FORMAT!r}")
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - slow to load
    from sklearn.pipeline import Pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    names = np.array(model.feature_names, dtype=object)
    scaler = StandardScaler()
    scaler.mean_, scaler.scale_ = np.array(model.mean), np.array(model.scale)
    scaler.var_ = np.square(scaler.scale_)
    scaler.n_features_in_, scaler.feature_names_in_ = len(names), names
    classifier = LogisticRegression()
    classifier.classes_ = model.labels
    classifier.coef_, classifier.intercept_ = map(np.array, split(model.theta, len(names)))
    classifier.n_features_in_ = len(names)
    return Pipeline([("scaler", scaler), ("classifier", classifier)])


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
        from skops import io  # noqa: PLC0415
    except ImportError:
        raise DataError(
            "skops must be installed to export to scikit-learn: pip install 'fl-he[export]'"
        ) from None
    replace_file(path, io.dumps(to_pipeline(model)))
