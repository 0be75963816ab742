"""Test figures from encrypted counts, against those of the pooled test set."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_nodes import deployed_nodes
from experiments import experiment, standardised
from flwr.app import Message
from local_grid import LocalGrid, simulated_nodes
from numpy.typing import NDArray
from quick import slow
from sklearn.metrics import brier_score_loss, confusion_matrix

from fl_he import client_app, server_app
from fl_he.config.composition import compose
from fl_he.experiment.data import simulated_data
from fl_he.learning.regression.registry import load_model
from fl_he.run_files.metrics import read_metrics
from fl_he.wire.encrypted_sum import DECRYPT, DecryptRequest, FiguresReply, Purpose
from fl_he.wire.records import ProtocolError


def run(folder: Path, *overrides: str) -> tuple[dict[str, Any], LocalGrid]:
    config = experiment("evaluate=true", *overrides, folder=folder)
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))
    return server_app.train(grid, config, folder), grid


def is_small(cells: NDArray[np.int64]) -> bool:
    return bool(((cells > 0) & (cells < 5)).any())


def check_rounded(found: float, value: float, digits: int, error: float = 1e-6) -> None:
    assert found == round(found, digits)
    assert found == pytest.approx(value, abs=0.5 / 10**digits + error)


@pytest.mark.parametrize(
    ("overrides", "small"),
    [
        (["rounds=1", "test_size=0.6", "optimizer=gd", "optimizer.lr=0.001"], False),
        (["rounds=3", "data=wine", "optimizer=gd", "optimizer.lr=0.5"], True),
        *slow(
            (["rounds=3"], True),
            (["rounds=2", "hospitals=4", "partition=by_label", "topology=chain", "C=1"], True),
            (["rounds=1", "data=digits", "test_size=0.5", "optimizer=gd"], True),
        ),
    ],
    ids=str,
)
def test_pooled_figures_are_those_of_the_pooled_predictions(
    tmp_path: Path, overrides: list[str], small: bool
) -> None:
    metrics, grid = run(tmp_path, *overrides)
    evaluation, central = metrics["evaluation"], metrics["federated"]
    config = experiment(*overrides, folder=tmp_path)
    test = simulated_data(config).test
    assert evaluation["examples"] == test.examples
    assert evaluation["hospitals"] == config.hospitals
    predicted = load_model(tmp_path / "model.json").expected(test.features)
    two = predicted.ndim == 1
    classes = predicted > 0.5 if two else predicted.argmax(axis=1)
    cells = confusion_matrix(test.labels, classes)
    right, withheld = np.diag(cells), evaluation["withheld"]
    assert small is is_small(cells) is ("confusion" in withheld)
    assert ("balanced_accuracy" in withheld) is is_small(
        np.append(right, cells.sum(axis=1) - right)
    )
    if is_small(np.array([right.sum(), test.examples - right.sum()])):
        assert "accuracy" in withheld
    assert small or withheld == {}
    assert evaluation["confusion"] == (None if small else cells.tolist())
    digits = len(str(test.examples)) - 1

    for name in ("accuracy", "balanced_accuracy"):
        expected = None if name in withheld else pytest.approx(central[name], abs=1e-6)
        assert evaluation[name] == expected
    check_rounded(evaluation["log_loss"], central["log_loss"], digits)
    check_rounded(evaluation["roc_auc"], central["roc_auc"], 2, 0.005)
    brier = (
        brier_score_loss(test.labels, predicted)
        if two
        else np.mean(
            np.sum((predicted - np.eye(predicted.shape[1])[test.labels.astype(int)]) ** 2, axis=1)
        )
    )
    check_rounded(evaluation["brier_score"], brier, digits)
    forecast = predicted if two else predicted.max(axis=1)
    came_true = test.labels == 1 if two else classes == test.labels
    assert sum(one["examples"] for one in evaluation["calibration"]) == test.examples
    for one in evaluation["calibration"]:
        within = (forecast > one["lower"]) & (forecast <= one["upper"])
        found = int(came_true[within].sum())
        assert one["examples"] == within.sum()
        half_a_grain = 1.25 * 5 * (one["upper"] - one["lower"]) / within.sum()
        assert one["predicted"] == pytest.approx(forecast[within].mean(), abs=half_a_grain + 1e-6)
        assert one["lower"] <= one["predicted"] <= one["upper"]
        assert one["observed"] == pytest.approx(found / within.sum())
        assert not {found, int(within.sum()) - found} & {1, 2, 3, 4}
    assert read_metrics(tmp_path)["evaluation"] == evaluation
    replies = [m for m in grid.received if m.metadata.message_type == "evaluate.figures"]
    assert [set(reply.content.keys()) for reply in replies] == [{"fl-he", "fl-he.sum"}] * (
        config.hospitals
    )


def test_no_bin_leaves_company_x(tmp_path: Path) -> None:
    metrics, grid = run(tmp_path, "rounds=1", "hospitals=3")
    asked = [m for m in grid.sent if m.metadata.message_type == DECRYPT]
    last = [m for m in grid.received if m.metadata.message_type == DECRYPT][-1]
    assert DecryptRequest.from_content(asked[-1].content).purpose == "figures"
    assert set(last.content) == {"fl-he"}
    given = asdict(FiguresReply.from_content(last.content).figures)
    assert json.loads(json.dumps(given)) == {
        key: value for key, value in metrics["evaluation"].items() if key != "hospitals"
    }


@pytest.mark.parametrize(
    "purpose", [pytest.param("train", marks=pytest.mark.slow), "evaluate", "prepare"]
)
def test_counts_are_not_opened_under_another_purpose(tmp_path: Path, purpose: Purpose) -> None:
    _, grid = run(tmp_path, "rounds=1", "hospitals=3")
    asked = [m for m in grid.sent if m.metadata.message_type == DECRYPT][-1]
    request = DecryptRequest.from_content(asked.content)
    holder = asked.metadata.dst_node_id
    for changes in ({"purpose": purpose, "round": 9}, {"round": 9}):
        content = replace(request, **changes).to_content()
        (reply,) = grid.send_and_receive([Message(content, holder, DECRYPT)])
        assert reply.has_error()
        assert not reply.has_content()


def test_a_hospitals_own_figures_stay_on_its_disk(tmp_path: Path) -> None:
    run(tmp_path, "rounds=2")
    config = experiment("rounds=2", folder=tmp_path)
    test = standardised(config).test
    model = load_model(tmp_path / "model.json")
    predicted = model.expected(simulated_data(config).test.features) > 0.5
    for number in range(3):
        own = slice(number, None, 3)
        path = tmp_path / "hospitals" / f"hospital-{number + 1}" / "model.figures.json"
        figures = json.loads(path.read_text())
        assert figures["accuracy"] == pytest.approx(np.mean(predicted[own] == test.labels[own]))
        assert figures["examples"] == len(test.labels[own])


@pytest.mark.parametrize("topology", ["fold", "chain"])
@pytest.mark.parametrize("with_data", [2, *slow((1,))])
def test_hospitals_without_held_out_data_add_zeros(
    tmp_path: Path, topology: str, with_data: int
) -> None:
    """The sum of the evaluation is of the hospitals that trained, as the set rule needs it."""
    nodes = deployed_nodes(tmp_path)
    rows = "".join(f"{row},1,{'sick' if row % 3 else 'well'}\n" for row in range(30))
    (tmp_path / "test.csv").write_text(f"age,size,state\n{rows}")
    for node in nodes[:with_data]:
        node["test-data"] = str(tmp_path / "test.csv")
    folder = tmp_path / "run"
    config = experiment("evaluate=true", "rounds=1", f"topology={topology}", folder=folder)
    grid = LocalGrid(client_app.build(lambda _: config), nodes)
    evaluation = server_app.train(grid, config, folder)["evaluation"]
    assert evaluation["examples"] == 30 * with_data
    opened = [m for m in grid.sent if m.metadata.message_type == DECRYPT]
    assert {DecryptRequest.from_content(m.content).contributors for m in opened} == {3}
    own = [Path(str(node["model-path"])).with_suffix(".figures.json") for node in nodes[:3]]
    assert [path.exists() for path in own] == [n < with_data for n in range(3)]


def test_deployed_hospitals_need_data_of_their_own_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = deployed_nodes(tmp_path)
    config = experiment("evaluate=true", "rounds=1", folder=tmp_path / "run")
    app = client_app.build(lambda _: config)
    metrics = server_app.train(LocalGrid(app, nodes), config, tmp_path / "run")
    assert metrics["evaluation"] is None
    assert "nobody evaluated it" in caplog.text
    assert "the hospitals' examples must be at least 5, too few are held out" in caplog.text
    assert (tmp_path / "run" / "model.json").exists()
    (tmp_path / "test.csv").write_text("age,size,state\n2,1,sick\n0,0,well\n")
    for node in nodes[:3]:
        node["test-data"] = str(tmp_path / "test.csv")
        Path(str(node["model-path"])).unlink()
    metrics = server_app.train(LocalGrid(app, nodes, run_id=8), config, tmp_path / "other")
    assert metrics["evaluation"]["examples"] == 6
    assert metrics["evaluation"]["hospitals"] == 3
    (tmp_path / "test.csv").write_text("age,weight,state\n2,1,sick\n0,0,well\n")
    with pytest.raises(ProtocolError, match=r"test-data .* must have the columns of data"):
        server_app.train(LocalGrid(app, nodes, run_id=9), config, tmp_path / "third")
    assert not (tmp_path / "third").exists(), "before any training"


def test_too_few_held_out_patients_have_no_figures_and_the_run_ends_well(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = deployed_nodes(tmp_path)
    (tmp_path / "test.csv").write_text("age,size,state\n2,1,sick\n")
    for node in nodes[:3]:
        node["test-data"] = str(tmp_path / "test.csv")
    config = experiment("evaluate=true", "rounds=1", folder=tmp_path / "run")
    app = client_app.build(lambda _: config)
    metrics = server_app.train(LocalGrid(app, nodes), config, tmp_path / "run")
    assert metrics["evaluation"] is None
    assert "the hospitals' examples must be at least 5, too few are held out" in caplog.text


def test_an_evaluation_that_company_x_did_not_open_is_resumed(tmp_path: Path) -> None:
    nodes, folder = deployed_nodes(tmp_path), tmp_path / "run"
    (tmp_path / "test.csv").write_text("age,size,state\n2,1,sick\n0,0,well\n")
    for node in nodes[:3]:
        node["test-data"] = str(tmp_path / "test.csv")
    config = experiment(
        *("evaluate=true", "rounds=1", "scaling=none", "key_holder_timeout=1"), folder=folder
    )
    app = client_app.build(lambda _: config)
    grid = LocalGrid(app, nodes)
    asked: list[Message] = []

    def lose_the_second(reply: Message) -> Message | None:
        if reply.metadata.message_type == DECRYPT:
            asked.append(reply)
        return None if len(asked) > 1 else reply

    grid.tamper = lose_the_second
    with pytest.raises(ProtocolError, match="company X must open a sum within"):
        server_app.train(grid, config, folder)
    again = LocalGrid(app, nodes, run_id=8)
    metrics = server_app.train(again, compose("config", [f"resume={folder}"]), folder)
    assert metrics["evaluation"]["examples"] == 6
    assert not [m for m in again.sent if m.metadata.message_type.startswith(("train", "evaluate"))]
