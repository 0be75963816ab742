"""Votes for several labels of one case, each of which it has or has not.

Dziedzic, Choquette-Choo, Dullerud, Suriyakumar, Shamsabadi, Kaleem, Jha, Papernot, Wang 2023,
"Private Multi-Winner Voting for Machine Learning" (arXiv 2211.15410), section 4:

- **Binary voting**: each label is a vote of two classes with its own noise. A case with k labels
  costs what k queries cost.
- **Powerset voting**: one vote whose classes are the subsets of labels. A case costs one query.
- **Tau voting**: the vector of a party's positive votes is clipped to the L2 norm tau. The sums
  have noise, and a case gets a label if its sum is above half of the number of parties.

A subset is a number here: label j has the bit ``1 << j``. -1 stands for "no answer".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_he.learning.errors import DataError, PrivacyError
from fl_he.learning.privacy.accounting import GaussianCost, gaussian_budget, gaussian_cost
from fl_he.learning.tables.arrays import Array
from fl_he.learning.voting.answering import AnsweringModel, Layer
from fl_he.learning.voting.noisy_vote import vote_noise

#: Steps of a whole vote: a clipped vote is a whole number of steps.
_STEPS = 1 << 20


def subsets(having: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the subset of each case, shape (m,), by whether the case has each label."""
    return np.asarray(sum(one << at for at, one in enumerate(having)), dtype=np.int64)


def having_label(found: NDArray[np.int64], label: int) -> NDArray[np.int64]:
    """Return whether each subset has a label, shape (m,); -1 stays -1."""
    return np.where(found < 0, -1, (found >> label) & 1)


@dataclass(frozen=True, slots=True, eq=False)
class LabelModels:
    """A party's models of two classes, one for each label; they say what subset a case has.

    Parameters
    ----------
    models : tuple
        In the order of the labels.
    """

    models: tuple[Any, ...]

    def predict(self, features: Array) -> NDArray[np.int64]:
        """Return the subset of each row of features, shape (m,)."""
        return subsets([model.predict(features).astype(np.int64) for model in self.models])


def constant_model(having: int, features: int) -> AnsweringModel:
    """Return a model that says of every case that it has a label, 1, or that it has not, 0."""
    return AnsweringModel((Layer(np.zeros((2, features)), np.eye(2)[having]),))


def subset_model(models: Sequence[AnsweringModel]) -> AnsweringModel:
    """Return one model whose classes are the subsets, from a model of two classes for each label.

    The score of a subset is the sum of ``score of having - score of not having`` of its labels. So
    the subset with the largest score has the labels whose models say so.

    Raises
    ------
    DataError
        If the models have different numbers of layers, or one knows a single class.
    """
    if len({len(model.layers) for model in models}) != 1:
        raise DataError(
            "the models of a party's labels must have equally many layers: give each party cases "
            "with and without each label, or a kind of model without hidden layers"
        )
    if not all(np.isfinite(model.layers[-1].offsets).all() for model in models):
        raise DataError("the model of a label knows one class only; each needs two")
    first, *later = zip(*(model.layers for model in models), strict=True)
    joined = [Layer(np.vstack([one.weights for one in first]), _offsets(first))]
    for layers in later:
        outputs, inputs = np.sum([one.weights.shape for one in layers], axis=0)
        weights, row, column = np.zeros((outputs, inputs)), 0, 0
        for one in layers:
            height, width = one.weights.shape
            weights[row : row + height, column : column + width] = one.weights
            row, column = row + height, column + width
        joined.append(Layer(weights, _offsets(layers)))
    members = np.arange(1 << len(models))[:, None] >> np.arange(len(models)) & 1
    sums = np.kron(members, [-1.0, 1.0])
    *hidden, last = joined
    return AnsweringModel((*hidden, Layer(sums @ last.weights, sums @ last.offsets)))


def _offsets(layers: Sequence[Layer]) -> Array:
    return np.concatenate([layer.offsets for layer in layers])


@dataclass(frozen=True, slots=True)
class ClippedVotes:
    """The noise of tau voting, and its cost.

    Neighbours differ in one party's vector. No vote is below 0, so two clipped vectors are at most
    ``sqrt(2) tau`` apart, and less where tau is large for so few labels: `distance` is the largest
    distance of any two. The cost is that of Gaussian noise on the sums of all labels together.

    Parameters
    ----------
    labels : int
        At least 1.
    tau : float
        Largest L2 norm of a party's vector, above 0.
    sigma : float or None
        Standard deviation of the noise on each label's sum, in votes, above 0; None for no noise.

    Raises
    ------
    PrivacyError
        If tau or sigma is out of range.
    """

    labels: int
    tau: float
    sigma: float | None

    def __post_init__(self) -> None:
        for name in ("tau", "sigma"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0.0):
                raise PrivacyError(f"{name} must be above 0 and finite, got {value:g}")

    @property
    def distance(self) -> float:
        """The largest L2 distance of two clipped vectors, in votes.

        Of m and n positive votes at least ``m + n - labels`` are for the same labels.
        """
        weights = self._weights
        counts = range(self.labels + 1)
        squares = (
            m * weights[m] ** 2
            + n * weights[n] ** 2
            - 2 * max(0, m + n - self.labels) * weights[m] * weights[n]
            for m, n in product(counts, counts)
        )
        return math.sqrt(max(squares)) / _STEPS * (1.0 + 1e-12)  # the factor for rounding

    @property
    def _weights(self) -> list[int]:
        """Steps of one positive vote, by a party's number of positive votes: rounded down."""
        shares = (min(1.0, self.tau / math.sqrt(max(count, 1))) for count in range(self.labels + 1))
        return [math.floor(_STEPS * share * (1.0 - 1e-12)) for share in shares]

    @property
    def _variance(self) -> Fraction | None:
        return None if self.sigma is None else (Fraction(str(self.sigma)) * _STEPS) ** 2

    def _cost(self) -> GaussianCost:
        variance = float(self._variance or 0)
        return gaussian_cost(self.distance * _STEPS, variance, dimensions=self.labels)

    def epsilon(self, queries: int, delta: float) -> float:
        """Return the epsilon of this many cases for any votes: this one may be released."""
        return self._cost().times(queries).epsilon(delta)

    def affordable(self, epsilon: float, delta: float) -> int:
        """Return how many cases a budget pays for."""
        one, budget = self._cost(), gaussian_budget(epsilon, delta)
        return math.floor(min(budget.squared_mu / one.squared_mu, budget.gap / one.gap))

    def answers(self, votes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the subset of each case, shape (m,).

        Parameters
        ----------
        votes : ndarray, shape (parties, m)
            The subset that each party votes for.
        """
        bits = (votes[:, :, None] >> np.arange(self.labels)) & 1
        clipped = bits * np.array(self._weights)[bits.sum(axis=2)][:, :, None]
        sums = clipped.sum(axis=0)
        noisy = sums + vote_noise(self._variance, sums.size).reshape(sums.shape)
        return subsets(list((noisy > len(votes) * _STEPS // 2).astype(np.int64).T))
