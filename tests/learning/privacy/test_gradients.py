"""Clipping on the lattice, and the noise that keeps a promise, against independent bounds."""

from __future__ import annotations

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from quick import slow

from fl_he.learning.errors import PrivacyError
from fl_he.learning.privacy.accounting import ORDERS, largest_rho
from fl_he.learning.privacy.gradients import (
    GaussianPrivacy,
    Lattice,
    clipped_sum,
    epsilon_of_releases,
    lattice_clip,
    noise_variance,
)

ROWS = arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 5)),
    elements=st.one_of(st.floats(-10, 10), st.floats(allow_nan=True, allow_infinity=True)),
)


def squared_norm(integers: NDArray[np.int64]) -> int:
    return sum(int(number) ** 2 for number in integers)


@given(ROWS, st.floats(0.01, 10.0), st.integers(7, 24))
def test_one_patient_weighs_at_most_the_clipping_norm(
    rows: NDArray[np.float64], clip: float, bits: int
) -> None:
    for row in rows:
        one = clipped_sum(row[None, :], clip, bits)
        assert squared_norm(one) <= lattice_clip(clip, bits) ** 2 <= (clip * 2**bits) ** 2


@given(ROWS, st.data(), st.floats(0.01, 10.0))
def test_replacing_a_patient_moves_the_sum_by_at_most_twice_the_norm(
    rows: NDArray[np.float64], data: st.DataObject, clip: float
) -> None:
    other = data.draw(arrays(np.float64, rows.shape[1], elements=st.floats(-1e9, 1e9)))
    index = data.draw(st.integers(0, len(rows) - 1))
    replaced = rows.copy()
    replaced[index] = other
    moved = clipped_sum(rows, clip, 20) - clipped_sum(replaced, clip, 20)
    assert squared_norm(moved) <= (2 * lattice_clip(clip, 20)) ** 2


def test_the_sum_is_that_of_the_clipped_rows() -> None:
    rows = np.random.default_rng(3).normal(size=(50, 4))
    norms = np.sqrt((rows**2).sum(axis=1))
    assert (norms < 1.5).any()
    assert (norms > 1.5).any()
    expected = (rows * np.minimum(1.0, 1.5 / norms)[:, None]).sum(axis=0)
    # towards zero on the lattice: up to one step for each row
    np.testing.assert_allclose(clipped_sum(rows, 1.5, 24) / 2**24, expected, atol=51 * 2**-24)


def test_what_is_not_a_number_counts_as_zero() -> None:
    rows = np.array([[np.nan, 1.0], [np.inf, 0.0], [0.0, 0.25], [1e200, 1e200]])
    assert clipped_sum(rows, 1.0, 8).tolist() == [0, 255 + 64]


def test_a_sum_that_is_not_exact_in_float64_is_refused() -> None:
    with pytest.raises(PrivacyError, match=r"must be below 2\*\*50, got clip 8, 46 fraction bits"):
        clipped_sum(np.zeros((4, 1)), 8.0, 46)


def test_a_norm_below_one_step_is_refused() -> None:
    with pytest.raises(PrivacyError, match=r"clip must be at least 2\*\*-4, got 0.01"):
        lattice_clip(0.01, 4)


TERMS = [
    GaussianPrivacy(epsilon=1.0, delta=1e-5, clip=1.0, rounds=12, contributors=3),
    GaussianPrivacy(epsilon=0.1, delta=1e-6, clip=0.5, rounds=1, contributors=1),
    GaussianPrivacy(epsilon=8.0, delta=1e-3, clip=3.7, rounds=100, contributors=10),
    GaussianPrivacy(epsilon=20.0, delta=1e-9, clip=0.01, rounds=2, contributors=2),
]
LATTICES = [Lattice(24, 31), Lattice(10, 5)]


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("lattice", LATTICES)
def test_the_noise_keeps_the_promise_and_is_hardly_more(
    terms: GaussianPrivacy, lattice: Lattice
) -> None:
    variance = noise_variance(terms, lattice)
    assert epsilon_of_releases(terms, variance, lattice) <= terms.epsilon
    assert epsilon_of_releases(terms, int(variance * 0.99) - 1, lattice) > terms.epsilon


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize(("lattice", "factor"), [*slow((LATTICES[0], 1)), (LATTICES[1], 7)])
def test_the_epsilon_is_never_below_the_tighter_of_two_bounds(
    terms: GaussianPrivacy, lattice: Lattice, factor: int
) -> None:
    """The noise of all counted hospitals, as one Gaussian, by dp-accounting's two accountants."""
    variance = factor * noise_variance(terms, lattice)
    reported = epsilon_of_releases(terms, variance, lattice)
    steps = terms.clip * 2**lattice.fraction_bits  # the lattice's own norm is rounded down
    multiplier = math.sqrt(terms.contributors * variance) / (2 * math.floor(steps))
    event = dp_accounting.SelfComposedDpEvent(
        dp_accounting.GaussianDpEvent(multiplier), terms.rounds
    )
    renyi = RdpAccountant(ORDERS).compose(event).get_epsilon(terms.delta)
    losses = PLDAccountant().compose(event).get_epsilon(terms.delta)
    # The loss distribution is rounded up, by 1e-4 a release at most.
    assert losses - 1e-4 * terms.rounds <= reported * (1 + 1e-12)
    assert reported <= 1.01 * losses
    assert reported < renyi  # and it is no needless exaggeration either


@pytest.mark.parametrize("terms", TERMS)
def test_the_noise_is_less_than_concentrated_privacy_asks_for(terms: GaussianPrivacy) -> None:
    """Save 8% of the standard deviation at epsilon 1, and 3% at epsilon 20 and a tiny delta."""
    deviation = math.sqrt(terms.contributors * noise_variance(terms, LATTICES[0]))
    rho = largest_rho(terms.epsilon, terms.delta) / terms.rounds
    concentrated = 2 * lattice_clip(terms.clip, 24) / math.sqrt(2 * rho)
    assert 0.91 <= deviation / concentrated <= (0.93 if terms.epsilon <= 8 else 0.97)


def test_fewer_shares_protect_less() -> None:
    terms, lattice = TERMS[0], LATTICES[0]
    variance = noise_variance(terms, lattice)
    towards = [epsilon_of_releases(terms, variance, lattice, n) for n in (3, 2, 1, 0)]
    assert towards == sorted(towards)
    assert towards[-1] == math.inf


@settings(deadline=None, max_examples=50)
@given(
    st.floats(0.01, 20), st.floats(1e-9, 0.1), st.floats(0.01, 100), st.integers(1, 200),
    st.integers(1, 50),
)  # fmt: skip
def test_any_terms_are_kept(
    epsilon: float, delta: float, clip: float, rounds: int, contributors: int
) -> None:
    terms = GaussianPrivacy(epsilon, delta, clip, rounds, contributors)
    variance = noise_variance(terms, Lattice(24, 31))
    assert epsilon_of_releases(terms, variance, Lattice(24, 31)) <= epsilon


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epsilon": 0.0}, "epsilon must be above 0 and finite, got 0"),
        ({"epsilon": math.inf}, "epsilon must be above 0 and finite, got inf"),
        ({"clip": math.nan}, "clip must be above 0 and finite, got nan"),
        ({"delta": 1.0}, "delta must be above 0 and below 1, got 1"),
        ({"delta": 0.0}, "delta must be above 0 and below 1, got 0"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"contributors": 0}, "contributors must be at least 1, got 0"),
    ],
)
def test_terms_out_of_range_are_refused(changes: dict[str, float], message: str) -> None:
    usual = {"epsilon": 1.0, "delta": 1e-5, "clip": 1.0, "rounds": 1, "contributors": 1}
    with pytest.raises(PrivacyError, match=message):
        GaussianPrivacy(**{**usual, **changes})  # type: ignore[arg-type]
