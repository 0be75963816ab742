from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, log_loss, roc_auc_score

from fl_he.learning.errors import DataError
from fl_he.learning.regression import evaluation
from fl_he.learning.tables.data import Dataset


def dataset(spread: float, seed: int, rows: int = 400) -> tuple[Dataset, np.ndarray]:
    """Return examples and a model whose log-odds spread so far."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((rows, 3))
    theta = spread * np.array([1.0, -0.5, 0.25, 0.1])
    odds = features @ theta[:3] + theta[3] + spread * rng.logistic(size=rows)
    return Dataset(features, (odds > 0).astype(float), ("a", "b", "c")), theta


@given(spread=st.floats(0.01, 8.0), seed=st.integers(0, 50))
def test_figures_are_scikit_learns(spread: float, seed: int) -> None:
    data, theta = dataset(spread, seed)
    p = 1 / (1 + np.exp(-(data.features @ theta[:3] + theta[3])))
    found = evaluation.figures(evaluation.count(data, theta))
    assert found["examples"] == 400
    assert found["accuracy"] == pytest.approx(np.mean((p > 0.5) == data.labels))
    assert found["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(data.labels, p > 0.5)
    )
    assert found["roc_auc"] == pytest.approx(roc_auc_score(data.labels, p), abs=0.005)
    assert found["log_loss"] == pytest.approx(log_loss(data.labels, p))
    assert found["confusion"] == confusion_matrix(data.labels, p > 0.5).tolist()
    observed, predicted = calibration_curve(data.labels, p, n_bins=evaluation.CALIBRATION_BINS)
    assert [one["observed"] for one in found["calibration"]] == pytest.approx(list(observed))
    assert [one["predicted"] for one in found["calibration"]] == pytest.approx(list(predicted))


def test_counts_of_hospitals_are_those_of_the_pooled_data() -> None:
    data, theta = dataset(1.0, 3)
    parts = [data.take(np.arange(400)[i::3]) for i in range(3)]
    counts = [evaluation.count(part, theta) for part in parts]
    pooled = evaluation.count(data, theta)
    for name in ("confusion", "scores", "calibration"):
        np.testing.assert_allclose(sum(getattr(c, name) for c in counts), getattr(pooled, name))
    assert sum(c.log_loss for c in counts) == pytest.approx(pooled.log_loss)


def test_more_classes_are_compared_one_against_the_others() -> None:
    rng = np.random.default_rng(2)
    features = rng.standard_normal((500, 2))
    labels = rng.integers(0, 3, 500).astype(float)
    features[np.arange(500), (labels % 2).astype(int)] += 1.0
    data = Dataset(features, labels, ("a", "b"), classes=("x", "y", "z"))
    theta = np.array([1.0, -0.5, -0.5, 1.0, 0.3, 0.2, 0.1, 0.0, -0.1])
    margins = np.exp(features @ theta[:6].reshape(3, 2).T + theta[6:])
    p = margins / margins.sum(axis=1, keepdims=True)
    found = evaluation.figures(evaluation.count(data, theta))
    expected = roc_auc_score(labels, p, multi_class="ovr")
    assert found["roc_auc"] == pytest.approx(expected, abs=0.005)
    assert found["confusion"] == confusion_matrix(labels, p.argmax(axis=1)).tolist()
    assert found["log_loss"] == pytest.approx(log_loss(labels, p))
    top = p.max(axis=1)
    assert sum(one["examples"] * one["predicted"] for one in found["calibration"]) == (
        pytest.approx(top.sum())
    )


def test_one_class_has_no_roc_curve() -> None:
    data, theta = dataset(1.0, 4, rows=30)
    alone = data.take(np.flatnonzero(data.labels == 1.0))
    found = evaluation.figures(evaluation.count(alone, theta))
    assert found["roc_auc"] is None
    assert found["balanced_accuracy"] == found["accuracy"]


def test_scores_that_overflow_have_a_bin() -> None:
    data = Dataset(np.array([[1e5], [-1e5]]), np.array([1.0, 0.0]), ("a",))
    counts = evaluation.count(data, np.array([1.0, 0.0]))
    assert (counts.scores[0, 1, -1], counts.scores[0, 0, 0]) == (1.0, 1.0)
    assert evaluation.figures(counts)["roc_auc"] == 1.0


def test_no_examples_have_no_figures() -> None:
    nothing = evaluation.Counts(
        np.zeros((2, 2)), np.zeros((1, 2, evaluation.SCORE_BINS)), np.zeros((3, 10)), 0.0
    )
    with pytest.raises(DataError, match="examples must be at least 1, got 0"):
        evaluation.figures(nothing)
