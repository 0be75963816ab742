"""Intercepts that each site keeps: the likelihood of the coefficients that all sites share.

For given coefficients a site finds the intercept of its own at which its loss is least. These least
losses are the profile of the loss of fixed effects, one intercept for each site: both have the same
best coefficients. The derivative of a site's least loss is that by the coefficients, and its second
derivative the Schur complement ``H_bb - H_ba H_aa^-1 H_ab`` of the intercept a. Its inverse is the
coefficients' block of the inverse of the whole: Patefield 1977, "On the maximized likelihood
function", Sankhya B 39. With one intercept the complement is the Hessian of features about their
mean, weighted by the curvature, so no digits cancel in it.

A site whose outcomes are all of one class, or all counts of 0, has no finite intercept. Its loss
comes as near to 0 as one likes for any coefficients, so it contributes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.regression import likelihood, separation
from fl_he.learning.regression.family import ClassFamily, Family
from fl_he.learning.regression.glm import GlmFamily
from fl_he.learning.regression.likelihood import Examples, examples_of
from fl_he.learning.regression.negative_binomial import NegativeBinomial
from fl_he.learning.regression.registry import family_of, margins_of
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset

#: Steps of bisection between the two float64 that are farthest apart.
_MOST_STEPS = 2100
_ROUNDING = 4.0 * float(np.finfo(np.float64).eps)


def informs(dataset: Dataset) -> bool:
    """Tell whether a site's outcomes have a finite intercept; this depends on the outcomes alone.

    Raises
    ------
    DataError
        If the family has no intercepts of sites.
    """
    family, labels = family_of(dataset), dataset.labels
    if not family.site_intercepts:
        raise DataError(f"a model of family {family.name} must be without intercepts of sites")
    if isinstance(family, GlmFamily):
        return bool(labels.any()) or not family.may_separate
    return bool(0.0 < labels.mean() < 1.0)


def with_own_intercept(
    dataset: Dataset, theta: Array, family: Family | None = None
) -> Array | None:
    """Return a model with the site's best intercept; ``None`` if the site has no finite one.

    Parameters
    ----------
    dataset
        The site's, in the units of the model.
    theta
        Of one row of coefficients; its intercept does not count.
    family
        See :func:`fl_he.learning.regression.likelihood.examples_of`.

    Examples
    --------
    >>> data = Dataset(np.array([[0.0], [1.0]]), np.array([3.0, 6.0]), ("x",), family="gaussian")
    >>> with_own_intercept(data, np.array([1.0, 0.0])).tolist()
    [1.0, 4.0]
    """
    if not informs(dataset):
        return None
    own = np.append(theta[:-1], 0.0)
    family = family or family_of(dataset)
    own[-1] = _best(family, margins_of(dataset, own)[:, 0], dataset.labels)
    return own


def profiled(dataset: Dataset, theta: Array, family: Family | None = None) -> Examples:
    """Evaluate a model on each example of a site, at the site's best intercept.

    The design is of the features about their weighted mean, and a one: gradient and Hessian of the
    coefficients are those of the profile, and the intercept's parts but for rounding 0, apart from
    the curvature by the intercept itself.

    Parameters
    ----------
    dataset, theta, family
        See :func:`with_own_intercept`.
    """
    if (own := with_own_intercept(dataset, theta, family)) is None:
        return _silent(dataset, family or family_of(dataset), len(theta))
    examples = examples_of(dataset, own, family=family)
    weights = examples.family.curvature(
        *(examples.weights, examples.margins, examples.means, examples.labels), a=0, b=0
    )
    if not weights.sum() > 0.0:
        weights = np.ones(len(weights))
    features = dataset.features - weights @ dataset.features / weights.sum()
    # Nothing is left of a column that does not vary, not even rounding.
    features[:, np.ptp(dataset.features, axis=0) == 0.0] = 0.0
    return replace(examples, design=np.column_stack([features, np.ones(len(features))]))


def without_features(dataset: Dataset, overdispersion: Sequence[float]) -> Examples:
    """Evaluate the model of the site's best intercept alone.

    Parameters
    ----------
    dataset, overdispersion
        See :func:`fl_he.learning.regression.likelihood.without_features`.
    """
    *_, log_alpha = overdispersion
    family = NegativeBinomial(log_alpha)
    if not informs(dataset):
        return _silent(dataset, family, 1)
    own = _best(family, np.log(dataset.exposed), dataset.labels)
    return likelihood.without_features(dataset, (log_alpha, own, log_alpha))


def without_intercept(parts: Array, parameters: int) -> Array:
    """Take the site's intercept out of derivatives by alpha, as it follows alpha too.

    Parameters
    ----------
    parts
        See :func:`fl_he.learning.regression.likelihood.derivative_parts`.
    parameters
        How many the model has, the intercept last.
    """
    found = parts.copy()
    information, mixed = found[0, parameters + parameters * (parameters + 1) // 2], found[0, -1]
    if information > 0.0:
        found[0, -1 - parameters] -= mixed**2 / information
    found[0, -1] = 0.0
    return found


def without_intercept_by_loss(parts: Array, parameters: int) -> Array:
    """Take the site's intercept out of the loss's own Hessian, whose values are the last parts.

    See :func:`without_intercept`.
    """
    found, values = parts.copy(), parameters * (parameters + 1) // 2
    whole = likelihood.from_upper_triangle(found[0, -values:], parameters)
    if whole[-1, -1] > 0.0:
        whole -= np.outer(whole[-1], whole[-1]) / whole[-1, -1]
    whole[-1], whole[:, -1] = 0.0, 0.0
    found[0, -values:] = likelihood.upper_triangle(whole)
    return found


def sides(dataset: Dataset, candidate: Array) -> Array:
    """Count the examples of a site against a candidate, and on it, at the best border of the site.

    With an intercept for each site the classes are separated if the candidate separates those of
    each site at some border. Classes that overlap leave examples against any border.

    Parameters
    ----------
    dataset
        The site's, in the units of the model.
    candidate
        See :func:`fl_he.learning.regression.separation.sides`; its intercept does not count.
    """
    if not informs(dataset):
        return np.zeros(2)
    own = np.append(candidate[:-1], 0.0)
    family, labels = family_of(dataset), dataset.labels
    margins = family.margins(dataset.features, own)[:, 0]
    above = margins[labels > 0.0]
    low, high = float(above.min()), float(above.max())
    if isinstance(family, ClassFamily):
        high = float(margins[labels == 0.0].max())
    own[-1] = -(low + high) / 2.0
    return separation.sides(examples_of(dataset, own), own)


def _best(family: Family, margins: Array, labels: Array) -> float:
    """Return the intercept at which the sum of losses is least, by Newton's method in a bracket.

    The sum of residuals rises with the intercept. It is not above 0 where the largest mean is the
    mean label, and not below 0 where the smallest is.
    """
    mean = float(labels.mean())
    link = family.link(mean) if isinstance(family, GlmFamily) else math.log(mean / (1.0 - mean))
    low, high = link - float(margins.max()), link - float(margins.min())
    if not (math.isfinite(low) and math.isfinite(high)):
        return math.nan
    at, ones = min(max(link - float(margins.mean()), low), high), np.ones(len(labels))
    for _ in range(_MOST_STEPS):
        moved = margins[:, None] + at
        means = family.means(moved)
        slope = float(family.residuals(moved, means, labels).sum())
        curvature = float(family.curvature(ones, moved, means, labels, a=0, b=0).sum())
        low, high = (low, at) if slope > 0.0 else (at, high)
        stepped = at - slope / curvature if curvature > 0.0 else math.nan
        if not low <= stepped <= high:
            stepped = low + (high - low) / 2.0
        if abs(stepped - at) <= _ROUNDING * max(1.0, abs(at)):
            return stepped
        at = stepped
    return at


def _silent(dataset: Dataset, family: Family, parameters: int) -> Examples:
    """Return examples of the form of the dataset's that contribute nothing."""
    rows = dataset.examples
    zeros, ones = np.zeros(rows), np.ones(rows)
    return Examples(
        family=family,
        design=np.zeros((rows, parameters)),
        margins=zeros[:, None],
        labels=ones,
        means=ones[:, None],
        losses=zeros,
        hits=ones if isinstance(family, ClassFamily) else np.empty(0),
        residuals=zeros[:, None],
        weights=zeros,
    )
