from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PowerTransformer, StandardScaler

from fl_he.learning.errors import DataError
from fl_he.learning.voting.model_file import load_model_file

FEATURES = {"age": (0.0, 100.0), "size": (-5.0, 1.0), "rate": (0.25, 0.5)}
CLASSES = ("well", "ill", "worse")
LOW, HIGH = np.array(list(FEATURES.values())).T
RNG = np.random.default_rng(8)
X = RNG.uniform(LOW, HIGH, size=(200, 3))
SCALED = (2.0 * X - LOW - HIGH) / (HIGH - LOW)
LABELS = np.digitize(SCALED @ [1.0, 0.5, -0.7] + RNG.normal(scale=0.2, size=200), [-0.4, 0.4])
NAMES = np.array(CLASSES)[LABELS]


def saved(path: Path, model: Any) -> Path:
    from skops import io  # noqa: PLC0415 - lazy: seconds to import

    io.dump(model, path / "model.skops")
    return path / "model.skops"


@pytest.mark.parametrize(
    "scaler",
    [
        None,
        StandardScaler(),
        StandardScaler(with_mean=False),
        StandardScaler(with_std=False),
        MinMaxScaler((-2, 3)),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "classifier",
    [
        LogisticRegression(max_iter=5000),
        NearestCentroid(),
        MLPClassifier((5,), max_iter=30, random_state=1),
        MLPClassifier((5,), solver="sgd", max_iter=30, random_state=1),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_it_predicts_on_scaled_features_what_the_classifier_does_on_the_tables(
    tmp_path: Path, scaler: Any, classifier: Any
) -> None:
    model = classifier if scaler is None else make_pipeline(scaler, classifier)
    model.fit(X, NAMES)
    loaded = load_model_file(saved(tmp_path, model), CLASSES, FEATURES)
    assert (np.array(CLASSES)[loaded.predict(SCALED)] == model.predict(X)).all()


def test_labels_may_be_places_and_some_classes_unknown(tmp_path: Path) -> None:
    few = LABELS != 1
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[few], LABELS[few])
    loaded = load_model_file(saved(tmp_path, model), CLASSES, FEATURES)
    assert (loaded.predict(SCALED) == model.predict(X)).all()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (LogisticRegression().fit(X[:, :2], LABELS), "3 features, got 2"),
        (LogisticRegression().fit(X, np.array(["other", *CLASSES])[LABELS]), "got 1 others"),
        (LogisticRegression().fit(X, LABELS + 1), "integers from 0 to 2"),
        (GaussianNB().fit(X, LABELS), "feature map"),
        (make_pipeline(PowerTransformer(), LogisticRegression()).fit(X, LABELS), "got Pipeline"),
        (make_pipeline(PowerTransformer(), LogisticRegression()).fit(X, NAMES), "got Pipeline"),
        (make_pipeline(MinMaxScaler(clip=True), LogisticRegression()).fit(X, LABELS), "clip"),
        (StandardScaler().fit(X), "got StandardScaler"),
    ],
    ids=str,
)
def test_other_models_are_refused(tmp_path: Path, model: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        load_model_file(saved(tmp_path, model), CLASSES, FEATURES)


def test_features_of_other_names_or_order_are_refused(tmp_path: Path) -> None:
    frame = pl.DataFrame(X, schema=["size", "age", "rate"])
    model = LogisticRegression().fit(frame, LABELS)
    with pytest.raises(DataError, match="in their order"):
        load_model_file(saved(tmp_path, model), CLASSES, FEATURES)


class Evil:
    """Would leave a file behind if somebody unpickled it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_pickle_and_types_that_skops_does_not_trust_run_no_code(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    (tmp_path / "model.skops").write_bytes(pickle.dumps(Evil(touched)))
    with pytest.raises(DataError, match="saved by skops"):
        load_model_file(tmp_path / "model.skops", CLASSES, FEATURES)
    model = LogisticRegression().fit(X, LABELS)
    model.extra = Evil(touched)
    with pytest.raises(DataError, match="does not trust"):
        load_model_file(saved(tmp_path, model), CLASSES, FEATURES)
    assert not touched.exists()
