"""Missing cells that get the federated mean at deployed hospitals, under a study plan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_nodes import deployed_nodes, enrolled_nodes
from experiments import experiment
from federation_processes import Processes
from flwr.app.user_config import UserConfig
from local_grid import LocalGrid
from means import FEATURES, IMPUTED, SCHEMA, filled, pooled_fit, tables, write_tables

from fl_he import client_app, server_app
from fl_he.clients.node.deployed import DeployedNode
from fl_he.config.run import Config
from fl_he.experiment.plan import drafted
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.wire.records import ProtocolError
from fl_he.wire.study_plan import StudyPlan, plain_words

NEWTON = ("optimizer=newton", "C=null", "rounds=20")
REFUSED = "none or at least 5 missing ones; too few in column 'bmi'"


def plan_for(folder: Path, *overrides: str) -> StudyPlan:
    """Draft a plan from a table of which only the columns matter."""
    (folder / "schema.yaml").write_text(SCHEMA)
    frame = tables()[0]
    frame.to_csv(folder / "columns.csv", index=False)
    config = experiment(
        *("data=csv", f"data.path={folder}/columns.csv", f"data.schema={folder}/schema.yaml"),
        *(*NEWTON, "hospitals=3", *overrides),
        folder=folder / "none",
    )
    return drafted(config, most_sessions=3, max_step=10.0, max_coefficient=None)


def with_schema(folder: Path, nodes: list[UserConfig]) -> list[UserConfig]:
    """Give nodes the hospitals' tables and the schema."""
    write_tables(folder, tables())
    for node in nodes[:3]:
        for setting in ("target", "positive"):
            node.pop(setting, None)
        node["schema"] = str(folder / "schema.yaml")
    return nodes


def trained(folder: Path, nodes: list[UserConfig], *more: str, run: int = 7) -> dict[str, Any]:
    own = folder / ("run" if run == 7 else f"run-{run}")
    config = experiment(*NEWTON, *more, folder=own)
    grid = LocalGrid(client_app.build(lambda _: Config()), nodes, run_id=run)
    return server_app.train(grid, config, own)


def check_is_pooled(path: Path) -> None:
    """Hold a hospital's model against statsmodels' on the pooled rows, and its means."""
    model = LogisticModel.load(path)
    assert model.feature_names == FEATURES
    coefficients = model.coefficients / model.scale
    intercept = model.intercept - (coefficients * model.mean).sum()
    estimates, _ = pooled_fit(tables())
    np.testing.assert_allclose([intercept, *coefficients], estimates, rtol=1e-6, atol=1e-6)
    assert tuple(model.imputed) == IMPUTED
    means = filled(tables())[[*IMPUTED]].mean()
    np.testing.assert_allclose([*model.imputed.values()], means, rtol=1e-13)


@pytest.mark.parametrize("topology", [("topology=fold",), ("topology=chain", "sealed=true")])
def test_hospitals_compute_the_pooled_model_with_means(
    tmp_path: Path, topology: tuple[str, ...]
) -> None:
    plan = plan_for(tmp_path)
    nodes = with_schema(tmp_path, enrolled_nodes(tmp_path, plan))
    metrics = trained(tmp_path, nodes, f"plan={tmp_path}/plan-0.json", *topology)
    models = [(tmp_path / f"model-{number}.json") for number in (1, 2, 3)]
    check_is_pooled(models[0])
    assert len({model.read_bytes() for model in models}) == 1
    if "sealed=true" in topology:
        assert metrics["imputed"] is None
    else:
        assert metrics["imputed"] == LogisticModel.load(tmp_path / "run" / "model.json").imputed
        check_is_pooled(tmp_path / "run" / "model.json")


@pytest.mark.release
@pytest.mark.waits
def test_a_federation_of_processes_trains_it_in_a_sealed_chain(tmp_path: Path) -> None:
    nodes = with_schema(tmp_path, enrolled_nodes(tmp_path, plan_for(tmp_path)))
    settings = {
        str(node["name"]): " ".join(f"{key}={json.dumps(value)}" for key, value in node.items())
        for node in nodes
    }
    processes = Processes(tmp_path, settings)
    try:
        run = processes.run(
            *(f"plan={tmp_path}/plan-0.json", *NEWTON, "sealed=true", "topology=chain"),
            *("hospitals=3", f"output_dir={tmp_path}/run"),
        )
        processes.finish(tmp_path / "run", run)
    finally:
        processes.stop()
    for number in (1, 2, 3):
        check_is_pooled(tmp_path / f"model-{number}.json")


def test_hospitals_without_a_plan_agree_on_their_columns(tmp_path: Path) -> None:
    (tmp_path / "schema.yaml").write_text(SCHEMA)
    nodes = with_schema(tmp_path, deployed_nodes(tmp_path))
    trained(tmp_path, nodes)
    check_is_pooled(tmp_path / "model-1.json")
    other = SCHEMA.replace("bmi: {type: number, missing: mean}", "bmi: {type: number}")
    (tmp_path / "other.yaml").write_text(other)
    frame = tables()[1]
    frame.assign(bmi=frame["bmi"].fillna(27.0)).to_csv(tmp_path / "2.csv", index=False)
    nodes[1]["schema"] = str(tmp_path / "other.yaml")
    with pytest.raises(
        ProtocolError, match=r"columns with missing: mean must be 'age', 'male', 'b"
    ):
        trained(tmp_path, nodes, run=8)


@pytest.mark.parametrize("sealed", [False, True])
def test_company_x_refuses_a_small_cell(
    tmp_path: Path, sealed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_for(tmp_path)
    nodes = with_schema(tmp_path, enrolled_nodes(tmp_path, plan))
    frames = [frame.assign(bmi=frame["bmi"].fillna(27.0)) for frame in tables()]
    for number in range(3):
        frames[number].loc[5, "bmi"] = None
    write_tables(tmp_path, frames)
    topology = ("topology=chain", "sealed=true") if sealed else ("topology=fold",)
    with pytest.raises(ProtocolError) as refusal:
        trained(tmp_path, nodes, f"plan={tmp_path}/plan-0.json", *topology)
    assert (REFUSED in str(refusal.value)) is not sealed
    assert (REFUSED in caplog.text) is sealed
    assert not (tmp_path / "model-1.json").exists()


def test_company_x_takes_its_own_least_cell(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    nodes = with_schema(tmp_path, enrolled_nodes(tmp_path, plan))
    nodes[3]["min-cell"] = 45
    with pytest.raises(ProtocolError, match=r"at least 45 missing ones; too few in column 'admit"):
        trained(tmp_path, nodes, f"plan={tmp_path}/plan-0.json")


def test_a_plan_names_the_columns_that_get_means(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    assert plan.imputed == IMPUTED
    assert "mean of missing cells: 'age', 'male', 'bmi', 'crp', 'admitted'" in plain_words(plan)
    assert StudyPlan.from_json(plan.to_json()) == plan
    assert (plan.most("prepare"), replace(plan, imputed=()).most("prepare")) == (3, 2)
    assert plan.most("sealed") == replace(plan, imputed=()).most("sealed") + 1
    assert '"imputed"' not in replace(plan, imputed=()).to_json()


def test_a_node_is_held_to_the_columns_of_the_plan(tmp_path: Path) -> None:
    plan = replace(plan_for(tmp_path), imputed=IMPUTED[:-1])
    node = with_schema(tmp_path, enrolled_nodes(tmp_path, plan))[0]
    with pytest.raises(ProtocolError, match=r"must have missing: mean of the columns \['age', 'ma"):
        DeployedNode.configured(node).check()


def test_a_node_with_privacy_has_no_means(tmp_path: Path) -> None:
    plan_for(tmp_path)
    tables()[0].to_csv(tmp_path / "1.csv", index=False)
    node: UserConfig = {"role": "hospital", "data": str(tmp_path / "1.csv")}
    node |= {"schema": str(tmp_path / "schema.yaml"), "privacy-epsilon": 1, "privacy-delta": 1e-5}
    node |= {"privacy-clip": 1, "privacy-rounds": 3, "privacy-ledger": str(tmp_path / "ledger")}
    with pytest.raises(ProtocolError, match="must have no column with missing: mean with privacy"):
        DeployedNode.configured(node).table()


def test_a_cell_that_becomes_missing_is_another_table(tmp_path: Path) -> None:
    (tmp_path / "schema.yaml").write_text(SCHEMA.replace("log(crp)", "crp"))
    frame = tables()[0]
    frame.loc[0, "crp"] = 0.0
    frame.to_csv(tmp_path / "1.csv", index=False)
    node: UserConfig = {"role": "hospital", "data": str(tmp_path / "1.csv")}
    node |= {"schema": str(tmp_path / "schema.yaml"), "key-fingerprint": "0" * 64}

    def noted() -> list[str]:
        deployed = DeployedNode.configured(node)
        deployed.session, deployed.begun = "session", True
        found: list[str] = []
        deployed.note_rows = lambda setting, dataset: found.append(setting)  # type: ignore[method-assign]
        _ = deployed.hospital
        return found

    assert noted() == ["data"]
    assert noted() == []
    frame.loc[0, "crp"] = None
    frame.to_csv(tmp_path / "1.csv", index=False)
    assert noted() == ["data"]
