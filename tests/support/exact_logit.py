"""Maximum likelihood estimates of logistic regression in 160-bit arithmetic, of any table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gmpy2
import numpy as np
from numpy.typing import NDArray

_BITS = 160
_exp, _log1p = np.frompyfunc(gmpy2.exp, 1, 1), np.frompyfunc(gmpy2.log1p, 1, 1)
_erfc = np.frompyfunc(gmpy2.erfc, 1, 1)
_mpfr = np.frompyfunc(gmpy2.mpfr, 1, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Estimates in the units of the columns, the intercept last, and the log likelihood."""

    params: NDArray[np.float64]
    bse: NDArray[np.float64]
    pvalues: NDArray[np.float64]
    llf: float


def exact_fit(X: NDArray[np.float64], y: NDArray[np.int64]) -> Fit:
    """Fit by Newton's method until nothing is left of the gradient.

    Columns are centred and scaled by float64 numbers, without rounding at this precision.
    """
    with gmpy2.context(gmpy2.get_context(), precision=_BITS):
        means, scales = _mpfr(X.mean(axis=0)), _mpfr(X.std(axis=0))
        Z: NDArray[Any] = np.column_stack([(_mpfr(X) - means) / scales, _mpfr(np.ones(len(X)))])
        sign = _mpfr(2.0 * y - 1.0)
        theta = _mpfr(np.zeros(Z.shape[1]))
        before = None
        for _ in range(100):
            margins = sign * (Z @ theta)
            losses = _log1p(_exp(-margins))
            loss = losses.sum()
            wrong = 1 / (1 + _exp(margins))
            gradient = -(Z.T @ (sign * wrong))
            root = _cholesky(Z.T @ (Z * (wrong * (1 - wrong))[:, None]))
            half = _forward(root, gradient)
            step = _backward(root, half)
            decrement = half @ half
            if decrement < 1e-40:
                break
            if before is not None and loss > before:
                raise AssertionError("Newton's method must fall, and did not")
            before = loss
            theta = theta - step
        else:
            raise AssertionError("Newton's method must converge in 100 steps, and did not")
        # Rows of the inverse root, in the columns' units.
        size = len(theta)
        back = _mpfr(np.zeros((size, size)))
        for j in range(size - 1):
            back[j, j] = 1 / scales[j]
            back[size - 1, j] = -means[j] / scales[j]
        back[size - 1, size - 1] = gmpy2.mpfr(1)
        params = back @ theta
        bse = np.array([gmpy2.sqrt(h @ h) for h in (_forward(root, row) for row in back)])
        p_values = _erfc(abs(params / bse) / gmpy2.sqrt(gmpy2.mpfr(2)))
        return Fit(params.astype(float), bse.astype(float), p_values.astype(float), -float(loss))


def _cholesky(matrix: NDArray[Any]) -> NDArray[Any]:
    root = matrix.copy()
    for j in range(len(root)):
        row = root[j, :j]
        root[j, j] = gmpy2.sqrt(matrix[j, j] - (row @ row if j else 0))
        if j + 1 < len(root):
            below = root[j + 1 :, :j] @ row if j else 0
            root[j + 1 :, j] = (matrix[j + 1 :, j] - below) / root[j, j]
        root[j, j + 1 :] = gmpy2.mpfr(0)
    return root


def _forward(root: NDArray[Any], vector: NDArray[Any]) -> NDArray[Any]:
    found = vector.copy()
    for j in range(len(root)):
        found[j] = (vector[j] - (root[j, :j] @ found[:j] if j else 0)) / root[j, j]
    return found


def _backward(root: NDArray[Any], vector: NDArray[Any]) -> NDArray[Any]:
    found = vector.copy()
    for j in reversed(range(len(root))):
        above = root[j + 1 :, j] @ found[j + 1 :] if j + 1 < len(root) else 0
        found[j] = (vector[j] - above) / root[j, j]
    return found
