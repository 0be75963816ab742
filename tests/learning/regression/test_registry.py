"""The interface that every family of models fulfils, and the choice of a family."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args, get_type_hints

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.optimize import minimize_scalar

from fl_he.config.groups import FAMILIES as SETTINGS
from fl_he.learning.errors import DataError
from fl_he.learning.regression import parameters
from fl_he.learning.regression.family import ClassFamily, Family
from fl_he.learning.regression.gamma import GAMMA
from fl_he.learning.regression.gaussian import GAUSSIAN
from fl_he.learning.regression.glm import GlmFamily, OutcomeMoments
from fl_he.learning.regression.logistic import LOGISTIC
from fl_he.learning.regression.negative_binomial import told_alpha
from fl_he.learning.regression.poisson import POISSON
from fl_he.learning.regression.registry import (
    FAMILIES,
    NUMERIC,
    class_probabilities,
    family_for,
    family_named,
    family_of,
    model_of,
)
from fl_he.learning.regression.softmax import SOFTMAX
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.labels import OUTCOMES
from fl_he.learning.tables.scaling import Scaling
from fl_he.learning.tables.schema.description import Outcome as SchemaOutcome
from fl_he.run_files.metrics_contract import EXPOSED

#: Of a model of each family.
CLASSES: dict[Family, int] = dict.fromkeys(FAMILIES.values(), 0) | {LOGISTIC: 2, SOFTMAX: 4}
RNG = np.random.default_rng(3)
OF_STATSMODELS = {
    "gaussian": sm.families.Gaussian(),
    "poisson": sm.families.Poisson(),
    "gamma": sm.families.Gamma(sm.families.links.Log()),
}

by_family = pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
of_classes = pytest.mark.parametrize("family", [LOGISTIC, SOFTMAX], ids=lambda family: family.name)
of_numbers = pytest.mark.parametrize(
    "family", [GAUSSIAN, POISSON, GAMMA], ids=lambda family: family.name
)


def test_the_number_of_classes_decides() -> None:
    assert [family_for(classes) for classes in (2, 3, 10)] == [LOGISTIC, SOFTMAX, SOFTMAX]
    with pytest.raises(DataError, match="at least 2 classes, got 1"):
        family_for(1)
    numbers = Dataset(np.zeros((1, 2)), np.ones(1), ("a", "b"), family="poisson")
    assert family_of(numbers) is POISSON
    assert family_of(replace(numbers, family="")) is LOGISTIC
    with pytest.raises(DataError, match="at least 2 classes, got 0"):
        class_probabilities(numbers, np.zeros(3))


@by_family
def test_counts_names_and_zeros_fit_each_other(family: Family) -> None:
    classes = CLASSES[family]
    assert family_named(family.name if not classes else "", classes) is family
    assert family.rows(1) == 0
    count = family.count(3, classes)
    assert parameters.split(np.zeros(count), 3)[0].shape == (family.rows(classes), 3)
    names = family.parameter_names(["a", "b", "c"], [f"k{i}" for i in range(classes)])
    assert len(names) == len(set(names)) == count
    penalised = parameters.is_penalised(np.zeros(count), 3)
    assert [name.endswith("(intercept)") for name in names] == (~penalised).tolist()
    assert family.zeros(3, classes).tolist() == [0.0] * count


@of_classes
def test_probabilities_losses_and_residuals_fit_each_other(family: ClassFamily) -> None:
    classes = CLASSES[family]
    rows, labels = family.rows(classes), RNG.integers(0, classes, 50).astype(float)
    margins = RNG.standard_normal((50, rows))
    before, probabilities = margins.copy(), family.means(margins)
    of_classes = family.of_classes(probabilities)
    np.testing.assert_allclose(of_classes.sum(axis=1), 1.0)
    own = of_classes[np.arange(50), labels.astype(int)]
    np.testing.assert_allclose(family.losses(margins, labels), -np.log(own))
    step = 1e-6
    for a in range(rows):
        moved = margins + step * (np.arange(rows) == a)
        slope = (family.losses(moved, labels) - family.losses(margins, labels)) / step
        residuals = family.residuals(margins, probabilities, labels)
        np.testing.assert_allclose(residuals[:, a], slope, atol=1e-5)
        turned = family.residuals(moved, family.means(moved), labels)
        weights = np.linspace(0.5, 2.0, 50)
        for b in range(rows):
            curvature = weights * (turned[:, b] - residuals[:, b]) / step
            found = family.curvature(weights, margins, probabilities, labels, a=a, b=b)
            np.testing.assert_allclose(found, curvature, atol=1e-5)
    np.testing.assert_array_equal(margins, before)
    assert (family.predicted(probabilities) == of_classes.argmax(axis=1)).all()
    forecast, right = family.forecast(probabilities, labels)
    assert forecast.shape == right.shape == (50,)
    assert family.of_rows(labels, rows).shape == (50, rows)


@by_family
def test_a_trained_model_has_the_parameters_and_predicts_by_them(family: Family) -> None:
    classes = CLASSES[family]
    theta = RNG.standard_normal(family.count(2, classes))
    scaling = Scaling(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    told = (0.5, 0.0, 0.0) if family.has_alpha else ()
    bound = told_alpha(family, told)
    model = model_of(theta, ("a", "b"), scaling, None, (), family=bound)
    assert isinstance(model, family.trained)
    np.testing.assert_array_equal(model.theta, theta)
    raw = RNG.standard_normal((5, 2))
    scores = family.means(family.margins(scaling.apply(raw), theta))
    np.testing.assert_array_equal(model.expected(raw), scores[:, 0] if classes != 4 else scores)
    again = family.trained.from_json(model.to_json())
    assert again.to_json() == model.to_json()
    header, rows = model.predictions(raw)
    assert {len(row) for row in rows} == {len(header)}
    assert len(rows) == 5


def outcomes(family: GlmFamily, means: Array) -> Array:
    """Return numbers of a family with these means."""
    if family is GAUSSIAN:
        return RNG.normal(means, 2.0)
    drawn = RNG.poisson(means) if family is POISSON else RNG.gamma(3.0, means / 3.0)
    return np.asarray(drawn, dtype=np.float64)


@of_numbers
def test_losses_of_numbers_are_the_likelihoods_but_for_terms_without_margins(
    family: GlmFamily,
) -> None:
    margins = RNG.normal(0.5, 0.5, (60, 1))
    means = family.means(margins)
    labels = outcomes(family, means[:, 0])
    theirs = OF_STATSMODELS[family.name]
    expected = -theirs.loglike_obs(labels, means[:, 0], scale=1.0)
    ours = family.losses(margins, labels) + (family.base(labels) if family is POISSON else 0.0)
    assert np.ptp(ours - expected) < 1e-9  # a constant of the dispersion
    deviance = 2.0 * (family.losses(margins, labels) - family.saturated(labels))
    np.testing.assert_allclose(deviance, theirs.resid_dev(labels, means[:, 0]) ** 2, atol=1e-9)
    pearson = family.pearson(means, labels)
    chi2 = (labels - means[:, 0]) ** 2 / theirs.variance(means[:, 0])
    np.testing.assert_allclose(pearson, chi2, rtol=1e-12)
    step = 1e-6
    slope = (family.losses(margins + step, labels) - family.losses(margins, labels)) / step
    np.testing.assert_allclose(
        family.residuals(margins, means, labels)[:, 0], slope, atol=1e-4, rtol=1e-4
    )
    weights = np.linspace(0.5, 2.0, 60)
    expected = weights / (theirs.variance(means[:, 0]) * theirs.link.deriv(means[:, 0]) ** 2)
    found = family.curvature(weights, margins, means, labels, a=0, b=0)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert family.link(float(means[0, 0])) == pytest.approx(margins[0, 0])


@of_numbers
def test_the_mean_log_likelihood_is_the_largest_over_dispersions(family: GlmFamily) -> None:
    margins = RNG.normal(0.5, 0.5, (400, 1))
    means = family.means(margins)
    labels = outcomes(family, means[:, 0])
    moments = OutcomeMoments(*(family.outcome_sums(labels, np.ones(400)) / 400))
    found = family.log_likelihood(float(family.losses(margins, labels).mean()), moments)
    theirs = OF_STATSMODELS[family.name]
    if family.has_dispersion:
        largest = -minimize_scalar(
            lambda log: -theirs.loglike_obs(labels, means[:, 0], scale=np.exp(log)).mean(),
            bounds=(-5.0, 5.0),
            options={"xatol": 1e-10},
        ).fun
    else:
        largest = theirs.loglike_obs(labels, means[:, 0]).mean()
    assert found == pytest.approx(largest, rel=1e-9)
    assert moments.deviation == pytest.approx(labels.std())


def test_every_list_of_families_of_numbers_is_the_same() -> None:
    assert tuple(OUTCOMES) == NUMERIC
    named = tuple(name for name in NUMERIC if not name.endswith("-breslow"))
    assert named == SETTINGS
    assert get_args(get_args(get_type_hints(SchemaOutcome)["family"])[0]) == named


def test_families_of_a_logarithmic_link_have_exposures() -> None:
    families = (one for one in FAMILIES.values() if isinstance(one, GlmFamily))
    assert tuple(one.name for one in families if one.ratio and one.has_intercept) == EXPOSED


@pytest.mark.parametrize("name", [name for name in EXPOSED if not FAMILIES[name].has_alpha])
def test_training_starts_at_the_best_intercept_alone(name: str) -> None:
    family = FAMILIES[name]
    assert isinstance(family, GlmFamily)
    exposure = np.exp(RNG.uniform(-7.0, 11.0, 300))
    labels = outcomes(family, 0.3 * exposure)
    moments = OutcomeMoments(*(family.outcome_sums(labels, exposure) / 300))
    start = family.start(2, moments)
    margins = (start[-1] + np.log(exposure))[:, None]
    slope = family.residuals(margins, family.means(margins), labels).sum()
    assert abs(slope) < 1e-9 * np.abs(labels).sum()
    with pytest.raises(DataError, match="exposures must be above 0 in sum"):
        family.start(2, replace(moments, exposed=0.0))


def test_the_deviation_of_a_constant_outcome_is_one() -> None:
    moments = OutcomeMoments(*(GAUSSIAN.outcome_sums(np.full(7, 1e6), np.ones(7)) / 7))
    assert moments.deviation == 1.0
