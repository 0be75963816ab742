"""Logistic regression with an intercept: two classes, one row of coefficients.

The mean loss over m examples and its gradient are means over rows, so the mean over
hospitals, weighted by their numbers of examples, is the loss or gradient of the pooled data.
Source: Hastie, Tibshirani and Friedman 2009, "The Elements of Statistical Learning",
section 4.4.1, with the sign turned: we minimise.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.regression.family import ClassFamily
from fl_he.learning.regression.trained import (
    RowModel,
    read_intercept,
    read_names,
    read_numbers,
    read_optional_text,
)
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.table_file import RowNumbers

#: Parameters of the largest model whose Hessian is no burden to scikit-learn.
_MOST_FOR_NEWTON = 1000
_NEWTON, _LBFGS, _NEWTON_CG = "newton-cholesky", "lbfgs", "newton-cg"


@dataclass(frozen=True, slots=True, eq=False)
class LogisticModel(RowModel):
    """A logistic model and the scaling of its features; see TrainedModel.

    Parameters
    ----------
    coefficients
        Shape (d,), in standardised units: for features after the scaling.
    intercept
        A finite number; NaN if each site has its own intercept, and the model is of all
        sites.
    positive
        What label 1 stands for: a class, such as ``"benign"``, or a condition, such as
        ``"Chance of Admit >= 0.7"``; ``None`` where nobody said.

    Notes
    -----
    Version 1 of the file had no ``positive``, version 2 no ``converged``, version 3 no
    ``training``, version 4 no ``class_weight``, version 5 no ``method``, version 6 no
    ``schema``.
    """

    FORMAT = "fl-he logistic model"
    VERSION = 8
    HOW_TO_USE = (
        "probability of label 1 ('positive' says what it is) = 1 / (1 + exp(-(intercept + sum over "
        "features i of coefficients[i] * (x[i] - mean[i]) / scale[i]))), "
        "x in the order of feature_names"
    )
    MEMBERS: ClassVar = {
        "positive": read_optional_text,
        "feature_names": read_names,
        "mean": read_numbers,
        "scale": read_numbers,
        "coefficients": read_numbers,
        "intercept": read_intercept,
    }

    positive: str | None = None

    def __post_init__(self) -> None:
        RowModel.__post_init__(self)  # not super(), which a class with slots has not
        if self.positive is not None and not self.positive.strip():
            raise DataError(f"positive must say what label 1 is, got {self.positive!r}")

    @property
    def labels(self) -> NDArray[Any]:
        """The labels that the model predicts, shape (2,)."""
        return np.array([0, 1])

    @property
    def names(self) -> tuple[str, str]:
        """The labels in words: the file names the class of label 1 alone."""
        if self.positive in (None, "1"):
            return "0", "1"
        return "false" if self.positive == "true" else f"not {self.positive}", self.positive

    def expected(self, raw_features: Array, rows: RowNumbers | None = None) -> Array:
        """Return the probability of label 1, shape (m,), in [0, 1]; see TrainedModel."""
        return LOGISTIC.means(self.margins(raw_features, rows))[:, 0]

    def predictions(
        self, raw_features: Array, rows: RowNumbers | None = None
    ) -> tuple[list[str], list[list[str]]]:
        """See TrainedModel."""
        probability, names = self.expected(raw_features, rows), self.names
        return ["predicted", "probability"], [
            [names[p > 0.5], repr(p)] for p in probability.tolist()
        ]


class _Logistic(ClassFamily):
    name = "logistic"
    trained = LogisticModel
    site_intercepts = True

    def rows(self, classes: int) -> int:
        return 1 if classes == 2 else 0

    def means(self, margins: Array) -> Array:
        """Return ``sigmoid(Xw + b)``, the probability of label 1."""
        small = np.exp(-np.abs(margins))  # never overflows
        result: Array = np.where(margins >= 0.0, 1.0, small) / (1.0 + small)
        return result

    def losses(self, margins: Array, labels: Array) -> Array:
        """Return ``log(1 + exp(-s z))``, z the margin and s = +1 or -1 by label.

        Safe for every finite z: no overflow, and no loss of precision near zero loss.
        """
        signs = 2.0 * labels - 1.0
        losses: Array = np.logaddexp(0.0, -signs * margins[:, 0])
        return losses

    def fits(self, dataset: Dataset, C: float, *, balanced: bool) -> Iterator[Array]:
        """See Family: the row of label 1 less the row of label 0, by :func:`fits_of_rows`."""
        size = dataset.features.shape[1] + 1
        for rows in fits_of_rows(dataset, size, C, balanced=balanced):
            yield rows[1] - rows[0]

    def members(
        self, coefficients: Array, intercepts: Array, meaning: str | None, classes: Sequence[str]
    ) -> dict[str, Any]:
        """See Family."""
        return {
            "coefficients": coefficients[0],
            "intercept": float(intercepts[0]),
            "positive": meaning,
        }


LOGISTIC = _Logistic()


def fits_of_rows(dataset: Dataset, size: int, C: float, *, balanced: bool) -> Iterator[Array]:
    """Fit scikit-learn's logistic regression by one solver after another.

    A class without examples gets coefficients 0 and, next to the 0 of a class that is alone, the
    intercept of Laplace's rule of succession, ``-log(m + 1)``: m of m examples give a probability
    of ``(m + 1) / (m + 2)``. So the log loss on other data stays finite.

    Parameters
    ----------
    dataset, C, balanced
        See :meth:`Family.fits`.
    size
        How many parameters the model has.

    Yields
    ------
    NDArray[np.float64]
        Each class's coefficients and intercept, shape (k, d + 1).
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - lazy: only baselines

    present = np.unique(dataset.labels).astype(np.intp)
    rows = np.zeros((dataset.class_count, dataset.features.shape[1] + 1))
    rows[:, -1] = -math.log(dataset.examples + 1)
    if len(present) == 1:
        rows[present] = 0.0
        yield rows
        return
    # On features that nobody scaled, L-BFGS takes thousands of steps.
    first = (_NEWTON, _LBFGS) if size <= _MOST_FOR_NEWTON else (_LBFGS,)
    for solver in (*first, _NEWTON_CG):
        regression = LogisticRegression(
            C=C,
            tol=1e-8,
            max_iter=10_000,
            solver=solver,
            class_weight="balanced" if balanced else None,
        )
        with warnings.catch_warnings():
            # A fit that starts at its optimum finds no step, and tries L-BFGS.
            warnings.filterwarnings("ignore", "Line search of Newton solver")
            regression.fit(dataset.features, dataset.labels)
        fitted = np.column_stack([regression.coef_, regression.intercept_])
        # Of two classes scikit-learn gives the difference of their rows.
        sides = np.array([[-0.5], [0.5]]) if len(present) == 2 else np.eye(len(present))
        found = rows.copy()
        found[present] = sides @ fitted
        yield found
