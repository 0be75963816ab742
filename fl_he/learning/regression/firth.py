"""Firth's penalty: half the log determinant of the information, added to the log likelihood.

The estimates are finite on separable data too, and their bias is of second order. Firth 1993, "Bias
reduction of maximum likelihood estimates", section 3.1; Heinze and Schemper 2002, "A solution to
the problem of separation in logistic regression", section 2. For two classes and without class
weights:

    penalised log likelihood   l + log|I| / 2
    penalised score            sum_i (y_i - p_i + h_i (1/2 - p_i)) x_i,  h_i = w_i x_i' I^-1 x_i

``w_i = p_i (1 - p_i)``, and I is the sum of ``w_i x_i x_i'`` over all hospitals' examples. So a
hospital needs a root of the total's inverse to compute its part of the score: an iteration is two
sums.

A column of zeros, such as one that was left out, is in none of this: its coefficient stays 0.
"""

from __future__ import annotations

import math

import numpy as np

from fl_he.learning.regression.likelihood import Examples
from fl_he.learning.regression.products import within
from fl_he.learning.tables.arrays import Array


def adjustment_sum(examples: Examples, root: Array) -> Array:
    """Return one hospital's part of the penalty's score, ``sum_i h_i (1/2 - p_i) x_i``.

    Parameters
    ----------
    examples
        Of a logistic model, with m examples.
    root
        :func:`root` of all hospitals' information at that model, shape (d + 1, d + 1).

    Returns
    -------
    NDArray[np.float64]
        Shape (d + 1,), laid out like the parameters.
    """
    design, p = examples.design, examples.means[:, 0]
    weighted = np.sqrt(p * (1.0 - p))[:, None] * design
    leverages = np.square(weighted @ root).sum(axis=1)
    # No leverage is above 1, but where the total has hardly any information, its rounding is. A
    # root of any size may also overflow.
    leverages = np.where(leverages < 1.0, leverages, 1.0)
    return np.asarray((leverages * (0.5 - p)) @ design, dtype=np.float64)


def whitening(information: Array, theta: Array, rest: Array | None = None) -> tuple[Array, float]:
    """Return a matrix W with ``W' I W = 1`` and ``log|I|``, both without columns of zeros.

    The eigenvectors of float64 lose the digits of directions of little information. So ``W' I W``
    is computed with more digits, and W is corrected by the difference from 1.

    Parameters
    ----------
    information
        At a model, shape (p, p).
    theta
        The model. A column without information is one of zeros if its coefficient is 0, for the
        steps never move it; else the model is so far off that all probabilities are 0 or 1.
    rest
        What the rounding of the information leaves out, shape (p, p); ``None``: nothing.

    Returns
    -------
    NDArray[np.float64]
        Shape (p, r): ``W W'`` is the inverse. Directions of no information are left out.
    float
        Minus infinity if a direction was left out that is no column of zeros: the information is
        singular within rounding.
    """
    diagonal = np.diag(information)
    kept = np.flatnonzero((diagonal > 0.0) | (theta != 0.0))
    if not (diagonal[kept] > 0.0).all() or not len(kept):
        return np.zeros((len(information), 0)), -math.inf
    scale = 1.0 / np.sqrt(diagonal[kept])
    values, vectors = np.linalg.eigh(scale[:, None] * information[np.ix_(kept, kept)] * scale)
    found = values > len(values) * np.finfo(np.float64).eps * max(1.0, float(values[-1]))
    result = np.zeros((len(information), int(found.sum())))
    result[kept] = scale[:, None] * vectors[:, found] / np.sqrt(values[found])
    if not found.all():
        return result, -math.inf
    log_determinant = float(np.log(values).sum() - 2.0 * np.log(scale).sum())
    inner, along = np.linalg.eigh(within(information, rest, result))
    if not inner[0] > 0.0:
        return result, -math.inf
    return result @ (along / np.sqrt(inner)), log_determinant + float(np.log(inner).sum())


def root(information: Array, theta: Array, rest: Array | None = None) -> Array:
    """Return W of `whitening` with columns of zeros behind, shape (p, p)."""
    white, _ = whitening(information, theta, rest)
    return np.pad(white, ((0, 0), (0, len(white) - white.shape[1])))


def inverse(information: Array, theta: Array) -> Array:
    """Return the inverse of the information, shape (p, p); zero for columns of zeros."""
    white, _ = whitening(information, theta)
    return np.asarray(white @ white.T, dtype=np.float64)


def null_log_likelihood(start: Array, counts: Array) -> float:
    """Return the penalised log likelihood of the best model whose coefficients are all zero.

    The penalty is that of all columns, as in R's logistf. With equal probabilities ``p`` the
    information is ``p (1 - p) X'X``, and the leverages add up to the number of columns k, so that
    ``p = (positives + k / 2) / (n + k)``.

    Parameters
    ----------
    start
        Information at a model of zeros, ``X'X / 4``.
    counts
        Examples of labels 0 and 1.
    """
    white, log_determinant = whitening(start, np.zeros(len(start)))
    columns = white.shape[1]
    p = (counts + columns / 2) / (counts.sum() + columns)
    spread = columns * math.log(4.0 * p.prod())
    return float(counts @ np.log(p) + 0.5 * (log_determinant + spread))
