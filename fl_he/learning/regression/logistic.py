"""Logistic regression with an intercept: loss, gradient, prediction and L2 penalty.

The mean loss over m examples and its gradient are means over rows, so the mean over
hospitals, weighted by their numbers of examples, is the loss or gradient of the pooled data.
Source: Hastie, Tibshirani and Friedman 2009, "The Elements of Statistical Learning",
section 4.4.1, with the sign turned: we minimise.

Shapes in this module: features (m, d), labels (m,) of 0.0 and 1.0, coefficients (d,).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError

Array = NDArray[np.float64]


def log_loss(features: Array, labels: Array, coefficients: Array, intercept: float) -> float:
    """Return the mean of ``log(1 + exp(-s z))``, z = Xw + b and s = +1 or -1 by label.

    Safe for every finite z: no overflow, and no loss of precision near zero loss.

    Raises
    ------
    DataError
        If the shapes do not fit.
    """
    return float(np.mean(log_losses(features, labels, coefficients, intercept)))


def log_losses(features: Array, labels: Array, coefficients: Array, intercept: float) -> Array:
    """Return the log loss of each row, shape (m,), of which :func:`log_loss` is the mean.

    Raises
    ------
    DataError
        If the shapes do not fit.
    """
    margins = _margins(features, coefficients, intercept)
    _check_labels(labels, margins)
    signs = 2.0 * labels - 1.0
    losses: Array = np.logaddexp(0.0, -signs * margins)
    return losses


def gradient(
    features: Array, labels: Array, coefficients: Array, intercept: float
) -> tuple[Array, float]:
    """Return the gradient of :func:`log_loss`, ``(sigmoid(Xw + b) - y) X / m``.

    Returns
    -------
    tuple[Array, float]
        The derivatives by the coefficients, shape (d,), and by the intercept.

    Raises
    ------
    DataError
        If the shapes do not fit.
    """
    predicted = probabilities(features, coefficients, intercept)
    _check_labels(labels, predicted)
    residuals = predicted - labels
    by_coefficients: Array = residuals @ features / len(labels)
    return by_coefficients, float(np.mean(residuals))


def probabilities(features: Array, coefficients: Array, intercept: float) -> Array:
    """Return the probability of label 1 for each row, ``sigmoid(Xw + b)``, shape (m,).

    Raises
    ------
    DataError
        If the shapes do not fit.
    """
    margins = _margins(features, coefficients, intercept)
    small = np.exp(-np.abs(margins))  # never overflows
    result: Array = np.where(margins >= 0.0, 1.0, small) / (1.0 + small)
    return result


def accuracy(features: Array, labels: Array, coefficients: Array, intercept: float) -> float:
    """Return the share of rows whose label is predicted, in [0, 1].

    Label 1 is predicted where its probability is greater than 0.5, as scikit-learn does; at
    0.5, where training starts, the prediction is 0.

    Raises
    ------
    DataError
        If the shapes do not fit.
    """
    predicted = probabilities(features, coefficients, intercept)
    _check_labels(labels, predicted)
    return float(np.mean((predicted > 0.5) == (labels == 1.0)))


def penalty(coefficients: Array, C: float | None, examples: int) -> float:
    """Return the L2 penalty ``w'w / (2 C m)`` that belongs to a mean loss over m examples.

    scikit-learn minimises ``w'w / 2 + C * (sum of log losses)`` and does not penalise the
    intercept. Divided by ``C * m`` this is :func:`log_loss` plus this penalty, so both have
    the same optimum (user guide of scikit-learn, "Logistic regression", binary case).

    Parameters
    ----------
    coefficients
        Shape (d,).
    C
        Inverse strength, greater than 0; ``None`` or infinity is no penalty.
    examples
        m of all the data that are trained on, at least 1: of all hospitals together.

    Raises
    ------
    ValueError
        If ``C`` or ``examples`` is out of range.
    """
    return 0.5 * penalty_strength(C, examples) * float(coefficients @ coefficients)


def penalty_gradient(coefficients: Array, C: float | None, examples: int) -> Array:
    """Return the gradient of :func:`penalty`, ``w / (C m)``, shape (d,).

    Raises
    ------
    ValueError
        If ``C`` or ``examples`` is out of range.
    """
    return penalty_strength(C, examples) * coefficients


def penalty_strength(C: float | None, examples: int) -> float:
    """Return ``1 / (C n)``, the factor of :func:`penalty_gradient`; raises as it does."""
    if examples < 1:
        raise ValueError(f"examples must be at least 1, got {examples}")
    if C is None:
        return 0.0
    if not C > 0.0:
        raise ValueError(f"C must be greater than 0, got {C}")
    return 1.0 / (C * examples)


def _margins(features: Array, coefficients: Array, intercept: float) -> Array:
    if features.ndim != 2 or len(features) == 0 or coefficients.shape != features.shape[1:]:
        raise DataError(
            "features must have rows and one column for each coefficient, "
            f"got shapes {features.shape} and {coefficients.shape}"
        )
    margins: Array = features @ coefficients + intercept
    return margins


def _check_labels(labels: Array, rows: Array) -> None:
    # A column vector would broadcast to an m x m matrix, and its mean would look plausible.
    if labels.shape != rows.shape:
        raise DataError(f"labels must have shape {rows.shape}, got {labels.shape}")
