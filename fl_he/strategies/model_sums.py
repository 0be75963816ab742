"""Encrypted sums at several models at once: derivatives, and those of Firth's penalty.

A profile likelihood needs an evaluation at many models, which one message carries and one sum
answers. Firth's penalty needs a second sum over the same hospitals at the same models, for which
they are sent the inverse of the total information: see :mod:`fl_he.learning.regression.firth`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from flwr.app import RecordDict
from numpy.typing import NDArray

from fl_he.learning.optimizers.base import Point
from fl_he.learning.optimizers.scoring import information_of, with_firth
from fl_he.learning.regression import firth, likelihood
from fl_he.learning.tables.moments import Limbs
from fl_he.strategies.encrypted_sum import EncryptedSum
from fl_he.strategies.sequential_paillier import SequentialPaillier
from fl_he.wire.encrypted_sum import FIRTH, PROFILE, Purpose
from fl_he.wire.learning_terms import LearningTerms
from fl_he.wire.model import (
    ADJUSTMENTS,
    DERIVATIVES,
    models_content,
    read_arrays,
    read_named_array,
)
from fl_he.wire.records import ProtocolError, refused_as

#: Action and array of each purpose.
_QUESTIONS: dict[Purpose, tuple[str, str]] = {
    "profile": (PROFILE, DERIVATIVES),
    "firth": (FIRTH, ADJUSTMENTS),
}


class ModelSums:
    """Evaluations of models beside the wrapped strategy's rounds.

    Parameters
    ----------
    strategy : SequentialPaillier
        Sums up in its topology and packing.
    terms : LearningTerms
        What the hospitals compute with.

    Notes
    -----
    ``restrict`` is shown each evaluation, and returns it with zeros in place of the derivatives by
    parameters that stay as they are.
    """

    def __init__(self, strategy: SequentialPaillier, terms: LearningTerms) -> None:
        self._strategy, self._config = strategy, terms.to_config()
        limbs = Limbs(strategy.packing.fraction_bits, strategy.packing.integer_bits)
        self._limbs = limbs.of_derivatives(scaled=terms.scaling != "none")
        self._seconds = 0.0
        self.restrict: Callable[[Point], Point] = lambda point: point

    def take_seconds(self) -> float:
        """Return the seconds of the sums since this was last asked."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def points(self, number: int, models: Sequence[NDArray[np.float64]]) -> list[Point]:
        """Return loss, gradient and Hessian at each model, without a penalty.

        Parameters
        ----------
        number : int
            Of the sum among those for profile likelihoods, from 1.
        models : sequence of ndarray
            Shape (p,) each.

        Raises
        ------
        ProtocolError
            If too few hospitals answer, or the sum is not of these models.
        """
        content = models_content(np.array(models), self._config)
        rows, examples = self._sums("profile", number, content, len(models))
        with refused_as("the hospitals' derivatives:"):
            return [
                self.restrict(Point(theta, loss, gradient, examples, hessian))
                for theta, sums in zip(models, rows, strict=True)
                for loss, gradient, hessian in [
                    likelihood.mean_derivatives(sums, len(theta), examples)
                ]
            ]

    def penalised(self, number: int, points: Sequence[Point]) -> list[Point] | None:
        """Return the evaluations with Firth's penalty.

        Parameters
        ----------
        number : int
            Of the sum among those of the penalty, from 1.
        points : sequence of Point
            What the sum before told of each model.

        Returns
        -------
        list of Point or None
            ``None`` if other hospitals answered than the sum before: the penalty's derivatives
            would be of other examples.

        Raises
        ------
        ProtocolError
            If too few hospitals answer, or the sum is not of these models.
        """
        inverses = np.array([firth.inverse(information_of(point), point.theta) for point in points])
        models = np.array([point.theta for point in points])
        content = models_content(models, self._config, inverses)
        rows, _ = self._sums("firth", number, content, len(models))
        before, now = map(_hospitals, self._strategy.sums[-2:])
        if before != now:
            return None
        with refused_as("the hospitals' derivatives of the penalty:"):
            return [
                self.restrict(with_firth(point, row))
                for point, row in zip(points, rows, strict=True)
            ]

    def _sums(
        self, purpose: Purpose, number: int, content: RecordDict, models: int
    ) -> tuple[NDArray[np.float64], int]:
        """Return the sums at so many models, a row each, and the number of examples."""
        action, name = _QUESTIONS[purpose]
        mean = self._strategy.sum_up(purpose, number, action, content)
        total = self._strategy.sums[-1]
        self._seconds += total.cost.seconds
        examples = round(total.examples)
        digits = read_named_array(read_arrays(mean), name) * examples
        if digits.ndim != 3 or digits.shape[1] != models:
            raise ProtocolError(
                f"the hospitals' {name} must be of {models} models, got shape {digits.shape}"
            )
        with refused_as(f"the hospitals' {name}:"):
            joined = self._limbs.join(digits.reshape(len(digits), -1))
        return joined.reshape(digits.shape[1:]), examples


def _hospitals(total: EncryptedSum) -> tuple[int, float, list[str]]:
    return total.contributors, total.examples, [one.name for one in total.skipped]
