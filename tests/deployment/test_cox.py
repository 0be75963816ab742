"""Cox models at deployed hospitals, in a sealed chain and under a study plan."""

from __future__ import annotations

from pathlib import Path

import pytest
from deployed_nodes import deployed_nodes, enrolled_nodes
from experiments import experiment
from flwr.app.user_config import UserConfig
from local_grid import LocalGrid
from survival import stratified, survival_tables, write_tables

from fl_he import client_app, server_app
from fl_he.clients.node.deployed import DeployedNode
from fl_he.config.run import Config
from fl_he.experiment.plan import drafted
from fl_he.learning.regression.registry import load_model
from fl_he.wire.records import ProtocolError
from fl_he.wire.study_plan import plain_words

NEWTON = ("optimizer=newton", "C=null", "rounds=20")
TABLES = survival_tables(21)
OUTCOME = ("data.target=months", "data.event=event", "data.family=cox", "data.ties=breslow")


def with_tables(folder: Path, nodes: list[UserConfig]) -> list[UserConfig]:
    for number, node in enumerate(nodes[:3], 1):
        node.pop("positive", None)
        node |= {"data": str(folder / f"site{number}.csv"), "target": "months"}
        node |= {"family": "cox", "event": "event", "ties": "breslow"}
    return nodes


def test_hospitals_come_to_the_stratified_estimates_in_a_sealed_chain(tmp_path: Path) -> None:
    write_tables(tmp_path, TABLES)
    drafting = experiment(
        *("data=csv", f"data.path={tmp_path}/site1.csv", *OUTCOME, *NEWTON, "hospitals=3"),
        folder=tmp_path / "none",
    )
    plan = drafted(drafting, most_sessions=3, max_step=10.0, max_coefficient=None)
    assert (plan.outcome.family, plan.outcome.event) == ("cox-breslow", "event")
    assert plain_words(plan)[0] == (
        "model: cox-breslow, 'months' (a time, with the event in 'event') by 2 features"
    )
    nodes = with_tables(tmp_path, enrolled_nodes(tmp_path, plan))
    sealed = ("topology=chain", "sealed=true", f"plan={tmp_path}/plan-0.json")
    config = experiment(*NEWTON, *sealed, folder=tmp_path / "run")
    grid = LocalGrid(client_app.build(lambda _: Config()), nodes, run_id=7)
    metrics = server_app.train(grid, config, tmp_path / "run")
    assert metrics["federated"]["coefficients"] in (None, [])
    assert len(metrics["rounds"]) <= 9
    found = stratified(TABLES, "breslow").fit(disp=0)
    for number in range(1, 4):
        model = load_model(tmp_path / f"model-{number}.json")
        ours = model.theta[:-1] / model.scale
        assert ours == pytest.approx(found.params, rel=1e-6)
        assert (model.theta[-1], model.training) == (0.0, "converged")
    nodes[0]["ties"] = "efron"
    with pytest.raises(ProtocolError, match="ties="):
        DeployedNode.configured(nodes[0]).check()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"event": None}, "event must be in the node configuration with family cox"),
        ({"family": "poisson"}, "event and ties with no other"),
        ({"ties": "exact"}, "ties in the node configuration must be one of efron, breslow"),
        ({"family": "cox-breslow"}, "family in the node configuration must be one of gaussian"),
    ],
)
def test_settings_of_nodes_are_checked(
    tmp_path: Path, change: dict[str, str | None], words: str
) -> None:
    write_tables(tmp_path, TABLES)
    node = with_tables(tmp_path, deployed_nodes(tmp_path))[0]
    for key, value in change.items():
        node.pop(key)
        if value is not None:
            node[key] = value
    with pytest.raises(ProtocolError, match=words):
        DeployedNode.configured(node).check()
