"""One step of gradient descent on a logistic model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.regression.logistic import penalty_gradient

Array = NDArray[np.float64]


def step(
    model: tuple[Array, float],
    gradient: tuple[Array, float],
    learning_rate: float,
    C: float | None,
    examples: int,
) -> tuple[Array, float]:
    """Return ``w - learning_rate * (gradient + w / (C * n))`` and the same for the intercept.

    The coordinator takes it on the model that it sends out, and in a sealed chain each hospital
    takes it on its own: sums, products and quotients of float64 alone, so that all come to the
    same model.

    Parameters
    ----------
    model
        Coefficients, shape (d,), and intercept, which is not penalised.
    gradient
        Of the mean log loss over all data, by the coefficients, shape (d,), and the intercept.
    learning_rate
        Step length, > 0.
    C
        Inverse strength of the L2 penalty as in scikit-learn; ``None``: no penalty.
    examples
        n of all the data, at least 1.

    Raises
    ------
    ValueError
        If ``C`` or ``examples`` is out of range.
    """
    coefficients, intercept = model
    by_coefficients, by_intercept = gradient
    penalty = penalty_gradient(coefficients, C, examples)
    return (
        coefficients - learning_rate * (by_coefficients + penalty),
        intercept - learning_rate * by_intercept,
    )
