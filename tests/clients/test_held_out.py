"""A hospital's counts of the patients that it holds out."""

from __future__ import annotations

import numpy as np
import pytest

from fl_he.clients.held_out import counts_of_nobody, held_out_counts
from fl_he.learning.regression.calibration import OutcomeSums
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.model import read_named_array
from fl_he.wire.records import PrivateReasonError, ProtocolError

LIMBS, THETA = Limbs(24, 24), np.array([1.0, 0.0])


def patients(*labels: float, family: str) -> Dataset:
    features = np.linspace(-1.0, 1.0, len(labels))[:, None]
    return Dataset(features, np.array(labels), ("a",), family=family)


def test_counts_are_means_that_patients_weigh_and_zeros_of_nobody() -> None:
    data = patients(0.0, 3.0, 5.0, family="poisson")
    arrays, figures = held_out_counts(data, THETA, LIMBS)
    counts, nobody = (
        read_named_array(one, "counts") for one in (arrays, counts_of_nobody(data, LIMBS))
    )
    sums = OutcomeSums.of_vector(3 * counts, LIMBS)
    assert sums.cells.sum(axis=1).tolist() == [1.0, 2.0]
    assert sums.sums.sum(axis=1) == pytest.approx([1.0 + 2 * np.cosh(1.0), 8.0])
    assert (figures.examples, figures.min_cell) == (3, 1)
    assert nobody.shape == counts.shape
    assert not nobody.any()


@pytest.mark.parametrize(
    ("label", "slope"), [(1e30, 1.0), (1.0, 80.0), (1.0, 1e3)], ids=["large", "far", "infinite"]
)
def test_outcomes_without_digits_are_refused_in_private(label: float, slope: float) -> None:
    data = patients(label, 1.0, family="poisson")
    words = "sums of expected and of observed outcomes of held-out data must be below 2e"
    with (
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(PrivateReasonError, match=words),
    ):
        held_out_counts(data, np.array([slope, 0.0]), LIMBS)


def test_times_to_an_event_are_not_counted() -> None:
    data = patients(2.0, -3.0, family="cox")
    with pytest.raises(ProtocolError, match="models of family cox must not be evaluated"):
        held_out_counts(data, THETA, LIMBS)
    with pytest.raises(ProtocolError, match="models of family cox must not be evaluated"):
        counts_of_nobody(data, LIMBS)
