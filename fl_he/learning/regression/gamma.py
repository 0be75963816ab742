"""Gamma regression with a logarithmic link: positive outcomes of constant relative variance.

Source: McCullagh and Nelder 1989, "Generalized Linear Models", 2nd edition, chapter 8.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.regression.glm import GlmFamily, GlmModel, OutcomeMoments, fitted_with_log_link
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset

#: Shapes of the distribution between which the likeliest one is searched.
_SHAPES = 1e-12, 1e15


@dataclass(frozen=True, slots=True, eq=False)
class GammaModel(GlmModel):
    """A gamma model; see GlmModel."""

    FORMAT = "fl-he gamma model"
    HOW_TO_USE = (
        "expected outcome = exp(intercept + sum over features i of coefficients[i] * (x[i] - "
        "mean[i]) / scale[i]), x in the order of feature_names; if exposure names a column, times "
        "that column's number"
    )


class _Gamma(GlmFamily):
    name = "gamma"
    trained = GammaModel
    site_intercepts = True
    has_dispersion = True
    steps_by_loss = True
    ratio = "mean_ratio"

    def losses(self, margins: Array, labels: Array) -> Array:
        """Return ``y / mu + log(mu)``."""
        with np.errstate(over="ignore"):
            losses: Array = labels * np.exp(-margins[:, 0]) + margins[:, 0]
        return losses

    def residuals(self, margins: Array, means: Array, labels: Array) -> Array:
        with np.errstate(over="ignore"):
            return 1.0 - labels[:, None] * np.exp(-margins)

    def curvature(
        self, weights: Array, margins: Array, means: Array, labels: Array, *, a: int, b: int
    ) -> Array:
        """See Family: 1, for ``y / mu`` is 1 on average."""
        return weights

    def check_values(self, features: int) -> int:
        """See GlmFamily."""
        return 1 + (features + 1) * (features + 2) // 2

    def checks(self, margins: Array, means: Array, labels: Array, design: Array) -> Array:
        """See GlmFamily: behind it the upper triangle of the loss's own Hessian, by ``y / mu``."""
        with np.errstate(over="ignore", invalid="ignore"):
            own = labels * np.exp(-margins[:, 0])
            hessian = (own[:, None] * design).T @ design
        pearson = super().checks(margins, means, labels, design)
        return np.append(pearson, hessian[np.triu_indices(len(hessian))])

    def link(self, mean: float) -> float:
        if not mean > 0.0:
            raise DataError("outcomes of a gamma model must be above 0 on average")
        return math.log(mean)

    def exposed(self, labels: Array, exposure: Array) -> Array:
        with np.errstate(over="ignore"):
            return labels / exposure

    def rate(self, moments: OutcomeMoments) -> float:
        return moments.exposed

    def variance(self, means: Array) -> Array:
        return np.square(means)

    def saturated(self, labels: Array) -> Array:
        return 1.0 + np.log(labels)

    def base(self, labels: Array) -> Array:
        """See GlmFamily: ``log(y)``."""
        return np.log(labels)

    def log_likelihood(self, loss: float, moments: OutcomeMoments) -> float:
        """See GlmFamily; the likeliest shape a solves ``log(a) - digamma(a) = deviance / 2n``.

        Source: McCullagh and Nelder 1989, section 8.3.6.
        """
        from scipy.optimize import brentq  # noqa: PLC0415 - lazy: only a run's end
        from scipy.special import digamma  # noqa: PLC0415 - lazy: only a run's end

        half = loss - moments.saturated
        if not half > 0.0:
            return math.inf
        low, high = map(math.log, _SHAPES)
        shape = math.exp(brentq(lambda a: a - digamma(math.exp(a)) - half, low, high))
        constant = shape * math.log(shape) - math.lgamma(shape) - moments.base
        return constant - shape * (loss - moments.base)

    def fits(self, dataset: Dataset, C: float, *, balanced: bool) -> Iterator[Array]:
        """See Family."""
        from sklearn.linear_model import GammaRegressor  # noqa: PLC0415 - lazy: slow to load

        weights = np.ones(dataset.examples)
        return fitted_with_log_link(GammaRegressor, dataset, C, weights)


GAMMA = _Gamma()
