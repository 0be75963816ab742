from __future__ import annotations

import dataclasses
import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fl_he.learning.errors import DataError
from fl_he.learning.regression.cox import CoxModel
from fl_he.learning.regression.gamma import GammaModel
from fl_he.learning.regression.gaussian import GaussianModel
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.learning.regression.trained import ENDS, METHODS, WEIGHTINGS

FINITE = st.floats(allow_nan=False, allow_infinity=False)


def model(**changes: Any) -> LogisticModel:
    base = LogisticModel(
        feature_names=("age", "größe"),
        mean=np.array([50.0, 1.7]),
        scale=np.array([10.0, 0.1]),
        coefficients=np.array([0.5, -1.25]),
        intercept=0.1,
        positive="großer Mensch",
    )
    return dataclasses.replace(base, **changes)


def altered(**changes: Any) -> str:
    return json.dumps(json.loads(model().to_json()) | changes)


def earlier(version: int, **changes: Any) -> str:
    """Return a file as a version without members that tell of the training wrote it."""
    content = json.loads(model().to_json())
    for name in ("training", "class_weight", "method", "schema", "imputed"):
        del content[name]
    return json.dumps(content | {"version": version} | changes)


def test_the_file_is_readable_without_this_project() -> None:
    content = json.loads(model().to_json())
    assert content["format"] == "fl-he logistic model"
    assert content["version"] == 8
    assert content["positive"] == "großer Mensch"
    assert content["feature_names"] == ["age", "größe"]
    x = [63.0, 1.55]
    z = content["intercept"]
    for i, value in enumerate(x):
        z += content["coefficients"][i] * (value - content["mean"][i]) / content["scale"][i]
    expected = 1 / (1 + math.exp(-z))
    assert model().expected(np.array([x]))[0] == pytest.approx(expected, rel=1e-14)
    formula = content["how_to_use"]
    assert all(key in formula for key in ("intercept", "coefficients", "mean", "scale"))
    assert "'positive'" in formula


@pytest.mark.parametrize("positive", [None, "benign", "Chance of Admit >= 0.7"])
def test_what_label_1_is_survives(positive: str | None) -> None:
    assert LogisticModel.from_json(model(positive=positive).to_json()).positive == positive


@given(
    st.lists(st.tuples(FINITE, FINITE, st.floats(5e-324, 1.7e308), FINITE), min_size=1, max_size=5),
    st.lists(st.text(), min_size=5, max_size=5, unique=True),
)
def test_every_number_and_name_survives(
    rows: list[tuple[float, float, float, float]], names: list[str]
) -> None:
    coefficients, mean, scale, intercepts = (np.array(column) for column in zip(*rows, strict=True))
    original = LogisticModel(
        tuple(names[: len(rows)]), mean, scale, coefficients, float(intercepts[0])
    )
    copy = LogisticModel.from_json(original.to_json())
    assert copy.feature_names == original.feature_names
    for field in ("mean", "scale", "coefficients"):
        assert getattr(copy, field).tobytes() == getattr(original, field).tobytes()
    assert struct.pack("d", copy.intercept) == struct.pack("d", original.intercept)


def test_saving_makes_folders_and_leaves_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "model.json"
    model().save(path)
    model(intercept=7.0).save(str(path))
    assert LogisticModel.load(path).intercept == 7.0
    assert [file.name for file in path.parent.iterdir()] == ["model.json"]


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(OSError, match=r"model\.json"):
        model().save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.json"]


def test_the_file_is_replaced_not_rewritten(tmp_path: Path) -> None:
    path, link = tmp_path / "model.json", tmp_path / "link"
    model().save(path)
    link.hardlink_to(path)
    model(intercept=7.0).save(path)
    assert LogisticModel.load(link).intercept == 0.1


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    with pytest.raises(DataError, match=r"must exist, got '.*model.json', which was not found$"):
        LogisticModel.load(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"model file must be readable text, got '.*model.json'"):
        LogisticModel.load(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the model is not JSON"),
        ("[" * 100_000, "the model is not JSON"),
        ('{"format": "fl-he logistic model", "format": "x"}', "the model is not JSON"),
        ('{"intercept": ' + "9" * 5000 + "}", "the model is not JSON"),
        ("[]", "must be an object of format"),
        ("{}", "must be an object of format"),
        (altered(format="other"), "must be an object of format"),
        (altered(version=1), "version must be 8"),
        (altered(version=True), "version must be 8"),
        (altered(version=2.0), "version must be 8"),
        (altered(version=9), "version must be 8"),
        (altered(training="ended"), "training must be one of converged, separated, not converged"),
        (altered(training=True), "training must be one of converged, separated, not converged"),
        (earlier(3, converged=1), "converged must be true, false or null"),
        (earlier(3), "version must be 8"),
        (earlier(3, converged=True, training=None), "version must be 8"),
        (earlier(2, converged=True, training=None), "version must be 8"),
        (altered(version=7), "version must be 8"),
        (altered(class_weight="none"), "class_weight must be one of equal, balanced, or null"),
        (altered(class_weight=True), "class_weight must be one of equal, balanced, or null"),
        (altered(schema="1231c474"), "schema must be a SHA-256 digest, or null"),
        (altered(schema=1), "schema must be a string or null"),
        (altered(imputed=None), "imputed must be an object of numbers by names of columns"),
        (altered(imputed=[1.0]), "imputed must be an object of numbers by names of columns"),
        (altered(imputed={"crp": "1"}), "imputed must be made of numbers only"),
        (altered(imputed={"crp": math.nan}), "imputed must be finite"),
        (altered(positive=1), "positive must be a string or null"),
        (altered(positive=" "), "positive must say what label 1 is"),
        (altered(extra=1), "got 0 too few and 1 too many"),
        (altered(feature_names="ab"), "list of strings"),
        (altered(feature_names=["a", 1]), "list of strings"),
        (altered(feature_names=["a"]), "equal length, got 1, 2 and 2"),
        (altered(feature_names=["a", "a"]), "got 2 of which 1 differ"),
        (altered(feature_names=[], mean=[], scale=[], coefficients=[]), "at least 1"),
        (altered(coefficients=[1.0]), "equal length, got 2, 2 and 1"),
        (altered(coefficients=[1.0, "2"]), "coefficients must be made of numbers only"),
        (altered(coefficients=[1.0, True]), "coefficients must be made of numbers only"),
        (altered(coefficients=[1.0, None]), "coefficients must be made of numbers only"),
        (altered(coefficients=[[1.0, 2.0]]), "coefficients must be made of numbers only"),
        (altered(coefficients={"0": 1.0}), "coefficients must be made of numbers only"),
        (altered(intercept=[1.0]), "intercept must be made of numbers only"),
        (altered(intercept=10**400), "intercept must fit into float64"),
        (altered(intercept=math.nan), "intercept must be finite"),
        (altered(mean=[0.0, math.inf]), "mean must be finite"),
        (altered(mean=[0.0]), "scale must have 1 values"),
        (altered(scale=[1.0, 0.0]), "scale must be greater than 0"),
        (altered(scale=[1.0, -1.0]), "scale must be greater than 0"),
        (altered().replace("0.1}", "1e999}"), "intercept must be finite"),
    ],
)
def test_hostile_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        LogisticModel.from_json(text)


@pytest.mark.parametrize("key", sorted(json.loads(model().to_json()).keys() - {"format"}))
def test_every_key_is_required(key: str) -> None:
    content = json.loads(model().to_json())
    del content[key]
    message = "version must be 8" if key == "version" else "got 1 too few and 0 too many"
    with pytest.raises(DataError, match=message):
        LogisticModel.from_json(json.dumps(content))


@pytest.mark.parametrize("training", [*ENDS, None])
def test_how_training_ended_survives(training: str | None) -> None:
    assert LogisticModel.from_json(model(training=training).to_json()).training == training


@pytest.mark.parametrize(
    ("text", "training"),
    [
        (earlier(3, converged=True), "converged"),
        (earlier(3, converged=False), "not converged"),
        (earlier(3, converged=None), None),
        (earlier(2), None),
    ],
)
def test_files_of_the_two_versions_before_are_read(text: str, training: str | None) -> None:
    assert LogisticModel.from_json(text).training == training


def test_whole_numbers_are_numbers() -> None:
    assert LogisticModel.from_json(altered(mean=[0, 1])).mean.tolist() == [0.0, 1.0]


def test_a_model_is_checked_when_it_is_made() -> None:
    with pytest.raises(DataError, match="intercept must be finite"):
        model(intercept=math.inf)
    with pytest.raises(DataError, match="coefficients must have 1 axes, got 2"):
        model(coefficients=np.ones((2, 1)))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones(2), "features must have 2 axes"),
        (np.ones((1, 3)), r"features must have shape \(rows, 2\)"),
        (np.array([[1.0, np.nan]]), "features must be finite"),
        (np.ones((0, 2)), "features must have rows"),
    ],
)
def test_features_that_do_not_fit_the_model_are_refused(features: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        model().expected(features)


def test_means_that_are_no_numbers_are_refused_by_column_and_row() -> None:
    known: dict[str, Any] = {
        "feature_names": ("age", "bmi"),
        "mean": np.zeros(2),
        "scale": np.ones(2),
        "coefficients": np.array([0.5, 0.1]),
        "intercept": 0.0,
    }
    rows = np.array([[40.0, 25.0], [1400.0, 97.0], [1e9, 25.0]])
    for kind in (GammaModel, CoxModel):
        assert np.isfinite(kind(**known).expected(rows[:2])).all()
        with pytest.raises(DataError, match=r"'age'.* 1 cell too large in row 3"):
            kind(**known).predictions(rows)
    assert GaussianModel(**known).expected(rows)[2] == pytest.approx(5e8)
    exposed = GammaModel(**known, exposure="years")
    with pytest.raises(DataError, match=r"'years'.* 1 cell too large in row 2"):
        exposed.predictions(rows[:2], None, np.array([1.0, 1e9]))


@pytest.mark.parametrize("kind", [GaussianModel, CoxModel])
def test_a_file_that_names_an_exposure_its_family_cannot_have_is_refused(
    kind: type[GaussianModel] | type[CoxModel],
) -> None:
    known: dict[str, Any] = {
        "feature_names": ("age",),
        "mean": np.zeros(1),
        "scale": np.ones(1),
        "coefficients": np.array([0.5]),
        "intercept": 0.0,
    }
    edited = json.loads(kind(**known).to_json()) | {"exposure": "years"}
    with pytest.raises(DataError, match=f"^{kind.FORMAT} must have no exposure, got .*'years'$"):
        kind.from_json(json.dumps(edited))
    edited["format"] = GammaModel.FORMAT
    assert GammaModel.from_json(json.dumps(edited)).exposure == "years"


@pytest.mark.parametrize("weighting", [*WEIGHTINGS, None])
def test_how_the_classes_weighed_survives(weighting: str | None) -> None:
    read = LogisticModel.from_json(model(class_weight=weighting).to_json())
    assert read.class_weight == weighting


@pytest.mark.parametrize("method", [*METHODS, None])
def test_how_the_coefficients_were_estimated_survives(method: str | None) -> None:
    assert LogisticModel.from_json(model(method=method).to_json()).method == method
    with pytest.raises(DataError, match="method must be one of maximum likelihood, L2 penalty, "):
        LogisticModel.from_json(altered(method="guess"))


@pytest.mark.parametrize("weighting", [*WEIGHTINGS, None])
def test_a_file_without_the_method_does_not_say_it(weighting: str | None) -> None:
    read = LogisticModel.from_json(earlier(5, training=None, class_weight=weighting))
    assert (read.class_weight, read.method) == (weighting, None)


@pytest.mark.parametrize("training", [*ENDS, None])
def test_a_file_without_the_weighting_of_classes_does_not_say_it(training: str | None) -> None:
    read = LogisticModel.from_json(earlier(4, training=training))
    assert (read.training, read.class_weight) == (training, None)


@pytest.mark.parametrize("digest", ["0a" * 32, None])
def test_the_digest_of_the_schema_survives(digest: str | None) -> None:
    assert LogisticModel.from_json(model(schema=digest).to_json()).schema == digest
    old = earlier(6, training=None, class_weight=None, method="L2 penalty")
    assert (LogisticModel.from_json(old).method, LogisticModel.from_json(old).schema) == (
        "L2 penalty",
        None,
    )


def test_the_means_of_missing_cells_survive() -> None:
    means = {"crp": 7.93, "größe": -1e-9}
    assert LogisticModel.from_json(model(imputed=means).to_json()).imputed == means
    about = {"training": None, "class_weight": None, "method": None, "schema": "0a" * 32}
    old = LogisticModel.from_json(earlier(7, **about))
    assert (old.schema, old.imputed) == ("0a" * 32, {})
