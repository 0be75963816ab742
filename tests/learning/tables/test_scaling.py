from __future__ import annotations

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from fl_he.learning.errors import DataError
from fl_he.learning.tables.built_in import load_built_in
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.scaling import Scaling, standardise


def test_it_is_what_standard_scaler_does() -> None:
    dataset = load_built_in("breast_cancer")
    scaler = StandardScaler().fit(dataset.features)
    scaled, scaling = standardise(dataset)
    np.testing.assert_allclose(scaling.mean, scaler.mean_, rtol=1e-13)
    np.testing.assert_allclose(scaling.scale, scaler.scale_, rtol=1e-13)
    np.testing.assert_allclose(scaled.features, scaler.transform(dataset.features), atol=1e-12)
    np.testing.assert_array_equal(scaled.labels, dataset.labels)
    assert scaled.feature_names == dataset.feature_names


def test_no_scaling_leaves_features_as_they_are() -> None:
    features = np.array([[3.0, -1e9], [0.0, 7.0]])
    np.testing.assert_array_equal(Scaling.none(2).apply(features), features)


def test_features_that_are_constant_within_rounding_keep_their_scale() -> None:
    noise = np.random.default_rng(1).uniform(-1e-9, 1e-9, 1000)
    features = np.column_stack([np.full(1000, 0.1), np.zeros(1000), 1e8 + noise, noise])
    dataset = Dataset(features, np.zeros(1000), ("a", "b", "c", "d"))
    scaled, scaling = standardise(dataset)
    np.testing.assert_allclose(scaling.scale, StandardScaler().fit(features).scale_, rtol=1e-12)
    np.testing.assert_array_equal(scaling.scale[:3], 1.0)
    assert scaling.scale[3] < 1e-8
    np.testing.assert_allclose(scaled.features[:, :2], 0.0, atol=1e-12)


def test_one_row_has_scale_one() -> None:
    scaled, scaling = standardise(Dataset(np.array([[5.0]]), np.array([1.0]), ("a",)))
    assert (scaling.mean[0], scaling.scale[0], scaled.features[0, 0]) == (5.0, 1.0, 0.0)


def test_scaling_applies_to_other_rows() -> None:
    scaling = Scaling(np.array([1.0, 2.0]), np.array([2.0, 4.0]))
    np.testing.assert_array_equal(scaling.apply(np.array([[3.0, 0.0]])), [[1.0, -0.5]])


@pytest.mark.parametrize("shape", [(2,), (1, 3), (1, 1)])
def test_features_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"features must have shape \(rows, 2\), got"):
        Scaling(np.zeros(2), np.ones(2)).apply(np.ones(shape))


@pytest.mark.parametrize(
    ("mean", "scale", "message"),
    [
        ([0.0], [1.0, 1.0], "scale must have 1 values as mean has, got 2"),
        ([0.0, 0.0, 0.0], [1.0, 0.0, -1.0], "scale must be greater than 0, got 2"),
        ([np.nan], [1.0], "mean must be finite"),
        ([0.0], [np.inf], "scale must be finite"),
    ],
)
def test_unusable_scaling_is_refused(mean: list[float], scale: list[float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Scaling(np.array(mean), np.array(scale))


def test_a_variance_beyond_float64_is_refused() -> None:
    dataset = Dataset(np.array([[1e200], [-1e200]]), np.array([0.0, 1.0]), ("a",))
    with pytest.raises(DataError, match=r"below 1e150 .* column 'a' \(2 cells .* row 1\): .* save"):
        standardise(dataset)
