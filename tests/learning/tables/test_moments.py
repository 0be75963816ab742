from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.errors import DataError
from fl_he.learning.tables import moments
from fl_he.learning.tables.moments import Limbs

SUMS = st.floats(-1e27, 1e27).map(lambda x: 0.0 if 0 < abs(x) < 1e-12 else x)


@given(
    parts=st.lists(st.tuples(SUMS, st.integers(1, 10**6)), min_size=1, max_size=12),
    bits=st.sampled_from([(24, 24), (20, 12), (0, 8), (8, 2), (30, 21), (40, 10)]),
)
def test_sums_survive_the_fixed_point_sum_of_weighted_means(
    parts: list[tuple[float, int]], bits: tuple[int, int]
) -> None:
    """Sums in transit: divided by n, weighted by n, rounded, added, divided by all n."""
    limbs, packing = Limbs(*bits), Packing(*bits)
    total = sum(packing.encode((limbs.split(np.array([s])) / n * n).ravel()) for s, n in parts)
    examples = sum(n for _, n in parts)
    mean = packing.decode(np.asarray(total)) / examples
    found = limbs.join(mean.reshape(-1, 1) * examples)[0]
    exact = float(sum(Fraction(s) for s, _ in parts))
    scale = math.fsum(abs(s) for s, _ in parts)
    assert abs(found - exact) <= 1e-15 * scale + len(parts) * 2.0**-94


def test_a_sum_that_is_too_large_does_not_fit_its_slot() -> None:
    digits = Limbs(24, 24).split(np.array([1e28, 3e28]))
    limit = 2.0**24
    assert (np.abs(digits[-1]) >= limit).tolist() == [False, False]
    with pytest.raises(ValueError, match="raise integer_bits"):
        Packing().encode(Limbs(24, 24).split(np.array([1e31]))[-1])


def test_sums_must_be_finite() -> None:
    with pytest.raises(DataError, match="must be finite"):
        Limbs(24, 24).split(np.array([np.inf]))


@pytest.mark.parametrize("shape", [(3, 2), (4,)])
def test_digits_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"digits must have shape \(4, d\)"):
        Limbs(24, 24).join(np.zeros(shape))


def test_column_sums_are_correctly_rounded() -> None:
    values = np.array([[1e16], [1.0], [-1e16]])
    assert moments.column_sums(values).tolist() == [1.0]


def test_sums_whose_parts_overflow_are_numbers_or_infinite() -> None:
    column = np.array([1e308, -1e308] * 3)
    assert moments.column_sums(column[:, None]).tolist() == [0.0]
    column = np.array([1e308, 1e308, -1e308, -1e308, 7.0])
    assert moments.column_sums(column[:, None])[0] == 7.0
    assert moments.column_sums(np.full((3, 1), -1e308)).tolist() == [-np.inf]
    assert moments.squared_deviations(column[:, None], np.zeros(1)).tolist() == [np.inf]


def test_balanced_weights_are_scikit_learns() -> None:
    labels = np.array([0.0] * 5 + [1.0] * 3 + [2.0] * 11)
    counts = moments.class_counts(labels, 3)
    assert counts.tolist() == [5, 3, 11]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(moments.balanced_weights(counts), expected)
    with pytest.raises(DataError, match="got 1 of 4 without"):
        moments.balanced_weights(moments.class_counts(labels, 4))
