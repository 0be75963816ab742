"""What a hospital with privacy sums up: the lattice's integers, of what is asked and no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fl_he.clients.clipping import Clipping, range_moments
from fl_he.clients.row_sums import moment_sums
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.arrays import read_array
from fl_he.wire.learning_terms import MomentsRequest
from fl_he.wire.records import ProtocolError

DATA = Dataset(
    np.array([[1.0, -3.0], [2.5, 40.0], [9.0, 7.0]]), np.array([0.0, 1.0, 0.0]), ("a", "b")
)
REQUEST = MomentsRequest(low=(0.0, 0.0), high=(4.0, 10.0))
CLIPPING = Clipping(norm=1.0, fraction_bits=20)


def test_values_are_clipped_to_their_ranges_and_summed_with_their_squares() -> None:
    arrays = range_moments(DATA, REQUEST, CLIPPING)
    within = read_array(arrays["within"]).astype(np.float64) * 3
    # (1, 2.5, 9) in 0 to 4 is (-0.5, 0.25, 1); (-3, 40, 7) in 0 to 10 is (-1, 1, 0.4)
    np.testing.assert_allclose(within, [0.75, 0.4, 1.3125, 2.16], atol=2e-6)
    np.testing.assert_allclose(within * 2**20, np.rint(within * 2**20), atol=1e-6)


@pytest.mark.parametrize(
    "other", [{"sums": True}, {"counts": True}, {"mean": (0.0, 0.0)}, {"low": ()}]
)
def test_sums_that_are_not_accounted_for_are_refused(other: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        range_moments(DATA, replace(REQUEST, **other), CLIPPING)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ((0.0, 0.0), (4.0, 0.0), "low must be below high"),
        ((0.0,), (1.0,), r"features must have shape \(rows, 1\), got \(3, 2\)"),
        ((0.0, 0.0), (4.0,), "both of one length"),
    ],
)
def test_ranges_that_do_not_fit_are_refused(
    low: tuple[float, ...], high: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ProtocolError, match=f"the ranges in the message: .*{message}"):
        range_moments(DATA, MomentsRequest(low=low, high=high), CLIPPING)


def test_a_hospital_without_privacy_adds_no_noise_and_so_does_not_answer() -> None:
    with pytest.raises(ProtocolError, match="must be asked of hospitals with privacy"):
        moment_sums(DATA, REQUEST, Limbs(24, 24))
