"""What a federated model is compared with: scikit-learn on the same data, same figures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.data import Dataset
from fl_he.learning.errors import DataError

# scikit-learn's own default.
_DEFAULT_C = 1.0


@dataclass(frozen=True, slots=True)
class Figures:
    """How well predicted probabilities fit labels.

    Parameters
    ----------
    accuracy
        Share of labels that are predicted at the threshold 0.5, in [0, 1].
    balanced_accuracy
        Mean over the classes that are present of the share predicted, in [0, 1].
    roc_auc
        Area under the ROC curve, in [0, 1]; NaN if only one class is present.
    log_loss
        Mean negative log likelihood in nats, not negative. Finite also for probabilities of
        0 and 1: scikit-learn moves them by one rounding error.
    """

    accuracy: float
    balanced_accuracy: float
    roc_auc: float
    log_loss: float


def fit_alone(dataset: Dataset, C: float | None) -> tuple[NDArray[np.float64], float]:
    """Fit scikit-learn's logistic regression to standardised data.

    Used for one hospital alone and for the pooled data. The fit is deterministic.

    Data of one class give the constant model of that class: coefficients 0, and as intercept
    the log-odds of Laplace's rule of succession, ``log(m + 1)`` or its negative, since m of m
    examples give the probability ``(m + 1) / (m + 2)``. It always predicts the class, and its
    log loss on other data stays finite.

    Parameters
    ----------
    dataset
        Standardised.
    C
        Inverse strength of the L2 penalty, greater than 0. ``None`` or infinity (no penalty)
        is fitted with scikit-learn's default of 1.0: on separable data, such as that of a
        small hospital, an unpenalised fit has no finite optimum.

    Returns
    -------
    tuple[NDArray[np.float64], float]
        Coefficients, shape (d,), and intercept.

    Raises
    ------
    ValueError
        If ``C`` is out of range.
    """
    if C is not None and not C > 0.0:
        raise ValueError(f"C must be greater than 0, got {C}")
    labels = dataset.labels
    if labels.min() == labels.max():
        log_odds = math.log(dataset.examples + 1)
        constant = log_odds if labels[0] == 1.0 else -log_odds
        return np.zeros(dataset.features.shape[1]), constant
    # Imported here: clients import this layer in every new process and never fit a baseline.
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    strength = _DEFAULT_C if C is None or math.isinf(C) else C
    fit = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000)
    fit.fit(dataset.features, labels)
    return np.asarray(fit.coef_[0], dtype=np.float64), float(fit.intercept_[0])


def figures(probabilities: NDArray[np.float64], labels: NDArray[np.float64]) -> Figures:
    """Compare probabilities of label 1 with labels.

    Parameters
    ----------
    probabilities
        Shape (m,), m >= 1, in [0, 1].
    labels
        Shape (m,), each 0.0 or 1.0.

    Raises
    ------
    DataError
        If the shapes differ or are empty.
    """
    if labels.ndim != 1 or len(labels) == 0 or probabilities.shape != labels.shape:
        raise DataError(
            "probabilities and labels must have one shape (m,), m > 0, "
            f"got {probabilities.shape} and {labels.shape}"
        )
    # See fit_alone.
    from sklearn import metrics  # noqa: PLC0415

    predicted = (probabilities > 0.5).astype(np.float64)
    accuracy = float(metrics.accuracy_score(labels, predicted))
    loss = float(metrics.log_loss(labels, probabilities, labels=[0.0, 1.0]))
    if labels.min() == labels.max():
        # scikit-learn warns here: the recall of the absent class and the ROC are undefined.
        return Figures(accuracy, balanced_accuracy=accuracy, roc_auc=math.nan, log_loss=loss)
    return Figures(
        accuracy=accuracy,
        balanced_accuracy=float(metrics.balanced_accuracy_score(labels, predicted)),
        roc_auc=float(metrics.roc_auc_score(labels, probabilities)),
        log_loss=loss,
    )
