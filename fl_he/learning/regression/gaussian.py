"""Linear regression: an outcome of constant variance about its mean.

Least squares are the maximum of the likelihood for any variance. Source: Hastie, Tibshirani
and Friedman 2009, "The Elements of Statistical Learning", sections 3.2 and 4.4.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fl_he.learning.regression import parameters
from fl_he.learning.regression.glm import GlmFamily, GlmModel, OutcomeMoments
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset


@dataclass(frozen=True, slots=True, eq=False)
class GaussianModel(GlmModel):
    """A linear model; see GlmModel."""

    FORMAT = "fl-he gaussian model"
    HOW_TO_USE = (
        "expected outcome = intercept + sum over features i of coefficients[i] * (x[i] - mean[i]) "
        "/ scale[i], x in the order of feature_names"
    )
    LOG_LINK = False
    HAS_EXPOSURE = False
    MOST_MARGIN = math.inf


class _Gaussian(GlmFamily):
    name = "gaussian"
    trained = GaussianModel
    site_intercepts = True
    has_dispersion = True
    ratio = ""

    def losses(self, margins: Array, labels: Array) -> Array:
        """Return ``(y - mu)^2 / 2``."""
        losses: Array = np.square(labels - margins[:, 0]) / 2.0
        return losses

    def curvature(
        self, weights: Array, margins: Array, means: Array, labels: Array, *, a: int, b: int
    ) -> Array:
        return weights

    def link(self, mean: float) -> float:
        return mean

    def variance(self, means: Array) -> Array:
        return np.ones(len(means))

    def saturated(self, labels: Array) -> Array:
        return np.zeros(len(labels))

    def base(self, labels: Array) -> Array:
        return np.zeros(len(labels))

    def log_likelihood(self, loss: float, moments: OutcomeMoments) -> float:
        """See GlmFamily: ``-(log(2 pi RSS / n) + 1) / 2``."""
        return -(math.log(4.0 * math.pi * loss) + 1.0) / 2.0 if loss > 0.0 else math.inf

    def fits(self, dataset: Dataset, C: float, *, balanced: bool) -> Iterator[Array]:
        """See Family."""
        from sklearn.linear_model import LinearRegression, Ridge  # noqa: PLC0415 - lazy: slow to load

        model = LinearRegression() if math.isinf(C) else Ridge(alpha=1.0 / C, solver="svd")
        model.fit(dataset.features, dataset.labels)
        yield parameters.join(model.coef_, np.array([model.intercept_]))


GAUSSIAN = _Gaussian()
