"""Models of outcomes that are numbers at deployed hospitals, sealed or not, under a study plan."""

from __future__ import annotations

import json
from dataclasses import replace
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
from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config
from fl_he.experiment.plan import drafted
from fl_he.experiment.terms import train_config
from fl_he.learning.regression.negative_binomial import NegativeBinomialModel
from fl_he.learning.regression.registry import FAMILIES, load_model
from fl_he.run_files.metrics_contract import NEGATIVE_BINOMIAL
from fl_he.wire.planned_messages import Choice, check
from fl_he.wire.records import ProtocolError
from fl_he.wire.sealed_messages import OpenNews
from fl_he.wire.study_plan import StudyPlan

NEWTON = ("optimizer=newton", "C=null", "rounds=20")
OWN = ("site_intercepts=true", "test_size=0")
TABLES, COUNTS = outcome_tables(11), count_tables(11)


def plan_for(folder: Path, family: str, *more: str) -> StudyPlan:
    if family == NEGATIVE_BINOMIAL:
        write_counts(folder, COUNTS)
    else:
        write_outcomes(folder, TABLES, family)
    config = experiment(
        *("data=csv", f"data.path={folder}/site1.csv", f"data.schema={folder}/schema.yaml"),
        *(*NEWTON, "hospitals=3", *more),
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


@pytest.mark.slow
@pytest.mark.parametrize("topology", [("topology=fold",), ("topology=chain", "sealed=true")])
def test_hospitals_with_intercepts_of_their_own_share_alpha(
    tmp_path: Path, topology: tuple[str, ...]
) -> None:
    plan = plan_for(tmp_path, NEGATIVE_BINOMIAL, *OWN)
    nodes = with_tables(tmp_path, enrolled_nodes(tmp_path, plan))
    trained(tmp_path, nodes, f"plan={tmp_path}/plan-0.json", *OWN, *topology)
    sites = [f"site {number}" for number in range(1, 4)]
    of_site = [
        table.assign(**{name: float(name == own) for name in sites[1:]})
        for own, table in zip(sites, COUNTS, strict=True)
    ]
    fitted = pooled_nb2(of_site, (*FEATURES, *sites[1:]))
    for number, site in enumerate(sites, 1):
        model = load_model(tmp_path / f"model-{number}.json")
        assert isinstance(model, NegativeBinomialModel)
        of_unit = model.coefficients / model.scale
        intercept = model.intercept - float((of_unit * model.mean).sum())
        own = fitted.params["const"] + fitted.params.get(site, 0.0)
        theirs = [*(fitted.params[name] for name in FEATURES), own, fitted.params["alpha"]]
        assert [*of_unit, intercept, model.alpha] == pytest.approx(theirs, rel=1e-6, abs=1e-6)


BOUNDED = ("optimizer=nesterov", "optimizer.lr=0.5", "C=1", "rounds=3", "tolerance=1e-12")
PRIVATE = (
    *("privacy=gaussian", "privacy.epsilon=9", "privacy.delta=1e-5", "privacy.clip=1"),
    *("scaling=ranges", "privacy.scaling=0.2"),
)
TERMS: UserConfig = {
    **{"privacy-epsilon": 9.0, "privacy-delta": 1e-5, "privacy-clip": 1.0, "privacy-rounds": 3}
}


def private_nodes(folder: Path, family: str) -> tuple[list[UserConfig], tuple[str, ...]]:
    """Return nodes with terms of privacy under a plan, and the settings of its run."""
    write_outcomes(folder, TABLES, family)
    (folder / "ranges.csv").write_text("feature,low,high\nage,26,98\nmale,0,1\n")
    bounds = "[0,15]" if family == "poisson" else "[-2,5]"
    settings = (*BOUNDED, *PRIVATE, f"ranges={folder}/ranges.csv", f"outcome_bounds={bounds}")
    config = experiment(
        *("data=csv", f"data.path={folder}/site1.csv", f"data.schema={folder}/schema.yaml"),
        *(*settings, "hospitals=3"),
        folder=folder / "none",
    )
    plan = drafted(config, most_sessions=3, max_step=10.0, max_coefficient=None)
    nodes = with_tables(folder, enrolled_nodes(folder, plan))
    for number, node in enumerate(nodes[:3]):
        node.update({**TERMS, "privacy-ledger": str(folder / f"{number}.ledger")})
    return nodes, (*settings, f"plan={folder}/plan-0.json")


@pytest.mark.parametrize(
    ("family", "topology"),
    [
        ("poisson", ("topology=fold",)),
        *slow(
            ("gaussian", ("topology=fold",)),
            ("poisson", ("topology=chain", "sealed=true")),
            ("gaussian", ("topology=chain", "sealed=true")),
        ),
    ],
)
def test_private_hospitals_train_within_the_bounds_of_the_plan(
    tmp_path: Path, family: str, topology: tuple[str, ...]
) -> None:
    nodes, settings = private_nodes(tmp_path, family)
    metrics = trained(tmp_path, nodes, *settings, *topology)
    assert metrics["privacy"]["epsilon"] == pytest.approx(9.0, rel=1e-4)
    models = [load_model(tmp_path / f"model-{number}.json").to_json() for number in (1, 2, 3)]
    assert models[0] == models[1] == models[2]
    assert json.loads(models[0])["method"] == "differential privacy"
    for number in range(3):
        lines = (tmp_path / f"{number}.ledger").read_text().splitlines()
        assert [json.loads(line)["kind"] for line in lines] == ["gradient"] * 3


def test_nobody_answers_within_other_bounds_than_the_plans(tmp_path: Path) -> None:
    nodes, settings = private_nodes(tmp_path, "poisson")
    with pytest.raises(ConfigError, match=r"outcome_bounds must be \[0.0, 15.0\], got \[0.0, 14.0"):
        trained(tmp_path, nodes, *settings, "outcome_bounds=[0,14]")
    plan = StudyPlan.load(tmp_path / "plan-0.json")
    config = experiment(*settings, folder=tmp_path / "run")
    for bounds in ([0.0, 14.0], []):
        lying = replace(config, outcome_bounds=bounds)
        told = train_config(lying, plan.features, 0, "nesterov", plan, family=FAMILIES["poisson"])
        content = Choice(plan.digest, "nesterov", 0.5, 1.0).to_content()
        content = OpenNews("session").add_to(content)
        content["config"] = told
        with pytest.raises(ProtocolError, match="outcome_bounds of a train config must be those"):
            check(plan, "train", content)


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
