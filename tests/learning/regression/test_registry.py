"""What every family of models promises, and which family is taken."""

from __future__ import annotations

import numpy as np
import pytest

from fl_he.learning.errors import DataError
from fl_he.learning.regression import parameters
from fl_he.learning.regression.family import Family
from fl_he.learning.regression.logistic import LOGISTIC
from fl_he.learning.regression.registry import (
    FAMILIES,
    class_probabilities,
    classes_of,
    family_for,
    model_of,
)
from fl_he.learning.regression.softmax import SOFTMAX
from fl_he.learning.tables.scaling import Scaling

#: Of a model of each family.
CLASSES = {LOGISTIC: 2, SOFTMAX: 4}
RNG = np.random.default_rng(3)

by_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.trained.FORMAT)


def test_the_number_of_classes_decides() -> None:
    assert [family_for(classes) for classes in (2, 3, 10)] == [LOGISTIC, SOFTMAX, SOFTMAX]
    with pytest.raises(DataError, match="at least 2 classes, got 1"):
        family_for(1)
    assert [classes_of(rows) for rows in range(5)] == [None, 2, None, 3, 4]
    with pytest.raises(DataError, match="no model with 2 rows"):
        class_probabilities(np.zeros(6), np.zeros((1, 2)))


@by_family
def test_counts_names_and_zeros_fit_each_other(family: Family) -> None:
    classes = CLASSES[family]
    assert family_for(classes) is family
    assert family.rows(1) == 0
    count = family.count(3, classes)
    assert classes_of(family.rows(classes)) == classes
    assert parameters.split(np.zeros(count), 3)[0].shape == (family.rows(classes), 3)
    names = family.parameter_names(["a", "b", "c"], [f"k{i}" for i in range(classes)])
    assert len(names) == len(set(names)) == count
    penalised = parameters.is_penalised(np.zeros(count), 3)
    assert [name.endswith("(intercept)") for name in names] == (~penalised).tolist()
    assert family.zeros(3, classes).tolist() == [0.0] * count


@by_family
def test_probabilities_losses_and_residuals_fit_each_other(family: Family) -> None:
    classes = CLASSES[family]
    rows, labels = family.rows(classes), RNG.integers(0, classes, 50).astype(float)
    margins = RNG.standard_normal((50, rows))
    before, probabilities = margins.copy(), family.probabilities(margins)
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
        turned = family.residuals(moved, family.probabilities(moved), labels)
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
    model = model_of(theta, ("a", "b"), scaling, None, ())
    assert isinstance(model, family.trained)
    np.testing.assert_array_equal(model.theta, theta)
    assert len(model.labels) == classes
    raw = RNG.standard_normal((5, 2))
    scores = class_probabilities(theta, scaling.apply(raw))
    found = model.predict_probability(raw)
    np.testing.assert_array_equal(found, scores[:, 1] if found.ndim == 1 else scores)
    again = family.trained.from_json(model.to_json())
    assert again.to_json() == model.to_json()
    header, rows = model.predictions(raw)
    assert {len(row) for row in rows} == {len(header)}
    assert len(rows) == 5
