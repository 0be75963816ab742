"""A hospital's counts of the patients that it holds out, and the figures that it keeps of them."""

from __future__ import annotations

import numpy as np
from flwr.app import ArrayRecord
from numpy.typing import NDArray

from fl_he.learning.regression import evaluation
from fl_he.learning.regression.calibration import (
    OutcomeSums,
    calibration_figures,
    fine_bins,
    outcome_sums,
)
from fl_he.learning.regression.disclosure import Figures, figures
from fl_he.learning.regression.registry import family_of
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.model import named_arrays
from fl_he.wire.records import PrivateReasonError, ProtocolError


def counts_of_nobody(dataset: Dataset, limbs: Limbs) -> ArrayRecord:
    """Return the counts of a hospital that holds nothing out, in the form of all hospitals'."""
    _require_bins(dataset)
    if dataset.family:
        return named_arrays(counts=OutcomeSums.of_nobody().to_vector(limbs))
    return named_arrays(counts=evaluation.Counts.of_nobody(dataset.class_count).to_vector())


def held_out_counts(
    test: Dataset, theta: NDArray[np.float64], limbs: Limbs
) -> tuple[ArrayRecord, Figures]:
    """Return counts, to be weighted by the number of patients, and the hospital's own figures.

    Parameters
    ----------
    test : Dataset
        In the units of the model.
    theta : ndarray
    limbs : Limbs
        How the node writes sums.

    Raises
    ------
    ProtocolError
        If no patients of such an outcome are counted.
    PrivateReasonError
        If losses, probabilities or expected outcomes are not finite, or sums too large.
    """
    _require_bins(test)
    if test.family:
        sums = outcome_sums(test, theta)
        if not (np.abs(sums.sums) < limbs.limit).all():
            raise PrivateReasonError(
                f"sums of expected and of observed outcomes of held-out data must be below "
                f"{limbs.limit:.0e} in size"
            )
        vector, found = sums.to_vector(limbs), calibration_figures(sums)
    else:
        counts = evaluation.count(test, theta)
        vector = counts.to_vector()
        if not np.isfinite(vector).all():
            raise PrivateReasonError("losses and probabilities of held-out data must be finite")
        found = figures(counts)
    return named_arrays(counts=vector / test.examples), found


def _require_bins(dataset: Dataset) -> None:
    if not fine_bins(family := family_of(dataset)):
        raise ProtocolError(f"models of family {family.name} must not be evaluated")
