"""Answering models out of fitted scikit-learn classifiers.

A classifier is linear in the features, or in columns of the public feature map (see
:mod:`feature_map`), or a network of ReLUs on either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.tables.arrays import Array
from fl_he.learning.voting.answering import AnsweringModel, Layer
from fl_he.learning.voting.feature_map import FeatureMap, Monomial

#: scikit-learn's names of the linear classifiers.
LINEAR_KINDS = (
    "LogisticRegression",
    "LogisticRegressionCV",
    "LinearSVC",
    "LinearDiscriminantAnalysis",
    "SGDClassifier",
    "RidgeClassifier",
    "Perceptron",
    "PassiveAggressiveClassifier",
    "NearestCentroid",
)
#: Transformers that may come before a classifier in a Pipeline of two.
MAP_KINDS = ("PolynomialFeatures", "RBFSampler")


def answering_model(
    estimator: Any, classes: int, public_map: FeatureMap | None = None
) -> AnsweringModel:
    """Read a fitted scikit-learn classifier, or take a model as it is.

    Parameters
    ----------
    estimator : object
        An AnsweringModel on the features, or a classifier fitted on labels from 0 to
        ``classes - 1``; it need not have seen all of them.
    classes : int
    public_map : FeatureMap, optional
        What the querying party makes of its features; None for nothing.

    Returns
    -------
    AnsweringModel
        On the columns of the public map.

    Raises
    ------
    DataError
        If it is of another kind, or on columns that the public map does not hold; the error names
        the kinds that can be evaluated.
    """
    kind = _kind(estimator)
    if kind == "GaussianNB":
        bayes = by_class(*_gaussian_bayes(estimator), estimator.classes_, classes)
        inputs = range(estimator.theta_.shape[1])
        monomials: list[Monomial] = [*((i,) for i in inputs), *((i, i) for i in inputs)]
        return _on_monomials(AnsweringModel((bayes,)), monomials, public_map)
    if kind == "Pipeline" and len(estimator) == 2 and _kind(estimator[0]) in MAP_KINDS:
        transformer, model = estimator[0], _on_its_inputs(estimator[1], classes)
        if _kind(transformer) == "RBFSampler":
            return _on_fourier(model, transformer, public_map)
        powers = transformer.powers_.tolist()
        monomials = [tuple(i for i, p in enumerate(row) for _ in range(p)) for row in powers]
        return _on_monomials(model, monomials, public_map)
    model = _on_its_inputs(estimator, classes)
    inputs = range(model.layers[0].weights.shape[1])
    return _on_monomials(model, [(i,) for i in inputs], public_map)


def _kind(estimator: Any) -> str:
    """Return the name of a class of scikit-learn's, of another the empty text."""
    ours = type(estimator).__module__.startswith("sklearn.")
    return type(estimator).__name__ if ours else ""


def _on_its_inputs(estimator: Any, classes: int) -> AnsweringModel:
    """Read a classifier on the inputs that it was fitted on."""
    if isinstance(estimator, AnsweringModel):
        if len(estimator.layers[-1].offsets) != classes:
            raise DataError(f"a model's last layer must have {classes} outputs")
        return estimator
    kind = _kind(estimator)
    if kind == "MLPClassifier":
        return _network(estimator, classes)
    if kind in LINEAR_KINDS:
        return AnsweringModel((_linear(estimator, classes),))
    raise DataError(
        f"an answering model must be one of {', '.join(LINEAR_KINDS)}, MLPClassifier and "
        f"GaussianNB of scikit-learn, a Pipeline of {' or '.join(MAP_KINDS)} and one of these but "
        "the last, or layers with ReLUs as an AnsweringModel, got "
        f"{type(estimator).__name__}"
    )


def _on_monomials(
    model: AnsweringModel, monomials: Sequence[Monomial], public_map: FeatureMap | None
) -> AnsweringModel:
    """Return a model on products of features as one on the columns of the public map."""
    if public_map is None:
        public_map = FeatureMap(len(monomials), tuple((i,) for i in range(len(monomials))))
    first, *later = model.layers
    # the product of no features is 1
    constant = np.array([not monomial for monomial in monomials])
    offsets = first.offsets + first.weights[:, constant].sum(axis=1)
    places = public_map.places([monomial for monomial in monomials if monomial])
    return _spread(Layer(first.weights[:, ~constant], offsets), places, public_map, later)


def _on_fourier(
    model: AnsweringModel, sampler: Any, public_map: FeatureMap | None
) -> AnsweringModel:
    """Return a model on an RBFSampler's outputs as one on the columns of the public map."""
    if public_map is None:
        raise DataError("a model behind an RBFSampler must be given with the public feature map")
    first, *later = model.layers
    places = public_map.fourier_places(sampler)
    factor = np.sqrt(2.0 / len(places))  # which the public columns do without
    return _spread(Layer(first.weights * factor, first.offsets), places, public_map, later)


def _spread(
    first: Layer, places: Sequence[int], public_map: FeatureMap, later: Sequence[Layer]
) -> AnsweringModel:
    weights = np.zeros((len(first.weights), public_map.size))
    weights[:, list(places)] = first.weights
    return AnsweringModel((Layer(weights, first.offsets), *later))


def _gaussian_bayes(estimator: Any) -> tuple[Array, Array]:
    """Return the log of prior times density as a linear function of features and their squares.

    ``log prior - sum over i of log(2 pi var_i) / 2 + (x_i - theta_i)^2 / (2 var_i)``.
    """
    means, variances = estimator.theta_, estimator.var_
    constants = np.log(2.0 * np.pi * variances) + means**2 / variances
    with np.errstate(divide="ignore"):
        offsets = np.log(estimator.class_prior_) - 0.5 * constants.sum(axis=1)
    return np.hstack([means / variances, -0.5 / variances]), offsets


def _network(estimator: Any, classes: int) -> AnsweringModel:
    if estimator.activation != "relu":
        raise DataError(f"an MLPClassifier must have ReLUs, got {estimator.activation}")
    *hidden, last = (
        (np.asarray(weights.T, dtype=np.float64), np.asarray(offsets, dtype=np.float64))
        for weights, offsets in zip(estimator.coefs_, estimator.intercepts_, strict=True)
    )
    layers = (Layer(*maps) for maps in hidden)
    return AnsweringModel((*layers, by_class(*last, estimator.classes_, classes)))


def _linear(estimator: Any, classes: int) -> Layer:
    if type(estimator).__name__ == "NearestCentroid":
        coefficients, intercepts = _nearest_centroid(estimator)
    else:
        coefficients = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64))
        intercepts = np.broadcast_to(estimator.intercept_, len(coefficients)).astype(np.float64)
    return by_class(coefficients, intercepts, estimator.classes_, classes)


def by_class(weights: Array, offsets: Array, labels: Any, classes: int) -> Layer:
    """Return the scores in the order of all classes, of which the model may know a few only."""
    known = np.asarray(labels)
    if not np.issubdtype(known.dtype, np.number) or not np.isin(known, np.arange(classes)).all():
        raise DataError(f"a model's labels must be integers from 0 to {classes - 1}")
    if len(weights) == 1 and len(known) == 2:
        # one score for two classes: the second one's, against 0
        weights = np.vstack([np.zeros_like(weights), weights])
        offsets = np.concatenate([[0.0], offsets])
    if len(weights) != len(known):
        raise DataError(
            f"a model must have a score for each of its {len(known)} classes, got {len(weights)}"
        )
    places = known.astype(np.int64)
    all_weights = np.zeros((classes, weights.shape[1]))
    all_offsets = np.full(classes, -np.inf)
    all_weights[places], all_offsets[places] = weights, offsets
    return Layer(all_weights, all_offsets)


def _nearest_centroid(estimator: Any) -> tuple[Array, Array]:
    """Return ``|x - c|^2 = |x|^2 - 2 c x + |c|^2`` as a score, without what is common to all."""
    settings = (estimator.metric, estimator.shrink_threshold, estimator.priors)
    if settings != ("euclidean", None, "uniform"):
        raise DataError(
            "a NearestCentroid must have the euclidean metric, no shrink_threshold and uniform "
            "priors"
        )
    centroids = np.asarray(estimator.centroids_, dtype=np.float64)
    return centroids, -0.5 * (centroids**2).sum(axis=1)
