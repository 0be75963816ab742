"""Products of matrices against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from fl_he.learning.regression.products import product


def exact(left: np.ndarray, right: np.ndarray) -> list[list[Fraction]]:
    one, other = (
        [[Fraction(x) for x in row] for row in matrix.T.tolist()] for matrix in (left, right)
    )
    return [[sum(map(Fraction.__mul__, a, b), Fraction(0)) for b in other] for a in one]


@pytest.mark.parametrize("rows", [1, 30, 5000])
def test_the_rounded_product_and_its_rest_are_the_exact_one(rows: int) -> None:
    rng = np.random.default_rng(rows)
    left = rng.normal(size=(rows, 3)) * [1.0, 1e9, 1e-200]
    right = rng.standard_t(3, size=(rows, 2)) * [1.0, 1e-9]
    rounded, rest = product(left, right)
    sizes = rows * np.abs(left).max(axis=0)[:, None] * np.abs(right).max(axis=0)
    for i, line in enumerate(exact(left, right)):
        for j, value in enumerate(line):
            off = Fraction(rounded[i, j]) + Fraction(rest[i, j]) - value
            assert abs(off) <= 2.0**-78 * Fraction(sizes[i, j])
            assert abs(Fraction(rounded[i, j]) - value) <= 2.0**-52 * abs(value)


def test_a_matrix_with_itself_has_the_product_of_equal_matrices() -> None:
    matrix = np.random.default_rng(0).normal(size=(5000, 3)) * [1.0, 1e5, 1e-5]
    for one, other in zip(product(matrix, matrix), product(matrix, matrix.copy()), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_digits_that_cancel_are_in_the_product() -> None:
    column = np.array([[1.0], [2.0**-40], [-1.0]])
    rounded, rest = product(np.ones((3, 1)), column)
    assert (rounded + rest).item() == 2.0**-40


@pytest.mark.parametrize("wrong", [np.inf, np.nan])
def test_numbers_that_are_not_finite_have_no_rest(wrong: float) -> None:
    with np.errstate(invalid="ignore"):
        rounded, rest = product(np.array([[wrong], [1.0]]), np.ones((2, 1)))
    np.testing.assert_array_equal(rounded, [[wrong]])
    assert not rest.any()


def test_no_rows_and_columns_of_zeros_are_zeros() -> None:
    for matrix in (np.zeros((0, 2)), np.zeros((4, 2))):
        assert not np.any(product(matrix, matrix))
