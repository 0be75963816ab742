"""Predictions against outcomes, compared with statsmodels and scikit-learn."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import statsmodels.api as sm
from sklearn import metrics

from fl_he.learning.regression.cox import BRESLOW_COX, EFRON_COX
from fl_he.learning.regression.family import Family
from fl_he.learning.regression.gamma import GAMMA
from fl_he.learning.regression.gaussian import GAUSSIAN
from fl_he.learning.regression.logistic import LOGISTIC
from fl_he.learning.regression.negative_binomial import NegativeBinomial
from fl_he.learning.regression.poisson import POISSON
from fl_he.learning.regression.softmax import SOFTMAX
from fl_he.learning.regression.validation import Estimate, validate
from fl_he.learning.tables.arrays import Array
from fl_he.learning.tables.data import Dataset

RNG = np.random.default_rng(23)
ROWS = 403
MARGINS = RNG.normal(-0.5, 1.2, (ROWS, 1))
EXPOSURE = RNG.uniform(0.2, 4.0, ROWS)
ALPHA = 0.6


def dataset(labels: Array, family: str = "", classes: tuple[str, ...] = ()) -> Dataset:
    exposure = EXPOSURE if family in ("poisson", "negative_binomial", "gamma") else None
    return Dataset(MARGINS, labels, ("margin",), family=family, classes=classes, exposure=exposure)


def close(found: Estimate | None, value: float, ends: Array) -> bool:
    assert found is not None
    ours = np.array([found.value, found.lower, found.upper], dtype=float)
    return np.allclose(ours, np.array([value, *ends]), rtol=1e-6, atol=1e-8)


def test_probabilities_of_two_classes() -> None:
    labels = (RNG.random(ROWS) < 1 / (1 + np.exp(-(0.4 + 0.7 * MARGINS[:, 0])))).astype(float)
    found = validate(LOGISTIC, MARGINS, dataset(labels))
    p = 1 / (1 + np.exp(-MARGINS[:, 0]))
    assert found.figures["roc_auc"] == pytest.approx(metrics.roc_auc_score(labels, p), abs=1e-12)
    assert found.figures["log_loss"] == pytest.approx(metrics.log_loss(labels, p), abs=1e-12)
    brier = metrics.brier_score_loss(labels, p)
    assert found.figures["brier_score"] == pytest.approx(brier, abs=1e-12)
    assert (found.whole.rows, found.whole.observed) == (ROWS, labels.sum())
    assert found.whole.predicted == pytest.approx(p.sum(), rel=1e-12)
    fitted = sm.Logit(labels, sm.add_constant(MARGINS)).fit(disp=False, tol=1e-12)
    ends = fitted.conf_int()
    assert close(found.intercept, fitted.params[0], ends[0])
    assert close(found.slope, fitted.params[1], ends[1])
    ones = np.ones(ROWS)
    large = sm.GLM(labels, ones, sm.families.Binomial(), offset=MARGINS[:, 0]).fit(tol=1e-12)
    assert close(found.in_the_large, large.params[0], large.conf_int()[0])


def test_tenths_are_of_the_ordered_predictions_and_do_not_part_equal_ones() -> None:
    labels = (RNG.random(ROWS) < 0.4).astype(float)
    found = validate(LOGISTIC, MARGINS, dataset(labels))
    order = np.argsort(MARGINS[:, 0])
    p = LOGISTIC.means(MARGINS)[order, 0]
    assert sorted(one.rows for one in found.tenths) == [40] * 7 + [41] * 3
    start = 0
    for one in found.tenths:
        rows = slice(start, start + one.rows)
        assert (one.lower, one.upper) == (p[rows][0], p[rows][-1])
        assert one.predicted == pytest.approx(p[rows].sum(), rel=1e-12)
        assert one.observed == labels[order][rows].sum()
        start += one.rows
    assert start == ROWS
    rough = np.round(MARGINS)
    tenths = validate(LOGISTIC, rough, dataset(labels)).tenths
    assert all(one.upper < other.lower for one, other in pairwise(tenths))
    (one,) = validate(LOGISTIC, np.zeros((ROWS, 1)), dataset(labels)).tenths
    assert (one.rows, one.lower, one.upper) == (ROWS, 0.5, 0.5)


def mean(family: Family) -> Array:
    return family.means(0.3 + 0.8 * MARGINS + np.log(EXPOSURE)[:, None])[:, 0]


GLMS = {
    "gaussian": (
        GAUSSIAN,
        sm.families.Gaussian(),
        0.3 + 0.8 * MARGINS[:, 0] + RNG.normal(0, 2, ROWS),
    ),
    "poisson": (POISSON, sm.families.Poisson(), RNG.poisson(mean(POISSON)).astype(float)),
    "negative_binomial": (
        NegativeBinomial(math.log(ALPHA)),
        sm.families.NegativeBinomial(alpha=ALPHA),
        RNG.poisson(mean(POISSON) * RNG.gamma(1 / ALPHA, ALPHA, ROWS)).astype(float),
    ),
    "gamma": (
        GAMMA,
        sm.families.Gamma(sm.families.links.Log()),
        RNG.gamma(2.0, mean(POISSON) / 2.0),
    ),
}


@pytest.mark.parametrize("name", GLMS)
def test_means_of_numbers(name: str) -> None:
    family, theirs, labels = GLMS[name]
    data = dataset(labels, name)
    offset = np.zeros(ROWS) if name == "gaussian" else np.log(EXPOSURE)
    found = validate(family, MARGINS, data)
    means = theirs.link.inverse(MARGINS[:, 0] + offset)
    assert found.whole.predicted == pytest.approx(means.sum(), rel=1e-12)
    assert found.whole.observed == pytest.approx(labels.sum(), rel=1e-12)
    deviance = theirs.deviance(labels, means)
    assert found.figures["mean_deviance"] == pytest.approx(deviance / ROWS, rel=1e-9)
    null = sm.GLM(labels, np.ones(ROWS), theirs, offset=offset).fit(tol=1e-13).deviance
    if name != "negative_binomial":  # its null model there is the rate, not the likeliest mean
        assert found.figures["d2"] == pytest.approx(1 - deviance / null, abs=1e-9)
    rmse = math.sqrt(np.mean((labels - means) ** 2))
    assert found.figures["rmse"] == pytest.approx(rmse, rel=1e-12)
    like = {"tol": 1e-13, "use_t": name in ("gaussian", "gamma")}  # as R's summary.glm
    fitted = sm.GLM(labels, sm.add_constant(MARGINS), theirs, offset=offset).fit(**like)
    assert found.slope is not None
    assert found.slope.value == pytest.approx(fitted.params[1], rel=1e-6)
    assert found.intercept is not None
    assert found.intercept.value == pytest.approx(fitted.params[0], rel=1e-6)
    large = sm.GLM(labels, np.ones(ROWS), theirs, offset=offset + MARGINS[:, 0]).fit(**like)
    assert found.in_the_large is not None
    assert found.in_the_large.value == pytest.approx(large.params[0], rel=1e-6)
    if name != "negative_binomial":  # statsmodels has the expected information
        assert close(found.slope, fitted.params[1], fitted.conf_int()[1])
        assert close(found.in_the_large, large.params[0], large.conf_int()[0])
    assert sum(one.observed for one in found.tenths) == pytest.approx(labels.sum(), rel=1e-12)


@pytest.mark.parametrize(("family", "ties"), [(EFRON_COX, "efron"), (BRESLOW_COX, "breslow")])
def test_orders_of_times(family: Family, ties: str) -> None:
    times = np.ceil(RNG.exponential(np.exp(-0.6 * MARGINS[:, 0])) * 5.0)
    seen = RNG.random(ROWS) < 0.7
    found = validate(family, MARGINS, dataset(np.where(seen, times, -times), family.name))
    fitted = sm.PHReg(times, MARGINS, status=seen, ties=ties).fit(tol=1e-12)
    assert close(found.slope, fitted.params[0], fitted.conf_int()[0])
    assert (found.intercept, found.in_the_large) == (None, None)
    right = known = 0.0
    for i in np.flatnonzero(seen):
        for j in range(ROWS):
            if times[j] > times[i] or (times[j] == times[i] and not seen[j]):
                known += 1
                right += (MARGINS[i, 0] > MARGINS[j, 0]) + (MARGINS[i, 0] == MARGINS[j, 0]) / 2
    assert found.figures == {"concordance": pytest.approx(right / known, abs=1e-12)}
    assert found.whole.observed == seen.sum()


def test_probabilities_of_three_classes() -> None:
    margins, labels = RNG.normal(0, 1, (ROWS, 3)), RNG.integers(0, 3, ROWS).astype(float)
    found = validate(SOFTMAX, margins, dataset(labels, classes=("a", "b", "c")))
    p = np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)
    areas = [metrics.roc_auc_score(labels == k, p[:, k]) for k in range(3)]
    assert found.figures["roc_auc"] == pytest.approx(np.mean(areas), abs=1e-12)
    assert [one.roc_auc for one in found.classes] == pytest.approx(areas, abs=1e-12)
    assert [one.observed for one in found.classes] == [(labels == k).sum() for k in range(3)]
    assert [one.predicted for one in found.classes] == pytest.approx(p.sum(axis=0), rel=1e-12)
    squares = np.square(p - np.eye(3)[labels.astype(int)]).sum(axis=1).mean()
    assert found.figures["brier_score"] == pytest.approx(squares, abs=1e-12)
    assert found.whole.observed == (p.argmax(axis=1) == labels).sum()
    assert found.whole.predicted == pytest.approx(p.max(axis=1).sum(), rel=1e-12)


def test_separated_and_single_classes_have_no_slope() -> None:
    separated = validate(LOGISTIC, MARGINS, dataset((MARGINS[:, 0] > 0.1).astype(float)))
    assert (separated.slope, separated.intercept) == (None, None)
    assert separated.figures["roc_auc"] == 1.0
    alone = validate(LOGISTIC, MARGINS, dataset(np.ones(ROWS)))
    assert (alone.slope, alone.in_the_large) == (None, None)
    assert alone.figures["roc_auc"] is None
    one = replace(dataset(np.ones(ROWS), "gaussian"), features=MARGINS)
    constant = validate(GAUSSIAN, np.zeros((ROWS, 1)), one)
    assert constant.slope is None
    assert constant.in_the_large == Estimate(1.0, 1.0, 1.0)
