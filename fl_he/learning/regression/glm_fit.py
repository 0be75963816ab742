"""Fit of a model of a number, on the rows that it was trained on and on others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fl_he.learning.regression.glm import GlmFamily, OutcomeMoments
from fl_he.learning.regression.inference import chi_squared
from fl_he.learning.regression.registry import margins_of
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset

_ROUNDING = 16.0 * float(np.finfo(np.float64).eps)


def goodness_of_fit(
    family: GlmFamily,
    moments: OutcomeMoments,
    losses: tuple[float, float | None],
    *,
    examples: int,
    df: int,
    pearson: float,
    freedom: int | None,
    intercepts: int = 1,
) -> dict[str, Any]:
    """Return the fit of a model of a number, compared with the mean alone.

    Parameters
    ----------
    family
    moments
        Of the outcome of all examples.
    losses
        Mean losses of the model at its estimates, and of the mean alone; ``None``: not known.
    examples
        How many there are.
    df
        Number of the coefficients, without the intercept.
    pearson
        Pearson's chi-square at the estimates.
    freedom
        Examples that contribute less parameters; ``None``: not known.
    intercepts
        How many there are; of several the null figures are those of the intercepts alone.

    Returns
    -------
    dict
        The members of :func:`fl_he.learning.regression.inference.goodness_of_fit`, without
        McFadden's R2: ``deviance`` and ``null_deviance`` for dispersion 1 (McCullagh and Nelder
        1989, section 2.3), ``aic`` with an estimated dispersion as a parameter, and log likelihoods
        at their likeliest dispersions. In addition ``d2`` (1 - deviance / null deviance, R2 of a
        linear model), ``pearson``, ``dispersion`` (``pearson`` by its degrees of freedom, `None`
        if there are none) and ``dispersion_p_value`` (of a Poisson model: see
        :func:`dispersion_p_value`). ``d2`` is ``None`` if the null deviance is 0 within rounding. A
        figure that is not finite is ``None``.
    """
    likelihoods = [
        None if one is None else examples * family.log_likelihood(one, moments) for one in losses
    ]
    log_likelihood, null = likelihoods
    deviance, null_deviance = (
        None if one is None else max(0.0, 2.0 * examples * (one - moments.saturated))
        for one in losses
    )
    own = intercepts if family.has_intercept else 0
    count = df + own + family.has_dispersion + family.has_alpha
    # Terms of this size cancel in a deviance. An estimated dispersion of 0 has no figures at all.
    terms = abs(moments.saturated) + (0.0 if family.has_dispersion else moments.mean)
    least, explained = _ROUNDING * examples * terms, None
    if deviance is not None and null_deviance is not None and null_deviance > least:
        explained = 1 - deviance / null_deviance
    figures = {
        "log_likelihood": log_likelihood,
        "parameters": count,
        "aic": None if log_likelihood is None else 2 * count - 2 * log_likelihood,
        "deviance": deviance,
        "null_log_likelihood": null,
        "null_deviance": null_deviance,
        "mcfadden_r2": None,
        "d2": explained,
        "pearson": pearson,
        "dispersion": pearson / freedom if freedom is not None and freedom > 0 else None,
        "dispersion_p_value": None,
    }
    if own and not family.has_dispersion and not family.has_alpha:  # Poisson's is 1 by assumption
        figures["dispersion_p_value"] = dispersion_p_value(pearson, freedom, moments.mean)
    if not family.has_intercept:  # a partial likelihood, which no model makes 1
        names = ("deviance", "null_deviance", "d2", "pearson", "dispersion")
        figures |= dict.fromkeys(names)
    if family.has_alpha:  # no two models have the same, on which deviances depend
        figures |= dict.fromkeys(("deviance", "null_deviance", "d2"))
        if log_likelihood is not None and null is not None:
            figures["mcfadden_r2"] = 1.0 - log_likelihood / null
    finite = {
        name: value if value is not None and math.isfinite(value) else None
        for name, value in figures.items()
    }
    test = None
    if finite["null_log_likelihood"] is not None and finite["log_likelihood"] is not None:
        gained = finite["log_likelihood"] - finite["null_log_likelihood"]
        test = chi_squared(max(0.0, 2 * gained), df)
    return {**finite, "likelihood_ratio": test}


def dispersion_p_value(pearson: float, freedom: int | None, mean: float) -> float | None:
    """Return the one-sided p value of Pearson's chi-square of counts whose dispersion is 1.

    The squared Pearson residual of a count of mean mu has the variance 2 + 1 / mu, as the fourth
    central moment of the count is mu + 3 mu^2. So small counts make the variance of Pearson's
    chi-square larger than twice its degrees of freedom. The statistic is compared with the multiple
    of a chi-square that has the same mean and variance (Satterthwaite 1946), for the mean count.

    Parameters
    ----------
    pearson
    freedom
        Degrees of freedom; ``None``: not known.
    mean
        Of the counts.

    Examples
    --------
    >>> round(dispersion_p_value(150.0, 100, mean=1e6), 5)
    0.0009
    >>> round(dispersion_p_value(150.0, 100, mean=0.1), 2)
    0.09
    """
    from scipy.special import chdtrc  # noqa: PLC0415 - lazy: only a run's end needs it

    if freedom is None or freedom < 1 or not math.isfinite(pearson) or not mean > 0.0:
        return None
    multiple = 1.0 + 1.0 / (2.0 * mean)
    return float(chdtrc(freedom / multiple, pearson / multiple))


def figures(family: GlmFamily, dataset: Dataset, theta: Array) -> dict[str, float]:
    """Compare the expected outcomes of a model with those of a dataset.

    Returns
    -------
    dict
        ``rmse``, the root of the mean square of the difference; ``mean_deviance``, of one example;
        and ``d2``, 1 less its ratio to that of the dataset's own mean, or rate for its exposures,
        NaN if that is 0.
    """
    labels, margins, exposed = dataset.labels, margins_of(dataset, theta), dataset.exposed
    saturated = family.saturated(labels)

    def deviance(of: Array) -> float:
        with np.errstate(over="ignore"):
            return 2.0 * float(np.mean(family.losses(of, labels) - saturated))

    found, null = deviance(margins), 0.0
    moments = OutcomeMoments(*(family.outcome_sums(labels, exposed) / len(labels)))
    if moments.mean > 0.0 or not family.ratio:
        null = deviance(family.link(family.rate(moments)) + np.log(exposed)[:, None])
    return {
        "rmse": float(np.sqrt(np.mean(np.square(labels - family.means(margins)[:, 0])))),
        "mean_deviance": found,
        "d2": 1.0 - found / null if null > 0 else math.nan,
    }
