from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from cpu_time import at_most
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    roc_auc_score,
)

from fl_he.learning.errors import DataError
from fl_he.learning.regression import disclosure, evaluation
from fl_he.learning.tables.data import Dataset


def figures(counts: evaluation.Counts) -> dict[str, Any]:
    """Return all figures, small cells included, of counts that went through a vector."""
    found = disclosure.figures(evaluation.Counts.of_vector(counts.to_vector()))
    plain: dict[str, Any] = json.loads(json.dumps(asdict(found)))
    return plain


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
    odds = data.features @ theta[:3] + theta[3]
    p = 1 / (1 + np.exp(-odds))
    found = figures(evaluation.count(data, theta))
    assert found["examples"] == 400
    assert found["accuracy"] == pytest.approx(np.mean((p > 0.5) == data.labels))
    assert found["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(data.labels, p > 0.5)
    )
    assert found["roc_auc"] == pytest.approx(roc_auc_score(data.labels, p), abs=0.005)
    # Of probabilities near 1 scikit-learn has no more than the rounding of 1 - p.
    losses = np.logaddexp(0.0, np.where(data.labels, -odds, odds))
    assert found["log_loss"] == pytest.approx(losses.mean())
    assert found["log_loss"] == pytest.approx(log_loss(data.labels, p), rel=1e-4)
    assert found["confusion"] == confusion_matrix(data.labels, p > 0.5).tolist()
    assert found["brier_score"] == pytest.approx(brier_score_loss(data.labels, p))
    assert found["calibration_error"] == pytest.approx(calibration_error(data.labels, p))
    for one in found["calibration"]:
        within = (p > one["lower"]) & (p <= one["upper"])
        assert one["examples"] == within.sum()
        assert one["predicted"] == pytest.approx(p[within].mean())
        assert one["observed"] == pytest.approx(data.labels[within].mean())
    assert found["withheld"] == {}


def calibration_error(came_true: np.ndarray, p: np.ndarray) -> float:
    """Return the error by scikit-learn's curve."""
    bins = evaluation.CALIBRATION_BINS
    observed, predicted = calibration_curve(came_true, p, n_bins=bins)
    sizes = np.bincount(np.digitize(p, np.linspace(0, 1, bins + 1)[1:-1], right=True))
    return float(np.average(np.abs(observed - predicted), weights=sizes[sizes > 0]))


def test_counts_of_hospitals_are_those_of_the_pooled_data() -> None:
    data, theta = dataset(1.0, 3)
    parts = [data.take(np.arange(400)[i::3]) for i in range(3)]
    counts = [evaluation.count(part, theta) for part in parts]
    pooled = evaluation.count(data, theta)
    np.testing.assert_allclose(sum(c.to_vector() for c in counts), pooled.to_vector())


def test_more_classes_are_compared_one_against_the_others() -> None:
    rng = np.random.default_rng(2)
    features = rng.standard_normal((500, 2))
    labels = rng.integers(0, 3, 500).astype(float)
    features[np.arange(500), (labels % 2).astype(int)] += 1.0
    data = Dataset(features, labels, ("a", "b"), classes=("x", "y", "z"))
    theta = np.array([1.0, -0.5, -0.5, 1.0, 0.3, 0.2, 0.1, 0.0, -0.1])
    margins = np.exp(features @ theta[:6].reshape(3, 2).T + theta[6:])
    p = margins / margins.sum(axis=1, keepdims=True)
    found = figures(evaluation.count(data, theta))
    expected = roc_auc_score(labels, p, multi_class="ovr")
    assert found["roc_auc"] == pytest.approx(expected, abs=0.005)
    assert found["confusion"] == confusion_matrix(labels, p.argmax(axis=1)).tolist()
    assert found["log_loss"] == pytest.approx(log_loss(labels, p))
    one_hot = np.eye(3)[labels.astype(int)]
    assert found["brier_score"] == pytest.approx(((p - one_hot) ** 2).sum(axis=1).mean())
    for k, one in enumerate(found["by_class"]):
        assert one["examples"] == np.sum(labels == k)
        assert one["roc_auc"] == pytest.approx(roc_auc_score(labels == k, p[:, k]), abs=0.005)
        assert one["brier_score"] == pytest.approx(brier_score_loss(labels == k, p[:, k]))
        assert one["accuracy"] == pytest.approx(np.mean(p.argmax(axis=1)[labels == k] == k))
    top, right = p.max(axis=1), p.argmax(axis=1) == labels
    assert found["calibration_error"] == pytest.approx(calibration_error(right, top))
    assert sum(one["examples"] * one["predicted"] for one in found["calibration"]) == (
        pytest.approx(top.sum())
    )


def test_one_class_has_no_roc_curve() -> None:
    data, theta = dataset(1.0, 4, rows=30)
    alone = data.take(np.flatnonzero(data.labels == 1.0))
    found = figures(evaluation.count(alone, theta))
    assert found["roc_auc"] is None
    assert found["balanced_accuracy"] == found["accuracy"]


def test_scores_that_overflow_have_a_bin() -> None:
    data = Dataset(np.array([[1e5], [-1e5]]), np.array([1.0, 0.0]), ("a",))
    counts = evaluation.count(data, np.array([1.0, 0.0]))
    assert (counts.calibration[1, -1], counts.calibration[0, 0]) == (1.0, 1.0)
    assert figures(counts)["roc_auc"] == 1.0


@pytest.mark.parametrize("margin", [0.0, 1e-16, 2.3e-16, -1e-16, -1e-300])
def test_bins_and_predictions_agree_at_a_half(margin: float) -> None:
    data = Dataset(np.array([[1.0]]), np.array([1.0]), ("a",))
    counts = evaluation.count(data, np.array([0.0, margin]))
    halves = np.add.reduceat(counts.calibration[:2], [0, evaluation.HALF], axis=1)
    np.testing.assert_array_equal(counts.confusion, halves)


def test_vectors_that_are_no_counts_are_refused() -> None:
    data, theta = dataset(1.0, 3)
    vector = evaluation.count(data, theta).to_vector()
    more, moved = vector.copy(), vector.copy()
    more[0] += 1.0
    moved[[0, 1]] += [1.0, -1.0]
    for wrong in (vector[:-1], np.append(vector, 0.0), more, moved, -vector, np.zeros(0)):
        with pytest.raises(DataError, match="counts must be of one model, and they are not"):
            evaluation.Counts.of_vector(wrong)


@pytest.mark.parametrize("classes", [2, 3, 4, 40])
def test_counts_of_any_number_of_classes_are_read(classes: int) -> None:
    counts = evaluation.Counts.of_nobody(classes)
    assert evaluation.Counts.of_vector(counts.to_vector()).confusion.shape == (classes, classes)


def test_a_vector_of_millions_is_refused_at_once() -> None:
    with at_most(millions=15), pytest.raises(DataError, match="counts must be of one model"):
        evaluation.Counts.of_vector(np.zeros(3_000_000))


def test_no_examples_have_no_figures() -> None:
    length = len(evaluation.count(*dataset(1.0, 3)).to_vector())
    nothing = evaluation.Counts.of_vector(np.zeros(length))
    with pytest.raises(DataError, match="examples must be at least 1"):
        disclosure.figures(nothing)
