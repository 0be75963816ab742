"""Softmax regression with intercepts: more than two classes, a row of coefficients for each.

Every class has coefficients of its own, as in scikit-learn, so that the model is symmetric in
the classes and the penalty picks one of many equal models. Source: Hastie, Tibshirani and
Friedman 2009, "The Elements of Statistical Learning", section 4.4, with the sign turned and no
reference class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError
from fl_he.learning.regression import parameters
from fl_he.learning.regression.family import ClassFamily
from fl_he.learning.regression.logistic import fits_of_rows
from fl_he.learning.regression.trained import (
    TrainedModel,
    read_names,
    read_numbers,
    read_rows,
)
from fl_he.learning.tables.arrays import Array, different_names, finite_array, set_fields
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.table_file import RowNumbers


@dataclass(frozen=True, slots=True, eq=False)
class SoftmaxModel(TrainedModel):
    """A softmax model of k > 2 classes and the scaling of its features; see TrainedModel.

    Parameters
    ----------
    coefficients
        Shape (k, d), in standardised units.
    intercepts
        Shape (k,).
    classes
        k different names.
    """

    FORMAT = "fl-he softmax model"
    VERSION = 7
    HOW_TO_USE = (
        "margin of class c = intercepts[c] + sum over features i of coefficients[c][i] * "
        "(x[i] - mean[i]) / scale[i]; probability of classes[c] = exp(margin of c) / sum over all "
        "classes of exp(margin), x in the order of feature_names"
    )
    MEMBERS: ClassVar = {
        "classes": read_names,
        "feature_names": read_names,
        "mean": read_numbers,
        "scale": read_numbers,
        "coefficients": read_rows,
        "intercepts": read_numbers,
    }

    coefficients: Array
    intercepts: Array
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        self.check_features()
        classes = different_names("classes", self.classes, 3)
        coefficients = finite_array(self.coefficients, "coefficients", dimensions=2)
        intercepts = finite_array(self.intercepts, "intercepts", dimensions=1)
        features = len(self.feature_names)
        if coefficients.shape != (len(classes), features) or (
            len(intercepts) != len(classes) or len(self.mean) != features
        ):
            raise DataError(
                "coefficients must have a row for each class and a column for each feature, "
                f"got shapes {coefficients.shape} and {intercepts.shape} for {len(classes)} "
                f"classes and {features} features"
            )
        set_fields(self, classes=classes, coefficients=coefficients, intercepts=intercepts)

    @property
    def theta(self) -> Array:
        """See TrainedModel."""
        return parameters.join(self.coefficients, self.intercepts)

    @property
    def labels(self) -> NDArray[Any]:
        """The labels that the model predicts, shape (k,)."""
        return np.array(self.classes)

    def expected(self, raw_features: Array, rows: RowNumbers | None = None) -> Array:
        """Return each class's probability, shape (m, k); see TrainedModel."""
        return SOFTMAX.means(self.margins(raw_features, rows))

    def predictions(
        self, raw_features: Array, rows: RowNumbers | None = None
    ) -> tuple[list[str], list[list[str]]]:
        """See TrainedModel."""
        probability = self.expected(raw_features, rows)
        names = [self.classes[index] for index in probability.argmax(axis=1)]
        heading = "predicted"
        while heading in self.classes:
            heading += "_label"
        return [heading, *self.classes], [
            [name, *map(repr, p.tolist())] for name, p in zip(names, probability, strict=True)
        ]


class _Softmax(ClassFamily):
    name = "softmax"
    trained = SoftmaxModel

    def rows(self, classes: int) -> int:
        return classes if classes > 2 else 0

    def means(self, margins: Array) -> Array:
        result: Array = np.exp(_log_probabilities(margins))
        return result

    def losses(self, margins: Array, labels: Array) -> Array:
        """Return ``-log(probability of the example's own class)``."""
        return -_log_probabilities(margins)[np.arange(len(labels)), labels.astype(np.intp)]

    def fits(self, dataset: Dataset, C: float, *, balanced: bool) -> Iterator[Array]:
        """See Family and :func:`~fl_he.learning.regression.logistic.fits_of_rows`."""
        size = self.count(dataset.features.shape[1], dataset.class_count)
        for rows in fits_of_rows(dataset, size, C, balanced=balanced):
            yield parameters.join(rows[:, :-1], rows[:, -1])

    def members(
        self, coefficients: Array, intercepts: Array, meaning: str | None, classes: Sequence[str]
    ) -> dict[str, Any]:
        """See Family; classes whose names are not known are numbered."""
        names = tuple(classes) or tuple(map(str, range(len(intercepts))))
        return {"coefficients": coefficients, "intercepts": intercepts, "classes": names}


SOFTMAX = _Softmax()


def _log_probabilities(margins: Array) -> Array:
    """Return the logarithm of each class's probability; no margin overflows."""
    shifted = margins - margins.max(axis=1, keepdims=True)
    logarithms: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logarithms
