"""Negative binomial losses, their derivatives and model files."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gmpy2
import numpy as np
import pytest

from fl_he.learning.errors import DataError
from fl_he.learning.regression import likelihood
from fl_he.learning.regression.glm import OutcomeMoments
from fl_he.learning.regression.negative_binomial import (
    NEGATIVE_BINOMIAL,
    NegativeBinomial,
    NegativeBinomialModel,
    told_alpha,
)
from fl_he.learning.regression.poisson import POISSON
from fl_he.learning.tables.data import Dataset, load_table

ALPHAS = (1e-6, 1e-3, 0.1, 0.8, 30.0, 1e3)
MEANS = np.array([1e-3, 0.4, 1.0, 7.0, 90.0])
COUNTS = np.array([0.0, 1.0, 3.0, 40.0, 2000.0])
EXAMPLES = [(mean, count) for mean in MEANS.tolist() for count in COUNTS.tolist()]
MARGINS = np.log([[mean] for mean, _ in EXAMPLES])
LABELS = np.array([count for _, count in EXAMPLES])
by_alpha = pytest.mark.parametrize("alpha", ALPHAS)


#: Of numbers in the formulas below, and of their finite differences.
EXACT, STEP = gmpy2.context(precision=500), gmpy2.mpfr("1e-30")


def loss(count: float, logarithm: Any, margin: Any) -> Any:
    """Return the negative logarithm of the probability, but for log(y!)."""
    shape, mean = gmpy2.exp(-logarithm), gmpy2.exp(margin)
    gammas = gmpy2.lgamma(count + shape)[0] - gmpy2.lgamma(shape)[0]
    scaled = count * (logarithm + margin) - (count + shape) * gmpy2.log1p(mean / shape)
    return -(gammas + scaled)


def difference(of: Callable[[Any, Any], Any], order: tuple[int, int], at: tuple[Any, Any]) -> Any:
    """Return a derivative by both, as central differences of central differences."""
    if order == (0, 0):
        return of(*at)
    place = 0 if order[0] else 1
    less = order[0] - (place == 0), order[1] - (place == 1)
    ends = []
    for step in (STEP, -STEP):
        moved = tuple(one + step * (place == which) for which, one in enumerate(at))
        ends.append(difference(of, less, (moved[0], moved[1])))
    return (ends[0] - ends[1]) / (2 * STEP)


@by_alpha
def test_losses_and_derivatives_have_the_digits_of_float64(alpha: float) -> None:
    family = NegativeBinomial(math.log(alpha))
    slopes, curvatures, crosses = family.by_alpha(MARGINS, LABELS)
    means = family.means(MARGINS)
    found = {
        (0, 0): family.losses(MARGINS, LABELS),
        (0, 1): family.residuals(MARGINS, means, LABELS)[:, 0],
        (0, 2): family.curvature(np.ones(len(LABELS)), MARGINS, means, LABELS, a=0, b=0),
        (1, 0): slopes,
        (2, 0): curvatures,
        (1, 1): crosses,
    }
    with EXACT:
        for place, (margin, count) in enumerate(zip(MARGINS[:, 0], LABELS, strict=True)):
            at = gmpy2.mpfr(family.log_alpha), gmpy2.mpfr(float(margin))
            for order, values in found.items():
                theirs = float(difference(partial(loss, float(count)), order, at))
                # Terms of about this size are added up.
                terms = [abs(theirs), alpha * count, count if order in ((0, 0), (0, 1)) else 0.0]
                assert values[place] == pytest.approx(theirs, abs=1e-13 * max(1e-9, *terms))


def test_a_small_alpha_is_poisson() -> None:
    family = NegativeBinomial(math.log(1e-12))
    np.testing.assert_allclose(
        family.losses(MARGINS, LABELS), POISSON.losses(MARGINS, LABELS), rtol=1e-6, atol=1e-5
    )


@pytest.mark.parametrize("margin", [-800.0, 800.0])
def test_margins_far_off_overflow_nothing(margin: float) -> None:
    family, margins = NegativeBinomial(0.3), np.array([[margin]])
    numbers = [
        family.losses(margins, np.array([3.0])),
        family.residuals(margins, family.means(margins), np.array([3.0])),
        *family.by_alpha(margins, np.array([3.0])),
    ]
    assert all(np.isfinite(one).all() for one in numbers)


def test_the_saturated_loss_is_the_least() -> None:
    family, labels = NegativeBinomial(-0.4), np.array([0.0, 1.0, 5.0])
    grid = np.linspace(-20.0, 3.0, 4000)
    for label, least in zip(labels, family.saturated(labels), strict=True):
        losses = family.losses(grid[:, None], np.full(len(grid), label))
        assert losses.min() == pytest.approx(least, abs=1e-5)


def test_sums_end_with_derivatives_by_alpha_and_the_model_without_features() -> None:
    rng, told = np.random.default_rng(2), (-0.3, 0.7, 0.2)
    data = Dataset(
        rng.normal(size=(50, 2)),
        rng.poisson(3.0, 50).astype(float),
        ("a", "b"),
        family="negative_binomial",
    )
    theta, step = np.array([0.3, -0.2, 0.5]), 1e-6

    def examples(log_alpha: float) -> likelihood.Examples:
        return likelihood.examples_of(data, theta, family=NegativeBinomial(log_alpha))

    parts = likelihood.derivative_parts(examples(told[0]))
    assert parts.shape == (2, 1 + 3 + 6 + 1 + 2 + 3)
    above, below = (
        likelihood.derivative_parts(examples(told[0] + one))[0] for one in (step, -step)
    )
    slopes = (above - below) / (2 * step)
    assert parts[0, 11] == pytest.approx(slopes[0], rel=1e-6)
    assert parts[0, 12] == pytest.approx(slopes[11], rel=1e-6)
    np.testing.assert_allclose(parts[0, 13:], slopes[1:4], rtol=1e-6)
    null = likelihood.derivative_parts(likelihood.without_features(data, told))[0]
    alone = replace(data, features=np.zeros((50, 1)), feature_names=("zero",))
    same = likelihood.examples_of(alone, np.array([0.0, 0.7]), family=NegativeBinomial(told[2]))
    whole = likelihood.derivative_parts(same)[0]
    np.testing.assert_allclose(null, whole[[0, 2, 5, 6, 7, 8, 10]])


@pytest.mark.parametrize("told", [(), (0.1, 0.2), (51.0, 0.0, 0.0), (math.nan, 0.0, 0.0)])
def test_numbers_that_tell_no_alpha_are_refused(told: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="must be 3 numbers of at most 50 in size"):
        told_alpha(NEGATIVE_BINOMIAL, told)


@pytest.mark.parametrize("highest", [1.0, 50.0])
def test_training_starts_at_a_share_of_alpha_whatever_the_exposures(highest: float) -> None:
    rng = np.random.default_rng(5)
    exposure = np.exp(rng.uniform(0.0, np.log(highest), 40_000))
    labels = rng.poisson(rng.gamma(1.0 / 0.8, 0.8 * 0.6 * exposure)).astype(np.float64)
    moments = OutcomeMoments(*(NEGATIVE_BINOMIAL.outcome_sums(labels, exposure) / 40_000))
    log_alpha, intercept, own = NEGATIVE_BINOMIAL.first_told(moments)
    assert math.exp(log_alpha) == pytest.approx(0.7 * 0.8, rel=0.1)
    assert math.exp(intercept) == pytest.approx(0.6, rel=0.05)
    assert own == log_alpha


def test_other_families_have_no_alpha() -> None:
    assert told_alpha(POISSON, ()) is POISSON
    with pytest.raises(DataError, match="of family poisson must be 0 numbers"):
        told_alpha(POISSON, (0.0, 0.0, 0.0))


@pytest.mark.parametrize("alpha", ["0.0", "-1.0", "null", "true", "1e999"])
def test_a_model_needs_an_alpha_above_zero(alpha: str) -> None:
    numbers = np.array([0.1])
    model = NegativeBinomialModel(("a",), numbers, np.ones(1), numbers, 0.2, alpha=0.5)
    text = model.to_json()
    assert NegativeBinomialModel.from_json(text).alpha == 0.5
    assert '"alpha": 0.5' in text
    with pytest.raises(DataError, match="alpha must be"):
        NegativeBinomialModel.from_json(text.replace('"alpha": 0.5', f'"alpha": {alpha}'))
    with pytest.raises(DataError, match="alpha must be"):
        NegativeBinomialModel(("a",), numbers, np.ones(1), numbers, 0.2, alpha=math.nan)


@pytest.mark.parametrize("value", ["1.5", "-1", "1000001"])
def test_outcomes_that_are_no_counts_are_refused_by_row(tmp_path: Path, value: str) -> None:
    (tmp_path / "t.csv").write_text(f"age,visits\n1,0\n2,1000000\n3,{value}\n")
    words = "whole numbers from 0 to 1,000,000 for family negative_binomial, got 1 other in row 4"
    with pytest.raises(DataError, match=words):
        load_table(tmp_path / "t.csv", "visits", family="negative_binomial")
