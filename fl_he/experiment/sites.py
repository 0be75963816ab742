"""Member ``sites`` of the inference in metrics.json: how the hospitals differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fl_he.learning.optimizers.between import (
    FEWEST_CLUSTERS,
    heterogeneity,
    robust_covariance,
)
from fl_he.learning.optimizers.training import Training
from fl_he.learning.regression.inference import LEVEL, inverse_of
from fl_he.learning.tables.scaling import Scaling
from fl_he.learning.tables.table_file import INTERCEPT


def site_figures(
    training: Training, features: Sequence[str], scaling: Scaling
) -> dict[str, Any] | None:
    """Return the member of metrics.json, ``None`` if nobody asked for it.

    Parameters
    ----------
    training : Training
        After the last sum.
    features : sequence of str
        Their names.
    scaling : Scaling
        From the tables' units to those of the model.
    """
    if not training.task.sites:
        return None
    if (sums := training.between) is None:
        reason = "training ended before it converged, or the hospitals' sum was not opened"
        return {
            **dict.fromkeys(("fits", "clusters")),
            **dict.fromkeys(("withheld", "robust_withheld"), reason),
            **{"heterogeneity": [], "robust": []},
        }
    found = heterogeneity(sums, training.taking_part, scaling.scale)
    robust = _robust(training, features, scaling)
    return {
        "fits": sums.fits,
        "clusters": sums.clusters,
        "withheld": None if found else _too_few_fits(sums.fits),
        "heterogeneity": [{"name": features[j], **figures} for j, figures in found.items()],
        "robust_withheld": None
        if robust
        else f"they need at least {FEWEST_CLUSTERS} hospitals that contribute to the coefficients, "
        "and more patients than coefficients",
        "robust": robust,
    }


def _too_few_fits(fits: int | None) -> str:
    if fits is None:
        return "fewer hospitals than min_contributors have finite estimates of their own"
    if not fits:
        return "no hospital has finite estimates of its own"
    return "only one hospital has finite estimates of its own"


def _robust(training: Training, features: Sequence[str], scaling: Scaling) -> list[dict[str, Any]]:
    """Return standard errors and intervals that are robust to clusters, if there are such."""
    sums, hessian = training.between, training.hessian
    if (
        sums is None
        or sums.scores is None
        or hessian is None
        or sums.clusters < FEWEST_CLUSTERS
        or training.freedom < 1
    ):
        return []
    from scipy.special import stdtr, stdtrit  # noqa: PLC0415 - lazy: only a run's end

    kept, alone = training.taking_part, training.task.site_intercepts
    places = [*kept] if alone else [*kept, len(features)]
    part = np.ix_(places, places)
    rest = None if training.rest is None else training.rest[part]
    inverse = inverse_of(training.examples * hessian[part], rest)
    if inverse is None:
        return []
    silent = 0 if training.sites is None else training.sites.silent
    covariance = robust_covariance(
        *(inverse, sums.scores[part]),
        clusters=sums.clusters,
        rows=training.examples - silent,
        freedom=training.freedom,
    )
    back = np.diag([*(1.0 / scaling.scale[kept]), *([] if alone else [1.0])])
    if not alone:  # the intercept takes what the means leave
        back[-1, :-1] = -scaling.mean[kept] / scaling.scale[kept]
    estimates = back @ training.theta[places]
    errors = np.sqrt(np.diag(back @ covariance @ back.T))
    freedom = sums.clusters - 1
    reach = float(stdtrit(freedom, (1.0 + LEVEL) / 2.0))
    names = [*(features[j] for j in kept), *([] if alone else [INTERCEPT])]
    return [
        {
            "name": name,
            "standard_error": error,
            "t": estimate / error,
            "p_value": 2.0 * float(stdtr(freedom, -abs(estimate / error))),
            "lower": estimate - reach * error,
            "upper": estimate + reach * error,
        }
        for name, estimate, error in zip(names, estimates.tolist(), errors.tolist(), strict=True)
        if error > 0.0 and math.isfinite(error)
    ]
