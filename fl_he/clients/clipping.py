"""Clipped sums of bounded sensitivity for differential privacy.

Noise comes later, in the gate before encryption: see :mod:`fl_he.clients.private_release`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import NDArray

from fl_he.learning.errors import DataError, PrivacyError
from fl_he.learning.privacy.gradients import clipped_sum
from fl_he.learning.privacy.scaling import range_sums
from fl_he.learning.regression import likelihood
from fl_he.learning.regression.outcome_bounds import bounded_gradients
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.feature_ranges import Ranges
from fl_he.wire.learning_terms import LearningTerms, MomentsRequest
from fl_he.wire.model import named_arrays
from fl_he.wire.records import ProtocolError, refused_as


@dataclass(frozen=True, slots=True)
class Clipping:
    """Bounds of each patient's part of a sum.

    Attributes
    ----------
    norm : float
        The largest L2 norm of a gradient.
    fraction_bits : int
        Of the fixed-point numbers on which sums are counted.
    """

    norm: float
    fraction_bits: int


def plain_gradient(examples: likelihood.Examples, terms: LearningTerms) -> NDArray[np.float64]:
    """Return the mean gradient of a hospital without privacy."""
    if terms.outcome_bounds:
        raise ProtocolError(
            "gradients within outcome_bounds must be asked of hospitals with privacy, whose noise "
            "is in them, and this one has none"
        )
    return likelihood.mean_gradient(examples)


def clipped_gradient(
    examples: likelihood.Examples, terms: LearningTerms, clipping: Clipping
) -> NDArray[np.float64]:
    """Return the mean of the clipped gradients, whose sum is on the lattice."""
    if terms.hessian or terms.class_weights or terms.scaling == "local":
        raise ProtocolError(
            "a hospital with privacy must be asked for gradients alone, of examples that weigh the "
            "same in units that do not depend on its data: the rest is not accounted for"
        )
    with refused_as("a hospital with privacy:"):  # public: the family and the message's bounds
        gradients = bounded_gradients(examples, terms.outcome_bounds)
    try:
        total = clipped_sum(gradients, clipping.norm, clipping.fraction_bits)
    except PrivacyError as error:  # public: the clipping norm, the bits, the number of patients
        raise ProtocolError(str(error)) from None
    return _mean(total, len(gradients), clipping)


def range_moments(dataset: Dataset, request: MomentsRequest, clipping: Clipping) -> ArrayRecord:
    """Return the means of values within ranges and of their squares; their sums are on the lattice.

    Parameters
    ----------
    dataset : Dataset
        In the units of the hospital's table.
    request : MomentsRequest
        With any ranges.
    clipping : Clipping

    Raises
    ------
    ProtocolError
        If anything else is asked for, or the ranges are none or of other features.
    """
    if request.sums or request.counts or request.mean:
        raise ProtocolError(
            "a hospital with privacy must be asked for sums of values within ranges alone: the "
            "rest is not accounted for"
        )
    try:
        ranges = Ranges(np.array(request.low), np.array(request.high))
        total = range_sums(dataset.features, ranges, clipping.fraction_bits)
    except DataError as error:  # public: the ranges, and how many features there are
        raise ProtocolError(f"the ranges in the message: {error}") from None
    return named_arrays(within=_mean(total, dataset.examples, clipping))


def _mean(total: NDArray[np.int64], rows: int, clipping: Clipping) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = np.ldexp(total.astype(np.float64), -clipping.fraction_bits)
    return mean / rows
