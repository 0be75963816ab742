"""Sums of a hospital with privacy: integers of the lattice, for the request and no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fl_he.clients.clipping import Clipping, clipped_gradient, plain_gradient, range_moments
from fl_he.clients.row_sums import moment_sums
from fl_he.learning.regression.likelihood import examples_of
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.moments import Limbs
from fl_he.wire.arrays import read_array
from fl_he.wire.learning_terms import LearningTerms, MomentsRequest
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


COUNTS = Dataset(DATA.features, np.array([0.0, 40.0, 3.0]), ("a", "b"), family="poisson")
WITHIN = LearningTerms(outcome_bounds=(0.0, 8.0))


def test_gradients_of_a_number_are_clipped_within_its_bounds() -> None:
    found = examples_of(COUNTS, np.array([0.1, 0.0, 0.5]))
    total = clipped_gradient(found, WITHIN, CLIPPING) * 3
    X, y = np.c_[DATA.features, np.ones(3)], np.array([0.0, 8.0, 3.0])
    each = X * ((np.exp(X @ [0.1, 0.0, 0.5]) - y) / 8)[:, None]
    norms = np.linalg.norm(each, axis=1)
    assert (norms > 1).sum() == 2
    np.testing.assert_allclose(
        total, (each * np.minimum(1, 1 / norms)[:, None]).sum(axis=0), atol=4e-6
    )


def test_a_number_without_bounds_is_refused_by_its_family() -> None:
    gradients = examples_of(COUNTS, np.zeros(3))
    with pytest.raises(ProtocolError, match="outcome_bounds must be declared for family poisson"):
        clipped_gradient(gradients, LearningTerms(), CLIPPING)
    gamma = examples_of(replace(COUNTS, labels=np.ones(3), family="gamma"), np.zeros(3))
    for terms in (LearningTerms(), WITHIN):
        with pytest.raises(ProtocolError, match="family gamma"):
            clipped_gradient(gamma, terms, CLIPPING)
    with pytest.raises(ProtocolError, match="hospital with privacy: outcome_bounds must be at"):
        clipped_gradient(gradients, LearningTerms(outcome_bounds=(-1.0, 8.0)), CLIPPING)


def test_a_hospital_without_privacy_has_no_bounds() -> None:
    with pytest.raises(ProtocolError, match="must be asked of hospitals with privacy"):
        plain_gradient(examples_of(COUNTS, np.zeros(3)), WITHIN)


def test_a_hospital_without_privacy_adds_no_noise_and_so_does_not_answer() -> None:
    with pytest.raises(ProtocolError, match="must be asked of hospitals with privacy"):
        moment_sums(DATA, REQUEST, Limbs(24, 24))
