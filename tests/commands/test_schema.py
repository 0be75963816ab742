"""``fl-he schema`` and ``fl-he check``: a draft from a table, and all of a table's faults."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from command_line import fl_he
from patients import raw_patients

from fl_he.learning.errors import DataError
from fl_he.learning.tables.schema.application import check_table, load_by_schema
from fl_he.learning.tables.schema.description import Schema, schema_of
from fl_he.learning.tables.schema.draft import draft_schema
from fl_he.learning.tables.schema.yaml_text import parse_yaml

PATIENTS = pl.DataFrame(raw_patients(300, 0.3, 1))


def drafted(path: Path, frame: pl.DataFrame, target: str | None = "died") -> tuple[Schema, str]:
    frame.write_csv(path)
    text = draft_schema(path, target, 5)
    return schema_of(parse_yaml(text)), text


def kinds(schema: Schema) -> dict[str, str]:
    return {name: column.type for name, column in schema.columns.items()}


def test_a_draft_reads_its_own_table(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    schema, text = drafted(path, PATIENTS)
    assert kinds(schema) == {
        **{"patient_id": "drop", "age": "number", "male": "boolean", "bmi": "number"},
        **{"crp": "number", "sex": "category", "icd10": "category", "smoker": "category"},
        "admitted": "date",
    }
    assert schema.columns["smoker"].levels == ("no", "unknown", "yes")
    assert (schema.outcome.column, schema.outcome.positive) == ("died", "yes")
    assert check_table(path, schema).faults == ()
    assert load_by_schema(path, schema).examples == 300
    assert "P00001" not in text


def test_a_text_of_few_rows_or_many_values_is_not_shown(tmp_path: Path) -> None:
    rows = np.arange(300)
    frame = PATIENTS.select("age", "died").with_columns(
        rare=pl.Series(np.where(rows < 4, "Zaphod", "common")),
        fewer=pl.Series(np.where(rows < 5, "level", "common")),
        many=pl.Series([f"v{row % 31}" for row in rows]),
        thirty=pl.Series([f"v{row % 30}" for row in rows]),
    )
    schema, text = drafted(tmp_path / "table.csv", frame)
    found = kinds(schema)
    assert (found["rare"], found["many"]) == ("drop", "drop")
    assert schema.columns["fewer"].levels == ("common", "level")
    assert len(schema.columns["thirty"].levels) == 30
    assert "Zaphod" not in text
    assert "v30" not in text


def test_an_identifier_is_dropped_and_the_rarer_label_counts_as_one(tmp_path: Path) -> None:
    frame = PATIENTS.select("age", "died").with_columns(
        number=pl.int_range(300) + 1_000_000,
        visits=pl.int_range(300) % 50,
        died=pl.Series(np.where(np.arange(300) < 60, "ja", "nein")),
    )
    schema, text = drafted(tmp_path / "table.csv", frame)
    assert kinds(schema) == {"age": "number", "number": "drop", "visits": "integer"}
    assert "number: {type: drop}  # whole numbers that almost all differ: an identifier?" in text
    assert schema.outcome.positive == "ja"


def test_rare_labels_are_not_shown(tmp_path: Path) -> None:
    died = np.where(np.arange(300) < 4, "Zaphod", "no")
    schema, text = drafted(tmp_path / "table.csv", PATIENTS.with_columns(died=pl.Series(died)))
    assert schema.outcome.positive is None
    assert "Zaphod" not in text
    schema, _ = drafted(tmp_path / "table.csv", PATIENTS.with_columns(died=pl.Series(died == "no")))
    assert schema.outcome.positive is None


def test_without_a_target_the_outcome_is_left_open(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    PATIENTS.write_csv(path)
    text = draft_schema(path, None, 5)
    with pytest.raises(DataError, match="outcome: column: must be a name"):
        schema_of(parse_yaml(text))
    with pytest.raises(DataError, match=r"target must be one of the columns .*, got 'dead'"):
        draft_schema(path, "dead", 5)


def test_words_among_numbers_are_proposed_as_missing(tmp_path: Path) -> None:
    rows, crp = np.arange(300), PATIENTS["crp"].cast(pl.String).to_numpy()
    crp = np.where(rows % 20 == 1, "<0.3", crp)
    frame = PATIENTS.with_columns(
        crp=pl.Series(crp),
        bmi=pl.Series(np.where(rows == 3, "Zaphod", PATIENTS["bmi"].cast(pl.String).to_numpy())),
        age=pl.Series(np.where(rows == 4, "", PATIENTS["age"].cast(pl.String).to_numpy())),
    )
    path = tmp_path / "table.csv"
    schema, text = drafted(path, frame)
    assert schema.reading.na_values == ("<0.3",)
    assert (kinds(schema)["crp"], kinds(schema)["bmi"]) == ("number", "number")
    assert "Zaphod" not in text
    faults = [fault.words for fault in check_table(path, schema).faults]
    assert [words.partition(":")[0] for words in faults] == [
        "column 'age'",
        "column 'bmi'",
        "column 'crp'",
    ]


@pytest.mark.parametrize("name", ["semicolon.csv", "latin.csv", "tab.tsv", "utf16.txt", "p.csv.gz"])
def test_the_form_of_a_file_is_guessed(tmp_path: Path, name: str) -> None:
    frame = PATIENTS.rename({"crp": "CRP Größe"} if name == "latin.csv" else {})
    separator = {"semicolon.csv": ";", "tab.tsv": "\t"}.get(name, ",")
    text = frame.write_csv(separator=separator)
    if name == "semicolon.csv":
        text = text.replace(".", ",")
    encoding = {"latin.csv": "latin-1", "utf16.txt": "utf-16"}.get(name, "utf-8")
    content = text.encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    schema = schema_of(parse_yaml(draft_schema(tmp_path / name, "died", 5)))
    found = load_by_schema(tmp_path / name, schema)
    expected, _ = drafted(tmp_path / "table.csv", PATIENTS)
    features = load_by_schema(tmp_path / "table.csv", expected).features
    np.testing.assert_array_equal(found.features, features)


def test_parquet_is_drafted_by_its_types(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    PATIENTS.with_columns(
        pl.col("admitted").str.to_date(), pl.col("icd10").cast(pl.Categorical)
    ).write_parquet(path)
    schema = schema_of(parse_yaml(draft_schema(path, "died", 5)))
    assert (kinds(schema)["admitted"], kinds(schema)["icd10"]) == ("date", "category")
    assert check_table(path, schema).faults == ()


def test_the_commands_print_a_draft_and_all_faults(tmp_path: Path) -> None:
    PATIENTS.write_csv(tmp_path / "table.csv")
    code, out, err = fl_he(tmp_path, "schema", "table.csv", "--target", "died")
    assert (code, err) == (0, "")
    (tmp_path / "schema.yaml").write_text(out)
    code, out, err = fl_he(tmp_path, "check", "table.csv", "--schema", "schema.yaml")
    assert (code, err) == (0, "")
    assert "table.csv: 300 rows, no fault; schema " in out
    spoiled = PATIENTS.with_columns(
        sex=pl.when(pl.int_range(300) == 7).then(pl.lit("Zaphod")).otherwise("sex"),
        bmi=pl.when(pl.int_range(300) == 8).then(None).otherwise("bmi"),
        other=pl.lit(1),
    )
    spoiled.write_csv(tmp_path / "table.csv")
    code, out, err = fl_he(tmp_path, "check", "table.csv", "--schema", "schema.yaml")
    assert code == 1
    lines = out.splitlines()
    assert lines[0] == "not read, as the schema does not name it: column 'other'"
    assert lines[1].startswith("column 'bmi': 1 missing cell, in row 10: fill them in, or declare")
    assert lines[2].startswith("column 'sex': 1 cell without a declared level, in row 9: correct")
    assert lines[3].startswith("table.csv: 300 rows, 2 faults; schema ")
    assert "Zaphod" not in out + err
    PATIENTS.write_csv(tmp_path / "table.csv", separator=";")
    code, out, err = fl_he(tmp_path, "check", "table.csv", "--schema", "schema.yaml")
    assert (code, out) == (1, "")
    assert "declare separator in the schema's reading or a reading file (--reading), or" in err


def test_a_schema_with_faults_is_refused_in_one_line(tmp_path: Path) -> None:
    PATIENTS.write_csv(tmp_path / "table.csv")
    (tmp_path / "schema.yaml").write_text("columns: {age: {typ: number}}\noutcome: {column: died}")
    code, out, err = fl_he(tmp_path, "check", "table.csv", "--schema", "schema.yaml")
    assert (code, out) == (1, "")
    assert err.startswith("fl-he: column 'age': type: must be given; column 'age': has no setting")
    assert len(err.splitlines()) == 1
