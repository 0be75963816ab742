"""Generalised linear models of a number, with one row of coefficients and an intercept.

The expected outcome is a function of the margin, the inverse of the link. The variance is the
dispersion times a function of the mean. Source: McCullagh and Nelder 1989, "Generalized Linear
Models", 2nd edition, chapter 2.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.regression import parameters
from fl_he.learning.regression.family import Family
from fl_he.learning.regression.trained import (
    RowModel,
    read_intercept,
    read_names,
    read_numbers,
    read_optional_text,
)
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.columns import too_large
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import column_sums
from fl_he.learning.tables.table_file import RowNumbers, shown


@dataclass(frozen=True, slots=True, eq=False)
class GlmModel(RowModel):
    """A generalised linear model and the scaling of its features; see TrainedModel.

    Parameters
    ----------
    coefficients
        Shape (d,), for features after the scaling and the outcome in its own unit.
    intercept
        A finite number; NaN if each site has its own intercept, and the model is of all
        sites.
    outcome
        Name of the outcome; ``None`` where nobody said.
    exposure
        Name of the column of exposures, of which the mean outcome is a multiple: the model is of an
        exposure of 1. ``None`` if there is none.
    """

    VERSION = 1
    MEMBERS: ClassVar = {
        "outcome": read_optional_text,
        "feature_names": read_names,
        "mean": read_numbers,
        "scale": read_numbers,
        "coefficients": read_numbers,
        "intercept": read_intercept,
        "exposure": read_optional_text,
    }
    #: Heading of the predictions, and of those for an exposure of 1.
    PREDICTED: ClassVar[str] = "expected"
    RATE: ClassVar[str] = "rate"
    #: Whether the mean outcome can be a multiple of an exposure.
    HAS_EXPOSURE: ClassVar[bool] = True
    LOG_LINK: ClassVar[bool] = True
    MOST_MARGIN: ClassVar[float] = math.log(np.finfo(np.float64).max)
    outcome: str | None = None
    exposure: str | None = None

    def __post_init__(self) -> None:
        RowModel.__post_init__(self)  # not super(), which a class with slots has not
        if self.exposure is not None and not self.HAS_EXPOSURE:
            raise DataError(
                f"{self.FORMAT} must have no exposure, got exposure {shown(self.exposure)}"
            )

    def expected(self, raw_features: Array, rows: RowNumbers | None = None) -> Array:
        """See TrainedModel; shape (m,), for an exposure of 1."""
        return _means(self.margins(raw_features, rows)[:, 0], log_link=self.LOG_LINK)

    def predictions(
        self,
        raw_features: Array,
        rows: RowNumbers | None = None,
        exposure: Array | None = None,
    ) -> tuple[list[str], list[list[str]]]:
        """See TrainedModel."""
        means, heading = self.expected(raw_features, rows), self.PREDICTED
        if exposure is not None:
            with np.errstate(over="ignore"):
                means = means * exposure
            if (infinite := np.isinf(means)).any():
                raise too_large([str(self.exposure)], infinite[:, None], rows)
        elif self.exposure is not None:
            heading = self.RATE
        return [heading], [[repr(mean)] for mean in means.tolist()]


@dataclass(frozen=True, slots=True)
class OutcomeMoments:
    """Means over all examples of functions of the outcome, known before the first step.

    Attributes
    ----------
    mean
        Of the outcome.
    square
        Of its square, by the exposure.
    saturated
        Of what figures leave out of the loss, see `GlmFamily.reference`.
    base
        Of the terms of the negative log likelihood that the loss leaves out.
    exposed
        Of the function that tells the mean outcome for an exposure of 1: see `GlmFamily.exposed`.
    """

    mean: float
    square: float
    saturated: float
    base: float
    exposed: float

    @property
    def deviation(self) -> float:
        """Standard deviation of the outcome, the population's; 1 if it is 0 within rounding."""
        variance = self.square - self.mean**2
        tiny = 8 * np.finfo(np.float64).eps * self.square
        return float(np.sqrt(variance)) if variance > tiny else 1.0


class GlmFamily(Family):
    """A family of generalised linear models.

    Attributes
    ----------
    has_dispersion : bool
        Whether the dispersion is estimated, by Pearson's chi-square; else it is 1.
    ratio : str
        Name of the exponential of a coefficient; empty with the identity as link.
    may_separate : bool
        Whether some outcomes can make an estimate infinite.
    has_intercept : bool
        Whether the intercept is estimated; else it is 0.
    """

    has_dispersion: ClassVar[bool]
    ratio: ClassVar[str]
    may_separate: ClassVar[bool] = False
    has_intercept: ClassVar[bool] = True

    def rows(self, classes: int) -> int:
        """See Family."""
        return 1 if classes == 0 else 0

    def count(self, features: int, classes: int = 0) -> int:
        """See Family."""
        return features + 1

    def members(
        self, coefficients: Array, intercepts: Array, meaning: str | None, classes: Sequence[str]
    ) -> dict[str, Any]:
        """See Family."""
        return {
            "coefficients": coefficients[0],
            "intercept": float(intercepts[0]),
            "outcome": meaning,
        }

    def means(self, margins: Array) -> Array:
        """See Family."""
        return _means(margins, log_link=bool(self.ratio))

    def residuals(self, margins: Array, means: Array, labels: Array) -> Array:
        """See Family; of the link that is the distribution's own."""
        return means - labels[:, None]

    def start(self, features: int, moments: OutcomeMoments) -> Array:
        """Return the best model of an intercept alone, from which training starts.

        Raises
        ------
        DataError
            If the mean has no link.
        """
        if not moments.exposed > 0.0:
            raise DataError("the exposures must be above 0 in sum, and they are not")
        return parameters.join(np.zeros(features), np.array([self.link(self.rate(moments))]))

    def outcome_sums(self, labels: Array, exposure: Array) -> Array:
        """Return the sums of `OutcomeMoments`, shape (5,), infinite if they are no float64.

        Parameters
        ----------
        labels, exposure
            Shape (m,).
        """
        with np.errstate(over="ignore"):
            parts = (
                *(labels, np.square(labels) / exposure, self.reference(labels), self.base(labels)),
                self.exposed(labels, exposure),
            )
        return column_sums(np.column_stack(parts))

    def reference(self, labels: Array) -> Array:
        """Return what figures leave out of each loss: that of a model that predicts each label."""
        return self.saturated(labels)

    def exposed(self, labels: Array, exposure: Array) -> Array:
        """Return the values whose mean `rate` needs, with that of the outcome, shape (m,)."""
        return exposure

    def rate(self, moments: OutcomeMoments) -> float:
        """Return the mean outcome for an exposure of 1 by the best model of an intercept alone."""
        return moments.mean / moments.exposed

    def unit(self, moments: OutcomeMoments) -> float:
        """Return the size of an effect that counts as 1."""
        return 1.0 if self.ratio else moments.deviation

    def pearson(self, means: Array, labels: Array) -> Array:
        """Return the parts of Pearson's chi-square, ``(y - mu)^2 / V(mu)``, shape (m,)."""
        with np.errstate(over="ignore", divide="ignore"):
            squares: Array = np.square(labels - means[:, 0])
            # A mean of 0 predicts a count of 0: 0 / 0 would be no number.
            return np.divide(
                squares, self.variance(means[:, 0]), out=np.zeros(len(labels)), where=squares > 0.0
            )

    def check_values(self, features: int) -> int:
        """See Family."""
        return 1

    def checks(self, margins: Array, means: Array, labels: Array, design: Array) -> Array:
        """Return sums over examples by which a model is checked: Pearson's chi-square first.

        There are :meth:`check_values`.

        Parameters
        ----------
        margins, means
            Shape (m, 1).
        labels
            Shape (m,).
        design
            Shape (m, d + 1).
        """
        return column_sums(self.pearson(means, labels)[:, None])

    def gaps(self, margins: Array, labels: Array, terms: Array) -> tuple[Array, Array]:
        """Return how far each example is from being against a direction, and sizes to compare.

        Below 0 the example is against the direction, whose margins these are. Of counts those
        above 0 must be on the direction, and the others below. Source: Santos Silva and Tenreyro
        2010, "On the existence of the maximum likelihood estimates in Poisson regression".

        Parameters
        ----------
        margins
            Shape (m, 1).
        labels
            Shape (m,).
        terms
            Sum of the sizes of the terms of each margin, and 1, shape (m,).
        """
        own = margins[:, 0]
        return np.where(labels > 0.0, -np.abs(own), -own), terms

    @abstractmethod
    def link(self, mean: float) -> float:
        """Return the margin of a mean; raises DataError if it has none."""

    @abstractmethod
    def variance(self, means: Array) -> Array:
        """Return the variance of outcomes with these means, for dispersion 1."""

    @abstractmethod
    def saturated(self, labels: Array) -> Array:
        """Return the loss of each example where its mean is its label, shape (m,)."""

    @abstractmethod
    def base(self, labels: Array) -> Array:
        """Return the terms of the negative log likelihood that `losses` leaves out, shape (m,)."""

    @abstractmethod
    def log_likelihood(self, loss: float, moments: OutcomeMoments) -> float:
        """Return the mean log likelihood of a mean loss, at the likeliest dispersion."""


def _means(margins: Array, *, log_link: bool) -> Array:
    with np.errstate(over="ignore"):
        return np.exp(margins) if log_link else margins


def fitted_with_log_link(
    regressor: Any, dataset: Dataset, C: float, weights: Array
) -> Iterator[Array]:
    """Fit a regressor of scikit-learn to a dataset; see :meth:`Family.fits`.

    Parameters
    ----------
    weights
        With which the loss of the outcome by its exposure is that of the outcome, shape (m,).
    """
    strength = 0.0 if math.isinf(C) else 1.0 / (C * weights.sum())
    rates = dataset.labels / dataset.exposed
    for solver in ("newton-cholesky", "lbfgs"):
        model = regressor(alpha=strength, tol=1e-10, max_iter=10_000, solver=solver)
        model.fit(dataset.features, rates, sample_weight=weights)
        yield parameters.join(model.coef_, np.array([model.intercept_]))
