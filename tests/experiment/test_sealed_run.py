"""A sealed run as the ServerApp does it, over deployed nodes that read their own tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_federation import DeployedFederation
from experiments import on_round
from firthmodels import FirthLogisticRegression
from flwr.app import Message, MessageType, RecordDict
from sealed_federation import FEATURES, Federation, pooled_descent
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fl_he import server_app, simulation
from fl_he.config.composition import compose
from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.run_files.checkpoint import CheckpointError, load_checkpoint
from fl_he.run_files.convergence import converged, warnings
from fl_he.run_files.metrics import read_metrics
from fl_he.strategies.roster import Roster
from fl_he.wire.records import ProtocolError

HOSPITALS = {"north": 40, "south": 25, "east": 60}
PARTS = ("features", "labels")


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return DeployedFederation(tmp_path, HOSPITALS)


def config(*overrides: str) -> Config:
    return compose(
        "config",
        [
            *("topology=chain", "sealed=true", "scaling=none", "C=null"),
            *("optimizer=gd", "optimizer.lr=0.5"),
            *overrides,
        ],
    )


def check_saved(federation: Federation, rounds: int, C: float | None = None) -> None:
    w, b = pooled_descent(federation.data.values(), rounds, C)
    for name in HOSPITALS:
        saved = LogisticModel.load(federation.model(name))
        np.testing.assert_allclose(saved.coefficients, w, rtol=0, atol=1e-6)
        assert abs(saved.intercept - b) < 1e-6


def test_a_sealed_run_with_privacy(
    federation: Federation,
) -> None:
    """All hospitals have one private model, and accept no other terms afterwards."""
    terms = {
        **{"privacy-epsilon": 5.0, "privacy-delta": 1e-5, "privacy-clip": 0.5},
        **{"privacy-rounds": 2, "min-contributors": 3},
    }
    for name in HOSPITALS:
        ledger = str(federation.folder / f"{name}.privacy")
        federation.context(name).node_config.update(terms | {"privacy-ledger": ledger})
    asked = ["privacy=gaussian", "privacy.epsilon=5", "privacy.clip=0.5", "rounds=2"]
    metrics = server_app.train(federation.grid, config(*asked), federation.folder / "run")
    assert metrics["privacy"]["epsilon"] == pytest.approx(5.0, rel=1e-3)
    saved = [LogisticModel.load(federation.model(name)) for name in HOSPITALS]
    for one in saved:
        np.testing.assert_array_equal(one.coefficients, saved[0].coefficients)
    w, _ = pooled_descent(federation.data.values(), 2)
    assert np.abs(saved[0].coefficients - w).max() > 1e-3
    for name in HOSPITALS:
        assert len((federation.folder / f"{name}.privacy").read_text().splitlines()) == 2
    for context in federation.grid.contexts.values():
        context.state, context.run_id = RecordDict(), 8  # a new run of Flower's
    federation.move_models()
    words = "on_dropout=wait no total is opened without .*: the privacy must be this node's own"
    with pytest.raises(ProtocolError, match=f"{words}, epsilon 5, "):
        server_app.train(
            federation.grid, config(*asked, "privacy.epsilon=6"), federation.folder / "other"
        )


def test_a_sealed_run(federation: Federation) -> None:
    folder, seen = federation.folder / "run", list[Mapping[str, Any]]()
    metrics = server_app.train(
        federation.grid, config("rounds=3", "C=0.1"), folder, on_round(seen.append)
    )
    check_saved(federation, 3, C=0.1)
    assert read_metrics(folder) == metrics
    assert [entry["round"] for entry in metrics["rounds"]] == [1, 2, 3]
    assert seen == metrics["rounds"]
    assert {entry["loss"] for entry in seen} == {None}
    assert {entry["contributors"] for entry in seen} == {3}
    known = {key: value for key, value in metrics["federated"].items() if value is not None}
    assert known == {"coefficients": []}
    ledger = (federation.folder / "company-x.json.opened.jsonl").read_text().splitlines()
    (session,) = (json.loads(line) for line in ledger if line.startswith('{"run":'))
    size = metrics["crypto"].pop("bytes_per_update")
    assert 256 < size < 2 * 256
    assert metrics["crypto"] == {
        "scheme": "paillier",
        "key_bits": 1024,
        "key_kind": "short",
        "key_fingerprint": session["key"],
        # 51 bits for each number of three hospitals, and a sign and carries below n / 2.
        "slots_per_ciphertext": 1023 // 51,
        "ciphertexts_per_update": 1,
        "ticket_bytes_per_update": None,
        "masked_set": 0,
    }
    checkpoint = {"checkpoint.json", "checkpoint.opened.jsonl", "checkpoint.rounds.jsonl"}
    files = {*checkpoint, "metrics.json", "report.html"}
    assert {path.name for path in folder.iterdir()} == files


def test_newtons_method_on_units_of_all_patients(federation: Federation) -> None:
    """Two sums of the data come before the first step, and are no rounds of training."""
    seen: list[Mapping[str, Any]] = []
    asked = ["scaling=federated", "optimizer=auto", "C=1.0", "class_weight=balanced", "rounds=30"]
    folder = federation.folder / "run"
    metrics = server_app.train(federation.grid, config(*asked), folder, on_round(seen.append))
    X, y = (np.concatenate([getattr(d, n) for d in federation.data.values()]) for n in PARTS)
    scaler = StandardScaler().fit(X)
    fit = LogisticRegression(C=1.0, class_weight="balanced", tol=1e-12).fit(scaler.transform(X), y)
    texts = set()
    for name in HOSPITALS:
        path = federation.model(name)
        saved = LogisticModel.load(path)
        np.testing.assert_allclose(saved.coefficients, fit.coef_[0], rtol=0, atol=1e-7)
        assert abs(saved.intercept - fit.intercept_[0]) < 1e-7
        np.testing.assert_allclose(saved.scale, scaler.scale_, rtol=1e-9)
        assert (saved.training, saved.class_weight) == ("converged", "balanced")
        texts.add(path.read_text())
    assert len(texts) == 1, "all hospitals must have the same numbers, to the last bit"
    assert metrics["optimizer"]["name"] == "newton"
    rounds = len(metrics["rounds"])
    assert 3 <= rounds < 15
    assert [entry["converged"] for entry in seen] == [False] * (rounds - 1) + [True]
    lines = (federation.folder / "company-x.json.opened.jsonl").read_text().splitlines()
    assert sum("round" in line for line in lines) == rounds + 2
    assert converged(metrics)
    everything = "".join(path.read_text() for path in folder.iterdir())
    for value in [*fit.coef_[0], *scaler.mean_]:
        assert f"{value:.9g}"[:9] not in everything


@pytest.mark.slow
def test_columns_without_a_coefficient_of_their_own_are_left_out(federation: Federation) -> None:
    """A column that does not vary, and one that is made of another, as in an open run."""
    for name, data in federation.data.items():
        first = data.features[:, 0]
        columns = np.column_stack([first, 2 * first + 1, np.full(len(first), 7.3)])
        federation.data[name] = replace(data, features=columns)
    federation.app()  # writes the tables
    asked = config("scaling=federated", "optimizer=newton", "rounds=30")
    metrics = server_app.train(federation.grid, asked, federation.folder / "run")
    assert converged(metrics)
    X, y = (np.concatenate([getattr(d, n) for d in federation.data.values()]) for n in PARTS)
    fit = LogisticRegression(C=np.inf, tol=1e-12)
    fit.fit(StandardScaler().fit_transform(X[:, :1]), y)
    for name in HOSPITALS:
        saved = LogisticModel.load(federation.model(name))
        assert saved.coefficients[1:].tolist() == [0.0, 0.0]
        assert saved.coefficients[0] == pytest.approx(fit.coef_[0, 0], abs=1e-6)


@pytest.mark.slow
def test_firths_penalty_takes_two_sums_a_round(federation: Federation) -> None:
    asked = config("penalty=firth", "optimizer=newton", "scaling=federated", "rounds=30")
    metrics = server_app.train(federation.grid, asked, federation.folder / "run")
    assert converged(metrics)
    X, y = (np.concatenate([getattr(d, n) for d in federation.data.values()]) for n in PARTS)
    fit = FirthLogisticRegression(max_iter=500, xtol=1e-9, gtol=1e-8)
    fit.fit(StandardScaler().fit_transform(X), y)
    for name in HOSPITALS:
        saved = LogisticModel.load(federation.model(name))
        np.testing.assert_allclose(saved.coefficients, fit.coef_, rtol=0, atol=1e-6)
        assert saved.training == "converged"
    lines = (federation.folder / "company-x.json.opened.jsonl").read_text().splitlines()
    assert sum("round" in line for line in lines) == 2 + 2 * len(metrics["rounds"])


def test_rounds_that_do_not_suffice_are_told(federation: Federation) -> None:
    asked = config("optimizer=newton", "rounds=1")
    metrics = server_app.train(federation.grid, asked, federation.folder / "run")
    assert converged(metrics) is False
    (said,) = warnings(metrics)
    assert "company X has not seen it converge in 1 rounds; raise rounds" in said
    saved = LogisticModel.load(federation.folder / "models" / "north.json")
    assert saved.training == "not converged"


def test_declared_ranges_work_in_a_sealed_run(federation: Federation) -> None:
    """Rows may be in any order: the hospitals' columns decide the range of each."""
    folder, ranges = federation.folder / "run", federation.folder / "ranges.csv"
    low, high = np.linspace(-3.0, -1.0, len(FEATURES)), np.linspace(2.0, 9.0, len(FEATURES))
    rows = [f"{name},{a},{b}" for name, a, b in zip(FEATURES, low, high, strict=True)]
    ranges.write_text("\n".join(["feature,low,high", *reversed(rows)]))
    chosen = config("rounds=2", "scaling=ranges", f"ranges={ranges}")
    server_app.train(federation.grid, chosen, folder)
    parts = [
        replace(data, features=(2 * data.features - low - high) / (high - low))
        for data in federation.data.values()
    ]
    w, b = pooled_descent(parts, 2)
    for name in federation.data:
        saved = LogisticModel.load(federation.model(name))
        np.testing.assert_allclose(saved.coefficients, w, rtol=0, atol=1e-6)
        assert abs(saved.intercept - b) < 1e-6
        np.testing.assert_allclose(saved.mean, (low + high) / 2)
        np.testing.assert_allclose(saved.scale, (high - low) / 2)


def test_local_scaling_works_in_a_sealed_run(federation: Federation) -> None:
    folder = federation.folder / "run"
    server_app.train(federation.grid, config("rounds=2", "scaling=local"), folder)
    scaled = {
        name: StandardScaler().fit_transform(data.features)
        for name, data in federation.data.items()
    }
    parts = [replace(data, features=scaled[name]) for name, data in federation.data.items()]
    w, b = pooled_descent(parts, 2)
    for name, data in federation.data.items():
        saved = LogisticModel.load(federation.model(name))
        np.testing.assert_allclose(saved.coefficients, w, rtol=0, atol=1e-6)
        assert abs(saved.intercept - b) < 1e-6
        np.testing.assert_allclose(saved.mean, data.features.mean(axis=0))


def test_the_coordinators_disk_holds_no_model(federation: Federation) -> None:
    folder = federation.folder / "run"
    server_app.train(federation.grid, config("rounds=2"), folder)
    saved = LogisticModel.load(federation.folder / "models" / "north.json")
    everything = "".join(path.read_text() for path in folder.iterdir())
    for value in [*saved.coefficients, saved.intercept]:
        assert f"{value:.9g}"[:10] not in everything


class Killed(BaseException):
    """Stand-in for a killed process."""


@pytest.mark.parametrize("action", [MessageType.TRAIN, "query.open"])
def test_a_run_that_was_cut_off_is_resumed(federation: Federation, action: str) -> None:
    folder, app, left = federation.folder / "run", federation.grid.app, [6]

    def die(message: Message, context: Any) -> Message:
        left[0] -= message.metadata.message_type == action
        reply = app(message, context)
        if left[0] == (0 if action == MessageType.TRAIN else 4):
            raise Killed
        return reply

    federation.grid.app = die  # type: ignore[assignment]
    with pytest.raises(Killed):
        server_app.train(federation.grid, config("rounds=4"), folder)
    federation.grid.app = app
    done = len(load_checkpoint(folder).rounds)
    assert done == 1
    for context in federation.grid.contexts.values():
        context.state, context.run_id = RecordDict(), 8
    metrics = server_app.train(federation.grid, config("rounds=4", f"resume={folder}"), folder)
    assert [entry["round"] for entry in metrics["rounds"]] == [1, 2, 3, 4]
    check_saved(federation, 4)
    lines = (federation.folder / "company-x.json.opened.jsonl").read_text().splitlines()
    opened = [json.loads(line)["round"] for line in lines if "round" in line]
    # Hospitals that had answered in a round whose sum was lost contribute to later ones only.
    assert opened == [1, *(number + (action == MessageType.TRAIN) for number in (2, 3, 4))]


def test_what_cannot_be_resumed(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = federation.folder / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Roster, "end", lambda _: None)  # as if company X had been away
        server_app.train(federation.grid, config("rounds=1"), folder)
    path = folder / "checkpoint.json"
    members = {**json.loads(path.read_text()), "finished": False}
    for change, words in (
        ({"sealed": None}, "must be one of a sealed chain"),
        ({"key_fingerprint": "ab"}, "the key fingerprint must be as in the run"),
        ({"features": ["a", "b", "c"]}, "the features must be as in the run"),
    ):
        path.write_text(json.dumps({**members, **change}))
        with pytest.raises(CheckpointError, match=words):
            server_app.train(federation.grid, config("rounds=1", f"resume={folder}"), folder)


def test_another_packing_than_the_nodes(federation: Federation) -> None:
    with pytest.raises(ProtocolError, match="the packing must be company X's"):
        server_app.train(
            federation.grid, config("crypto.fraction_bits=20"), federation.folder / "run"
        )


def test_no_simulation_is_sealed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="sealed must be false in a simulation, got true"):
        simulation.run(config(), tmp_path)
