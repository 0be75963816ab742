from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fl_he.learning.errors import DataError
from fl_he.learning.regression.logistic import LOGISTIC, LogisticModel
from fl_he.learning.regression.registry import class_probabilities, load_model, model_of
from fl_he.learning.regression.softmax import SOFTMAX, SoftmaxModel
from fl_he.learning.tables.data import Dataset
from fl_he.learning.tables.scaling import Scaling

THETA = np.array([0.5, -1.0, 0.25, 1.5, 0.75, -0.5, 0.1, 0.2, -0.3])
SCALING = Scaling(np.array([10.0, -2.0]), np.array([4.0, 0.5]))


def model() -> SoftmaxModel:
    built = model_of(THETA, ("age", "größe"), SCALING, None, ("a", "b", "ß"), family=SOFTMAX)
    assert isinstance(built, SoftmaxModel)
    return built


def test_the_file_is_readable_without_this_project() -> None:
    content = json.loads(model().to_json())
    assert content["format"] == "fl-he softmax model"
    assert content["version"] == 7
    x = [12.0, -1.0]
    z = [(v - m) / s for v, m, s in zip(x, content["mean"], content["scale"], strict=True)]
    margins = [
        b + sum(w * v for w, v in zip(row, z, strict=True))
        for row, b in zip(content["coefficients"], content["intercepts"], strict=True)
    ]
    expected = np.exp(margins) / np.exp(margins).sum()
    np.testing.assert_allclose(model().expected(np.array([x]))[0], expected)
    scaled = Dataset(SCALING.apply(np.array([x])), np.zeros(1), ("a", "b"), classes=("a", "b", "c"))
    np.testing.assert_allclose(class_probabilities(scaled, THETA)[0], expected)
    assert all(key in content["how_to_use"] for key in ("intercepts", "classes", "mean", "scale"))


def test_it_says_whether_the_classes_weighed_the_same() -> None:
    weighted = model_of(
        THETA, ("a", "b"), SCALING, None, (), family=SOFTMAX, class_weights=(1.0, 2.0, 0.5)
    )
    assert (model().class_weight, weighted.class_weight) == ("equal", "balanced")


def test_it_survives_its_file(tmp_path: Path) -> None:
    model().save(tmp_path / "deep" / "model.json")
    again = load_model(tmp_path / "deep" / "model.json")
    assert isinstance(again, SoftmaxModel)
    assert again.to_json() == model().to_json()
    assert again.classes == ("a", "b", "ß")


def test_no_class_shares_its_column_with_the_prediction() -> None:
    built = model_of(
        THETA, ("age", "größe"), SCALING, None, ("a", "predicted", "c"), family=SOFTMAX
    )
    headings, (row,) = built.predictions(np.array([[12.0, -1.0]]))
    assert headings == ["predicted_label", "a", "predicted", "c"]
    assert row[0] == max(zip(row[1:], headings[1:], strict=True))[1]
    assert model().predictions(np.array([[12.0, -1.0]]))[0] == ["predicted", "a", "b", "ß"]


def test_two_classes_are_a_logistic_model(tmp_path: Path) -> None:
    built = model_of(np.array([1.0, 2.0, 0.5]), ("a", "b"), SCALING, "sick", (), family=LOGISTIC)
    assert isinstance(built, LogisticModel)
    built.save(tmp_path / "model.json")
    assert isinstance(load_model(tmp_path / "model.json"), LogisticModel)
    scaled = Dataset(np.array([[0.3, -0.2]]), np.zeros(1), ("a", "b"))
    p = 1 / (1 + np.exp(-(0.3 - 0.4 + 0.5)))
    found = class_probabilities(scaled, np.array([1.0, 2.0, 0.5]))
    np.testing.assert_allclose(found, [[1 - p, p]])


def test_classes_that_nobody_named_are_numbered() -> None:
    built = model_of(THETA, ("a", "b"), SCALING, None, (), family=SOFTMAX)
    assert isinstance(built, SoftmaxModel)
    assert built.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 8}, "version must be 7"),
        ({"training": 1}, "training must be one of converged, separated, not converged, or null"),
        ({"format": "another"}, "must be an object of format"),
        ({"more": 1}, "0 too few and 1 too many"),
        ({"classes": ["a", "b"]}, "classes must be different names, at least 3"),
        ({"classes": ["a", "b", "c", "d"]}, "a row for each class"),
        ({"classes": "abc"}, "classes must be a list of strings"),
        ({"coefficients": [[1.0, 2.0], [1.0], [0.0, 1.0]]}, "lists of one length"),
        ({"coefficients": [1.0, 2.0]}, "must be made of numbers only"),
        ({"coefficients": []}, "must be a list of lists"),
        ({"intercepts": [1.0, "2", 3.0]}, "must be made of numbers only"),
        ({"intercepts": [1.0, 2.0]}, "a row for each class"),
        ({"scale": [1.0, 0.0]}, "scale must be greater than 0"),
        ({"feature_names": ["a", "a"]}, "feature_names must be different names"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    text = json.dumps(json.loads(model().to_json()) | change)
    with pytest.raises(DataError, match=words):
        SoftmaxModel.from_json(text)
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(DataError):
        load_model(tmp_path / "model.json")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    for text in ("", "[]", "3", "{", '{"format": {}}'):
        (tmp_path / "model.json").write_text(text)
        with pytest.raises(DataError, match=r"model (must be|is not JSON)"):
            load_model(tmp_path / "model.json")
