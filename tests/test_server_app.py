"""The experiment from configuration to files, in one process without Ray."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experiments import GRAD_SCHOOL, check_equals_pooled_descent, experiment, on_round, standardised
from flwr.serverapp.strategy import FedAvg
from local_grid import LocalGrid, simulated_nodes
from quick import slow_but
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import StandardScaler

from fl_he import client_app, server_app
from fl_he.config.run import Config
from fl_he.experiment import run as run_loop
from fl_he.experiment.data import simulated_data
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.learning.tables.built_in import load_built_in
from fl_he.wire.records import ProtocolError


def run(config: Config, nodes: int | None = None) -> dict[str, Any]:
    app = client_app.build(lambda _: config)
    grid = LocalGrid(app, simulated_nodes(config.hospitals if nodes is None else nodes))
    return server_app.train(grid, config, Path(str(config.output_dir)))


@dataclass(frozen=True)
class Finished:
    """A run of the default experiment that several tests look at."""

    config: Config
    metrics: dict[str, Any]
    reported: list[Any]

    @property
    def folder(self) -> Path:
        return Path(str(self.config.output_dir))


def finished(folder: Path, rounds: int) -> Finished:
    config = experiment(f"rounds={rounds}", folder=folder)
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))
    seen: list[Any] = []
    return Finished(config, server_app.train(grid, config, folder, on_round(seen.append)), seen)


@pytest.fixture(scope="module")
def one_round(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished(tmp_path_factory.mktemp("one") / "run", 1)


@pytest.fixture(scope="module")
def three_rounds(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished(tmp_path_factory.mktemp("three") / "run", 3)


QUICK_RUNS = (("uneven", 3, "fold"), ("by_label", 3, "chain"))


def marks(partition: str, hospitals: int, topology: str) -> list[pytest.MarkDecorator]:
    """Return the markers of a combination: most of fifty hospitals run before a release only."""
    run = (partition, hospitals, topology)
    if run in QUICK_RUNS:
        return []
    if hospitals < 50 or run == ("by_label", 50, "chain"):
        return [pytest.mark.slow]
    return [pytest.mark.release]


@pytest.mark.parametrize(
    ("partition", "hospitals", "topology"),
    [
        pytest.param(*run, marks=marks(*run))
        for run in itertools.product(["even", "uneven", "by_label"], [3, 10, 50], ["fold", "chain"])
    ],
)
def test_federated_coefficients_are_those_of_the_pooled_data(
    tmp_path: Path, topology: str, hospitals: int, partition: str
) -> None:
    config = experiment(
        f"topology={topology}",
        f"hospitals={hospitals}",
        f"partition={partition}",
        folder=tmp_path,
    )
    metrics = run(config)
    check_equals_pooled_descent(config, metrics)
    assert metrics["federated"]["accuracy"] >= 0.95


@pytest.mark.parametrize("segments", slow_but(["2", "auto"], "auto"))
def test_segments_sum_the_same(tmp_path: Path, segments: str) -> None:
    config = experiment(
        "topology=chain", f"segments={segments}", "hospitals=7", "rounds=3", folder=tmp_path
    )
    check_equals_pooled_descent(config, run(config))


def test_penalised_coefficients_are_those_of_the_pooled_data(tmp_path: Path) -> None:
    config = experiment("C=0.01", "rounds=5", folder=tmp_path)
    check_equals_pooled_descent(config, run(config))


@pytest.mark.slow
def test_many_steps_reach_scikit_learns_optimum(tmp_path: Path) -> None:
    config = experiment("C=0.001", "rounds=220", "optimizer.lr=0.3", folder=tmp_path)
    federated = run(config)["federated"]
    train = standardised(config).train
    fit = LogisticRegression(C=0.001, tol=1e-10, max_iter=1000).fit(train.features, train.labels)
    np.testing.assert_allclose(federated["coefficients"], fit.coef_[0], atol=1e-5)
    assert federated["intercept"] == pytest.approx(fit.intercept_[0], abs=1e-5)


def test_grad_school(tmp_path: Path) -> None:
    if not GRAD_SCHOOL.exists():
        pytest.skip("the graduate-admission table is not next to the checkout: see the README")
    config = experiment(
        "data=grad_school",
        f"data.path={GRAD_SCHOOL}",
        "rounds=15",
        "optimizer.lr=0.5",
        folder=tmp_path,
    )
    metrics = run(config)
    check_equals_pooled_descent(config, metrics)
    assert metrics["federated"]["accuracy"] >= 0.85


def test_files_of_a_run(three_rounds: Finished) -> None:
    metrics, folder = three_rounds.metrics, three_rounds.folder
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    model = LogisticModel.load(folder / "model.json")
    np.testing.assert_array_equal(model.coefficients, metrics["federated"]["coefficients"])
    assert model.positive == "benign"
    in_rounds = sum(entry["seconds"] for entry in metrics["rounds"])
    assert 0 < metrics["start_seconds"] <= metrics["seconds"] - in_rounds
    saved = [folder / "hospitals" / f"hospital-{i}" / "model.json" for i in (1, 2, 3)]
    assert [path.read_text() for path in saved] == [(folder / "model.json").read_text()] * 3


def test_figures_are_scikit_learns(three_rounds: Finished) -> None:
    metrics, data = three_rounds.metrics, standardised(three_rounds.config)
    assert metrics["pooled"]["C"] == LogisticRegression().C, "without a penalty it has no optimum"
    pooled = LogisticRegression(tol=1e-8, max_iter=10_000).fit(
        data.train.features, data.train.labels
    )
    probabilities = pooled.predict_proba(data.test.features)[:, 1]
    assert metrics["pooled"]["roc_auc"] == pytest.approx(
        roc_auc_score(data.test.labels, probabilities)
    )
    w, b = (metrics["federated"][key] for key in ("coefficients", "intercept"))
    federated = 1 / (1 + np.exp(-(data.test.features @ w + b)))
    expected = log_loss(data.test.labels, federated)
    assert metrics["federated"]["log_loss"] == pytest.approx(expected)
    last = metrics["rounds"][-1]
    assert last["test_loss"] == pytest.approx(expected)
    assert last["test_accuracy"] == metrics["federated"]["accuracy"]
    assert [entry["hospital"] for entry in metrics["local"]] == [
        "hospital-1",
        "hospital-2",
        "hospital-3",
    ]
    assert sum(entry["examples"] for entry in metrics["local"]) == data.train.examples
    assert metrics["federated"]["examples"] == data.train.examples


def test_loss_of_a_round_is_the_pooled_training_loss_before_its_step(one_round: Finished) -> None:
    entry = one_round.metrics["rounds"][0]
    labels = simulated_data(one_round.config).train.labels
    assert entry["loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert entry["accuracy"] == pytest.approx(np.mean(labels == 0), abs=1e-6)


def test_a_breast_cancer_update_is_one_ciphertext(tmp_path: Path) -> None:
    config = experiment("rounds=1", folder=tmp_path, key_bits=2048)
    crypto = run(config)["crypto"]
    assert crypto["key_bits"] == 2048
    assert crypto["slots_per_ciphertext"] == 40, "two of them are free for a tag"
    assert crypto["ciphertexts_per_update"] == 1
    assert 512 < crypto["bytes_per_update"] <= 512 + 64
    sealed_seed, digest = 32 + 1136, 32
    assert sealed_seed + digest < crypto["ticket_bytes_per_update"] < sealed_seed + digest + 64


def test_rounds_are_reported_as_they_end(three_rounds: Finished) -> None:
    assert three_rounds.reported == three_rounds.metrics["rounds"]
    assert [entry["round"] for entry in three_rounds.reported] == [1, 2, 3]


def test_a_federation_of_another_size_is_refused_with_what_to_do(tmp_path: Path) -> None:
    config = experiment("hospitals=5", folder=tmp_path)
    with pytest.raises(
        ProtocolError,
        match=r"hospitals=5 needs 6 simulated SuperNodes .* got 4: .*num-supernodes=6",
    ):
        run(config, nodes=3)
    assert not list(tmp_path.iterdir())


def test_a_single_class_hospital_takes_part(tmp_path: Path) -> None:
    config = experiment(
        "hospitals=5", "partition=by_label", "partition.alpha=0.02", "rounds=3", folder=tmp_path
    )
    labels = [set(part.labels) for part in simulated_data(config).hospitals]
    assert any(len(classes) == 1 for classes in labels), "choose an alpha that makes one"
    metrics = run(config)
    check_equals_pooled_descent(config, metrics)
    alone = metrics["local"][[len(c) for c in labels].index(1)]
    assert alone["roc_auc"] == 0.5
    assert alone["balanced_accuracy"] == 0.5


def test_the_strategy_gets_every_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StoppedError(Exception):
        pass

    seen: dict[str, Any] = {}

    def spy(inner: FedAvg, **settings: Any) -> None:
        seen.update(settings, nodes=inner.min_available_nodes)
        del seen["on_summed"]
        raise StoppedError

    monkeypatch.setattr(run_loop, "EncryptedSum", spy)
    config = experiment(
        *("hospitals=6", "topology=chain", "segments=2", "min_contributors=4", "hop_timeout=9"),
        *("key_holder_timeout=8", "on_dropout=stop", "dropout_timeout=7"),
        *(
            "crypto.scheme=masks",
            "crypto.fraction_bits=20",
            "crypto.integer_bits=21",
            "crypto.max_contributors=7",
        ),
        folder=tmp_path,
    )
    with pytest.raises(StoppedError):
        run(config)
    assert seen == {
        "scheme": "masks",
        "topology": "chain",
        "segments": 2,
        "min_contributors": 4,
        "hop_timeout": 9.0,
        "key_holder_timeout": 8.0,
        "on_dropout": "stop",
        "dropout_timeout": 7.0,
        "hospitals": 6,
        "nodes": 4,
    }


def test_the_key_holder_of_a_simulation_keeps_to_the_configuration(tmp_path: Path) -> None:
    config = experiment(
        *("hospitals=2", "rounds=1", "min_contributors=2", "crypto.max_contributors=2"),
        folder=tmp_path,
    )
    assert run(config)["rounds"][0]["contributors"] == 2


@pytest.mark.slow
def test_all_may_be_trained_on(tmp_path: Path) -> None:
    config = experiment("test_size=0", "optimizer=newton", "C=1", "rounds=9", folder=tmp_path)
    metrics, data = run(config), load_built_in("breast_cancer")
    assert metrics["local"] is None
    assert metrics["federated"]["accuracy"] is metrics["pooled"]["accuracy"] is None
    assert metrics["pooled"]["largest_difference"] < 1e-6
    assert metrics["federated"]["examples"] == data.examples == 569
    assert {entry["test_loss"] for entry in metrics["rounds"]} == {None}
    model = LogisticModel.load(tmp_path / "model.json")
    scaled = StandardScaler().fit_transform(data.features)
    fit = LogisticRegression(C=1, tol=1e-10, max_iter=10_000).fit(scaled, data.labels)
    np.testing.assert_allclose(model.coefficients, fit.coef_[0], atol=1e-4)
    assert model.positive == "benign"
    assert metrics["config"]["data"]["name"] == "breast_cancer"
    assert "no figure of quality is known" in (tmp_path / "report.html").read_text()


def test_the_baselines_are_penalised_like_the_federation(tmp_path: Path) -> None:
    config = experiment("C=0.01", "rounds=1", folder=tmp_path)
    metrics, data = run(config), standardised(config)
    for entry, part in (
        *zip(metrics["local"], data.hospitals, strict=True),
        (metrics["pooled"], data.train),
    ):
        fit = LogisticRegression(C=0.01, tol=1e-8, max_iter=10_000).fit(part.features, part.labels)
        expected = log_loss(data.test.labels, fit.predict_proba(data.test.features))
        assert entry["log_loss"] == pytest.approx(expected, rel=1e-4)
        assert entry["examples"] == part.examples
    assert metrics["pooled"]["C"] == 0.01


def test_bytes_of_a_round_are_of_all_messages(one_round: Finished) -> None:
    metrics = one_round.metrics
    update = metrics["crypto"]["bytes_per_update"]
    assert metrics["rounds"][0]["bytes_sent"] > 4 * update, "three updates and their sum"
    assert metrics["rounds"][0]["test_loss"] != metrics["rounds"][0]["loss"]


def test_the_models_scaling_is_the_datas(one_round: Finished) -> None:
    model = LogisticModel.load(one_round.folder / "model.json")
    scaler = StandardScaler().fit(simulated_data(one_round.config).train.features)
    np.testing.assert_allclose(model.mean, scaler.mean_, rtol=1e-12)
    np.testing.assert_allclose(model.scale, scaler.scale_, rtol=1e-12)


def test_training_that_diverges_is_told_from_numbers_that_are_too_large(tmp_path: Path) -> None:
    diverging = experiment("optimizer.lr=1e6", "rounds=3", folder=tmp_path)
    with pytest.raises(ProtocolError) as caught:
        run(diverging)
    reason = str(caught.value)
    assert "raise crypto.integer_bits (now 24, at most " in reason
    assert "; the loss was 0.693, and on the test set " in reason
    assert reason.endswith("after the first step, so the step was too long: lower optimizer.lr")
    narrow = experiment("crypto.integer_bits=2", folder=tmp_path)
    with pytest.raises(ProtocolError, match="raise integer_bits") as caught:
        run(narrow)
    assert "crypto.integer_bits" in str(caught.value)
    assert "diverges" not in str(caught.value)
