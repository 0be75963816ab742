"""``fl-he predict --calibration``: predictions against the outcomes of a table."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from command_line import fl_he
from quick import slow
from sklearn import metrics

from fl_he.learning.regression.cox import CoxModel
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.learning.regression.poisson import PoissonModel
from fl_he.learning.regression.softmax import SoftmaxModel
from fl_he.learning.regression.trained import TrainedModel
from fl_he.learning.tables.schema.description import read_schema

RNG = np.random.default_rng(5)
ROWS = 120
AGE = RNG.normal(60.0, 10.0, ROWS)
KNOWN: dict[str, Any] = {
    "feature_names": ("age",),
    "mean": np.array([60.0]),
    "scale": np.array([10.0]),
    "coefficients": np.array([0.9]),
    "intercept": -0.3,
}
SICK = np.where(RNG.random(ROWS) < 0.45, "yes", "no")
TABLE = pl.DataFrame(
    {
        "id": [f"P{place}" for place in range(ROWS)],
        "age": AGE,
        "sick": SICK,
        "visits": RNG.poisson(2.0, ROWS),
        "years": RNG.uniform(0.5, 3.0, ROWS),
        "months": RNG.exponential(20.0, ROWS),
        "died": RNG.integers(0, 2, ROWS),
        "kind": RNG.choice(["a", "b", "c"], ROWS),
    }
)


def logistic() -> LogisticModel:
    return LogisticModel(**KNOWN, positive="yes")


def compared(folder: Path, model: TrainedModel, *more: str) -> dict[str, str]:
    """Return the figures of a comparison by their names."""
    model.save(folder / "model.json")
    TABLE.write_csv(folder / "new.csv")
    arguments = ("predict", ".", "new.csv", "--calibration", *more, "--format", "csv")
    code, out, err = fl_he(folder, *arguments)
    assert (code, err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(out)))
    return {f"{row['table'][:10]} {row['row']} {row['column']}": row["value"] for row in rows}


def test_classes_are_compared_and_predictions_go_to_a_file(tmp_path: Path) -> None:
    found = compared(tmp_path, logistic(), "--target", "sick", "--out", "p.csv")
    p, labels = logistic().expected(AGE[:, None]), SICK == "yes"
    assert found["Prediction observed value"] == str(labels.sum())
    assert found["Prediction expected value"] == f"{p.sum():.1f}"
    for name, value in (
        ("ROC AUC", metrics.roc_auc_score(labels, p)),
        ("Brier score", metrics.brier_score_loss(labels, p)),
        ("log loss", metrics.log_loss(labels, p)),
    ):
        assert found[f"Prediction {name} value"] == f"{value:.3f}"
    assert " to " in found["Prediction calibration slope 95% interval"]
    tenths = [value for key, value in found.items() if key.endswith(" rows")]
    assert tenths == ["12"] * 10
    assert len((tmp_path / "p.csv").read_text().splitlines()) == ROWS + 1


@pytest.mark.slow
def test_numbers_times_and_more_classes_are_compared(tmp_path: Path) -> None:
    poisson = PoissonModel(**KNOWN, exposure="years")
    found = compared(tmp_path, poisson, "--target", "visits")
    means = poisson.expected(AGE[:, None]) * TABLE["years"].to_numpy()
    assert found["Prediction observed value"] == str(TABLE["visits"].sum())
    assert found["Prediction expected value"] == f"{means.sum():.1f}"
    cox = CoxModel(**{**KNOWN, "intercept": 0.0})
    found = compared(tmp_path, cox, "--target", "months", "--event", "died")
    assert found["Prediction events value"] == str(TABLE["died"].sum())
    assert not any(key.endswith(" expected") for key in found)
    three = SoftmaxModel(
        *(KNOWN["feature_names"], KNOWN["mean"], KNOWN["scale"]),
        np.array([[0.1], [0.3], [-0.2]]),
        np.zeros(3),
        ("a", "b", "c"),
    )
    found = compared(tmp_path, three, "--target", "kind")
    assert found["Each class b observed"] == str((TABLE["kind"] == "b").sum())


def test_rows_without_an_outcome_or_a_prediction_are_left_out(tmp_path: Path) -> None:
    logistic().save(tmp_path / "model.json")
    rows = pl.int_range(ROWS)
    TABLE.with_columns(
        sick=pl.when(rows < 3).then(None).otherwise("sick"),
        age=pl.when((rows > 1) & (rows < 7)).then(None).otherwise("age"),
    ).write_csv(tmp_path / "new.csv")
    arguments = ("predict", ".", "new.csv", "--calibration", "--target", "sick")
    code, out, err = fl_he(tmp_path, *arguments)
    text = " ".join(out.split())
    assert code == 1
    assert "113 rows of new.csv. Computed on this machine from the table's own outcomes: " in text
    assert "nothing leaves it. Left out: 3 rows without outcome. " in text
    assert "Left out: 4 rows without prediction. " in text
    assert "ROC AUC" in text
    assert "5 of 120 rows without a prediction" in err
    code, out, _ = fl_he(tmp_path, *arguments, "--format", "md")
    assert (code, out.startswith("<!-- Made by fl-he")) == (1, True)
    assert f"| observed | {(SICK[7:] == 'yes').sum()} |" in out


@pytest.mark.slow
def test_a_schema_names_the_outcome(tmp_path: Path) -> None:
    text = "{columns: {age: {type: number}}, outcome: {column: sick, positive: yes}}"
    (tmp_path / "schema.yaml").write_text(text)
    digest = read_schema(tmp_path / "schema.yaml").digest
    found = compared(tmp_path, replace(logistic(), schema=digest))
    assert found == compared(tmp_path, replace(logistic(), schema=digest), "--out", "p.csv")
    arguments = ("predict", ".", "new.csv", "--calibration", "--target", "sick")
    code, _, err = fl_he(tmp_path, *arguments)
    assert (code, "must be left out: the schema names the outcome" in err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--calibration",), "must come with --target alone: the model file does not say"),
        (("--calibration", "--target", "kind"), "target 'kind' must have two classes, got 3"),
        (("--target", "sick"), "--target, --event and --format must come with --calibration"),
        *slow(
            (("--calibration", "--target", "x", "--event", "y"), "must come with --target alone"),
            (("--calibration", "--target", "age"), "target 'age' must have two classes"),
            (("--calibration", "--target", "died"), "positive must be one of the two classes"),
            (("--calibration", "--target", ""), "the outcome cannot be read"),
            (("--calibration", "--target", "gone"), "column 'gone': missing"),
            (("--format", "md"), "--target, --event and --format must come with --calibration"),
        ),
    ],
)
def test_what_cannot_be_compared(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    logistic().save(tmp_path / "model.json")
    TABLE.write_csv(tmp_path / "new.csv")
    code, out, err = fl_he(tmp_path, "predict", ".", "new.csv", *arguments, "--out", "p.csv")
    assert (code, out) == (1, "")
    assert words in err
    assert not (tmp_path / "p.csv").exists()
