"""Declared (public) bounds of an outcome that is a number, and gradients in units that they give.

Differential privacy needs numbers that are public before anything is known of the data. The bounds
give all that the sums of :class:`fl_he.learning.regression.glm.OutcomeMoments` give otherwise:

- the start, a model that predicts a number within the bounds;
- the unit of an effect: half the width with the identity as link, 1 with a logarithmic one;
- the largest second derivative of a loss by its margin, which is the largest variance of an outcome
  whose mean is within the bounds (McCullagh and Nelder 1989, "Generalized Linear Models", section
  2.2.4, for the distribution's own link): 1 of a linear model, the upper bound of counts.

Outcomes beyond a bound count as the bound. Expected counts do too, as no outcome is larger: so the
exponential of a margin cannot overflow, and the loss of a margin beyond the upper bound's is
straight, hence still convex. An optimum whose expected counts are all within the bounds is that of
the loss without them.

The promise does not rest on the bounds. A row's gradient is a function of the row, the model and
public numbers, the same for neighbouring tables. It is always clipped to the norm C, and
so the sum moves by at most 2 C when one row is replaced (Abadi et al. 2016, "Deep Learning with
Differential Privacy", algorithm 1; :mod:`fl_he.learning.privacy.gradients` has the rounding and the
accounting). Bad bounds cost accuracy only. No outcome beyond a bound is counted or told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.regression.family import Family
from fl_he.learning.regression.glm import GlmFamily
from fl_he.learning.regression.likelihood import Examples, example_gradients
from fl_he.learning.tables.arrays import Array
from fl_he.run_files.metrics_contract import BOUNDED

#: Width of the bounds, as a share of their size, below which float64 has too few digits.
_LEAST_WIDTH = 1e-9
_SMALLEST, _LARGEST = 1e-100, 1e100
_BOTH = 2


@dataclass(frozen=True, slots=True)
class OutcomeBounds:
    """Bounds of the outcome of a family's models.

    Parameters
    ----------
    family : GlmFamily
        One of `BOUNDED`.
    low, high : float
        Low below high; of a logarithmic link low at least 0.

    Raises
    ------
    DataError
        If one of these does not hold.

    Examples
    --------
    >>> from fl_he.learning.regression.registry import FAMILIES
    >>> bounds = OutcomeBounds.of(FAMILIES["gaussian"], [90.0, 210.0])
    >>> bounds.unit, bounds.curvature, bounds.start(2).tolist()
    (60.0, 1.0, [0.0, 0.0, 150.0])
    """

    family: GlmFamily
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.family.name not in BOUNDED:
            raise DataError(
                f"outcome_bounds must be left out with family {self.family.name}: they are for "
                f"{' and '.join(BOUNDED)}"
            )
        size = max(abs(self.low), abs(self.high))
        apart = self.high - self.low > _LEAST_WIDTH * size
        if not (apart and _SMALLEST <= size <= _LARGEST):
            raise DataError(
                f"outcome_bounds must be a lower and a higher number, from {_SMALLEST:g} to "
                f"{_LARGEST:g} in size, got {self.low:g} and {self.high:g}"
            )
        if self.family.ratio and self.low < 0.0:
            raise DataError(
                f"outcome_bounds must be at least 0 with family {self.family.name}, got "
                f"{self.low:g}"
            )

    @classmethod
    def of(cls, family: Family, ends: Sequence[float]) -> Self | None:
        """Return the bounds that a task or a setting names; ``None`` where it names none.

        Raises
        ------
        DataError
            If they are no bounds of an outcome of the family.
        """
        if not len(ends):
            return None
        if not isinstance(family, GlmFamily):
            raise DataError(
                f"outcome_bounds must be left out with family {family.name}, whose outcome is a "
                "class"
            )
        if len(ends) != _BOTH:
            raise DataError(f"outcome_bounds must be two numbers, got {len(ends)}")
        return cls(family, *map(float, ends))

    @property
    def unit(self) -> float:
        """Size of an effect that counts as 1; see :meth:`GlmFamily.unit`."""
        return 1.0 if self.family.ratio else (self.high - self.low) / 2.0

    @property
    def curvature(self) -> float:
        """Largest second derivative of a loss by its margin."""
        return float(self.family.variance(np.array([self.high]))[0])

    def start(self, features: int) -> Array:
        """Return the model from which training starts; it predicts a number within the bounds.

        That is the middle, and of counts the geometric one of the bounds and 1 more: counts are
        often well below their bound.
        """
        middle = (self.low + self.high) / 2.0
        if self.family.ratio:
            middle = math.expm1((math.log1p(self.low) + math.log1p(self.high)) / 2.0)
        return np.append(np.zeros(features), self.family.link(middle))

    def applied(self, examples: Examples) -> Examples:
        """Return examples whose outcomes are within the bounds, with residuals in public units.

        A residual is divided by `unit` times `curvature`, so the gradient by parameters in `unit`
        is that of a loss whose second derivative by the margin is at most 1. With outcome and mean
        within the bounds a residual is at most 2 in size, of counts 1.
        """
        means = examples.means
        if self.family.ratio:
            means = np.minimum(means, self.high)
        labels = np.clip(examples.labels, self.low, self.high)
        residuals = self.family.residuals(examples.margins, means, labels)
        return replace(examples, residuals=residuals / (self.unit * self.curvature))

    def strength(self, C: float | None) -> float | None:
        """Return the inverse strength of the same L2 penalty on parameters in these units."""
        return None if C is None else C * self.curvature


def require_bounds(family: Family, ends: Sequence[float]) -> OutcomeBounds | None:
    """Return the bounds that a private training needs; ``None`` for classes, which need none.

    Raises
    ------
    DataError
        If the outcome is a number without bounds, or of a family that has no private training.
    """
    bounds = OutcomeBounds.of(family, ends)
    if bounds is None and isinstance(family, GlmFamily):
        if family.name not in BOUNDED:
            raise DataError(
                f"privacy must be none with family {family.name}: of models of numbers only "
                f"{' and '.join(BOUNDED)} can be trained with differential privacy"
            )
        raise DataError(
            f"outcome_bounds must be declared for family {family.name} with differential privacy: "
            "between what the outcome is by public knowledge, not by looking at the data"
        )
    return bounds


def bounded_gradients(examples: Examples, ends: Sequence[float]) -> Array:
    """Return each example's part of the gradient, before it is clipped.

    Parameters
    ----------
    examples
    ends
        Bounds of an outcome that is a number, by which residuals are in public units; of classes
        none.

    Raises
    ------
    DataError
        See :func:`require_bounds`.
    """
    bounds = require_bounds(examples.family, ends)
    with np.errstate(over="ignore", invalid="ignore"):
        return example_gradients(examples if bounds is None else bounds.applied(examples))
