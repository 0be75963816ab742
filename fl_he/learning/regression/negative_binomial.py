"""Negative binomial regression: counts whose variance is larger than their mean.

The mean mu is the exponential of the margin, and the variance ``mu + alpha mu^2``. The dispersion
alpha is estimated together with the coefficients, by its logarithm. Source: Cameron and Trivedi
2013, "Regression Analysis of Count Data", 2nd edition, section 3.3 (NB2).

Of a whole number y, ``lgamma(y + 1 / alpha) - lgamma(1 / alpha) + y log(alpha)`` is the sum of
``log(1 + alpha k)`` over all k below y. No digits cancel in this sum, however small alpha is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.regression.family import Family
from fl_he.learning.regression.glm import GlmFamily, GlmModel, OutcomeMoments
from fl_he.learning.regression.poisson import POISSON
from fl_he.learning.regression.trained import read_number
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset

#: Numbers that a training tells with the coefficients: the logarithm of alpha, and of the model
#: without features the intercept and the logarithm of its own alpha.
TOLD = 3
#: Largest size of these numbers.
_LARGEST = 50.0
#: Share of the moments' estimate of alpha at which training starts, and its bounds there.
_SHARE, _FIRST_ALPHAS = 0.7, (0.1, 1.5)
#: Of alpha times the mean; below it differences of logarithms are summed up as a series.
_SMALL, _TERMS = 0.05, 16


def _read_alpha(value: object, key: str) -> float:
    alpha = read_number(value, key)
    if not 0.0 < alpha < math.inf:
        raise DataError(f"model's {key} must be a number above 0")
    return alpha


@dataclass(frozen=True, slots=True, eq=False)
class NegativeBinomialModel(GlmModel):
    """A negative binomial model; see GlmModel.

    Parameters
    ----------
    alpha
        Above 0.
    """

    FORMAT = "fl-he negative binomial model"
    HOW_TO_USE = (
        "expected count = mu = exp(intercept + sum over features i of coefficients[i] * (x[i] - "
        "mean[i]) / scale[i]), x in the order of feature_names, and if exposure names a column, "
        "times that column's number; variance of a count = mu + alpha * mu^2"
    )
    MEMBERS: ClassVar = {
        **GlmModel.MEMBERS,
        "alpha": _read_alpha,
    }
    alpha: float = field(kw_only=True)

    def __post_init__(self) -> None:
        super(NegativeBinomialModel, self).__post_init__()
        _read_alpha(self.alpha, "alpha")


class NegativeBinomial(GlmFamily):
    """Negative binomial models of one alpha.

    Parameters
    ----------
    log_alpha
        Logarithm of alpha; not a number where nobody has told it, as in the registry.
    """

    name = "negative_binomial"
    trained = NegativeBinomialModel
    site_intercepts = True
    has_dispersion = False
    has_alpha = True
    ratio = "rate_ratio"
    may_separate = True

    def __init__(self, log_alpha: float = math.nan) -> None:
        self.log_alpha = log_alpha

    @property
    def alpha(self) -> float:
        """The dispersion."""
        return math.exp(self.log_alpha)

    def first_told(self, moments: OutcomeMoments) -> tuple[float, ...]:
        """Return the numbers at which training starts, in addition to `start`."""
        rate = self.rate(moments)
        intercept = self.link(rate)
        # The expected square by the exposure is rate + (1 + alpha) rate mean.
        alpha = _SHARE * ((moments.square - rate) / (rate * moments.mean) - 1.0)
        first = math.log(min(max(alpha, _FIRST_ALPHAS[0]), _FIRST_ALPHAS[1]))
        return first, intercept, first

    def members(
        self, coefficients: Array, intercepts: Array, meaning: str | None, classes: Sequence[str]
    ) -> dict[str, Any]:
        """See Family."""
        found = super().members(coefficients, intercepts, meaning, classes)
        return {**found, "alpha": self.alpha}

    def losses(self, margins: Array, labels: Array) -> Array:
        """Return ``(y + 1 / alpha) log(1 + alpha mu) - y log(mu)``, less the sum over k."""
        own = margins[:, 0]
        spread = np.logaddexp(0.0, own + self.log_alpha)
        sums = self._summed(labels, lambda k: np.log1p(self.alpha * k))
        return np.asarray((labels + 1.0 / self.alpha) * spread - labels * own - sums)

    def residuals(self, margins: Array, means: Array, labels: Array) -> Array:
        """Return ``(mu - y) / (1 + alpha mu)``."""
        part, rest = self._parts(margins)
        return np.asarray(part / self.alpha - labels * rest)[:, None]

    def curvature(
        self, weights: Array, margins: Array, means: Array, labels: Array, *, a: int, b: int
    ) -> Array:
        """Return the second derivative itself: ``mu (1 + alpha y) / (1 + alpha mu)^2``."""
        part, rest = self._parts(margins)
        return weights * part / self.alpha * rest * (1.0 + self.alpha * labels)

    def by_alpha(self, margins: Array, labels: Array) -> tuple[Array, Array, Array]:
        """Return derivatives of each loss by the logarithm of alpha.

        Returns
        -------
        slope, curvature, cross : NDArray[np.float64]
            The first and the second one, and that of `residuals`, shape (m,).
        """
        alpha = self.alpha
        part, rest = self._parts(margins)
        once = self._summed(labels, lambda k: alpha * k / (1.0 + alpha * k))
        twice = self._summed(labels, lambda k: alpha * k / np.square(1.0 + alpha * k))
        excess = _log_less_share(margins[:, 0] + self.log_alpha) / alpha
        slope = labels * part - excess - once
        curvature = labels * part * rest + excess - np.square(part) / alpha - twice
        cross = part * (labels * rest - part / alpha)
        return slope, curvature, np.asarray(cross)

    def link(self, mean: float) -> float:
        """See GlmFamily."""
        return POISSON.link(mean)

    def variance(self, means: Array) -> Array:
        """See GlmFamily."""
        return means * (1.0 + self.alpha * means)

    def saturated(self, labels: Array) -> Array:
        """See GlmFamily."""
        positive = labels > 0.0
        margins = np.log(np.where(positive, labels, 1.0))[:, None]
        return np.where(positive, self.losses(margins, labels), 0.0)

    def reference(self, labels: Array) -> Array:
        """See GlmFamily: the log likelihood is shown, as the deviance depends on alpha."""
        return -self.base(labels)

    def base(self, labels: Array) -> Array:
        """See GlmFamily: ``log(y!)``."""
        return POISSON.base(labels)

    def log_likelihood(self, loss: float, moments: OutcomeMoments) -> float:
        """See GlmFamily."""
        return POISSON.log_likelihood(loss, moments)

    def fits(self, dataset: Dataset, C: float, *, balanced: bool) -> Iterator[Array]:
        """Yield nothing: scikit-learn has no such model."""
        return iter(())

    def _parts(self, margins: Array) -> tuple[Array, Array]:
        """Return ``alpha mu / (1 + alpha mu)`` and what it leaves of 1, shape (m,) each."""
        scaled = margins[:, 0] + self.log_alpha
        with np.errstate(over="ignore"):
            return 1.0 / (1.0 + np.exp(-scaled)), 1.0 / (1.0 + np.exp(scaled))

    def _summed(self, labels: Array, term: Callable[[Array], Array]) -> Array:
        """Return the sum of a term over all whole numbers below each label, shape (m,)."""
        counts = labels.astype(np.intp)
        terms = term(np.arange(counts.max(initial=0), dtype=np.float64))
        return np.asarray(np.append(0.0, np.cumsum(terms))[counts])


def _log_less_share(logarithms: Array) -> Array:
    """Return ``log(1 + z) - z / (1 + z)`` of numbers z, given by their logarithms."""
    with np.errstate(over="ignore"):
        z = np.exp(logarithms)
    small = np.where(z < _SMALL, z, 0.0)
    series = np.zeros(len(z))
    for n in range(_TERMS, 1, -1):
        series = small * (series + (-1.0) ** n * (1.0 - 1.0 / n))
    share = 1.0 / (1.0 + np.exp(-np.maximum(logarithms, -700.0)))
    return np.where(z < _SMALL, small * series, np.logaddexp(0.0, logarithms) - share)


def told_alpha(family: Family, told: Sequence[float]) -> Family:
    """Return a family with the alpha that a training tells; others are returned as they are.

    Parameters
    ----------
    family
    told
        `TOLD` numbers, the logarithm of alpha first; none of a family without an alpha.

    Raises
    ------
    DataError
        If they are not those of the family, or too large.
    """
    needed = TOLD if isinstance(family, NegativeBinomial) else 0
    if len(told) != needed or not all(abs(one) <= _LARGEST for one in told):
        raise DataError(
            f"the overdispersion of family {family.name} must be {needed} numbers of at most "
            f"{_LARGEST:g} in size, got {len(told)}"
        )
    return NegativeBinomial(told[0]) if isinstance(family, NegativeBinomial) else family


NEGATIVE_BINOMIAL = NegativeBinomial()
