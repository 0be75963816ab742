"""Tables as hospitals have them, federated by a schema, against statsmodels on the pooled rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import skops.io
import statsmodels.api as sm
from command_line import fl_he
from experiments import experiment, on_round
from patients import raw_patients

from fl_he import simulation
from fl_he.capc.data import capc_data
from fl_he.config.composition import compose
from fl_he.config.constraints import ConfigError
from fl_he.experiment.data import FewDataWarning
from fl_he.learning.errors import DataError, DataWarning
from fl_he.learning.tables.schema.application import features_by_schema
from fl_he.learning.tables.schema.description import read_schema
from fl_he.run_files.checkpoint import CheckpointError
from fl_he.wire.events import Listener

PLAIN = """
columns:
  age: {type: number}
  male: {type: boolean}
  bmi: {type: number}
  crp: {type: number}
outcome: {column: died, positive: yes}
"""
RAW = """
columns:
  age: {type: number, unit: years, bounds: [0, 120]}
  sex: {type: category, levels: [F, M], reference: F}
  bmi: {type: number}
  crp: {type: number}
  icd10: {type: category, levels: [C50.1, E11.9, I21.0, J44.1]}
  smoker: {type: category, levels: [no, unknown, yes]}
  admitted: {type: date, since: 2023-01-01}
outcome: {column: died, positive: yes}
terms: age + sex + bmi + crp + icd10 + smoker
"""
#: Of statsmodels 0.14 on the pooled rows.
RAW_ESTIMATES = {
    **{"age": 0.031135, "sex[M]": 0.464588, "bmi": 0.077738, "crp": 0.026189},
    **{"icd10[E11.9]": -0.279443, "icd10[I21.0]": -0.514865, "icd10[J44.1]": -0.363468},
    **{"smoker[unknown]": -0.075192, "smoker[yes]": -0.224483},
}
PLAIN_ESTIMATES = {"age": 0.031397, "male": 0.461500, "bmi": 0.076555, "crp": 0.024789}
HOLES = np.arange(900) % 37 == 5
PATIENTS = pl.DataFrame(raw_patients(900, 0.15, 1))
DIED = (PATIENTS["died"] == "yes").to_numpy()
NUMERIC = PATIENTS.select("patient_id", "age", "male", "bmi", "crp", "died")


def fitted(
    folder: Path, table: str, schema: str, *settings: str, on_event: Listener = lambda _: None
) -> dict[str, Any]:
    """Return metrics.json of a federation of three hospitals, fitted without a penalty."""
    (folder / "schema.yaml").write_text(schema)
    config = experiment(
        *("experiment=inference", "simulation.engine=local", "data=csv"),
        *(f"data.path={folder}/{table}", f"data.schema={folder}/schema.yaml", *settings),
        folder=folder / "run",
    )
    return simulation.run(config, folder / "run", on_event)


def estimates(metrics: dict[str, Any]) -> dict[str, float]:
    rows = metrics["inference"]["coefficients"]
    return {row["name"]: row["estimate"] for row in rows if row["name"] != "(intercept)"}


def check_pooled(metrics: dict[str, Any], design: dict[str, np.ndarray], died: np.ndarray) -> None:
    """Hold the estimates against statsmodels' on the pooled rows."""
    X = sm.add_constant(np.column_stack([*design.values()]).astype(float))
    fit = sm.Logit(died, X).fit(disp=False, tol=1e-13)
    assert list(estimates(metrics)) == list(design)
    np.testing.assert_allclose([*estimates(metrics).values()], fit.params[1:], rtol=0, atol=1e-6)


def write(folder: Path, name: str, frame: pl.DataFrame) -> None:
    """Write a table in the form that its name asks for."""
    match name:
        case "raw.parquet":
            frame.with_columns(
                pl.col("sex", "icd10").cast(pl.Categorical), pl.col("admitted").str.to_date()
            ).write_parquet(folder / name)
        case "semicolon.csv":
            text = frame.write_csv(separator=";").replace(".", ",")
            (folder / name).write_text(text)
        case "latin1.csv":
            text = frame.rename({"crp": "CRP Größe µg/l"}).write_csv()
            (folder / name).write_bytes(text.encode("latin-1"))
        case _:
            frame.write_csv(folder / name, separator="\t" if name == "tab.tsv" else ",")


@pytest.mark.parametrize("name", ["raw.csv", "raw.parquet"])
def test_categories_and_dates_need_no_preparation(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, PATIENTS)
    metrics = fitted(tmp_path, name, RAW)
    found = estimates(metrics)
    assert metrics["reference_levels"] == {"sex": "F", "icd10": "C50.1", "smoker": "no"}
    assert list(found) == list(RAW_ESTIMATES)
    np.testing.assert_allclose([*found.values()], [*RAW_ESTIMATES.values()], rtol=0, atol=1e-6)


PRIVATE = (
    *("privacy=gaussian", "privacy.epsilon=1", "privacy.delta=1e-5", "privacy.clip=1"),
    *("optimizer=gd", "rounds=3", "C=1.0", "scaling=none", "privacy.scaling=0.5"),
)
FORMS = {
    "semicolon.csv": "reading: {separator: ;, decimal: ','}",
    "latin1.csv": "reading: {encoding: latin-1}",
    "tab.tsv": "reading: {separator: tab}",
}


@pytest.mark.parametrize("name", FORMS)
def test_files_are_read_as_their_form_is_declared(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, NUMERIC)
    schema = PLAIN.replace("crp: {", "crp: {aliases: [CRP Größe µg/l], ") + FORMS[name]
    found = estimates(fitted(tmp_path, name, schema))
    np.testing.assert_allclose([*found.values()], [*PLAIN_ESTIMATES.values()], rtol=0, atol=1e-6)
    assert list(found) == list(PLAIN_ESTIMATES)


@pytest.mark.parametrize("policy", ["drop-row", "indicator"])
@pytest.mark.parametrize(("name", "mark"), [("missing", None), ("na", "NA"), ("censored", "<0.3")])
def test_a_declared_policy_treats_missing_cells(
    tmp_path: Path, name: str, mark: str | None, policy: str
) -> None:
    holes = NUMERIC.with_columns(
        pl.when(pl.Series(HOLES))
        .then(pl.lit(mark))
        .otherwise(pl.col("crp").cast(pl.String))
        .alias("crp")
    )
    write(tmp_path, f"{name}.csv", holes)
    schema = PLAIN.replace("crp: {", f"crp: {{missing: {policy}, ")
    with pytest.warns(DataWarning, match="left out" if policy == "drop-row" else r"crp\[missing\]"):
        metrics = fitted(tmp_path, f"{name}.csv", f'{schema}reading: {{na_values: ["<0.3"]}}')
    kept = ~HOLES if policy == "drop-row" else np.full(900, fill_value=True)
    assert metrics["rows"] == {"kept": kept.sum(), "left_out": 900 - kept.sum()}
    assert metrics["reference_levels"] == {}
    design = {one: NUMERIC[one].to_numpy()[kept] for one in PLAIN_ESTIMATES}
    if policy == "indicator":
        design |= {"crp": np.where(HOLES, 0.0, design["crp"]), "crp[missing]": HOLES}
    check_pooled(metrics, design, DIED[kept])


def test_terms_of_a_formula_are_those_of_the_pooled_model(tmp_path: Path) -> None:
    write(tmp_path, "raw.csv", PATIENTS)
    terms = "age*sex + log(crp) + spline(bmi, knots=[20, 25, 30, 35]) + admitted"
    schema = RAW.replace("terms: age + sex + bmi + crp + icd10 + smoker", f"terms: {terms}")
    age, bmi, crp = (PATIENTS[name].to_numpy() for name in ("age", "bmi", "crp"))
    male, first = (PATIENTS["sex"] == "M").to_numpy(), np.datetime64("2023-01-01")
    days = (PATIENTS["admitted"].to_numpy().astype("datetime64[D]") - first).astype(float)

    def bend(knot: float) -> np.ndarray:
        def cube(at: float) -> np.ndarray:
            return np.clip(bmi - at, 0, None) ** 3

        rest = cube(30) * (35 - knot) / 5 - cube(35) * (30 - knot) / 5
        return np.asarray((cube(knot) - rest) / 15**2)

    design = {
        **{"age": age, "sex[M]": male, "log(crp)": np.log(crp), "spline(bmi)[1]": bmi},
        **{"spline(bmi)[2]": bend(20), "spline(bmi)[3]": bend(25), "admitted": days},
        "age:sex[M]": age * male,
    }
    check_pooled(fitted(tmp_path, "raw.csv", schema), design, DIED)


def test_sites_differ_in_form_order_and_further_columns(tmp_path: Path) -> None:
    sizes = {"site1.csv": (3000, 0.15), "site2.csv": (400, 0.3), "site3.parquet": (60, 0.1)}
    tables = [
        pl.DataFrame(raw_patients(*size, 10 + number)).drop("patient_id")
        for number, size in enumerate(sizes.values(), start=1)
    ]
    tables[0].write_csv(tmp_path / "site1.csv")
    other = tables[1].select(pl.lit("ä").alias("note"), *tables[1].columns[::-1])
    text = other.rename({"crp": "CRP"}).write_csv(separator=";").replace(".", ",")
    (tmp_path / "site2.csv").write_bytes(text.encode("latin-1"))
    tables[2].write_parquet(tmp_path / "site3.parquet")
    (tmp_path / "site2.yaml").write_text("{separator: ;, decimal: ',', encoding: latin-1}")
    path = f"data.path=[{','.join(f'{tmp_path}/{name}' for name in sizes)}]"
    schema = PLAIN.replace("crp: {", "crp: {aliases: [CRP], ")
    reading = f"data.reading=['',{tmp_path}/site2.yaml,'']"
    found = estimates(fitted(tmp_path, "", schema, path, reading))
    expected = {"age": 0.035393, "male": 0.491722, "bmi": 0.046439, "crp": 0.028983}
    assert list(found) == list(expected)
    np.testing.assert_allclose([*found.values()], [*expected.values()], rtol=0, atol=1e-6)
    with pytest.raises(ConfigError, match=r"data\.reading must come with data\.schema and have"):
        fitted(tmp_path, "", schema, path, f"data.reading=[{tmp_path}/site2.yaml]")
    absent = f"data.reading=[{tmp_path}/nope.yaml,'','']"
    with pytest.raises(DataError, match=r"^data\.reading=.*nope\.yaml: the reading file must be"):
        fitted(tmp_path, "", schema, path, absent)
    with pytest.raises(DataError, match=r"site2\.csv: .* in a reading file \(data\.reading\), or"):
        fitted(tmp_path, "", schema, path)
    bounded = schema.replace("bmi: {", "bmi: {bounds: [0, 1], ")
    faults = "column 'bmi': 3000 cells .*site2.csv: .*400 cells .*site3.parquet: .* 60 cells"
    with pytest.raises(DataError, match=rf"site1.csv: {faults}"):
        fitted(tmp_path, "", bounded, path, reading, "seed=2")


def test_a_column_of_sites_is_read_in_the_declared_form(tmp_path: Path) -> None:
    sites = np.where(np.arange(900) % 3 == 0, "north", np.where(np.arange(900) % 3 == 1, "w", "e"))
    frame = NUMERIC.with_columns(site=pl.Series(sites))
    write(tmp_path, "semicolon.csv", frame)
    schema = PLAIN + FORMS["semicolon.csv"]
    metrics = fitted(tmp_path, "semicolon.csv", schema, "partition=column", "partition.column=site")
    assert metrics["config"]["partition"]["sites"] == ["e", "north", "w"]
    found = estimates(metrics)
    np.testing.assert_allclose([*found.values()], [*PLAIN_ESTIMATES.values()], rtol=0, atol=1e-6)
    for column in ("male", "died"):
        settings = ("partition=column", f"partition.column={column}")
        with pytest.raises(DataError, match=f"must be no column of the schema.* got '{column}'"):
            fitted(tmp_path, "semicolon.csv", schema, *settings)


def test_a_site_whose_rows_are_all_left_out_is_named(tmp_path: Path) -> None:
    site = np.where(np.arange(900) < 5, "tiny", np.where(np.arange(900) < 400, "north", "south"))
    crp = pl.when(pl.int_range(900) < 5).then(None).otherwise("crp").alias("crp")
    write(tmp_path, "all.csv", NUMERIC.with_columns(crp, site=pl.Series(site)))
    schema = PLAIN.replace("crp: {", "crp: {missing: drop-row, ")
    with pytest.raises(
        DataError, match=r"'site' must have rows .*; sites without: 'tiny'. Fill cells"
    ):
        fitted(tmp_path, "all.csv", schema, "partition=column", "partition.column=site")


@pytest.mark.slow
def test_a_saved_model_predicts_a_raw_table_by_the_runs_schema(tmp_path: Path) -> None:
    write(tmp_path, "raw.csv", PATIENTS)
    fitted(tmp_path, "raw.csv", RAW)
    names = ("sex[M]", "icd10[E11.9]", "icd10[I21.0]", "icd10[J44.1]")
    pairs = [name.rstrip("]").split("[") for name in (*names, "smoker[unknown]", "smoker[yes]")]
    X = [PATIENTS[name].to_numpy() for name in ("age", "bmi", "crp")]
    X += [(PATIENTS[name] == level).to_numpy() for name, level in pairs]
    design = sm.add_constant(np.column_stack(X).astype(float))
    expected = sm.Logit(DIED, design).fit(disp=False, tol=1e-13).predict(design)
    shuffled = PATIENTS.select(*PATIENTS.columns[::-1]).drop("died", "male")
    shuffled.write_csv(tmp_path / "new.csv", separator="|")
    (tmp_path / "reading.yaml").write_text("{separator: '|'}")
    new = ("new.csv", "--reading", "reading.yaml")
    of_schema = (*new, "--schema", "schema.yaml")
    hospital = "run/hospitals/hospital-1"
    runs = (("run", "raw.csv"), (hospital, "raw.csv"), ("run", *new), ("run", *of_schema))
    for arguments in runs:
        code, out, err = fl_he(tmp_path, "predict", *arguments)
        assert (code, err, out.splitlines()[0]) == (0, "", "predicted,probability")
        found = [float(line.split(",")[1]) for line in out.splitlines()[1:]]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    code, out, err = fl_he(tmp_path, "predict", "run", "new.csv")
    assert (code, out) == (1, "")
    assert "got bars: declare separator in a reading file (--reading), or save the table" in err
    (tmp_path / "schema.yaml").write_text(RAW.replace("reference: F", "reference: M"))
    code, out, err = fl_he(tmp_path, "predict", "run", *of_schema)
    assert (code, out) == (1, "")
    assert "schema.yaml must be the schema of the model's training, " in err
    of_run = tmp_path / "run" / "schema.yaml"
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "model.json").write_text((tmp_path / "run" / "model.json").read_text())
    code, out, err = fl_he(tmp_path, "predict", "alone/model.json", "raw.csv")
    digest = read_schema(of_run).digest
    assert (code, out) == (1, "")
    assert f"was trained by the schema {digest[:16]}: name its file with --schema" in err
    for name in ("model.json", "hospitals/hospital-1/model.json"):
        assert json.loads((tmp_path / "run" / name).read_text())["schema"] == digest
    original = of_run.read_text()
    of_run.write_text(original.replace("2023-01-01", "2022-01-01"))
    code, out, err = fl_he(tmp_path, "predict", "run", "raw.csv")
    assert (code, out) == (1, "")
    assert f"must be the schema of the model's training, {digest[:16]}, got" in err
    content = json.loads((tmp_path / "alone" / "model.json").read_text())
    del content["schema"], content["imputed"]
    (tmp_path / "alone" / "model.json").write_text(json.dumps(content | {"version": 6}))
    code, out, err = fl_he(
        tmp_path, "predict", "alone/model.json", "raw.csv", "--schema", str(of_run)
    )
    assert (code, "only the names of its features were compared" in err) == (0, True)
    of_run.write_text(original)
    code, out, err = fl_he(tmp_path, "export", "run")
    takes = "It takes the columns of the schema's terms: docs/schema.md"
    assert (code, out, err) == (0, f"run/model.skops: read it with skops.io.load. {takes}\n", "")
    pipeline = skops.io.load(tmp_path / "run" / "model.skops")
    for table, reading in (("raw.csv", None), ("new.csv", tmp_path / "reading.yaml")):
        schema = read_schema(of_run, reading)
        features, columns, _ = features_by_schema(tmp_path / table, schema)
        assert [*pipeline.feature_names_in_] == [*columns]
        of_pipeline = pipeline.predict_proba(pl.DataFrame(features, schema=[*columns]))[:, 1]
        np.testing.assert_allclose(of_pipeline, found, rtol=1e-13)


def test_cells_that_nobody_had_in_training_are_warned_of_in_predictions(tmp_path: Path) -> None:
    """A level of nobody, a level of all, a constant number and an alias have no coefficient."""
    frame = NUMERIC.with_columns(sex=pl.lit("M"), stage=pl.lit(2.3), crp2=pl.col("crp") * 2)
    frame = frame.with_columns(
        smoker=pl.when(pl.col("age") > 60).then(pl.lit("a")).otherwise(pl.lit("b"))
    )
    write(tmp_path, "raw.csv", frame)
    more = """
  smoker: {type: category, levels: [a, b, never]}
  sex: {type: category, levels: [F, M]}
  stage: {type: number}
  crp2: {type: number}
outcome"""
    fitted(tmp_path, "raw.csv", PLAIN.replace("\noutcome", more))
    old = frame.head(4)
    rows = pl.int_range(4)
    new = old.with_columns(
        smoker=pl.when(rows < 1).then(pl.lit("never")).otherwise("smoker"),
        sex=pl.when(rows < 2).then(pl.lit("F")).otherwise("sex"),
        stage=pl.when(rows < 3).then(2.4).otherwise("stage"),
    )
    said = {}
    for name, table in (("old.csv", old), ("new.csv", new)):
        table.write_csv(tmp_path / name)
        code, _, err = fl_he(tmp_path, "predict", "run", name)
        assert code == 0
        said[name] = " ".join(err.split())
    named = "run: without effect, as without a coefficient: "
    assert f"{named}crp2 (4 rows). Columns that did not vary in training" in said["old.csv"]
    levels = "smoker[never] (1 row), sex[M] (2 rows), stage (3 rows) and crp2 (4 rows). "
    assert named + levels in said["new.csv"]


def test_an_outcome_of_one_class_is_refused_by_the_schemas_words(tmp_path: Path) -> None:
    write(tmp_path, "raw.csv", NUMERIC.with_columns(died=pl.lit("no")))
    with pytest.raises(DataError) as refusal:
        fitted(tmp_path, "raw.csv", PLAIN)
    assert str(refusal.value) == (
        "the outcome 'died' must hold both classes; none of 900 rows have 'yes'; correct "
        "outcome in the schema"
    )


def test_identifiers_are_left_out_in_the_schema(tmp_path: Path) -> None:
    write(tmp_path, "raw.csv", NUMERIC.with_columns(number=pl.int_range(900) + 1_000_000))
    schema = PLAIN.replace("  crp:", "  number: {type: integer}\n  crp:")
    with pytest.warns(FewDataWarning, match=r"'number' is a feature .* \(terms of the schema\)"):
        fitted(tmp_path, "raw.csv", schema)


def test_no_row_is_left_out_under_privacy(tmp_path: Path) -> None:
    write(tmp_path, "raw.csv", NUMERIC)
    schema = PLAIN.replace("crp: {", "crp: {missing: drop-row, ")
    with pytest.raises(DataError, match="drop-row must be left out of a schema with privacy"):
        fitted(tmp_path, "raw.csv", schema, *PRIVATE)


def test_a_simulation_of_capc_reads_its_table_by_the_schema(tmp_path: Path) -> None:
    write(tmp_path, "raw.csv", PATIENTS)
    (tmp_path / "schema.yaml").write_text(RAW)
    tables = ("data=csv", f"data.path={tmp_path}/raw.csv", f"data.schema={tmp_path}/schema.yaml")
    data = capc_data(experiment("experiment=capc_breast_cancer", *tables, folder=tmp_path))
    parts = [*data.parties, *data.pools.values(), data.test]
    assert {part.features.shape[1] for part in parts} == {len(RAW_ESTIMATES)}


def test_the_report_names_the_schemas_outcome(tmp_path: Path) -> None:
    write(tmp_path, "raw.csv", PATIENTS)
    metrics = fitted(tmp_path, "raw.csv", RAW)
    assert metrics["inference"]["outcome"] == "died = yes"
    copy = read_schema(tmp_path / "run" / "schema.yaml")
    assert copy.digest == read_schema(tmp_path / "schema.yaml").digest


def test_all_faults_are_told_before_anything_is_computed(tmp_path: Path) -> None:
    spoiled = PATIENTS.with_columns(age=pl.col("age") * 2, sex=pl.col("sex").replace("F", "?"))
    write(tmp_path, "raw.csv", spoiled.drop("bmi"))
    with pytest.raises(DataError) as refusal:
        fitted(tmp_path, "raw.csv", RAW)
    for words in ("'age': ", "outside 0 to 120 years", "'sex': ", "level", "'bmi': missing"):
        assert words in str(refusal.value)


@pytest.mark.parametrize("key", ["target", "positive", "threshold", "classes", "drop"])
def test_what_the_schema_describes_is_left_out_elsewhere(tmp_path: Path, key: str) -> None:
    value = {"threshold": "1", "classes": "[a,b,c]", "drop": "[a]"}.get(key, "died")
    with pytest.raises(ConfigError, match=f"data.{key} must be left out with data.schema"):
        fitted(tmp_path, "raw.csv", RAW, f"data.{key}={value}")


def test_a_schema_is_of_a_table_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.schema must be left out for data=breast_cancer"):
        experiment("data.schema=schema.yaml", folder=tmp_path)


def test_a_run_is_resumed_with_its_own_schema(tmp_path: Path) -> None:
    write(tmp_path, "raw.csv", PATIENTS)

    def stop(entry: Mapping[str, Any]) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        fitted(tmp_path, "raw.csv", RAW, on_event=on_round(stop))
    config = compose("config", [f"resume={tmp_path}/run"])
    (tmp_path / "schema.yaml").write_text(RAW.replace("2023-01-01", "2022-01-01"))
    with pytest.raises(CheckpointError, match="the schema must be as in the run that is resumed"):
        simulation.run(config, tmp_path / "run")
    (tmp_path / "schema.yaml").write_text(f"# the same\n{RAW}")
    found = estimates(simulation.run(config, tmp_path / "run"))
    np.testing.assert_allclose([*found.values()], [*RAW_ESTIMATES.values()], rtol=0, atol=1e-6)
