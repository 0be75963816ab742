"""Models of outcomes that are numbers at deployed hospitals, sealed or not, under a study plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from deployed_nodes import deployed_nodes, enrolled_nodes
from experiments import experiment
from flwr.app.user_config import UserConfig
from local_grid import LocalGrid
from outcomes import FEATURES, OUTCOMES, outcome_tables, pooled_glm, schema_text, write_outcomes
from overdispersed_counts import count_tables, pooled_nb2, write_counts
from quick import slow

from fl_he import client_app, server_app
from fl_he.clients.node.deployed import DeployedNode
from fl_he.config.run import Config
from fl_he.experiment.plan import drafted
from fl_he.learning.regression.negative_binomial import NegativeBinomialModel
from fl_he.learning.regression.registry import load_model
from fl_he.run_files.metrics_contract import NEGATIVE_BINOMIAL
from fl_he.wire.records import ProtocolError
from fl_he.wire.study_plan import StudyPlan

NEWTON = ("optimizer=newton", "C=null", "rounds=20")
TABLES, COUNTS = outcome_tables(11), count_tables(11)


def plan_for(folder: Path, family: str) -> StudyPlan:
    if family == NEGATIVE_BINOMIAL:
        write_counts(folder, COUNTS)
    else:
        write_outcomes(folder, TABLES, family)
    config = experiment(
        *("data=csv", f"data.path={folder}/site1.csv", f"data.schema={folder}/schema.yaml"),
        *(*NEWTON, "hospitals=3"),
        folder=folder / "none",
    )
    return drafted(config, most_sessions=3, max_step=10.0, max_coefficient=None)


def with_tables(folder: Path, nodes: list[UserConfig]) -> list[UserConfig]:
    for number, node in enumerate(nodes[:3], 1):
        for setting in ("target", "positive"):
            node.pop(setting, None)
        node["data"] = str(folder / f"site{number}.csv")
        node["schema"] = str(folder / "schema.yaml")
    return nodes


def trained(folder: Path, nodes: list[UserConfig], *more: str) -> dict[str, Any]:
    config = experiment(*NEWTON, *more, folder=folder / "run")
    grid = LocalGrid(client_app.build(lambda _: Config()), nodes, run_id=7)
    return server_app.train(grid, config, folder / "run")


@pytest.mark.parametrize("topology", [("topology=fold",), ("topology=chain", "sealed=true")])
@pytest.mark.parametrize("family", [*OUTCOMES, *slow((NEGATIVE_BINOMIAL,))])
def test_hospitals_come_to_the_pooled_estimates(
    tmp_path: Path, family: str, topology: tuple[str, ...]
) -> None:
    plan = plan_for(tmp_path, family)
    assert (plan.family, plan.outcome.family) == (family, family)
    nodes = with_tables(tmp_path, enrolled_nodes(tmp_path, plan))
    metrics = trained(tmp_path, nodes, f"plan={tmp_path}/plan-0.json", *topology)
    fitted = pooled_nb2(COUNTS) if family == NEGATIVE_BINOMIAL else pooled_glm(TABLES, family)
    for number in range(1, 4):
        model = load_model(tmp_path / f"model-{number}.json")
        assert isinstance(model, type(load_model(tmp_path / "model-1.json")))
        *coefficients, intercept = model.theta
        of_unit = coefficients / model.scale
        ours = [*of_unit, intercept - float((of_unit * model.mean).sum())]
        theirs = [fitted.params[name] for name in (*FEATURES, "const")]
        assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-6)
        assert model.training == "converged"
        if isinstance(model, NegativeBinomialModel):
            assert model.alpha == pytest.approx(fitted.params["alpha"], rel=1e-6)
    assert (metrics["family"], len(metrics["rounds"]) <= 9) == (family, True)
    if "sealed=true" in topology:
        assert metrics["federated"]["coefficients"] in (None, [])
    else:
        errors = [row["standard_error"] for row in metrics["inference"]["coefficients"]]
        assert errors == pytest.approx(
            [fitted.bse[name] for name in (*FEATURES, "const")], rel=1e-5
        )


def test_a_node_is_held_to_the_family_of_the_plan(tmp_path: Path) -> None:
    nodes = with_tables(tmp_path, enrolled_nodes(tmp_path, plan_for(tmp_path, "gamma")))
    (tmp_path / "schema.yaml").write_text(schema_text("poisson"))
    with pytest.raises(ProtocolError, match="study plan"):
        DeployedNode.configured(nodes[0]).check()


def test_hospitals_of_different_families_are_refused(tmp_path: Path) -> None:
    write_outcomes(tmp_path, TABLES, "gamma")
    nodes = with_tables(tmp_path, deployed_nodes(tmp_path))
    (tmp_path / "other.yaml").write_text(schema_text("gamma").replace("gamma", "gaussian"))
    nodes[1]["schema"] = str(tmp_path / "other.yaml")
    with pytest.raises(ProtocolError, match="the outcome's family must be gamma, got gaussian"):
        trained(tmp_path, nodes)
