"""Deployed nodes: they take nothing from the coordinator's configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_nodes import HEADER, ROWS, deployed_nodes, enrolled_nodes
from experiments import experiment
from flwr.app import Context, Message, RecordDict
from local_grid import LocalGrid, simulated_nodes

from fl_he import client_app
from fl_he.capc.simulation import SimulatedParty
from fl_he.config.composition import compose
from fl_he.config.run import Config
from fl_he.crypto.paillier.key_kind import KeyKind
from fl_he.crypto.paillier.packing import Packing
from fl_he.crypto.paillier.public_key import PublicKey
from fl_he.experiment.data import simulated_data
from fl_he.learning.regression.likelihood import examples_of, mean_gradient
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.learning.tables.data import Dataset, load_table
from fl_he.strategies.encrypted_sum import SequentialPaillier
from fl_he.strategies.gradient_descent import GradientDescent
from fl_he.wire.encrypted_sum import DECRYPT, DESCRIBE, DecryptRequest, Description
from fl_he.wire.model import model_arrays, read_model_arrays
from fl_he.wire.records import ProtocolError


def coordinators(_: Context) -> Config:
    raise AssertionError("a deployed node must not ask for the run's configuration")


def test_deployed_nodes_train_on_their_own_tables(tmp_path: Path) -> None:
    grid = LocalGrid(client_app.build(coordinators), deployed_nodes(tmp_path))
    strategy = SequentialPaillier(GradientDescent(0.5, 3), node_timeout=0.0)
    assert not strategy.call_roll(grid).simulated
    assert list(strategy.roster.hospitals.values()) == ["clinic-1", "clinic-2", "clinic-3"]
    assert strategy.roster.features == ("age", "size")
    result = strategy.start(grid, model_arrays(np.zeros(2), 0.0), num_rounds=2)
    strategy.finish(result.arrays)

    (tmp_path / "all.csv").write_text(HEADER + "".join(ROWS.values()))
    pooled = load_table(tmp_path / "all.csv", "state", positive="sick")
    w, b = np.zeros(2), 0.0
    for _ in range(2):
        gradient = mean_gradient(examples_of(pooled, np.append(w, b)))
        w, b = w - 0.5 * gradient[:-1], b - 0.5 * gradient[-1]
    coefficients, intercept = read_model_arrays(result.arrays)
    np.testing.assert_allclose(coefficients, w, atol=1e-6)
    assert intercept == pytest.approx(b, abs=1e-6)
    for number in ROWS:
        model = LogisticModel.load(tmp_path / f"model-{number}.json")
        np.testing.assert_array_equal(model.coefficients, coefficients)
        np.testing.assert_array_equal(model.mean, [0, 0])
        np.testing.assert_array_equal(model.scale, [1, 1])
        assert model.positive == "sick"


def test_a_hospital_that_names_no_file_for_the_model_saves_none(tmp_path: Path) -> None:
    nodes = deployed_nodes(tmp_path)
    del nodes[0]["model-path"]
    grid = LocalGrid(client_app.build(coordinators), nodes)
    strategy = SequentialPaillier(GradientDescent(0.5, 3), node_timeout=0.0)
    strategy.call_roll(grid)
    strategy.finish(model_arrays(np.zeros(2), 0.0))
    assert sorted(p.name for p in tmp_path.glob("model-*")) == ["model-2.json", "model-3.json"]


def test_a_hospital_reads_its_table_once_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def noted(path: Path, *arguments: Any, **settings: Any) -> Dataset:
        read.append(path)
        return load_table(path, *arguments, **settings)

    monkeypatch.setattr("fl_he.clients.node.deployed.load_table", noted)
    grid = LocalGrid(client_app.build(coordinators), deployed_nodes(tmp_path)[:1])
    for times in (1, 2):
        (reply,) = grid.send_and_receive(
            [Message(RecordDict(), next(iter(grid.contexts)), DESCRIBE)]
        )
        assert Description.from_content(reply.content).features == ("age", "size")
        assert len(read) == times


@pytest.mark.parametrize("setting", ["data", "target"])
def test_a_deployed_hospital_needs_a_table_and_a_target(tmp_path: Path, setting: str) -> None:
    nodes = deployed_nodes(tmp_path)
    del nodes[0][setting]
    grid = LocalGrid(client_app.build(coordinators), nodes)
    strategy = SequentialPaillier(GradientDescent(0.5, 3), node_timeout=0.0)
    with pytest.raises(ProtocolError, match=f"clinic-1: a hospital must be given {setting} in its"):
        strategy.call_roll(grid)


def test_a_deployed_key_holders_policy_is_the_default_one(tmp_path: Path) -> None:
    grid = LocalGrid(client_app.build(coordinators), deployed_nodes(tmp_path))
    assert describe(grid).packing == Packing().to_json()
    assert "at least 3 and at most 512 contributors, got 2" in decrypt(grid, 2)


def test_a_deployed_key_holder_has_room_for_the_hospitals_of_its_manifest(tmp_path: Path) -> None:
    grid = LocalGrid(client_app.build(coordinators), enrolled_nodes(tmp_path))
    assert describe(grid).packing == Packing(max_contributors=3).to_json()


def test_a_simulated_key_holders_policy_is_the_configurations(tmp_path: Path) -> None:
    config = experiment(
        *("hospitals=5", "min_contributors=5", "crypto.max_contributors=7"), folder=tmp_path
    )
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(5))
    assert describe(grid).packing == Packing(24, 24, 7).to_json()
    assert "at least 5 and at most 7 contributors, got 4" in decrypt(grid, 4)


@pytest.mark.parametrize("kind", KeyKind)
def test_simulated_keys_are_of_the_configured_kind(tmp_path: Path, kind: KeyKind) -> None:
    setting = f"crypto.key_kind={kind}"
    config = experiment(setting, folder=tmp_path)
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(3))
    assert PublicKey.from_json(describe(grid).public_key).key_kind is kind
    capc = ("experiment=capc_breast_cancer", "crypto.key_bits=1024", setting)
    assert SimulatedParty(compose("config", capc), 0).terms.key_kind is kind


@pytest.mark.parametrize("node", [0, -1], ids=["hospital", "key holder"])
def test_every_node_refuses_a_federation_of_another_size(tmp_path: Path, node: int) -> None:
    config = experiment("hospitals=5", folder=tmp_path)
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(3))
    node_id = list(grid.contexts)[node]
    (reply,) = grid.send_and_receive([Message(RecordDict(), node_id, DESCRIBE)])
    assert "needs 6 simulated SuperNodes" in str(reply.error.reason)


def describe(grid: LocalGrid) -> Description:
    """Return the description by the last node, company X."""
    (reply,) = grid.send_and_receive([Message(RecordDict(), max(grid.contexts), DESCRIBE)])
    return Description.from_content(reply.content)


def decrypt(grid: LocalGrid, contributors: int) -> str:
    """Return the reason why company X does not open a sum of this number of contributors."""
    request = DecryptRequest(describe(grid).session, "train", 1, contributors, b"")
    (reply,) = grid.send_and_receive([Message(request.to_content(), max(grid.contexts), DECRYPT)])
    return str(reply.error.reason)


def test_nodes_that_are_handed_the_data_read_no_table(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("age,y\n" + "".join(f"{n},{n % 2}\n" for n in range(400)))
    source = ("data=csv", f"data.path={tmp_path}/table.csv", "data.target=y", "hospitals=3")
    config = compose("config", [*source, "crypto.key_bits=1024"])
    data = simulated_data(config)
    (tmp_path / "table.csv").unlink()
    simulated_data(compose("config", "hospitals=4"))  # forget the other's cached data
    grid = LocalGrid(client_app.build(lambda _: config, lambda _: data), simulated_nodes(3))
    replies = grid.send_and_receive(
        Message(RecordDict(), node_id, DESCRIBE) for node_id in grid.get_node_ids()
    )
    described = [Description.from_content(reply.content) for reply in replies]
    assert [list(one.features) for one in described[:3]] == [["age"]] * 3
