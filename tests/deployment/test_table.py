"""Tables of descriptive statistics of deployed hospitals, under a study plan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import polars as pl
import pytest
from deployed_nodes import deployed_nodes, enrolled_nodes
from described_patients import settings, write_patients
from experiments import experiment
from federation_processes import Processes
from flwr.app import Message, RecordDict
from flwr.app.user_config import UserConfig
from local_grid import LocalGrid

from fl_he import client_app, server_app
from fl_he.clients.node.outgoing import PRIVATE_REFUSAL
from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config
from fl_he.experiment.plan import drafted
from fl_he.strategies.encrypted_sum import EncryptedSum
from fl_he.strategies.opened_sum import RefusedError
from fl_he.wire.encrypted_sum import DECRYPT, TABLE, DecryptRequest, Purpose
from fl_he.wire.planned_messages import Choice, check
from fl_he.wire.records import ProtocolError
from fl_he.wire.study_plan import StudyPlan, plain_words
from fl_he.wire.table import TableRequest

TABLE1 = ("experiment=table1", "describe.by=outcome", "rounds=20", "C=null")


def plan_for(folder: Path, *overrides: str) -> StudyPlan:
    config = experiment(*settings(folder), *TABLE1, *overrides, folder=folder / "none")
    return drafted(config, most_sessions=3, max_step=10.0, max_coefficient=None)


def with_tables(folder: Path, nodes: list[UserConfig]) -> list[UserConfig]:
    for number, node in enumerate(nodes[:3], 1):
        node.pop("target", None)
        node.pop("positive", None)
        node |= {"data": str(folder / f"site{number}.csv"), "schema": f"{folder}/schema.yaml"}
    return nodes


def described(
    folder: Path, nodes: list[UserConfig], *more: str, name: str = "run", run_id: int = 7
) -> dict[str, Any]:
    config = experiment(*TABLE1, *more, folder=folder / name)
    grid = LocalGrid(client_app.build(lambda _: Config()), nodes, run_id=run_id)
    return server_app.train(grid, config, folder / name)


def test_hospitals_of_a_plan_make_its_table(tmp_path: Path) -> None:
    whole = pl.concat(write_patients(tmp_path))
    plan = plan_for(tmp_path)
    assert plan.table is not None
    words = plain_words(plan)
    assert words[0] == "outcome: 'died' ('yes' counts as 1); no model is trained"
    assert "table of descriptive statistics by 'outcome' (not yes, yes): 20 bins" in words
    assert "its numbers: 'age' 0 to 120, 'crp', 'offset', 'nyha' 1 to 4" in words
    assert StudyPlan.from_json(plan.to_json()) == plan
    nodes = with_tables(tmp_path, enrolled_nodes(tmp_path, plan))
    nodes[3]["min-cell"] = 7
    metrics = described(tmp_path, nodes, f"plan={tmp_path}/plan-0.json")
    table = metrics["table"]
    assert (metrics["simulated"], table["min_cell"], table["rows"]) == (False, 7, len(whole))
    age = next(one for one in table["variables"] if one["name"] == "age")
    for summary, label in zip(age["summaries"], (None, "no", "yes"), strict=True):
        own = whole if label is None else whole.filter(pl.col("died") == label)
        assert summary["mean"] == pytest.approx(own["age"].mean(), rel=1e-9)
        assert summary["sd"] == pytest.approx(own["age"].std(), rel=1e-9)
    assert "site1.csv" not in (tmp_path / "run" / "report.html").read_text()
    other = ("describe.bins=7", f"plan={tmp_path}/plan-0.json")
    with pytest.raises(ConfigError, match=r"describe.bins must be 20"):
        described(tmp_path, nodes, *other, name="other", run_id=8)


def test_a_plan_without_a_table_has_none(tmp_path: Path) -> None:
    write_patients(tmp_path)
    plan = plan_for(tmp_path)
    assert plan.table is not None
    without = replace(plan, table=None)
    nodes = with_tables(tmp_path, enrolled_nodes(tmp_path, without))
    with pytest.raises(ConfigError, match=r"describe.enabled must be false, got true: the plan"):
        described(tmp_path, nodes, f"plan={tmp_path}/plan-0.json")
    nodes = with_tables(tmp_path, deployed_nodes(tmp_path))
    with pytest.raises(ConfigError, match=r"plan must be set with describe.enabled=true"):
        described(tmp_path, nodes, name="no-plan")


def asking(plan: StudyPlan, **changes: Any) -> RecordDict:
    """Return the content of a question for a table, with the coordinator's choice."""
    assert plan.table is not None
    form = replace(plan.table, **changes)
    return Choice(plan.digest, plan.optimizers[0], None, None).add_to(
        TableRequest(form).to_content()
    )


def test_another_table_than_the_plans_is_refused(tmp_path: Path) -> None:
    write_patients(tmp_path)
    plan = plan_for(tmp_path)
    assert plan.table is not None
    fewer = plan.table.columns[1:]
    for changes in ({"bins": 21}, {"columns": fewer}, {"by": "", "groups": ()}):
        with pytest.raises(ProtocolError, match="the form of a table must be the study plan's"):
            check(plan, TABLE, asking(plan, **changes))
    without = replace(plan, table=None)
    with pytest.raises(ProtocolError, match="no table of descriptive statistics"):
        check(without, TABLE, asking(plan))
    with pytest.raises(ProtocolError, match="must come with its cells"):
        check(plan, "train", asking(plan))
    for purpose, number in (("figures", 1), ("table", 2)):
        request = DecryptRequest("session", purpose, number, 3, b"")  # type: ignore[arg-type]
        with pytest.raises(ProtocolError, match="one table in a session"):
            check(plan, DECRYPT, request.add_to(asking(plan)))


def test_nodes_refuse_a_lying_coordinator(tmp_path: Path) -> None:
    """A coordinator without its own check of the grid learns nothing about another table."""
    write_patients(tmp_path)
    plan = plan_for(tmp_path)
    nodes = with_tables(tmp_path, enrolled_nodes(tmp_path, plan))
    described(tmp_path, nodes, f"plan={tmp_path}/plan-0.json")
    grid = LocalGrid(client_app.build(lambda _: Config()), nodes, run_id=9)
    question = Message(asking(plan, bins=33), 1000, TABLE)
    (reply,) = grid.send_and_receive([question])
    assert reply.has_error()
    assert PRIVATE_REFUSAL not in str(reply.error.reason)
    assert "the form of a table must be the study plan's" in str(reply.error.reason)


def test_a_plan_with_a_table_has_no_training(tmp_path: Path) -> None:
    """Totals of a training tell counts of levels that the table withholds."""
    write_patients(tmp_path)
    plan = plan_for(tmp_path)
    nodes = with_tables(tmp_path, enrolled_nodes(tmp_path, plan))
    config = experiment(
        *(f"plan={tmp_path}/plan-0.json", "optimizer=newton", "C=null", "scaling=none"),
        "rounds=20",
        folder=tmp_path / "trained",
    )
    grid = LocalGrid(client_app.build(lambda _: Config()), nodes, run_id=10)
    with pytest.raises(ConfigError, match=r"describe.enabled must be true, got false"):
        server_app.train(grid, config, tmp_path / "trained")
    assert {one for one in get_args(Purpose) if plan.most(one)} == {"table"}
    assert plan.most("sealed") == 0


def test_a_table_is_given_out_once_in_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_patients(tmp_path)
    plan = plan_for(tmp_path)
    nodes = with_tables(tmp_path, enrolled_nodes(tmp_path, plan))
    first = EncryptedSum.table

    def twice(self: EncryptedSum, number: int, form: Any) -> Any:
        first(self, number, form)
        return first(self, number + 1, form)

    monkeypatch.setattr(EncryptedSum, "table", twice)
    with pytest.raises(ProtocolError, match="one table in a session"):
        described(tmp_path, nodes, f"plan={tmp_path}/plan-0.json")


def test_more_rows_than_the_cell_are_needed(tmp_path: Path) -> None:
    write_patients(tmp_path)
    plan = plan_for(tmp_path)
    nodes = with_tables(tmp_path, enrolled_nodes(tmp_path, plan))
    nodes[3]["min-cell"] = 1000
    with pytest.raises(RefusedError):
        described(tmp_path, nodes, f"plan={tmp_path}/plan-0.json")


@pytest.mark.release
@pytest.mark.waits
def test_a_federation_of_processes_makes_its_table(tmp_path: Path) -> None:
    whole = pl.concat(write_patients(tmp_path, "cox"))
    plan = plan_for(tmp_path, "describe.by=sex", "describe.grid=[12,24,60]")
    nodes = with_tables(tmp_path, enrolled_nodes(tmp_path, plan))
    texts = {
        str(node["name"]): " ".join(f"{key}={json.dumps(value)}" for key, value in node.items())
        for node in nodes
    }
    processes = Processes(tmp_path, texts)
    try:
        run = processes.run(
            *(f"plan={tmp_path}/plan-0.json", "experiment=table1", "describe.by=sex"),
            *("describe.grid=[12,24,60]", "rounds=20", "C=null", "hospitals=3"),
            f"output_dir={tmp_path}/run",
        )
        metrics: dict[str, Any] = processes.finish(tmp_path / "run", run)
    finally:
        processes.stop()
    table = metrics["table"]
    assert table["sizes"] == [int((whole["sex"] == sex).sum()) for sex in ("F", "M")]
    assert table["survival"]["times"] == [12.0, 24.0, 60.0]
