"""Families of models: what a loss needs to be trained, evaluated, saved and compared.

A model of d features has r rows of d coefficients and one intercept each. Its margins are
``features @ coefficients.T + intercepts``, and its loss is a function of margins and labels.

Shapes in this module: features (m, d), labels (m,), of 0.0 to k - 1 for k classes or else numbers,
margins and means (m, r), parameters (r (d + 1),) as
:mod:`fl_he.learning.regression.parameters` lays them out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.regression import parameters
from fl_he.learning.regression.trained import TrainedModel
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.table_file import INTERCEPT


class Family(ABC):
    """A family of models, such as logistic regression.

    :mod:`fl_he.learning.regression.registry` lists the families. Gradient and Hessian of the mean
    loss follow from `residuals` and `curvature`: :mod:`fl_he.learning.regression.likelihood`.

    Attributes
    ----------
    name : str
        In settings and files.
    trained : type
        Class of the trained models, which knows their JSON file.
    site_intercepts : bool
        Whether each site may have its own intercept: see
        :mod:`fl_he.learning.regression.own_intercepts`.
    has_alpha : bool
        Whether a parameter of the variance is estimated together with the coefficients: see
        :mod:`fl_he.learning.regression.negative_binomial`.
    steps_by_loss : bool
        Whether steps go by the loss's own Hessian, as `curvature` is its expectation alone.
    """

    name: ClassVar[str]
    trained: ClassVar[type[TrainedModel]]
    site_intercepts: ClassVar[bool] = False
    has_alpha: ClassVar[bool] = False
    steps_by_loss: ClassVar[bool] = False

    @abstractmethod
    def rows(self, classes: int) -> int:
        """Return the number of rows for this many classes; 0 if the family has no such model.

        A number that is no class counts as no classes.
        """

    @abstractmethod
    def means(self, margins: Array) -> Array:
        """Return the expected label of each row: of classes the probability of the row's class."""

    @abstractmethod
    def losses(self, margins: Array, labels: Array) -> Array:
        """Return the negative log likelihood of each example, shape (m,).

        Of a number it is that of dispersion 1, but for terms without margins.
        """

    @abstractmethod
    def residuals(self, margins: Array, means: Array, labels: Array) -> Array:
        """Return the derivative of each example's loss by its margins, shape (m, r)."""

    @abstractmethod
    def curvature(
        self, weights: Array, margins: Array, means: Array, labels: Array, *, a: int, b: int
    ) -> Array:
        """Return the expected second derivative of each weighted loss by margins a and b, (m,)."""

    @abstractmethod
    def fits(self, dataset: Dataset, C: float, *, balanced: bool) -> Iterator[Array]:
        """Fit the family to data without fl-he, by one solver after another.

        Classes without examples are allowed.

        Parameters
        ----------
        dataset
            Standardised.
        C
            Inverse strength of the L2 penalty as in scikit-learn, above 0; infinity for none.
        balanced
            Whether classes weigh the same, however many examples they have.

        Yields
        ------
        NDArray[np.float64]
            Parameters, of the solver that suits the size first.
        """

    @abstractmethod
    def members(
        self, coefficients: Array, intercepts: Array, meaning: str | None, classes: Sequence[str]
    ) -> dict[str, Any]:
        """Return a trained model's members other than the names and the scaling of its features.

        See :func:`fl_he.learning.regression.registry.model_of`.
        """

    def design(self, features: Array, labels: Array) -> Array:
        """Return the derivatives of a row's margins by its parameters, shape (m, d + 1)."""
        return np.column_stack([features, np.ones(len(labels))])

    def beside_curvature(self, margins: Array, labels: Array, design: Array) -> tuple[Array, Array]:
        """Return rows whose outer products are added to the Hessian, and rows of those taken away.

        There are none of either, shape (0, d + 1), where each loss is of one example.
        """
        return design[:0], design[:0]

    def check_values(self, features: int) -> int:
        """Return how many sums by which a model is checked come with the derivatives."""
        return 0

    def count(self, features: int, classes: int) -> int:
        """Return the number of parameters."""
        return self.rows(classes) * (features + 1)

    def zeros(self, features: int, classes: int) -> Array:
        """Return a model of zeros, from which training of classes starts."""
        return np.zeros(self.count(features, classes))

    def parameter_names(self, features: Sequence[str], classes: Sequence[str] = ()) -> list[str]:
        """Return what each parameter stands for, in the order of the parameters.

        Classes are named where each has a row.

        Examples
        --------
        >>> from fl_he.learning.regression.registry import family_for
        >>> family_for(2).parameter_names(["age"])
        ['age', '(intercept)']
        >>> family_for(3).parameter_names(["age"], ["a", "b", "c"])[-2:]
        ['b: (intercept)', 'c: (intercept)']
        """
        rows = self.rows(len(classes) or 2)
        starts = [f"{name}: " for name in classes] if rows > 1 else [""]
        return [
            *(start + feature for start in starts for feature in features),
            *(start + INTERCEPT for start in starts),
        ]

    def margins(self, features: Array, theta: Array) -> Array:
        """Return the margins of features in the model's units.

        Raises
        ------
        DataError
            If there are no rows of features, or the parameters are of other features.
        """
        return parameters.margins(theta, features)


class ClassFamily(Family):
    """A family whose labels are classes and whose margins are log odds."""

    def residuals(self, margins: Array, means: Array, labels: Array) -> Array:
        """See Family."""
        return means - self.of_rows(labels, means.shape[1])

    def curvature(
        self, weights: Array, margins: Array, means: Array, labels: Array, *, a: int, b: int
    ) -> Array:
        """See Family; it does not depend on the labels.

        ``s p_a ([a = b] - p_b)``, s the weights. Source: Bohning 1992, "Multinomial logistic
        regression algorithm", section 2.
        """
        return weights * means[:, a] * (float(a == b) - means[:, b])

    def of_classes(self, probabilities: Array) -> Array:
        """Return the probability of each class, shape (m, k); one row is that of class 1 of two."""
        if probabilities.shape[1] > 1:
            return probabilities
        return np.column_stack([1.0 - probabilities, probabilities])

    def of_rows(self, labels: Array, rows: int) -> NDArray[np.bool_]:
        """Return whether an example is of each row's class, shape (m, r)."""
        belongs: NDArray[np.bool_] = labels[:, None] == (np.arange(rows) if rows > 1 else 1.0)
        return belongs

    def predicted(self, probabilities: Array) -> NDArray[np.intp]:
        """Return the most probable class of each example, the first one at a tie; shape (m,)."""
        best: NDArray[np.intp] = self.of_classes(probabilities).argmax(axis=1)
        return best

    def forecast(self, probabilities: Array, labels: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Return the probability whose calibration is judged, and whether the label is that class.

        With one row the probability of its class, else that of the predicted class.
        """
        if probabilities.shape[1] == 1:
            return probabilities[:, 0], self.of_rows(labels, 1)[:, 0]
        return probabilities.max(axis=1), self.predicted(probabilities) == labels
