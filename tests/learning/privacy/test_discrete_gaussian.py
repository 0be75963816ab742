"""The sampler against the exact distribution, computed independently from its formula."""

from __future__ import annotations

import ast
import math
import secrets
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fl_he.learning.privacy import discrete_gaussian as module
from fl_he.learning.privacy.discrete_gaussian import discrete_gaussian

#: A right sampler fails a test about once in a million runs.
LEVEL = 1e-6


def exact(variance: float, reach: int) -> NDArray[np.float64]:
    """Return P(-reach), ..., P(reach); the rest is below 1e-20."""
    weights = [math.exp(-(x * x) / (2 * variance)) for x in range(-reach, reach + 1)]
    return np.array(weights) / math.fsum(weights)


@pytest.mark.parametrize("variance", [Fraction(1, 5), 1, Fraction(22, 7), 49, 200])
def test_samples_follow_the_exact_distribution(variance: Fraction | int) -> None:
    size = 60_000
    reach = math.ceil(10 * math.sqrt(variance)) + 1
    expected = exact(float(variance), reach) * size
    samples = discrete_gaussian(variance, size)
    assert samples.dtype == np.int64
    assert samples.shape == (size,)
    assert np.abs(samples).max() <= reach
    seen = np.bincount(samples + reach, minlength=2 * reach + 1).astype(float)
    rare = expected < 10  # one bin for both tails
    seen = np.append(seen[~rare], seen[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    if expected[-1] < 5:
        seen, expected = seen[:-1], expected[:-1]
        expected *= seen.sum() / expected.sum()
    assert stats.chisquare(seen, expected).pvalue > LEVEL


@pytest.mark.parametrize("sigma", [10**9, 2**50])
def test_a_wide_one_is_the_continuous_one_to_the_eye(sigma: int) -> None:
    # Its distribution function is the normal one's to within 1 / sigma.
    samples = discrete_gaussian(sigma * sigma, 40_000)
    assert stats.kstest(samples / sigma, stats.norm.cdf).pvalue > LEVEL
    # and the last bits are as any others
    assert stats.chisquare(np.bincount(samples % 16, minlength=16)).pvalue > LEVEL


def test_samples_are_independent_of_their_neighbours() -> None:
    samples = discrete_gaussian(9, 50_000).astype(float)
    correlation = stats.pearsonr(samples[:-1], samples[1:])
    assert correlation.pvalue > LEVEL


@pytest.mark.parametrize(
    ("numerator", "denominator"), [(0, 1), (1, 3), (1, 1), (7, 3), (10**30 + 1, 10**30)]
)
def test_a_coin_of_chance_exp(numerator: int, denominator: int) -> None:
    size = 30_000
    coins = module._bernoulli_exp(np.full(size, numerator, dtype=object), denominator)
    chance = math.exp(-numerator / denominator)
    assert stats.binomtest(int(coins.sum()), size, chance).pvalue > LEVEL


def test_a_chance_finer_than_a_word_is_decided_by_its_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "token_bytes", bytes)  # all first words are 0
    thirds = np.full(3000, 1, dtype=object)
    coins = module._bernoulli(thirds, 3 << 62)  # a third of the chance of that word
    assert stats.binomtest(int(coins.sum()), 3000, 1 / 3).pvalue > LEVEL


@pytest.mark.parametrize(("limit", "size"), [(1, 10), (2, 1000), (3, 30_000), (2**50 + 1, 1000)])
def test_uniform_integers_have_every_value(limit: int, size: int) -> None:
    drawn = module._uniform(limit, size).astype(np.int64)
    assert drawn.min() >= 0
    assert drawn.max() < limit
    if limit == 3:
        assert stats.chisquare(np.bincount(drawn)).pvalue > LEVEL
    if limit > 1000:
        assert drawn.max() > limit // 2


@pytest.mark.parametrize("size", [0, 1])
def test_any_size(size: int) -> None:
    assert discrete_gaussian(4, size).shape == (size,)


@pytest.mark.parametrize("variance", [0, -1, Fraction(-1, 2), 2**100 + 1])
def test_a_variance_out_of_range_is_refused(variance: Fraction | int) -> None:
    with pytest.raises(ValueError, match=r"variance must be above 0 and at most 2\*\*100"):
        discrete_gaussian(variance, 1)


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match="size must be at least 0, got -1"):
        discrete_gaussian(1, -1)


@pytest.mark.parametrize("variance", [1.0, True, "1"])
def test_a_variance_that_is_not_exact_is_refused(variance: object) -> None:
    with pytest.raises(TypeError, match="variance must be a Fraction or an int"):
        discrete_gaussian(variance, 1)  # type: ignore[arg-type]


def test_no_floating_point_and_no_other_randomness() -> None:
    tree = ast.parse(Path(module.__file__).read_text("utf-8"))
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and type(n.value) is float]
    names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert not names & {"random", "float64", "float32", "exp", "sqrt", "true_divide", "default_rng"}
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div)]
