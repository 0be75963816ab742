"""Deployed hospitals whose files differ, read by one schema under a study plan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import statsmodels.api as sm
from deployed_nodes import enrolled_nodes
from experiments import experiment
from federation_processes import Processes
from flwr.app.user_config import UserConfig
from local_grid import LocalGrid
from patients import raw_patients

from fl_he import client_app, server_app
from fl_he.clients.node.deployed import DeployedNode
from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config
from fl_he.errors import FlHeError
from fl_he.experiment.plan import drafted
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.wire.records import ProtocolError
from fl_he.wire.study_plan import StudyPlan, plain_words

SCHEMA = """
columns:
  age: {type: number, bounds: [0, 120], aliases: [Alter]}
  sex: {type: category, levels: [F, M]}
  crp: {type: number, missing: drop-row}
  smoker: {type: category, levels: [no, yes, unknown]}
outcome: {column: died, positive: yes}
terms: age*sex + log(crp) + smoker
"""
FEATURES = ("age", "sex[M]", "log(crp)", "smoker[yes]", "smoker[unknown]", "age:sex[M]")
TABLES = [pl.DataFrame(raw_patients(rows, 0.3, rows)) for rows in (300, 200, 120)]
OF_SCHEMA = ("target", "positive")


def holed(frame: pl.DataFrame) -> pl.DataFrame:
    holes = pl.int_range(frame.height) % 20 == 3
    crp = pl.col("crp").cast(pl.String)
    return frame.with_columns(pl.when(holes).then(pl.lit("NA")).otherwise(crp).alias("crp"))


def plan_for(folder: Path, *overrides: str) -> StudyPlan:
    """Draft a plan from a table of which only the columns matter."""
    (folder / "schema.yaml").write_text(SCHEMA)
    TABLES[0].write_csv(folder / "columns.csv")
    config = experiment(
        *("data=csv", f"data.path={folder}/columns.csv", f"data.schema={folder}/schema.yaml"),
        *("optimizer=newton", "C=null", "rounds=20", "hospitals=3", *overrides),
        folder=folder / "none",
    )
    return drafted(config, most_sessions=3, max_step=10.0, max_coefficient=None)


def nodes_of(folder: Path, plan: StudyPlan) -> list[UserConfig]:
    """Return the nodes of three sites that write their files in three ways."""
    nodes = enrolled_nodes(folder, plan)
    first, second, third = map(holed, TABLES)
    first.write_csv(folder / "1.csv")
    other = second.rename({"age": "Alter"}).select(pl.lit("ä").alias("note"), *reversed_(second))
    text = other.write_csv(separator=";").replace(".", ",")
    (folder / "2.csv").write_bytes(text.encode("latin-1"))
    (folder / "2.yaml").write_text("{separator: ;, decimal: ',', encoding: latin-1}")
    third.with_columns(pl.col("sex").cast(pl.Categorical)).write_parquet(folder / "3.parquet")
    for node in nodes[:3]:
        for setting in OF_SCHEMA:
            del node[setting]
        node["schema"] = str(folder / "schema.yaml")
    nodes[1]["reading"] = str(folder / "2.yaml")
    nodes[2]["data"] = str(folder / "3.parquet")
    return nodes


def reversed_(frame: pl.DataFrame) -> list[str]:
    return ["Alter" if name == "age" else name for name in frame.columns[::-1]]


def trained(folder: Path, nodes: list[UserConfig], *overrides: str, run: int = 7) -> dict[str, Any]:
    own = folder / f"run-{run}"
    config = experiment(
        *(f"plan={folder / 'plan-0.json'}", "optimizer=newton", "C=null", "rounds=20", *overrides),
        folder=own,
    )
    grid = LocalGrid(client_app.build(lambda _: Config()), nodes, run_id=run)
    return server_app.train(grid, config, own)


def pooled() -> np.ndarray:
    """Return statsmodels' estimates on the rows of all sites that have no missing cell."""
    kept = pl.concat([frame.filter(pl.int_range(pl.len()) % 20 != 3) for frame in TABLES])
    male, age = (kept["sex"] == "M").to_numpy().astype(float), kept["age"].to_numpy()
    columns = [age, male, np.log(kept["crp"].to_numpy())]
    columns += [(kept["smoker"] == level).to_numpy() for level in ("yes", "unknown")]
    design = sm.add_constant(np.column_stack([*columns, age * male]).astype(float))
    fit = sm.Logit((kept["died"] == "yes").to_numpy(), design).fit(disp=False, tol=1e-13)
    return np.asarray(fit.params)


@pytest.mark.parametrize("sealed", ["false", "true"])
def test_sites_with_different_files_train_the_pooled_model(tmp_path: Path, sealed: str) -> None:
    plan = plan_for(tmp_path)
    trained(tmp_path, nodes_of(tmp_path, plan), f"sealed={sealed}", "topology=chain")
    assert plan.features == FEATURES
    check_is_pooled(tmp_path / "model-1.json")
    coordinators = [] if sealed == "true" else [tmp_path / "run-7" / "model.json"]
    for model in (tmp_path / "model-1.json", tmp_path / "model-2.json", *coordinators):
        assert LogisticModel.load(model).schema == plan.schema


def check_is_pooled(path: Path) -> None:
    """Hold a hospital's model against statsmodels' on the pooled rows."""
    model = LogisticModel.load(path)
    assert model.feature_names == FEATURES
    coefficients = model.coefficients / model.scale
    intercept = model.intercept - (coefficients * model.mean).sum()
    np.testing.assert_allclose([intercept, *coefficients], pooled(), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.waits
@pytest.mark.xdist_group("federation")
def test_a_federation_of_processes_trains_it_in_a_sealed_chain(tmp_path: Path) -> None:
    nodes = nodes_of(tmp_path, plan_for(tmp_path))
    settings = {
        str(node["name"]): " ".join(f"{key}={json.dumps(value)}" for key, value in node.items())
        for node in nodes
    }
    processes = Processes(tmp_path, settings)
    try:
        run = processes.run(
            *(f"plan={tmp_path}/plan-0.json", "optimizer=newton", "C=null", "rounds=20"),
            *("sealed=true", "topology=chain", "hospitals=3", f"output_dir={tmp_path}/run"),
        )
        processes.finish(tmp_path / "run", run)
    finally:
        processes.stop()
    for number in (1, 2, 3):
        check_is_pooled(tmp_path / f"model-{number}.json")


def test_a_plan_names_its_schema(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    assert plan.schema is not None
    assert f"schema: {plan.schema}" in plain_words(plan)
    assert StudyPlan.from_json(plan.to_json()) == plan
    assert '"schema"' in plan.to_json()


def check(node: UserConfig) -> None:
    DeployedNode.configured(node).check()


def test_a_node_with_the_schema_of_the_plan_is_accepted(tmp_path: Path) -> None:
    for node in nodes_of(tmp_path, plan_for(tmp_path))[:3]:
        check(node)


def test_a_node_with_another_schema_is_refused(tmp_path: Path) -> None:
    node = nodes_of(tmp_path, plan_for(tmp_path))[0]
    (tmp_path / "schema.yaml").write_text(SCHEMA.replace("[0, 120]", "[0, 121]"))
    with pytest.raises(
        ProtocolError, match=r"must name the shared schema, as in .*; it names another$"
    ):
        check(node)
    del node["schema"]
    node |= {"target": "died", "positive": "yes"}
    with pytest.raises(
        ProtocolError, match=r"must name the shared schema, as in .*; it is not set$"
    ):
        check(node)


def test_a_plan_without_a_schema_is_not_for_a_node_with_one(tmp_path: Path) -> None:
    node = nodes_of(tmp_path, replace(plan_for(tmp_path), schema=None))[0]
    with pytest.raises(
        ProtocolError, match=r"must be left out, as in the study plan .*; it is set$"
    ):
        check(node)


@pytest.mark.parametrize("setting", ["target", "positive", "drop", "classes"])
def test_what_the_schema_describes_is_no_setting(tmp_path: Path, setting: str) -> None:
    node = nodes_of(tmp_path, plan_for(tmp_path))[0]
    with pytest.raises(ProtocolError, match=f"^{setting} must be left out of the node config"):
        check(node | {setting: "died"})


def test_no_row_is_left_out_under_privacy(tmp_path: Path) -> None:
    plan_for(tmp_path)
    TABLES[0].write_csv(tmp_path / "1.csv")
    node: UserConfig = {"role": "hospital", "data": str(tmp_path / "1.csv")}
    node |= {"schema": str(tmp_path / "schema.yaml"), "privacy-epsilon": 1, "privacy-delta": 1e-5}
    node |= {"privacy-clip": 1, "privacy-rounds": 3, "privacy-ledger": str(tmp_path / "ledger")}
    with pytest.raises(ProtocolError, match="must leave no row out"):
        DeployedNode.configured(node).table()


def test_reading_comes_with_a_schema(tmp_path: Path) -> None:
    node = nodes_of(tmp_path, plan_for(tmp_path))[1]
    del node["schema"]
    with pytest.raises(ProtocolError, match="reading in the node configuration must come with"):
        check(node | {"target": "died"})


def test_faults_are_told_in_the_nodes_own_log_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = nodes_of(tmp_path, plan_for(tmp_path))
    spoiled = TABLES[0].with_columns(age=pl.col("age") * 3, sex=pl.lit("?"))
    spoiled.write_csv(tmp_path / "1.csv")
    with pytest.raises(ProtocolError, match="be used with schema and reading as they are there"):
        check(nodes[0])
    for words in ("column 'age': ", "outside 0 to 120", "column 'sex': 300 cells without"):
        assert words in caplog.text
    assert "in the schema" not in caplog.text
    assert "in a reading file (reading in the node configuration)" in caplog.text
    (tmp_path / "schema.yaml").write_text("columns: 3")
    with pytest.raises(ProtocolError, match="schema and reading in the node configuration must na"):
        check(nodes[0])
    assert "columns: must be a map" in caplog.text


@pytest.mark.parametrize("changed", [1, 4, 5])
def test_rows_are_compared_under_any_terms(tmp_path: Path, changed: int) -> None:
    nodes_of(tmp_path, plan_for(tmp_path))
    node: UserConfig = {
        "role": "hospital",
        "data": str(tmp_path / "1.csv"),
        "schema": str(tmp_path / "schema.yaml"),
    }

    def noted() -> None:
        deployed = DeployedNode.configured(node)
        dataset, _ = deployed.table()
        deployed.note_rows("data", dataset)

    noted()
    text = SCHEMA.replace("age*sex + log(crp)", "spline(age, knots=[40, 60, 80]) + sex + crp")
    (tmp_path / "schema.yaml").write_text(text.replace("[F, M]", "[M, F]"))
    noted()
    text = (tmp_path / "1.csv").read_text()
    lines = text.splitlines()
    for place in range(10, 10 + changed):
        cells = lines[place].split(",")
        lines[place] = ",".join([cells[0], "99", *cells[2:]])
    lines += lines[10 : 10 + changed]
    (tmp_path / "1.csv").write_text("\n".join(lines) + "\n")
    if changed < 5:
        with pytest.raises(ProtocolError):
            noted()
    else:
        noted()


def test_a_coordinator_of_deployed_hospitals_has_no_schema(tmp_path: Path) -> None:
    nodes = nodes_of(tmp_path, plan_for(tmp_path))
    schema = f"data.schema={tmp_path}/schema.yaml"
    with pytest.raises(ConfigError, match=r"data\.schema must be left out for deployed hospitals"):
        trained(tmp_path, nodes, "data=csv", f"data.path={tmp_path}/columns.csv", schema)
    assert issubclass(ConfigError, FlHeError)
