"""The families of models, and which of them a dataset, a name or a file belongs to.

A new family is a file like `poisson`, and its place in `FAMILIES`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fl_he.learning.errors import DataError
from fl_he.learning.regression import parameters
from fl_he.learning.regression.cox import BRESLOW_COX, EFRON_COX
from fl_he.learning.regression.family import ClassFamily, Family
from fl_he.learning.regression.gamma import GAMMA
from fl_he.learning.regression.gaussian import GAUSSIAN
from fl_he.learning.regression.glm import GlmFamily
from fl_he.learning.regression.logistic import LOGISTIC
from fl_he.learning.regression.negative_binomial import (
    NEGATIVE_BINOMIAL,
    NegativeBinomial,
    NegativeBinomialModel,
)
from fl_he.learning.regression.poisson import POISSON
from fl_he.learning.regression.softmax import SOFTMAX
from fl_he.learning.regression.trained import BALANCED, EQUAL, TrainedModel, read_model
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.scaling import Scaling

_ALL: tuple[Family, ...] = (
    *(LOGISTIC, SOFTMAX, GAUSSIAN, POISSON, NEGATIVE_BINOMIAL, GAMMA),
    *(EFRON_COX, BRESLOW_COX),
)
#: All families by their names.
FAMILIES = {family.name: family for family in _ALL}
#: Names of those whose outcome is a number.
NUMERIC = tuple(family.name for family in _ALL if isinstance(family, GlmFamily))
#: Names of those of which each site may have its own intercept.
WITH_SITES = tuple(family.name for family in _ALL if family.site_intercepts)
#: Names of those of which sites can be compared: an alpha is no site's own.
COMPARED = tuple(family.name for family in _ALL if family.site_intercepts and not family.has_alpha)


def family_for(classes: int) -> ClassFamily:
    """Return the family of models of this many classes; raises DataError if there is none."""
    for family in (LOGISTIC, SOFTMAX):
        if family.rows(classes):
            return family
    raise DataError(f"a model must be of at least 2 classes, got {classes}")


def family_named(name: str, classes: int) -> Family:
    """Return the family of a name or, without one, of this many classes; raises DataError."""
    return FAMILIES[name] if name else family_for(classes)


def family_of(dataset: Dataset) -> Family:
    """Return the family of a dataset's models."""
    return family_named(dataset.family, dataset.class_count)


def class_family(dataset: Dataset) -> ClassFamily:
    """Return the family of a dataset of classes; raises DataError if its labels are numbers."""
    return family_for(dataset.class_count)


def model_of(
    theta: Array,
    feature_names: tuple[str, ...],
    scaling: Scaling,
    meaning: str | None,
    classes: tuple[str, ...],
    *,
    family: Family,
    training: str | None = None,
    class_weights: Sequence[float] = (),
    method: str | None = None,
    schema: str | None = None,
    has_intercept: bool = True,
    exposure: str = "",
) -> TrainedModel:
    """Return the trained model of a vector of parameters.

    Parameters
    ----------
    theta
        As :mod:`fl_he.learning.regression.parameters` lays it out.
    feature_names, scaling
        Of the model's features.
    meaning
        What label 1 stands for, if there are two classes; of numbers, what they are.
    classes
        Names of more than two classes; empty for two. Where they are not known, they are numbered.
    family
        The model's.
    training
        How training ended, one of `trained.ENDS`; ``None`` if nobody can tell.
    class_weights
        Weight of an example by its class; empty: all weigh 1.
    method
        How the parameters were estimated, one of `trained.METHODS`; ``None`` if nobody can tell.
    schema
        Digest of the schema by which the tables were read; ``None`` without, or if nobody can tell.
    has_intercept
        Whether the model has one: with intercepts of sites those of the sites alone have.
    exposure
        Name of the column of exposures; empty without.

    Raises
    ------
    DataError
        If they do not fit each other.
    """
    members = family.members(*parameters.split(theta, len(feature_names)), meaning, classes)
    if not has_intercept:
        members["intercept"] = math.nan
    if exposure:
        members["exposure"] = exposure
    return family.trained(
        feature_names=feature_names,
        mean=scaling.mean,
        scale=scaling.scale,
        training=training,
        class_weight=BALANCED if class_weights else EQUAL,
        method=method,
        schema=schema,
        **members,
    )


def margins_of(dataset: Dataset, theta: Array) -> Array:
    """Return the margins of a dataset's rows by a model, with their exposures; shape (m, r).

    Raises
    ------
    DataError
        If the parameters are of other features.
    """
    margins = family_of(dataset).margins(dataset.features, theta)
    return margins if dataset.exposure is None else margins + np.log(dataset.exposure)[:, None]


def class_probabilities(dataset: Dataset, theta: Array) -> Array:
    """Return the probability of every class of a dataset's rows by a model, shape (m, k).

    Raises
    ------
    DataError
        If the parameters are of other features, or the labels are numbers.
    """
    family = class_family(dataset)
    return family.of_classes(family.means(family.margins(dataset.features, theta)))


def family_of_model(model: TrainedModel, name: str = "") -> Family:
    """Return the family of a trained model, with its alpha; ``name``: of several with such models.

    Examples
    --------
    >>> from fl_he.learning.regression.cox import CoxModel
    >>> one = np.ones(1)
    >>> family_of_model(CoxModel(("age",), one, one, one, 0.0)).name
    'cox'
    """
    if isinstance(model, NegativeBinomialModel):
        return NegativeBinomial(math.log(model.alpha))
    known = [family for family in _ALL if isinstance(model, family.trained)]
    return next((family for family in known if family.name == name), known[0])


def load_model(path: str | Path) -> TrainedModel:
    """Read a trained model of any family; raises DataError if it is of none."""
    text = read_model(path)
    try:
        kind = json.loads(text).get("format")
    except (ValueError, RecursionError, AttributeError):
        kind = None
    known = (family.trained for family in _ALL if kind == family.trained.FORMAT)
    return next(known, LOGISTIC.trained).from_json(text)
