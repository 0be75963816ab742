"""Poisson regression: counts whose mean is the exponential of the margin.

Source: McCullagh and Nelder 1989, "Generalized Linear Models", 2nd edition, chapter 6.
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


@dataclass(frozen=True, slots=True, eq=False)
class PoissonModel(GlmModel):
    """A Poisson model; see GlmModel."""

    FORMAT = "fl-he poisson model"
    HOW_TO_USE = (
        "expected count = exp(intercept + sum over features i of coefficients[i] * (x[i] - "
        "mean[i]) / scale[i]), x in the order of feature_names; if exposure names a column, times "
        "that column's number"
    )


class _Poisson(GlmFamily):
    name = "poisson"
    trained = PoissonModel
    site_intercepts = True
    has_dispersion = False
    ratio = "rate_ratio"
    may_separate = True

    def losses(self, margins: Array, labels: Array) -> Array:
        """Return ``mu - y log(mu)``."""
        with np.errstate(over="ignore"):
            losses: Array = np.exp(margins[:, 0]) - labels * margins[:, 0]
        return losses

    def curvature(
        self, weights: Array, margins: Array, means: Array, labels: Array, *, a: int, b: int
    ) -> Array:
        return weights * means[:, 0]

    def link(self, mean: float) -> float:
        if not mean > 0.0:
            raise DataError("counts must be above 0 in some rows, got 0 in all hospitals' rows")
        return math.log(mean)

    def variance(self, means: Array) -> Array:
        return means

    def saturated(self, labels: Array) -> Array:
        return labels - labels * np.log(np.where(labels > 0.0, labels, 1.0))

    def base(self, labels: Array) -> Array:
        """See GlmFamily: ``log(y!)``."""
        return np.array([math.lgamma(label + 1.0) for label in labels])

    def log_likelihood(self, loss: float, moments: OutcomeMoments) -> float:
        """See GlmFamily."""
        return -loss - moments.base

    def fits(self, dataset: Dataset, C: float, *, balanced: bool) -> Iterator[Array]:
        """See Family."""
        from sklearn.linear_model import PoissonRegressor  # noqa: PLC0415 - lazy: slow to load

        return fitted_with_log_link(PoissonRegressor, dataset, C, dataset.exposed)


POISSON = _Poisson()
