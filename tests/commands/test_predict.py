from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import polars as pl
import pytest
from command_line import fl_he
from example_metrics import make_metrics
from skops import io

from fl_he.learning.regression.logistic import LogisticModel
from fl_he.learning.regression.poisson import PoissonModel
from fl_he.learning.regression.sklearn_export import to_pipeline
from fl_he.learning.regression.softmax import SoftmaxModel
from fl_he.learning.regression.trained import METHODS, TrainedModel
from fl_he.learning.tables.built_in import load_built_in

WINE = load_built_in("wine")


def logistic_model() -> LogisticModel:
    rng = np.random.default_rng(1)
    return LogisticModel(
        feature_names=("age", "size"),
        mean=np.array([50.0, 3.0]),
        scale=np.array([10.0, 0.5]),
        coefficients=rng.standard_normal(2),
        intercept=0.25,
        positive="sick",
    )


def softmax_model() -> SoftmaxModel:
    rng = np.random.default_rng(2)
    return SoftmaxModel(
        feature_names=WINE.feature_names,
        mean=WINE.features.mean(axis=0),
        scale=WINE.features.std(axis=0),
        coefficients=rng.standard_normal((3, 13)),
        intercepts=rng.standard_normal(3),
        classes=WINE.classes,
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize(
    "model",
    [logistic_model(), pytest.param(softmax_model(), marks=pytest.mark.slow)],
    ids=["two", "three"],
)
def test_the_exported_pipeline_predicts_what_the_model_predicts(
    tmp_path: Path, model: TrainedModel
) -> None:
    model.save(tmp_path / "model.json")
    code, out, err = fl_he(tmp_path, "export", ".", "--to", "sklearn")
    assert (code, err) == (0, "")
    assert "model.skops" in out
    pipeline = io.load(tmp_path / "model.skops", trusted=[])
    rng = np.random.default_rng(3)
    features = model.mean + model.scale * rng.standard_normal((50, len(model.mean)))
    expected = model.expected(features)
    found = pipeline.predict_proba(features)
    np.testing.assert_allclose(found if found.shape[1] > 2 else found[:, 1], expected, rtol=1e-12)
    frame = pandas.DataFrame(features, columns=list(model.feature_names))
    assert (pipeline.predict(frame) == pipeline.predict(features)).all()
    with pytest.raises(ValueError, match="feature names"):
        pipeline.predict(frame[frame.columns[::-1]])


def test_predictions_are_by_name_and_exact(tmp_path: Path) -> None:
    model = logistic_model()
    model.save(tmp_path / "model.json")
    (tmp_path / "new.csv").write_text("size,id,age\n3.25,a,61\n2.5,b,40\n")
    code, out, err = fl_he(tmp_path, "predict", "model.json", "new.csv")
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(out.splitlines()))
    expected = model.expected(np.array([[61, 3.25], [40, 2.5]]))
    assert [float(row["probability"]) for row in rows] == expected.tolist()
    assert [row["predicted"] for row in rows] == ["sick", "not sick"]
    assert [p > 0.5 for p in expected] == [True, False]
    assert fl_he(tmp_path, "predict", ".", "new.csv", "--out", "p.csv") == (0, "", "")
    assert (tmp_path / "p.csv").read_text() == out
    code, _, err = fl_he(tmp_path, "predict", ".", "new.csv", "--out", "p.csv")
    assert code == 1
    assert "p.csv already exists; not overwriting it" in err


def test_predictions_of_more_classes_name_them(tmp_path: Path) -> None:
    model = softmax_model()
    model.save(tmp_path / "model.json")
    pl.DataFrame(WINE.features, schema=list(WINE.feature_names)).write_csv(tmp_path / "wine.csv")
    code, out, _ = fl_he(tmp_path, "predict", ".", "wine.csv")
    assert code == 0
    rows = list(csv.DictReader(out.splitlines()))
    expected = model.expected(WINE.features)
    assert [row["predicted"] for row in rows] == [WINE.classes[i] for i in expected.argmax(axis=1)]
    found = [[float(row[name]) for name in WINE.classes] for row in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("age\n3\n", "must have the 2 features; missing: 'size'"),
        ("age,size\n1,2\n,\n3,4\n", "row 3 has no values: fill"),
        ("age,size\n3,secret\n", "column 'size' must be numeric"),
        (
            "age,size,x\n,secret,1\n3,inf,2\n",
            "column 'age' must have no missing values, got 1 missing cell in row 2; column 'size' "
            "must hold finite numbers only, got 1 cell of text in row 2 and 1 infinite cell in row "
            "3 (the header is row 1)",
        ),
        (
            "age,size\n5,1e308\n6,-1e308\n",
            "column 'size' must be of numbers that can be computed with, got 2 cells too large, "
            "the first in row 2 (the header is row 1)",
        ),
        (
            "age,size\n3,4\n5,true\n6,x\n",
            "column 'size' holds numbers as well as true or false: write only one of the two kinds",
        ),
    ],
)
def test_a_table_that_cannot_be_predicted(tmp_path: Path, table: str, words: str) -> None:
    logistic_model().save(tmp_path / "model.json")
    (tmp_path / "new.csv").write_text(table)
    code, out, err = fl_he(tmp_path, "predict", ".", "new.csv")
    assert (code, out) == (1, "")
    assert words in err
    assert "secret" not in err


FAULTY = """id,age,size
=P1,61,3.25
P2,,secret
P3,40,2.5
P4,50,1e308
P5,"1,5",3
"""


def test_rows_that_cannot_be_predicted_have_a_line_each_and_an_empty_prediction(
    tmp_path: Path,
) -> None:
    model = logistic_model()
    model.save(tmp_path / "model.json")
    (tmp_path / "new.csv").write_text(FAULTY)
    code, out, err = fl_he(tmp_path, "predict", ".", "new.csv", "--id", "id")
    assert code == 1
    first, third = model.expected(np.array([[61, 3.25], [40, 2.5]])).tolist()
    assert out.splitlines() == [
        *("id,predicted,probability", f"=P1,sick,{first!r}", "P2,,"),
        *(f"P3,not sick,{third!r}", "P4,,", "P5,,"),
    ]
    assert err.splitlines() == [
        "fl-he: row 3 ('P2'): column 'age': missing cell; column 'size': cell of text",
        "fl-he: row 5 ('P4'): column 'size': cell too large",
        "fl-he: row 6 ('P5'): column 'age': decimal comma",
        "fl-he: 3 of 5 rows without a prediction (the header is row 1): correct their cells",
    ]
    again = fl_he(tmp_path, "predict", ".", "new.csv", "--id", "id", "--out", "p.csv")
    assert again == (1, "", err)
    assert (tmp_path / "p.csv").read_text() == out
    code, out, err = fl_he(tmp_path, "predict", ".", "new.csv")
    assert (code, out.splitlines()[:3:2]) == (1, ["predicted,probability", ","])
    assert err.startswith("fl-he: row 3: column 'age': missing cell; column 'size': cell of text\n")


def test_rows_of_which_none_can_be_predicted_are_refused_together(tmp_path: Path) -> None:
    known = logistic_model()
    PoissonModel(
        *(known.feature_names, known.mean, known.scale, known.coefficients, 0.1), exposure="years"
    ).save(tmp_path / "model.json")
    (tmp_path / "new.csv").write_text("age,size,years\n40,,1\n41,3,0\n")
    assert fl_he(tmp_path, "predict", ".", "new.csv") == (
        1,
        "",
        "fl-he: no row can be predicted: row 2: column 'size': missing cell; row 3: column "
        "'years': exposure other than a number from above 0 to 1e+14\n",
    )


def test_only_the_first_of_many_faulty_rows_are_told(tmp_path: Path) -> None:
    logistic_model().save(tmp_path / "model.json")
    rows = ["40,2.5", *["x,"] * 10, *["40,"] * 500]
    (tmp_path / "new.csv").write_text("\n".join(["age,size", *rows, ""]))
    code, out, err = fl_he(tmp_path, "predict", ".", "new.csv")
    told = err.splitlines()
    assert (code, len(out.splitlines()), len(told)) == (1, 512, 22)
    assert told[9] == "fl-he: row 12: column 'age': cell of text; column 'size': missing cell"
    assert told[19:] == [
        "fl-he: row 22: column 'size': missing cell",
        "fl-he: and 490 more rows",
        "fl-he: 510 of 511 rows without a prediction (the header is row 1): correct their cells",
    ]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_ids_are_kept_as_they_stand(tmp_path: Path, suffix: str) -> None:
    logistic_model().save(tmp_path / "model.json")
    frame = pl.DataFrame({"age": [61, 40, 50], "size": [3.0, 2.0, 3.0]})
    for ids in ([" =a;1", "", '"x",\ny'], [2**60 + 1, -3, 7]):
        table = frame.with_columns(pl.Series("id", ids))
        path = tmp_path / f"new.{suffix}"
        getattr(table, f"write_{suffix}")(path)
        code, out, err = fl_he(tmp_path, "predict", ".", path.name, "--id", "id")
        assert (code, err) == (0, "")
        rows = list(csv.DictReader(out.splitlines(keepends=True)))
        assert [row["id"] for row in rows] == [*map(str, ids)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "pid",
            "must have one column 'pid'; it has only 'age', 'size', 'probability'",
        ),
        ("probability", "--id must name another column than predicted, probability"),
    ],
)
def test_a_column_that_cannot_name_rows(tmp_path: Path, name: str, words: str) -> None:
    logistic_model().save(tmp_path / "model.json")
    (tmp_path / "new.csv").write_text("age,size,probability\n40,3,1\n")
    code, out, err = fl_he(tmp_path, "predict", ".", "new.csv", "--id", name)
    assert (code, out) == (1, "")
    assert words in err


@pytest.mark.parametrize(
    ("positive", "labels"),
    [
        (None, ["1", "0"]),
        ("1", ["1", "0"]),
        ("true", ["true", "false"]),
        ("yes", ["yes", "not yes"]),
        ("=A1", ["'=A1", "not =A1"]),
        ("Chance of Admit >= 0.7", ["Chance of Admit >= 0.7", "not Chance of Admit >= 0.7"]),
    ],
)
def test_labels_are_the_users(tmp_path: Path, positive: str | None, labels: list[str]) -> None:
    replace(logistic_model(), positive=positive).save(tmp_path / "model.json")
    (tmp_path / "new.csv").write_text("size,id,age\n3.25,a,61\n2.5,b,40\n")
    _, out, _ = fl_he(tmp_path, "predict", ".", "new.csv")
    assert [row["predicted"] for row in csv.DictReader(out.splitlines())] == labels


def test_names_of_classes_are_no_formulas(tmp_path: Path) -> None:
    model = replace(softmax_model(), classes=("=A1", "-2", "b"))
    model.save(tmp_path / "model.json")
    pl.DataFrame(WINE.features, schema=list(WINE.feature_names)).write_csv(tmp_path / "wine.csv")
    _, out, _ = fl_he(tmp_path, "predict", ".", "wine.csv")
    assert out.splitlines()[0] == "predicted,'=A1,-2,b"
    assert {row["predicted"] for row in csv.DictReader(out.splitlines())} == {"'=A1", "-2", "b"}


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    assert "model file must exist, got" in fl_he(tmp_path, "export", ".")[2]
    logistic_model().save(tmp_path / "model.json")
    code, _, err = fl_he(tmp_path, "export", ".", "--to", "R")
    assert code == 2
    assert "--to must be one of sklearn, got 'R'" in " ".join(err.split())


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
def test_a_pipeline_of_a_fitted_model_is_the_fitted_pipeline() -> None:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    data = load_built_in("breast_cancer")
    fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(data.features, data.labels)
    scaler, classifier = fitted
    model = LogisticModel(
        feature_names=data.feature_names,
        mean=scaler.mean_,
        scale=scaler.scale_,
        coefficients=classifier.coef_[0],
        intercept=float(classifier.intercept_[0]),
    )
    ours = to_pipeline(model)
    np.testing.assert_array_equal(
        ours.predict_proba(data.features), fitted.predict_proba(data.features)
    )


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ("converged", ""),
        (None, ""),
        (
            "not converged",
            "fl-he: warning: .: training ended before it converged, so the model is not the "
            "optimum: train it again, with more rounds\n",
        ),
        (
            "separated",
            "fl-he: warning: .: the classes of the training data are separated: without a penalty "
            "the model has no finite optimum, and coefficients that separate have no finite "
            "estimate; train it again with C=1.0 or, if there are two classes, with "
            "penalty=firth\n",
        ),
    ],
)
def test_a_model_that_is_no_optimum_is_warned_of(
    tmp_path: Path, training: str | None, said: str
) -> None:
    """Only model.json decides: a metrics.json next to it may be another run's."""
    replace(logistic_model(), training=training).save(tmp_path / "model.json")
    (tmp_path / "cases.csv").write_text("age,size\n50,3\n")
    metrics = make_metrics()
    metrics["rounds"][-1].update(converged=False, gradient_norm=0.25)
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    code, out, err = fl_he(tmp_path, "predict", ".", "cases.csv")
    assert (code, len(out.splitlines())) == (0, 2)
    assert " ".join(err.split()) == said.strip()


def test_probabilities_of_weighted_classes_are_warned_of(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("age,size\n50,3\n")
    for weighting, warned in (("balanced", True), ("equal", False), (None, False)):
        replace(logistic_model(), class_weight=weighting).save(tmp_path / "model.json")
        code, _, err = fl_he(tmp_path, "predict", ".", "cases.csv")
        assert code == 0
        assert ("no forecasts of the share of patients" in " ".join(err.split())) is warned
        assert bool(err) is warned


def test_biased_and_noisy_probabilities_are_warned_of_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text("age,size\n50,3\n")
    warned = {
        "Firth's penalty": "Firth's penalty biases probabilities towards 1/2, so those of rare",
        "differential privacy": "the noise and clipping of differential privacy are in the model",
    }
    for method in (*METHODS, None):
        replace(logistic_model(), method=method).save(tmp_path / "model.json")
        code, _, err = fl_he(tmp_path, "predict", ".", "cases.csv")
        assert code == 0
        assert len(err.splitlines()) == (method in warned)
        assert warned.get(method or "", "") in err


def test_a_run_in_the_hospitals_own_units_has_no_model_to_predict_with(tmp_path: Path) -> None:
    (tmp_path / "hospitals" / "hospital-1").mkdir(parents=True)
    logistic_model().save(tmp_path / "hospitals" / "hospital-1" / "model.json")
    (tmp_path / "cases.csv").write_text("age,size\n50,3\n")
    for command in (("predict", ".", "cases.csv"), ("export", ".")):
        code, out, err = fl_he(tmp_path, *command)
        assert (code, out) == (1, "")
        assert "with scaling=local the features of each hospital have units of their own" in err
        assert "name hospitals/NAME/model.json" in err
    assert fl_he(tmp_path, "predict", "hospitals/hospital-1", "cases.csv")[0] == 0


def test_columns_without_a_coefficient_need_not_be_there(tmp_path: Path) -> None:
    model = logistic_model()
    replace(model, coefficients=np.array([0.5, 0.0])).save(tmp_path / "model.json")
    (tmp_path / "without.csv").write_text("age\n50\n61\n")
    (tmp_path / "with.csv").write_text("size,age\nsmall,50\nlarge,61\n")
    found = [fl_he(tmp_path, "predict", "model.json", name) for name in ("without.csv", "with.csv")]
    assert found[0] == found[1]
    code, out, err = found[0]
    assert code == 0
    expected = 1 / (1 + np.exp(-(0.25 + 0.5 * np.array([0.0, 1.1]))))
    probabilities = [float(line.split(",")[1]) for line in out.splitlines()[1:]]
    np.testing.assert_allclose(probabilities, expected, rtol=1e-15)
    assert "model.json: not read, as without a coefficient: size. " in err
