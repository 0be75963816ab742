"""Baselines of a federated model: scikit-learn on the same data, with the same figures."""

from __future__ import annotations

import math
import warnings
from contextlib import suppress

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.regression import parameters
from fl_he.learning.regression.likelihood import examples_of, hessian_sum, mean_gradient
from fl_he.learning.regression.registry import family_of
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import balanced_weights, class_counts
from fl_he.learning.tables.scaling import standardise

#: scikit-learn's own.
DEFAULT_C = 1.0
#: Newton's next step moves no margin further at an optimum, of 1 or of the margin if that is more;
#: on separated data it moves some by about 1 for ever, however small the gradient.
_LONGEST_STEP = 1e-2


def fit_pooled(dataset: Dataset, C: float | None, *, balanced: bool) -> tuple[Array, float | None]:
    """Fit the pooled data; see `fit`.

    Returns
    -------
    parameters : NDArray[np.float64]
    C : float or None
        Of the fit. Where ``None`` was asked for, and the data have no finite optimum or
        no solver of scikit-learn finds it, this is scikit-learn's default.
    """
    if C is not None:
        return fit(dataset, C, balanced=balanced), C
    family = family_of(dataset)
    # Whether a fit is the optimum is decided by the likelihood, not by what a solver warns of.
    with warnings.catch_warnings(action="ignore"), suppress(ValueError, DataError):
        standard, scaling = standardise(dataset)  # without a penalty units do not count
        for fitted in family.fits(standard, math.inf, balanced=balanced):
            if _is_optimum(standard, fitted, balanced=balanced):
                coefficients, intercepts = parameters.split(fitted, len(scaling.scale))
                coefficients = coefficients / scaling.scale
                return parameters.join(coefficients, intercepts - coefficients @ scaling.mean), None
    return fit(dataset, None, balanced=balanced), DEFAULT_C


def _is_optimum(dataset: Dataset, theta: Array, *, balanced: bool) -> bool:
    """Tell whether the likelihood has its maximum at a model, to within Newton's next step."""
    family, weights = family_of(dataset), None
    if balanced:
        weights = balanced_weights(class_counts(dataset.labels, dataset.class_count))
    examples = examples_of(dataset, theta, weights)
    gradient = dataset.examples * mean_gradient(examples)
    step, _, rank, _ = np.linalg.lstsq(hessian_sum(examples), gradient, rcond=None)
    moved = family.margins(dataset.features, step.astype(np.float64))
    if (np.abs(moved) > _LONGEST_STEP * np.maximum(1.0, np.abs(examples.margins))).any():
        return False
    # Far out on separated data rounding leaves no information along a direction, and so no step.
    start = family.zeros(dataset.features.shape[1], dataset.class_count)
    informed = np.linalg.matrix_rank(hessian_sum(examples_of(dataset, start, weights)))
    return bool(rank == informed)


def fit(dataset: Dataset, C: float | None, *, balanced: bool = False) -> Array:
    """Fit the family of the dataset's classes to it, without fl-he. The fit is deterministic.

    Parameters
    ----------
    dataset
        Standardised.
    C
        Inverse strength of the L2 penalty, greater than 0; scikit-learn's default in place of
        ``None`` and infinity. On separable data, such as those of a small hospital, an unpenalised
        fit has no finite optimum.
    balanced
        Whether classes weigh the same, however many examples they have.

    Returns
    -------
    NDArray[np.float64]
        Parameters, as :mod:`fl_he.learning.regression.parameters` lays them out.

    Raises
    ------
    ValueError
        If ``C`` is out of range.
    """
    if C is not None and not C > 0.0:
        raise ValueError(f"C must be greater than 0, got {C}")
    penalty = DEFAULT_C if C is None or math.isinf(C) else C
    return next(family_of(dataset).fits(dataset, penalty, balanced=balanced))


def figures(probabilities: Array, labels: Array) -> dict[str, float]:
    """Compare probabilities with labels.

    Parameters
    ----------
    probabilities
        Of each of k classes, shape (m, k), m >= 1, in [0, 1].
    labels
        Shape (m,), each 0.0 to k - 1.

    Returns
    -------
    dict
        ``accuracy``, the share of labels that are the most probable class, at a tie the first one;
        ``balanced_accuracy``, the mean of it over the classes that are present; ``roc_auc``, of
        more than two classes the mean of each against the others, NaN if only one class is present;
        ``log_loss`` in nats, finite also for probabilities of 0 and 1: scikit-learn moves them by
        one rounding error.

    Raises
    ------
    DataError
        If the shapes differ or are empty.
    """
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise DataError(
            "probabilities must have a row for each label, "
            f"got shapes {probabilities.shape} and {labels.shape}"
        )
    from sklearn import metrics  # noqa: PLC0415 - lazy: clients never fit a baseline

    predicted = probabilities.argmax(axis=1).astype(np.float64)
    names = np.arange(probabilities.shape[1])
    one_against_others = [
        metrics.roc_auc_score(labels == name, probabilities[:, name])
        for name in (names if len(names) > 2 else names[1:])
        if 0 < np.count_nonzero(labels == name) < len(labels)
    ]
    recalls = [float(np.mean(predicted[labels == name] == name)) for name in np.unique(labels)]
    return {
        "accuracy": float(np.mean(predicted == labels)),
        "balanced_accuracy": float(np.mean(recalls)),
        "roc_auc": float(np.mean(one_against_others)) if one_against_others else math.nan,
        "log_loss": float(metrics.log_loss(labels, probabilities, labels=names)),
    }


def site_figures(probabilities: Array, labels: Array) -> dict[str, float]:
    """Return the figures of one site: those of `figures`, and calibration.

    Parameters
    ----------
    probabilities, labels
        See `figures`.

    Returns
    -------
    dict
        In addition, NaN of more than two classes: ``brier_score``, the mean square of label minus
        probability (Brier 1950); ``observed``, the share of label 1, and ``predicted``, the mean
        probability of it, whose difference is the calibration in the large (Steyerberg, "Clinical
        Prediction Models", 2nd ed., section 15.3).
    """
    found = figures(probabilities, labels)
    two = probabilities.shape[1] == 2
    risks = probabilities[:, 1]
    calibration = {
        "brier_score": float(np.mean((labels - risks) ** 2)),
        "observed": float(np.mean(labels)),
        "predicted": float(np.mean(risks)),
    }
    return {**found, **(calibration if two else dict.fromkeys(calibration, math.nan))}
