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
from fl_he.learning.regression.inference import chi_squared, inverse_of
from fl_he.learning.regression.likelihood import from_upper_triangle
from fl_he.learning.tables.arrays import Array, finite_array

#: Information on a trend, as a share of that without the coefficients, which may be rounding.
_ROUNDING = 1e-9


def read_trends(values: object, features: int) -> Array | None:
    """Read the sums of trends that a training remembered, ``None`` if none; raises DataError."""
    if values is None:
        return None
    trends = finite_array(values, "the training's trends", dimensions=1)
    _require_count(trends, features)
    return trends


def trend_tests(
    information: Array, trends: Array, features: Sequence[str], kept: Sequence[int]
) -> dict[str, Any] | None:
    """Test whether coefficients have a trend over time, each and all together.

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

    Returns
    -------
    dict or None
        ``chi2``, ``df`` and ``p_value`` of all, and ``features``, a list of the same for each with
        its ``name``. ``None`` if nothing tells a trend, as where all events have one time.

    Raises
    ------
    DataError
        If the sums are of another number of features.
    """
    d = len(features)
    _require_count(trends, d)
    part, half = np.ix_(kept, kept), d * (d + 1) // 2
    scores = trends[:d][[*kept]]
    by_time, by_square = (from_upper_triangle(one, d)[part] for one in np.split(trends[d:], [half]))
    inverse = inverse_of(information[part])
    if inverse is None:
        return None
    left = by_square - by_time @ inverse @ by_time
    if (np.diag(left) <= _ROUNDING * np.diag(by_square)).any():
        return None
    if (whole := inverse_of(left)) is None:
        return None
    return {
        **chi_squared(float(scores @ whole @ scores), len(kept)),
        "features": [
            {"name": features[j], **chi_squared(float(score**2 / variance), 1)}
            for j, score, variance in zip(kept, scores, np.diag(left), strict=True)
        ],
    }


def _require_count(trends: Array, features: int) -> None:
    if len(trends) != trend_values(features):
        raise DataError(f"sums of trends must be of {features} features, got others")
