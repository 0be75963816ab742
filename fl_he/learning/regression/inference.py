"""What a statistician reads off a logistic regression: standard errors, intervals, odds ratios."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from fl_he.learning.regression.logistic import LOGISTIC
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.scaling import Scaling

#: Of the confidence intervals.
LEVEL = 0.95


def covariance(hessian: Array, examples: int) -> Array | None:
    """Return the estimates' covariance, the inverse of the observed information.

    Source: Hastie, Tibshirani and Friedman 2009, "The Elements of Statistical Learning",
    section 4.4.3. With a penalty in the Hessian it is that of the penalised likelihood's mode: le
    Cessie and van Houwelingen 1992, "Ridge Estimators in Logistic Regression", section 2.

    Parameters
    ----------
    hessian
        Of the mean objective at the estimate, shape (p, p).
    examples
        How many the mean is of.

    Returns
    -------
    NDArray[np.float64] or None
        ``None`` if the information is singular within rounding, as for separable data without a
        penalty: there are no standard errors then.
    """
    values, vectors = np.linalg.eigh(hessian)
    if not values[0] > len(values) * np.finfo(np.float64).eps * abs(values[-1]):
        return None
    return np.asarray((vectors / values) @ vectors.T / examples, dtype=np.float64)


def coefficient_table(
    theta: Array, names: Sequence[str], scaling: Scaling, cov: Array | None
) -> list[dict[str, Any]]:
    """Return each feature's estimate, in the units of the tables, and the intercept's.

    Parameters
    ----------
    theta
        Coefficients of the scaled features, and the intercept; shape (d + 1,).
    names
        d names.
    scaling
        From the units of the tables to the model's.
    cov
        Covariance of ``theta``; ``None``: standard errors are not known.

    Returns
    -------
    list of dict
        ``name``, ``estimate`` (log odds per unit), ``odds_ratio`` for one ``scale`` more, which is
        a standard deviation where features are scaled, and if they are known ``standard_error``,
        ``z``, ``p_value`` (Wald, two-sided), ``lower`` and ``upper`` (95%, of the estimate),
        ``odds_ratio_lower`` and ``odds_ratio_upper``; else these are ``None``.
    """
    d = len(names)
    # From standardised to original units; the intercept takes what the means leave.
    back = np.zeros((d + 1, d + 1))
    back[range(d), range(d)] = 1.0 / scaling.scale
    back[d, :d] = -scaling.mean / scaling.scale
    back[d, d] = 1.0
    estimates = back @ theta
    errors = None if cov is None else np.sqrt(np.diag(back @ cov @ back.T))
    steps = [*scaling.scale.tolist(), 1.0]
    return [
        _row(name, float(estimates[i]), None if errors is None else float(errors[i]), steps[i])
        for i, name in enumerate(LOGISTIC.parameter_names(names))
    ]


def _row(name: str, estimate: float, error: float | None, step: float) -> dict[str, Any]:
    odds_ratio = _odds(step * estimate)
    row: dict[str, Any] = {"name": name, "estimate": estimate, "odds_ratio": odds_ratio}
    if error is None or not error > 0:
        unknown = ("standard_error", "z", "p_value", "lower", "upper")
        return row | dict.fromkeys((*unknown, "odds_ratio_lower", "odds_ratio_upper"))
    reach = NormalDist().inv_cdf((1 + LEVEL) / 2) * error
    z = estimate / error
    return row | {
        "standard_error": error,
        "z": z,
        "p_value": math.erfc(abs(z) / math.sqrt(2)),
        "lower": estimate - reach,
        "upper": estimate + reach,
        "odds_ratio_lower": _odds(step * (estimate - reach)),
        "odds_ratio_upper": _odds(step * (estimate + reach)),
    }


def _odds(logarithm: float) -> float | None:
    """Return the exponential, ``None`` where it is no float64."""
    try:
        return math.exp(logarithm)
    except OverflowError:
        return None
