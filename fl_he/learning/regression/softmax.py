"""Softmax regression with intercepts: the logistic model of more than two classes.

Every class has coefficients of its own, as in scikit-learn, so that the model is symmetric in
the classes and the penalty picks one of many equal models. Source: Hastie, Tibshirani and
Friedman 2009, "The Elements of Statistical Learning", section 4.4, with the sign turned and no
reference class.

Shapes in this module: features (m, d), labels (m,) of 0.0 to k - 1, coefficients (k, d),
intercepts (k,).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError

Array = NDArray[np.float64]


def log_probabilities(features: Array, coefficients: Array, intercepts: Array) -> Array:
    """Return the logarithm of each class's probability for each row, shape (m, k).

    Safe for every finite model: the largest margin is subtracted before the exponential.

    Raises
    ------
    DataError
        If the shapes do not fit.
    """
    classes = len(intercepts)
    if (
        features.ndim != 2
        or not len(features)
        or coefficients.shape != (classes, *features.shape[1:])
    ):
        raise DataError(
            "features must have rows and one column for each coefficient of a class, "
            f"got shapes {features.shape} and {coefficients.shape}"
        )
    margins: Array = features @ coefficients.T + intercepts
    margins -= margins.max(axis=1, keepdims=True)
    logarithms: Array = margins - np.log(np.exp(margins).sum(axis=1, keepdims=True))
    return logarithms


def probabilities(features: Array, coefficients: Array, intercepts: Array) -> Array:
    """Return each class's probability for each row, shape (m, k); raises as above."""
    result: Array = np.exp(log_probabilities(features, coefficients, intercepts))
    return result


def log_losses(logarithms: Array, labels: Array) -> Array:
    """Return ``-log(probability of the row's own class)`` of each row, shape (m,)."""
    return -logarithms[np.arange(len(labels)), labels.astype(np.intp)]


def residuals(predicted: Array, labels: Array) -> Array:
    """Return ``predicted - [label is the class]`` of each row and class, shape (m, k)."""
    own = np.zeros_like(predicted)
    own[np.arange(len(labels)), labels.astype(np.intp)] = 1.0
    return predicted - own


def hessian(design: Array, predicted: Array, weights: Array) -> Array:
    """Return the second derivatives of the weighted mean log loss.

    The block of the classes a and b is ``sum_i s_i p_ia ([a = b] - p_ib) x_i x_i' / m``: Bohning
    1992, "Multinomial logistic regression algorithm", section 2.

    Parameters
    ----------
    design
        Shape (m, e): what is multiplied by the parameters of one class.
    predicted
        Probabilities, shape (m, k).
    weights
        s, shape (m,).

    Returns
    -------
    NDArray[np.float64]
        Shape (k e, k e), class by class.
    """
    classes, width = predicted.shape[1], design.shape[1]
    result = np.empty((classes, width, classes, width))
    for a in range(classes):
        for b in range(a, classes):
            curvature = weights * predicted[:, a] * (float(a == b) - predicted[:, b])
            block = (design * curvature[:, None]).T @ design / len(design)
            result[a, :, b, :] = block
            result[b, :, a, :] = block.T
    return result.reshape(classes * width, classes * width)
