from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from command_line import fl_he
from identities import COMPANY, NORTH
from study_plans import PLAN

from fl_he.commands.plan import show_plan
from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.learning.regression.evaluation import BINS
from fl_he.wire.study_plan import StudyPlan, plain_words

TABLE = ("data=csv", "data.path=t.csv", "data.target=state", "data.positive=sick")
OUT = ("--out", "plan.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "t.csv").write_text("age,size,state\n1,2,sick\n3,-1,well\n")
    (tmp_path / "ranges.csv").write_text("feature,low,high\nage,0,120\nsize,-1,1\n")
    return tmp_path


def test_it_drafts_what_the_configuration_asks_for(folder: Path) -> None:
    settings = ("scaling=ranges", "ranges=ranges.csv", "optimizer=gd", "optimizer.lr=1", "C=null")
    code, out, err = fl_he(
        folder, "plan", *TABLE, *settings, "evaluate=true", "rounds=7", "min_contributors=2", *OUT
    )
    assert (code, err) == (0, "")
    plan = StudyPlan.load(folder / "plan.json")
    assert plan.features == ("age", "size")
    assert (plan.outcome.target, plan.outcome.positive) == ("state", "sick")
    assert (plan.scaling, plan.ranges) == ("ranges", ((0.0, 120.0), (-1.0, 1.0)))
    assert (plan.optimizers, plan.lr, plan.C) == (("gd",), (1.0,), (None,))
    assert (plan.bins, plan.most_rounds, plan.min_contributors) == (BINS, 7, 2)
    assert (plan.most_sessions, plan.max_step, plan.max_coefficient) == (3, 10.0, 50.0)
    assert out.splitlines() == [*plain_words(plan), f"{plan.digest} study plan"]
    assert "at least 2 hospitals; WARNING: it may show one hospital's part\n" in out
    assert "WARNING" not in "".join(plain_words(replace(plan, min_contributors=3)))
    assert fl_he(folder, "show", "plan.json") == (0, out, "")


def test_no_name_looks_like_another_line_of_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    names = (f"age\n{'0' * 64} study plan\nweight", "size")
    plan = replace(PLAN, features=names, ranges=((0.0, 1.0),) * 2, scaling="ranges")
    show_plan(plan.to_json())
    lines = capsys.readouterr().out.splitlines()
    assert [one for one in lines if one.endswith(" study plan")] == [f"{plan.digest} study plan"]


def test_the_automatic_optimizer_is_named(folder: Path) -> None:
    limits = ("--most-sessions", "9", "--max-coefficient", "4", "--max-step", "2")
    assert fl_he(folder, "plan", *TABLE, *OUT, *limits)[0] == 0
    plan = StudyPlan.load(folder / "plan.json")
    assert (plan.optimizers, plan.lr, plan.scaling) == (("newton",), (), "federated")
    assert (plan.most_sessions, plan.max_coefficient, plan.max_step) == (9, 4.0, 2.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("optimizer=gd", "optimizer.lr=3"), "lr of a study plan must be at most 2.667, got 3"),
        (("scaling=local",), "with scaling=federated, ranges or none, got scaling=local"),
        (("data=wine",), "data.path must be left out for data=wine"),
        (("roundz=3",), "roundz"),
        (("rounds=0",), "rounds must be from 1 to 100000, got 0"),
    ],
)
def test_what_is_no_plan_is_refused(folder: Path, settings: tuple[str, ...], message: str) -> None:
    code, out, err = fl_he(folder, "plan", *TABLE, *settings, *OUT)
    assert (code, out) == (1, "")
    *before, last = err.splitlines()
    assert message in last
    assert all("is given 2 times" in line for line in before)
    assert not (folder / "plan.json").exists()


def test_data_without_a_table_is_refused(folder: Path) -> None:
    code, _, err = fl_he(folder, "plan", *OUT)
    assert code == 1
    assert "on a table with the hospitals' columns (data=csv" in err
    assert err.endswith("got data=breast_cancer\n")


def test_a_manifest_names_plans(folder: Path) -> None:
    for node in (NORTH, COMPANY):
        (folder / f"{node.public.name}.json").write_text(node.public.to_json())
    (folder / "plan.json").write_text(PLAN.to_json())
    arguments = ("north.json", "company-x.json", "--plan", "plan.json")
    code, out, err = fl_he(folder, "federation", *arguments, "--out", "federation.json")
    assert (code, err) == (0, "")
    manifest = Manifest.load(folder / "federation.json")
    assert manifest.plans == (PLAN.digest,)
    assert out.splitlines()[-2:] == [
        f"{PLAN.digest} study plan",
        f"{manifest.fingerprint} manifest",
    ]
    code, _, err = fl_he(
        folder, "federation", *arguments, "--plan", "north.json", "--out", "other.json"
    )
    assert code == 1
    assert err.startswith("fl-he: north.json: study plan must have exactly the members")
