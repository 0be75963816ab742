"""Outcomes with an exposure at deployed hospitals, in a sealed chain and under a study plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deployed_nodes import deployed_nodes, enrolled_nodes
from experiments import experiment
from exposure import (
    FEATURES,
    exposed_tables,
    pooled_fit,
    schema_text,
    without_schema,
    write_tables,
)
from flwr.app.user_config import UserConfig
from local_grid import LocalGrid

from fl_he import client_app, server_app
from fl_he.clients.node.deployed import DeployedNode
from fl_he.config.run import Config
from fl_he.experiment.plan import drafted
from fl_he.learning.privacy.gradients import GaussianPrivacy
from fl_he.learning.regression.glm import GlmModel
from fl_he.learning.regression.registry import load_model
from fl_he.wire.records import ProtocolError
from fl_he.wire.study_plan import StudyPlan, plain_words

NEWTON = ("optimizer=newton", "C=null", "rounds=20")
TABLES = exposed_tables(21)


def plan_for(folder: Path) -> StudyPlan:
    write_tables(folder, TABLES)
    config = experiment(
        *("data=csv", f"data.path={folder}/site1.csv", *without_schema("poisson")),
        *(*NEWTON, "hospitals=3"),
        folder=folder / "none",
    )
    return drafted(config, most_sessions=3, max_step=10.0, max_coefficient=None)


def with_tables(folder: Path, nodes: list[UserConfig]) -> list[UserConfig]:
    for number, node in enumerate(nodes[:3], 1):
        node.pop("positive", None)
        node |= {
            "data": str(folder / f"site{number}.csv"),
            "target": "visits",
            "drop": "cost,falls",
        }
        node |= {"family": "poisson", "exposure": "years"}
    return nodes


def trained(folder: Path, nodes: list[UserConfig], *more: str) -> dict[str, Any]:
    config = experiment(*NEWTON, *more, folder=folder / "run")
    grid = LocalGrid(client_app.build(lambda _: Config()), nodes, run_id=7)
    return server_app.train(grid, config, folder / "run")


@pytest.mark.parametrize(
    "topology",
    [
        ("topology=chain", "sealed=true"),
        pytest.param(("topology=fold",), marks=pytest.mark.slow),
    ],
)
def test_hospitals_come_to_the_pooled_estimates(tmp_path: Path, topology: tuple[str, ...]) -> None:
    plan = plan_for(tmp_path)
    assert (plan.outcome.family, plan.outcome.exposure) == ("poisson", "years")
    assert plan.features == FEATURES
    assert StudyPlan.from_json(plan.to_json()) == plan
    assert plain_words(plan)[0] == (
        "model: poisson, 'visits' (with the exposure in 'years') by 2 features"
    )
    nodes = with_tables(tmp_path, enrolled_nodes(tmp_path, plan))
    metrics = trained(tmp_path, nodes, f"plan={tmp_path}/plan-0.json", *topology)
    assert metrics["exposure"] == "years"
    assert len(metrics["rounds"]) <= 9
    fitted = pooled_fit(TABLES, "poisson")
    folders = [tmp_path / f"model-{number}.json" for number in range(1, 4)]
    if "sealed=true" not in topology:
        folders.append(tmp_path / "run" / "model.json")
    for path in folders:
        model = load_model(path)
        assert isinstance(model, GlmModel)
        assert model.exposure == "years"
        *coefficients, intercept = model.theta
        of_unit = coefficients / model.scale
        ours = [*of_unit, intercept - float((of_unit * model.mean).sum())]
        theirs = [fitted.params[name] for name in (*FEATURES, "const")]
        assert ours == pytest.approx(theirs, rel=1e-6)
    del nodes[0]["exposure"]
    with pytest.raises(ProtocolError, match='must be only target="visits" family="poisson" expos'):
        DeployedNode.configured(nodes[0]).check()


def test_a_plan_with_an_exposure_that_has_no_meaning_is_refused(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    privacy = GaussianPrivacy(9.0, 1e-5, 1.0, plan.most_rounds, plan.min_contributors, 0.0)
    changes: tuple[dict[str, Any], ...] = (
        {"outcome": replace(plan.outcome, exposure=" ")},
        {"outcome": replace(plan.outcome, family="gaussian"), "family": "gaussian"},
        {"outcome": replace(plan.outcome, family=""), "family": "logistic"},
        {"privacy": privacy, "scaling": "none"},
    )
    for change in changes:
        with pytest.raises(ProtocolError, match="must have an exposure with family poisson or"):
            replace(plan, **change)


def test_hospitals_of_different_exposures_are_refused(tmp_path: Path) -> None:
    write_tables(tmp_path, TABLES)
    nodes = with_tables(tmp_path, deployed_nodes(tmp_path))
    del nodes[1]["exposure"]
    nodes[1]["drop"] = "cost,falls,years"
    with pytest.raises(ProtocolError, match="the outcome's exposure must be 'years', got null"):
        trained(tmp_path, nodes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"family": "gaussian"}, "exposure must be left out of the node configuration unless"),
        ({"target": None, "family": None, "drop": None, "schema": "x"}, "exposure must be left"),
    ],
)
def test_settings_of_nodes_are_checked(
    tmp_path: Path, change: dict[str, str | None], words: str
) -> None:
    write_tables(tmp_path, TABLES)
    node = with_tables(tmp_path, deployed_nodes(tmp_path))[0]
    for key, value in change.items():
        node.pop(key, None)
        if value is not None:
            node[key] = value
    with pytest.raises(ProtocolError, match=words):
        DeployedNode.configured(node).check()


@pytest.mark.parametrize("by_schema", [False, True])
def test_an_exposure_with_privacy_is_refused_by_name(tmp_path: Path, by_schema: bool) -> None:
    write_tables(tmp_path, TABLES)
    node = with_tables(tmp_path, deployed_nodes(tmp_path))[0]
    if by_schema:
        for setting in ("target", "drop", "family", "exposure"):
            del node[setting]
        (tmp_path / "schema.yaml").write_text(schema_text("poisson"))
        node["schema"] = str(tmp_path / "schema.yaml")
    node |= {"privacy-epsilon": 1.0, "privacy-delta": 1e-5, "privacy-clip": 1.0}
    node |= {"privacy-rounds": 5, "privacy-ledger": str(tmp_path / "ledger.jsonl")}
    with pytest.raises(ProtocolError, match="exposure must be left out of the node configuration"):
        DeployedNode.configured(node).check()
