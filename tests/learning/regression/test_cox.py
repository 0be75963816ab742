"""Partial likelihoods of one hospital, and their derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from fl_he.learning.errors import DataError
from fl_he.learning.regression import likelihood, separation
from fl_he.learning.regression.cox import BRESLOW_COX, EFRON_COX, concordance
from fl_he.learning.regression.glm import GlmFamily, OutcomeMoments
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset

FAMILIES = [EFRON_COX, BRESLOW_COX]
by_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda one: one.name)


def patients(family: GlmFamily, seed: int = 1, rows: int = 40) -> Dataset:
    rng = np.random.default_rng(seed)
    times, seen = np.floor(rng.exponential(6.0, rows)), rng.random(rows) < 0.7
    labels = np.copysign(times, seen - 0.5)
    return Dataset(rng.normal(2.0, 1.0, (rows, 2)), labels, ("a", "b"), family=family.name)


def by_definition(family: GlmFamily, dataset: Dataset, theta: Array) -> float:
    """Return the negative logarithm of the partial likelihood, event by event."""
    margins, times = dataset.features @ theta[:2], np.abs(dataset.labels)
    seen, total = ~np.signbit(dataset.labels), 0.0
    for time in np.unique(times[seen]):
        risks, tied = np.exp(margins), seen & (times == time)
        for number in range(int(tied.sum())):
            left_out = number / tied.sum() if family is EFRON_COX else 0.0
            total += np.log(risks[times >= time].sum() - left_out * risks[tied].sum())
        total -= margins[tied].sum()
    return float(total)


@by_family
def test_losses_gradients_and_hessians_are_those_of_the_definition(family: GlmFamily) -> None:
    dataset, theta, step = patients(family), np.array([0.7, -0.4, 0.0]), 1e-5
    examples = likelihood.examples_of(dataset, theta)
    assert likelihood.loss_sum(examples) == pytest.approx(by_definition(family, dataset, theta))
    gradient = likelihood.mean_gradient(examples) * dataset.examples
    hessian = likelihood.hessian_sum(examples)
    for place in range(2):
        moved = step * (np.arange(3) == place)
        ends = [by_definition(family, dataset, theta + sign * moved) for sign in (1, -1)]
        assert gradient[place] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-6)
        slopes = [
            likelihood.mean_gradient(likelihood.examples_of(dataset, theta + sign * moved))
            for sign in (1, -1)
        ]
        turned = dataset.examples * (slopes[0] - slopes[1]) / (2 * step)
        np.testing.assert_allclose(hessian[place, :2], turned[:2], atol=1e-6)
    assert gradient[2] == 0.0
    seen = np.count_nonzero(~np.signbit(dataset.labels))
    np.testing.assert_allclose(hessian[2], np.array([0.0, 0.0, seen]))


@by_family
def test_margins_far_apart_overflow_nowhere(family: GlmFamily) -> None:
    dataset = patients(family)
    near, far = (likelihood.examples_of(dataset, s * np.array([1.0, 0, 0])) for s in (1, 5000))
    for examples in (near, far):
        parts = likelihood.derivative_parts(examples)
        assert np.isfinite(parts).all()
    margins, times = dataset.features[:, 0], np.abs(dataset.labels)
    gaps = [
        margins[times >= time].max() - margin
        for margin, time, label in zip(margins, times, dataset.labels, strict=True)
        if not np.signbit(label)
    ]
    assert likelihood.loss_sum(far) / 5000 == pytest.approx(sum(gaps), rel=1e-2)
    events = len(gaps)
    assert far.residuals.sum() == pytest.approx(0.0, abs=1e-9 * events)


@by_family
def test_a_column_without_variation_at_risk_has_no_information_at_all(family: GlmFamily) -> None:
    dataset = patients(family)
    features = np.column_stack([dataset.features[:, 0], np.full(dataset.examples, 0.1)])
    early = np.abs(dataset.labels) < np.abs(dataset.labels[~np.signbit(dataset.labels)]).min()
    features[early, 1] = 7.0  # censored before the first event
    constant = Dataset(features, dataset.labels, ("a", "b"), family=family.name)
    examples = likelihood.examples_of(constant, np.array([0.3, 2.0, 0.0]))
    assert likelihood.hessian_sum(examples)[1].tolist() == [0.0, 0.0, 0.0]
    assert likelihood.mean_gradient(examples)[1] == 0.0


@by_family
def test_nearly_equal_columns_keep_the_digits_of_their_difference(family: GlmFamily) -> None:
    dataset, noise = patients(family), np.random.default_rng(2).normal(size=40)
    column = dataset.features[:, 0]
    near = np.column_stack([column, column + 2.0**-20 * noise])
    apart = np.column_stack([column, noise])
    found, expected = (
        likelihood.hessian_parts(
            likelihood.examples_of(
                Dataset(one, dataset.labels, ("a", "b"), family=family.name), np.zeros(3)
            )
        )
        for one in (near, apart)
    )
    (a, b), (_, c) = found[0][:2, :2]
    rest = found[1][:2, :2]
    difference = (a - 2 * b + c) + (rest[0, 0] - 2 * rest[0, 1] + rest[1, 1])
    assert difference * 2.0**40 == pytest.approx(expected[0][1, 1], rel=1e-6)


@by_family
def test_sides_count_events_behind_others_at_risk(family: GlmFamily) -> None:
    margins = np.array([[3.0], [2.0], [2.0], [5.0], [1.0]])
    labels = np.array([1.0, 2.0, 2.0, -0.5, -3.0])
    dataset = Dataset(margins, labels, ("a",), family=family.name)
    direction = np.array([1.0, 0.0])
    examples = likelihood.examples_of(dataset, direction)
    assert separation.sides(examples, direction).tolist() == [0.0, 3.0]
    for tied in (1, 2):  # with a larger margin, which comes before or after
        features = margins.copy()
        features[tied] = 1.5
        against = Dataset(features, labels, ("a",), family=family.name)
        examples = likelihood.examples_of(against, direction)
        assert separation.sides(examples, direction).tolist() == [1.0, 2.0]


@by_family
@pytest.mark.parametrize(("gap", "sides"), [(5e-3, [0.0, 49.0]), (1.0, [49.0, 0.0])])
def test_the_rounding_of_the_largest_margin_at_risk_is_tolerated(
    family: GlmFamily, gap: float, sides: list[float]
) -> None:
    # Terms of 1e8 cancel in the first margin, those of the others are 2 percent of these.
    features, labels = np.zeros((50, 2)), np.arange(1.0, 51.0)
    features[0], labels[0] = (1e8, 1e8 - gap), -60.0
    dataset = Dataset(features, labels, ("a", "b"), family=family.name)
    direction = np.array([1.0, -1.0, 0.0])
    examples = likelihood.examples_of(dataset, direction)
    assert separation.sides(examples, direction).tolist() == sides


@by_family
def test_sums_go_on_where_the_reference_of_exponentials_changes(family: GlmFamily) -> None:
    margins = np.array([301.0, 299.0, 0.0, 700.0, 699.5])
    dataset = Dataset(margins[:, None], np.arange(5.0, 0.0, -1.0), ("a",), family=family.name)
    order = np.argsort(-dataset.labels)
    examples = likelihood.examples_of(dataset, np.array([1.0, 0.0]))
    rising = np.logaddexp.accumulate(margins[order])
    np.testing.assert_allclose(examples.losses[order], rising - margins[order], atol=1e-10)
    shares = np.tril(np.exp(margins[order] - rising[:, None]))
    expected = shares.sum(axis=0) - 1.0
    np.testing.assert_allclose(examples.residuals[order, 0], expected, atol=1e-10)
    other = Dataset(
        np.array([[0.0], [299.0], [301.0], [600.0]]),
        np.arange(4.0, 0.0, -1.0),
        ("a",),
        family=family.name,
    )
    found = likelihood.examples_of(other, np.array([1.0, 0.0]))
    share = np.exp(-2.0) / (1.0 + np.exp(-2.0))
    np.testing.assert_allclose(found.losses[:3], [0.0, 0.0, np.log1p(np.exp(-2.0))], atol=1e-12)
    np.testing.assert_allclose(found.residuals[:3, 0], [0.0, share, -share], atol=1e-12)


@by_family
def test_without_events_all_is_zero(family: GlmFamily) -> None:
    dataset = patients(family)
    censored = Dataset(dataset.features, -np.abs(dataset.labels), ("a", "b"), family=family.name)
    examples = likelihood.examples_of(censored, np.array([1.0, 1.0, 0.0]))
    assert not likelihood.derivative_parts(examples).any()
    with pytest.raises(DataError, match="there is no event in any"):
        family.start(2, OutcomeMoments(*family.outcome_sums(censored.labels, censored.exposed)))


def test_concordance_counts_pairs_whose_order_is_known() -> None:
    dataset = patients(EFRON_COX, 3, 60)
    margins, times = dataset.features[:, 0].round(1), np.abs(dataset.labels)
    seen, right, known = ~np.signbit(dataset.labels), 0.0, 0
    for i in np.flatnonzero(seen):
        for j in range(60):
            if times[j] > times[i] or (times[j] == times[i] and not seen[j]):
                known += 1
                right += 0.5 * (margins[i] == margins[j]) + (margins[i] > margins[j])
    assert concordance(margins, dataset.labels) == (right, known)
