"""Models with an intercept for each hospital, at deployed hospitals under a study plan."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from deployed_nodes import enrolled_nodes
from experiments import experiment
from flwr.app.user_config import UserConfig
from local_grid import LocalGrid
from sites import COLUMNS, fixed_effects, site_tables, write_sites

from fl_he import client_app, server_app
from fl_he.clients.hospital import NO_INTERCEPT
from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config
from fl_he.experiment.plan import drafted
from fl_he.learning.errors import DataError
from fl_he.learning.regression.registry import load_model
from fl_he.wire.records import ProtocolError
from fl_he.wire.study_plan import StudyPlan, plain_words

NEWTON = ("optimizer=newton", "C=null", "rounds=20", "test_size=0")
#: The third hospital has patients without an event alone.
TABLES = [site_tables(21)[number] for number in (0, 1, 3)]


def plan_for(folder: Path, *more: str, tables: list[pd.DataFrame] = TABLES) -> StudyPlan:
    _, *outcome = write_sites(folder, tables, "logistic")
    config = experiment(
        *("data=csv", f"data.path={folder}/site1.csv", *outcome),
        *(*NEWTON, "hospitals=3", "site_intercepts=true", *more),
        folder=folder / "none",
    )
    return drafted(config, most_sessions=3, max_step=10.0, max_coefficient=None)


def nodes_of(folder: Path, plan: StudyPlan) -> list[UserConfig]:
    nodes = enrolled_nodes(folder, plan)
    for number, node in enumerate(nodes[:3], 1):
        node |= {"data": f"{folder}/site{number}.csv", "target": "died", "positive": "yes"}
    return nodes


@pytest.mark.parametrize("topology", [("topology=fold",), ("topology=chain", "sealed=true")])
def test_each_hospital_keeps_an_intercept_of_its_own(
    tmp_path: Path, topology: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_for(tmp_path)
    assert "intercepts: one for each hospital" in plain_words(plan)
    nodes = nodes_of(tmp_path, plan)
    config = experiment(
        *(*NEWTON, f"plan={tmp_path}/plan-0.json", "site_intercepts=true", *topology),
        folder=tmp_path / "run",
    )
    grid = LocalGrid(client_app.build(lambda _: Config()), nodes, run_id=7)
    with caplog.at_level(logging.WARNING):
        metrics = server_app.train(grid, config, tmp_path / "run")
    fitted = fixed_effects(TABLES, "logistic")
    for number in (1, 2):
        model = load_model(tmp_path / f"model-{number}.json")
        *coefficients, intercept = model.theta
        of_unit = coefficients / model.scale
        ours = [*of_unit, intercept - float((of_unit * model.mean).sum())]
        theirs = [fitted.params[name] for name in (*COLUMNS, f"site {number}")]
        assert ours == pytest.approx(theirs, rel=1e-6, abs=1e-6)
    silent = load_model(tmp_path / "model-3.json")
    with pytest.raises(DataError, match="the model has no intercept, so it predicts nothing"):
        silent.expected(np.zeros((1, 2)))
    names = [said.removesuffix(f": {NO_INTERCEPT}") for said in caplog.messages]
    assert [name for name in names if name not in caplog.messages] == ["clinic-3"]
    assert len(metrics["rounds"]) <= 9
    if "sealed=true" in topology:
        assert metrics["federated"]["coefficients"] in (None, [])
    else:
        rows = metrics["inference"]["coefficients"][:-1]
        errors = [row["standard_error"] for row in rows]
        assert errors == pytest.approx([fitted.bse[name] for name in COLUMNS], rel=1e-5)
        assert metrics["inference"]["site_intercepts"] == {
            **{"contributing": 2, "silent": 12, "withheld": 0}
        }


def test_a_run_is_held_to_the_intercepts_of_the_plan(tmp_path: Path) -> None:
    nodes = enrolled_nodes(tmp_path, plan_for(tmp_path))
    config = experiment(*NEWTON, f"plan={tmp_path}/plan-0.json", folder=tmp_path / "run")
    grid = LocalGrid(client_app.build(lambda _: Config()), nodes, run_id=7)
    with pytest.raises(ConfigError, match="site_intercepts must be true, got false"):
        server_app.train(grid, config, tmp_path / "run")


def test_hospitals_are_compared_where_the_plan_allows_it(tmp_path: Path) -> None:
    tables = site_tables(22, (120, 90, 80))
    plan = plan_for(tmp_path, "inference.sites=true", tables=tables)
    assert "comparison of the hospitals: yes" in plain_words(plan)
    nodes, settings = nodes_of(tmp_path, plan), (*NEWTON, "site_intercepts=true")
    config = experiment(
        *(*settings, f"plan={tmp_path}/plan-0.json", "inference.sites=true"),
        folder=tmp_path / "run",
    )
    grid = LocalGrid(client_app.build(lambda _: Config()), nodes, run_id=7)
    metrics = server_app.train(grid, config, tmp_path / "run")
    sites = metrics["inference"]["sites"]
    assert (sites["fits"], sites["clusters"], sites["robust"]) == (3, 3, [])
    fits = [fixed_effects([table], "logistic") for table in tables]
    for row in sites["heterogeneity"]:
        weights = np.array([fit.bse[row["name"]] ** -2 for fit in fits])
        effects = np.array([fit.params[row["name"]] for fit in fits])
        assert row["estimate"] == pytest.approx(weights @ effects / weights.sum(), rel=1e-6)
    kept = json.loads((tmp_path / "run" / "checkpoint.json").read_text())["training"]["between"]
    assert kept["scores"] is None


def test_no_comparison_is_made_without_the_plan(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    assert plan.most("sites") == 0
    nodes, settings = nodes_of(tmp_path, plan), (*NEWTON, "site_intercepts=true")
    config = experiment(
        *(*settings, f"plan={tmp_path}/plan-0.json", "inference.sites=true"),
        folder=tmp_path / "run",
    )
    grid = LocalGrid(client_app.build(lambda _: Config()), nodes, run_id=7)
    with pytest.raises(ConfigError, match=r"inference\.sites must be false, got true"):
        server_app.train(grid, config, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"profile": True}, "a study plan with site_intercepts must have family logistic or"),
        ({"penalty": "firth"}, "a study plan with site_intercepts must have family logistic or"),
        ({"site_intercepts": False, "sites": True, "C": (1.0,)}, "a study plan with sites must"),
    ],
)
def test_a_plan_has_no_such_sums_of_other_models(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ProtocolError, match=words):
        replace(plan_for(tmp_path), **changes)
