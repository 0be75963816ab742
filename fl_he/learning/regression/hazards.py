"""Score tests of proportional hazards, from sums over the events of all hospitals.

A Cox model says that a coefficient is the same at all times. If it has a trend instead, ``b + c
g(t)`` with the declared function ``g(t) = log(1 + t)`` of the time in the table's unit, the score
by c is the sum over events of g times the Schoenfeld residual: the event's columns less their mean
at risk. Its information, less that which b has too, follows from sums of g and of g^2 times the
variances at risk. Source: Grambsch and Therneau 1994, "Proportional hazards tests and diagnostics
based on weighted residuals"; with the variance at each event, as in R's `cox.zph` from survival 3.0
on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.regression.cox import trend_values
from fl_he.learning.regression.firth import whitening
from fl_he.learning.regression.inference import chi_squared, inverse_of
from fl_he.learning.regression.likelihood import from_upper_triangle
from fl_he.learning.regression.products import within
from fl_he.learning.tables.arrays import Array, finite_array

#: Error of a test as a share of its statistic, by an estimate, from which on it is withheld.
_INEXACT = 1e-3
#: Reasons without tests.
NO_ESTIMATES = "some coefficients have no finite estimate, at which the others could be tested"
NO_COLUMNS = "no column has a coefficient"
NO_SUMS = "the last total has no sums over the events for them"
NO_TREND = (
    "each hospital's events have about one time, or the columns are so nearly equal that rounding "
    "hides a trend"
)


def read_trends(values: object, features: int) -> Array | None:
    """Read the sums of trends that a training remembered, ``None`` if none; raises DataError."""
    if values is None:
        return None
    trends = finite_array(values, "the training's trends", dimensions=1)
    _require_count(trends, features)
    return trends


def trend_tests(
    information: Array,
    trends: Array,
    features: Sequence[str],
    kept: Sequence[int],
    *,
    examples: int,
    rest: Array | None = None,
) -> dict[str, Any]:
    """Test whether coefficients have a trend over time, each and all together.

    The joint test is made in the units W of the information, ``W' I W = 1``: of nearly equal
    columns the variance of their difference is lost in float64 if it is a difference of the
    columns' own. The rounding of sums is about ``sqrt(n) eps``, and larger by what little the
    information has of the difference, and by what little of g the coefficients do not explain.

    Parameters
    ----------
    information
        Of all events, of the features first, shape (d + 1, d + 1).
    trends
        Sums of all hospitals, shape (d (d + 2),).
    features
        d names.
    kept
        Numbers of the features with a coefficient.
    examples
        n, of which the sums are.
    rest
        What the rounding of the information leaves out; ``None``: nothing.

    Returns
    -------
    dict
        ``chi2``, ``df`` and ``p_value`` of all, ``features``, a list of the same for each with its
        ``name``, and ``withheld``, why some of these are ``None``.

    Raises
    ------
    DataError
        If the sums are of another number of features.
    """
    d = len(features)
    _require_count(trends, d)
    if not kept:
        return without_tests(NO_COLUMNS)
    part, half = np.ix_(kept, kept), d * (d + 1) // 2
    scores = trends[:d][[*kept]]
    by_time, by_square = (from_upper_triangle(one, d)[part] for one in np.split(trends[d:], [half]))
    kept_rest = None if rest is None else rest[part]
    white, log_determinant = whitening(information[part], np.zeros(len(kept)), kept_rest)
    rounding = 4.0 * np.sqrt(examples) * float(np.finfo(np.float64).eps)
    if not np.isfinite(log_determinant):
        return _tests(features, kept, [None] * len(kept), None)
    # The squared length of a column's row of W is its largest share of the variance inflation.
    inflation = np.diag(information[part]) * np.square(white).sum(axis=1)
    explained = np.square(white.T @ by_time).sum(axis=0)
    own, variances = np.diag(by_square), np.diag(by_square) - explained
    exact = rounding * np.sqrt(inflation.max()) * own < _INEXACT * variances
    each = [
        float(score**2 / variance) if known else None
        for score, variance, known in zip(scores, variances, exact, strict=True)
    ]
    slope, square = (within(one, None, white) for one in (by_time, by_square))
    left = square - slope @ slope
    least = np.linalg.eigvalsh(left)[0]
    together = None
    if rounding * inflation.max() * np.diag(square).max() < _INEXACT * least:
        whole, by_unit = inverse_of(left), white.T @ scores
        together = None if whole is None else float(by_unit @ whole @ by_unit)
    return _tests(features, kept, each, together)


def without_tests(reason: str) -> dict[str, Any]:
    """Return the members of :func:`trend_tests` where there is no test."""
    return {**dict.fromkeys(("chi2", "df", "p_value")), "features": [], "withheld": reason}


def _tests(
    features: Sequence[str],
    kept: Sequence[int],
    each: Sequence[float | None],
    together: float | None,
) -> dict[str, Any]:
    if together is None and not any(one is not None for one in each):
        return without_tests(NO_TREND)
    return {
        **_test(together, len(kept)),
        "features": [
            {"name": features[j], **_test(one, 1)} for j, one in zip(kept, each, strict=True)
        ],
        "withheld": NO_TREND if None in (together, *each) else None,
    }


def _test(statistic: float | None, df: int) -> dict[str, Any]:
    if statistic is None:
        return {"chi2": None, "df": df, "p_value": None}
    return chi_squared(statistic, df)


def _require_count(trends: Array, features: int) -> None:
    if len(trends) != trend_values(features):
        raise DataError(f"the trends' length is not that of {features} features")
