"""Loss, accuracy, gradient and Hessian of a model on one hospital's examples, for any family.

All are means over the hospital's examples of what each example contributes, so that the mean over
hospitals, weighted by their numbers of examples, is that of the pooled data. The contribution of
example i to the gradient is the outer product of :attr:`Examples.residuals` and
:attr:`Examples.design`, row i of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.regression import parameters
from fl_he.learning.regression.family import ClassFamily, Family
from fl_he.learning.regression.glm import GlmFamily
from fl_he.learning.regression.negative_binomial import NegativeBinomial
from fl_he.learning.regression.products import less, product
from fl_he.learning.regression.registry import family_of, margins_of
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import column_sums


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Contributions of m examples, before anything is added up.

    Attributes
    ----------
    family
        The model's.
    design
        Derivatives of a row's margins by its parameters: features and a one, shape (m, d + 1).
    margins
        Shape (m, r).
    labels
        Shape (m,).
    means
        Expected label of each of r rows of coefficients, shape (m, r); of classes a probability.
    losses
        Weighted negative log likelihood, shape (m,).
    hits
        1.0 where the label is predicted, shape (m,); of numbers empty.
    residuals
        Weighted derivative of the loss by the margins, shape (m, r).
    weights
        Weight of the example's class, shape (m,).
    """

    family: Family
    design: Array
    margins: Array
    labels: Array
    means: Array
    losses: Array
    hits: Array
    residuals: Array
    weights: Array


def examples_of(
    dataset: Dataset,
    theta: Array,
    class_weights: Array | None = None,
    family: Family | None = None,
) -> Examples:
    """Evaluate a model on each example.

    Parameters
    ----------
    dataset
        In the units of the model.
    theta
        Parameters, as :mod:`fl_he.learning.regression.parameters` lays them out.
    class_weights
        Shape (classes,); ``None``: 1 for every class.
    family
        With its alpha, of counts with one; ``None``: that of the dataset.

    Raises
    ------
    DataError
        If the model or the weights are of other features or classes than the dataset.
    """
    features, labels = dataset.features, dataset.labels
    family = family or family_of(dataset)
    needed = family.count(features.shape[1], dataset.class_count)
    if theta.shape != (needed,):
        raise DataError(f"a model of this data must have {needed} parameters, got {len(theta)}")
    if class_weights is not None and class_weights.shape != (dataset.class_count,):
        raise DataError(
            f"class weights must be one for each of {dataset.class_count} classes, "
            f"got {len(class_weights)}"
        )
    weights = np.ones(len(labels))
    if class_weights is not None:
        weights = class_weights[labels.astype(np.intp)]
    margins = margins_of(dataset, theta)
    return _evaluated(family, family.design(features, labels), margins, labels, weights)


def without_features(dataset: Dataset, overdispersion: Sequence[float]) -> Examples:
    """Evaluate the model of an intercept alone, whose only parameter is the intercept.

    Parameters
    ----------
    dataset
        Of counts with an alpha.
    overdispersion
        See :func:`fl_he.learning.regression.negative_binomial.told_alpha`.
    """
    _, intercept, log_alpha = overdispersion
    ones, family = np.ones((dataset.examples, 1)), NegativeBinomial(log_alpha)
    margins = intercept + np.log(dataset.exposed)[:, None]
    return _evaluated(family, ones, margins, dataset.labels, ones[:, 0])


def _evaluated(
    family: Family, design: Array, margins: Array, labels: Array, weights: Array
) -> Examples:
    means, hits = family.means(margins), np.empty(0)
    if isinstance(family, ClassFamily):
        hits = (family.predicted(means) == labels).astype(np.float64)
    return Examples(
        family=family,
        design=design,
        margins=margins,
        labels=labels,
        means=means,
        losses=weights * family.losses(margins, labels),
        hits=hits,
        residuals=weights[:, None] * family.residuals(margins, means, labels),
        weights=weights,
    )


def mean_gradient(examples: Examples) -> Array:
    """Return the gradient of the mean loss, laid out like the parameters; it may overflow."""
    return _gradient_sum(examples) / len(examples.losses)


def _gradient_sum(examples: Examples) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        by_class = examples.residuals.T @ examples.design
    return parameters.join(by_class[:, :-1], by_class[:, -1])


def example_gradients(examples: Examples) -> Array:
    """Return each example's part of the gradient, a row laid out like the parameters."""
    by_class = examples.residuals[:, :, None] * examples.design[:, None, :]
    rows = len(by_class)
    return np.column_stack([by_class[:, :, :-1].reshape(rows, -1), by_class[:, :, -1]])


def derivative_parts(examples: Examples) -> Array:
    """Return the sums of losses, gradients and Hessians, and what their rounding leaves out.

    Returns
    -------
    NDArray[np.float64]
        Shape (2, 1 + p + p (p + 1) / 2), or of a GLM more. A row is of the loss, the gradient, the
        upper triangle of the Hessian, row by row, and of a GLM its `checks`: the rounded sums
        first, which :func:`mean_derivatives` reads, then what rounding leaves out of the Hessian.
        With an alpha the first and the second derivative by its logarithm follow, and those of the
        gradient.
    """
    hessian, rest = map(upper_triangle, hessian_parts(examples))
    sums = np.concatenate([[loss_sum(examples)], _gradient_sum(examples), hessian])
    rests = np.append(np.zeros(len(sums) - len(rest)), rest)
    if isinstance(examples.family, GlmFamily):
        checks = examples.family.checks(
            *(examples.margins, examples.means, examples.labels, examples.design)
        )
        more = np.append(checks, _by_alpha(examples))
        sums, rests = np.append(sums, more), np.append(rests, np.zeros(len(more)))
    return np.array([sums, rests])


def _by_alpha(examples: Examples) -> Array:
    """Return sums of derivatives by the logarithm of alpha; none without an alpha."""
    if not isinstance(family := examples.family, NegativeBinomial):
        return np.empty(0)
    slope, curvature, cross = family.by_alpha(examples.margins, examples.labels)
    found = np.column_stack([slope, curvature, cross[:, None] * examples.design])
    return column_sums(examples.weights[:, None] * found)


def loss_sum(examples: Examples) -> float:
    """Return the sum of the losses, infinite if it is no float64."""
    return float(column_sums(examples.losses[:, None])[0])


def mean_derivatives(sums: Array, size: int, examples: int) -> tuple[float, Array, Array]:
    """Return mean loss, gradient and Hessian of this many parameters, from sums over examples.

    Raises
    ------
    DataError
        If the sums are of another number of parameters.
    """
    means = sums / examples
    hessian = from_upper_triangle(means[1 + size :], size)
    return float(means[0]), means[1 : 1 + size], hessian


def hessian_sum(examples: Examples) -> Array:
    """Return the sum of the losses' Hessians, its rows and columns laid out like the parameters."""
    return hessian_parts(examples)[0]


def hessian_parts(examples: Examples) -> tuple[Array, Array]:
    """Return :func:`hessian_sum`, and what its rounding leaves out."""
    design, family, means = examples.design, examples.family, examples.means
    margins, labels = examples.margins, examples.labels
    added, taken = family.beside_curvature(margins, labels, design)
    rows, width = means.shape[1], design.shape[1]
    full = np.empty((2, rows, width, rows, width))
    for a in range(rows):
        for b in range(a, rows):
            curvature = family.curvature(examples.weights, margins, means, labels, a=a, b=b)
            # A rounded root is that of another weight, and so no loss along any direction.
            right = design * np.sqrt(np.abs(curvature))[:, None]
            left = right if (curvature >= 0.0).all() else right * np.sign(curvature)[:, None]
            if len(added):
                left = right = np.concatenate([right, added])
            both = product(left, right)
            block = np.array(less(both, product(taken, taken)) if len(taken) else both)
            full[:, b, :, a, :] = block.transpose(0, 2, 1)
            full[:, a, :, b, :] = block
    # Row by row, each with its intercept last, to all coefficients first.
    places = np.arange(rows * width).reshape(rows, width)
    order = np.concatenate([places[:, :-1].ravel(), places[:, -1]])
    square, rest = full.reshape(2, rows * width, rows * width)[:, order][:, :, order]
    return square, rest


def upper_triangle(matrix: Array) -> Array:
    """Return a symmetric matrix's upper triangle, row by row: p (p + 1) / 2 values."""
    return np.asarray(matrix[np.triu_indices(len(matrix))], dtype=np.float64)


def from_upper_triangle(values: Array, size: int) -> Array:
    """Return the symmetric matrix of an upper triangle.

    Raises
    ------
    DataError
        If the values are not ``size * (size + 1) / 2``.
    """
    if values.shape != (size * (size + 1) // 2,):
        raise DataError(
            f"a Hessian's upper triangle must have {size * (size + 1) // 2} values, "
            f"got {values.size}"
        )
    matrix = np.empty((size, size))
    rows, columns = np.triu_indices(size)
    matrix[rows, columns] = values
    matrix[columns, rows] = values
    return matrix
