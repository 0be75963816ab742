from __future__ import annotations

import numpy as np
import pytest

from fl_he.learning.regression import descent

W, B = np.array([1.0, -2.0]), 3.0
GRADIENT = np.array([0.25, 0.5]), -0.125


def test_a_step_without_a_penalty() -> None:
    coefficients, intercept = descent.step((W, B), GRADIENT, 0.5, None, 10)
    np.testing.assert_array_equal(coefficients, [0.875, -2.25])
    assert intercept == 3.0625


def test_the_penalty_is_of_the_coefficients_alone() -> None:
    coefficients, intercept = descent.step((W, B), GRADIENT, 0.5, 0.25, 16)
    np.testing.assert_array_equal(coefficients, [1 - 0.5 * 0.5, -2 - 0.5 * (0.5 - 0.5)])
    assert intercept == 3.0625


@pytest.mark.parametrize(("C", "examples"), [(0.0, 10), (-1.0, 10), (1.0, 0)])
def test_what_no_step_can_use(C: float, examples: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        descent.step((W, B), GRADIENT, 0.5, C, examples)
