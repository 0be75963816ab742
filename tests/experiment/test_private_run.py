"""Training with differential privacy from configuration to report, in one process."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed_nodes import deployed_nodes
from dp_accounting import get_epsilon_gaussian
from experiments import experiment, on_round
from flwr.app import Message, MessageType
from flwr.app.user_config import UserConfig
from local_grid import LocalGrid, simulated_nodes
from noisy_descent import private_descent
from quick import slow, slow_but
from rich.console import Console
from scipy import stats

from fl_he import client_app, server_app
from fl_he.config.composition import compose
from fl_he.config.help import CONF
from fl_he.config.run import Config
from fl_he.crypto.schemes import PAILLIER, SCHEMES
from fl_he.experiment.data import simulated_data
from fl_he.report.tables.comparison import comparison_table
from fl_he.report.tables.privacy import privacy_table
from fl_he.run_files.checkpoint import CheckpointError
from fl_he.run_files.metrics import read_metrics
from fl_he.wire.encrypted_sum import DECRYPT, SEPARATION, DecryptReply
from fl_he.wire.events import Listener, unheard
from fl_he.wire.records import ProtocolError
from fl_he.wire.sealed_messages import OpenNews

PRIVATE = ("experiment=private",)
UNITS = ("scaling=ranges", "ranges=breast_cancer")
SMALL = ("privacy=gaussian", "privacy.clip=0.5", "rounds=2", "optimizer.lr=0.5", *UNITS)


class Run:
    """One simulated run, with company X's view."""

    def __init__(self, config: Config, app_config: Config | None = None) -> None:
        self.config = config
        app = client_app.build(lambda _: config if app_config is None else app_config)
        self.grid = LocalGrid(app, simulated_nodes(config.hospitals))

    def train(self) -> dict[str, Any]:
        return server_app.train(self.grid, self.config, Path(str(self.config.output_dir)))

    @property
    def totals(self) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
        return [
            DecryptReply.from_content(reply.content).total
            for reply in self.grid.received
            if reply.metadata.message_type == DECRYPT
        ]


def gradient_sum(config: Config, w: Any, b: float) -> Any:
    """Return the sum of clipped gradients over all patients, by numpy alone."""
    train = simulated_data(config).train
    with (CONF.parent / "learning" / "tables" / "ranges" / "breast_cancer.json").open() as file:
        ranges = {row["feature"]: row for row in json.load(file)}
    low, high = (
        np.array([float(ranges[name][end]) for name in train.feature_names])
        for end in ("low", "high")
    )
    mapped = 2 * (train.features - low) / (high - low) - 1
    X = np.c_[mapped, np.ones(train.examples)]
    each = X * (1 / (1 + np.exp(-(X @ np.r_[w, b]))) - train.labels)[:, None]
    norms = np.sqrt((each**2).sum(axis=1))
    assert config.privacy.clip is not None
    assert (norms > config.privacy.clip).any()
    return (each * np.minimum(1, config.privacy.clip / norms)[:, None]).sum(axis=0)


@pytest.mark.slow
def test_epsilon_one_keeps_the_accuracy(tmp_path: Path) -> None:
    """One real run each of five seeds, with and without noise; the mean is the test after."""
    with_noise, without = [], []
    for seed in range(5):
        metrics = Run(experiment(*PRIVATE, f"seed={seed}", folder=tmp_path / str(seed))).train()
        assert metrics["privacy"]["epsilon"] <= 1.0
        with_noise.append(metrics["federated"]["accuracy"])
        without.append(metrics["privacy"]["without_noise"]["accuracy"])
    assert np.mean(with_noise) >= 0.91  # four standard deviations below this mean
    assert np.mean(without) >= 0.945  # clipped as the runs are: 0.950 without chance


@pytest.mark.slow
def test_epsilon_one_reaches_0_93_in_the_mean_of_five_seeds(tmp_path: Path) -> None:
    """The very sums and noise of the runs, without the crypto, so often that chance is small."""
    scores = []
    for seed in range(5):
        config = experiment(*PRIVATE, f"seed={seed}", folder=tmp_path)
        scores += [private_descent(config) for _ in range(20)]
    assert np.mean(scores) >= 0.93


@pytest.mark.parametrize("topology", slow_but(["fold", "chain"], "fold"))
@pytest.mark.parametrize("scheme", slow_but(SCHEMES, PAILLIER))
def test_company_x_opens_clipped_sums_with_the_noise_that_is_reported(
    tmp_path: Path, topology: str, scheme: str
) -> None:
    overrides = (f"topology={topology}", f"crypto.scheme={scheme}", "hospitals=5")
    config = experiment(*PRIVATE, *overrides, folder=tmp_path)
    run = Run(config)
    metrics = run.train()
    deviation = metrics["privacy"]["noise_in_last_total"]
    assert deviation == metrics["privacy"]["noise_per_hospital"] * np.sqrt(5)  # all add theirs
    w, b = np.zeros(30), 0.0
    noise = []
    for total in run.totals:
        assert len(total) == 2 + 31  # counts and gradient: neither loss nor accuracy
        assert total[0] == 5
        assert total[1] == metrics["federated"]["examples"]
        noise.append((total[2:] - gradient_sum(config, w, b)) / deviation)
        w, b = (
            w - config.optimizer.lr * total[2:-1] / total[1],
            b - config.optimizer.lr * float(total[-1]) / total[1],
        )
    np.testing.assert_allclose(metrics["federated"]["coefficients"], w, atol=1e-9)
    assert stats.kstest(np.concatenate(noise), stats.norm.cdf).pvalue > 1e-6


def test_the_report_states_what_is_promised(tmp_path: Path) -> None:
    config = experiment(*PRIVATE, "rounds=4", "min_contributors=2", folder=tmp_path / "run")
    metrics = Run(config).train()
    assert read_metrics(tmp_path / "run") == metrics
    privacy = metrics["privacy"]
    # The accounting again, from the figures of the report alone.
    sigma = privacy["noise_per_round"] / (2 * privacy["clip"] * math.sqrt(4))
    assert privacy["epsilon"] == pytest.approx(get_epsilon_gaussian(sigma, 1e-5), rel=1e-6)
    assert privacy["epsilon"] == pytest.approx(1.0, rel=1e-4)
    # of two shares, a hospital knows one
    alone = get_epsilon_gaussian(sigma / math.sqrt(2), 1e-5)
    assert privacy["epsilon_towards_a_hospital"] == pytest.approx(alone, rel=1e-6)
    assert privacy["epsilon_of_one_update"] == pytest.approx(alone, rel=1e-6)
    assert "choice of clip, learning rate, rounds and ranges" in privacy["not_covered"][1]
    data = simulated_data(config)
    share, labels = data.train.labels.mean(), data.test.labels
    entropy = -np.mean(np.where(labels == 1.0, math.log(share), math.log(1 - share)))
    assert metrics["class_shares"]["log_loss"] == pytest.approx(entropy, rel=1e-9)
    assert metrics["class_shares"]["roc_auc"] == 0.5
    assert {entry["loss"] for entry in metrics["rounds"]} == {None}
    assert {entry["accuracy"] for entry in metrics["rounds"]} == {None}
    assert all(entry["test_accuracy"] > 0.5 for entry in metrics["rounds"])
    console = Console(width=200, record=True, file=(tmp_path / "out").open("w"))
    console.print(comparison_table(metrics), privacy_table(metrics))
    text = console.export_text()
    for part in (
        "the same without noise",
        "the class shares alone",
        "federated (encrypted, epsilon 1)",
        "for all 4 rounds together, at delta 1e-05",
        "one row of one hospital's table is replaced by any other",
        *privacy["not_covered"],
    ):
        assert part in text


def test_a_run_tells_what_it_chose_and_its_hospitals_choose_the_same(tmp_path: Path) -> None:
    few = ("privacy=gaussian", "ranges=breast_cancer", "rounds=2")
    config = experiment(*few, folder=tmp_path / "run")
    metrics = Run(config, experiment(*few, folder=tmp_path / "run")).train()
    reason = metrics["optimizer"]["reason"]
    assert "; optimizer.lr=5.1 privacy.clip=0.56 chosen for 426 patients, 30 features" in reason
    assert metrics["privacy"]["not_covered"][1].endswith("the choice of rounds and ranges")
    assert metrics["privacy"]["clip"] == metrics["config"]["privacy"]["clip"] == 0.56
    assert metrics["config"]["optimizer"]["lr"] == 5.1
    assert metrics["privacy"]["rounds"] == 2
    assert metrics["privacy"]["epsilon"] <= 1.0


def test_the_scaling_is_a_release_of_the_same_budget(tmp_path: Path) -> None:
    """Many patients of three features: the noise in mean and scale is small, and is reported."""
    random = np.random.default_rng(5)
    X = random.normal([50.0, 3.0, -1.0], [9.0, 0.4, 2.0], (4000, 3))
    y = X @ [0.2, 1.0, 0.5] + random.normal(size=4000) > 12.5
    table, ranges = tmp_path / "patients.csv", tmp_path / "ranges.csv"
    rows = np.c_[X, y].tolist()
    table.write_text("\n".join(["age,ratio,score,sick", *(",".join(map(repr, r)) for r in rows)]))
    ranges.write_text("feature,low,high\nage,0,120\nratio,0,10\nscore,-10,10\n")
    config = experiment(
        *("data=csv", f"data.path={table}", "data.target=sick", "data.threshold=1"),
        *("privacy=gaussian", "privacy.clip=0.5", "privacy.scaling=0.25", "optimizer.lr=2"),
        *("scaling=federated", f"ranges={ranges}", "rounds=6"),
        folder=tmp_path / "run",
    )
    run = Run(config)
    metrics = run.train()
    assert read_metrics(tmp_path / "run") == metrics
    privacy, train = metrics["privacy"], simulated_data(config).train
    # The accounting again, from the figures of the report alone.
    squared_mu = (2 * np.sqrt(3) / privacy["noise_of_scaling"]) ** 2
    squared_mu += 6 * (2 * 0.5 / privacy["noise_per_round"]) ** 2
    together = get_epsilon_gaussian(1 / math.sqrt(squared_mu), 1e-5)
    assert privacy["epsilon"] == pytest.approx(together, rel=1e-4)
    assert privacy["epsilon"] == pytest.approx(1.0, rel=1e-4)
    alone = get_epsilon_gaussian(1 / math.sqrt(3 * squared_mu), 1e-5)
    assert privacy["epsilon_of_one_update"] == pytest.approx(alone, rel=1e-4)
    # Company X opened first the sums, with that noise.
    half, middle = np.array([60.0, 5.0, 10.0]), np.array([60.0, 5.0, 0.0])
    mapped = (np.clip(train.features, middle - half, middle + half) - middle) / half
    exact = np.r_[mapped.sum(axis=0), (mapped**2).sum(axis=0)]
    noise = (run.totals[0][2:] - exact) / privacy["noise_of_scaling"]
    assert run.totals[0][:2].tolist() == [3, 3000]
    assert 1e-6 < np.abs(noise).max() < 6
    model = json.loads((tmp_path / "run" / "model.json").read_text())
    np.testing.assert_allclose(
        model["mean"], middle + half * run.totals[0][2:5] / 3000, rtol=0, atol=1e-6
    )
    assert (np.abs(model["mean"] - train.features.mean(axis=0)) < 0.05 * half).all()
    saved = json.loads((tmp_path / "run/hospitals/hospital-2/model.json").read_text())
    assert saved["mean"] == model["mean"]
    assert metrics["federated"]["accuracy"] > 0.8
    console = Console(width=200, record=True, file=(tmp_path / "out").open("w"))
    console.print(privacy_table(metrics))
    text = console.export_text()
    assert "for all 6 rounds together and the scaling, at delta 1e-05" in text
    assert "25% of the budget: standard deviation" in text


def test_without_privacy_nothing_is_promised(tmp_path: Path) -> None:
    metrics = Run(experiment("rounds=1", folder=tmp_path)).train()
    assert metrics["privacy"] is None
    assert privacy_table(metrics) is None
    assert metrics["rounds"][0]["loss"] is not None


def test_one_hospital_that_counts_alone_promises_others_nothing(tmp_path: Path) -> None:
    metrics = Run(experiment(*SMALL, "min_contributors=1", folder=tmp_path)).train()
    assert metrics["privacy"]["epsilon_towards_a_hospital"] is None


def test_a_simulation_is_not_resumed(tmp_path: Path) -> None:
    config = experiment(*SMALL, folder=tmp_path)
    run = Run(config)

    def cut_off(entry: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        server_app.train(run.grid, config, tmp_path, on_round(cut_off))
    resumed = replace(config, resume=str(tmp_path))
    with pytest.raises(CheckpointError, match="hospitals have forgotten what they released"):
        Run(resumed).train()


@pytest.mark.parametrize(
    "overrides",
    [
        ("privacy.epsilon=2",),
        ("privacy=none", "privacy.epsilon=null"),
        *slow(
            *((("privacy.delta=1e-6",),), (("privacy.clip=0.6",),)),
            *((("rounds=3",),), (("min_contributors=2",),)),
        ),
    ],
)
def test_hospitals_refuse_other_terms_than_their_own(
    tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    own = experiment(*SMALL, folder=tmp_path)
    asked = (
        experiment("rounds=2", "optimizer.lr=0.5", *UNITS, folder=tmp_path)
        if overrides[0] == "privacy=none"
        else experiment(*SMALL, *overrides, folder=tmp_path)
    )
    run = Run(asked, own)
    with pytest.raises(ProtocolError, match="the privacy must be this node's own, epsilon 1,"):
        run.train()
    assert run.totals == []


def test_hospitals_without_privacy_do_not_pretend_to_have_it(tmp_path: Path) -> None:
    own = experiment("rounds=2", "optimizer.lr=0.5", folder=tmp_path)
    run = Run(experiment(*SMALL, folder=tmp_path), own)
    with pytest.raises(ProtocolError, match="must be this node's own, no privacy, got epsilon 1"):
        run.train()


@pytest.mark.parametrize(
    "overrides",
    [
        ["crypto.integer_bits=8", "privacy.clip=2"],  # the examples fit, the sum might not
        ["crypto.integer_bits=30", "crypto.max_contributors=16"],  # sums would not be exact
    ],
)
def test_a_slot_without_room_for_the_noise_is_refused(tmp_path: Path, overrides: list[str]) -> None:
    run = Run(experiment(*SMALL, *overrides, folder=tmp_path))
    with pytest.raises(
        ProtocolError, match=r"a private sum must fit its slot with its noise|must be at most 50"
    ):
        run.train()
    assert run.totals == []


# Deployed hospitals: their own settings, and a file that counts.

TERMS: UserConfig = {
    "privacy-epsilon": 1.0,
    "privacy-delta": 1e-5,
    "privacy-clip": 0.5,
    "privacy-rounds": 2,
}


def no_config(_: object) -> Config:
    raise AssertionError("a deployed node must not be asked for the run's configuration")


class Deployment:
    """Deployed nodes; each run is a new one of Flower's, with nothing in the nodes' memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes = deployed_nodes(folder)
        for number, node in enumerate(self.nodes[:-1]):
            node |= {**TERMS, "privacy-ledger": str(folder / f"privacy-{number}.jsonl")}
        self.runs = 0

    def train(
        self,
        *overrides: str,
        tamper: Callable[[Message], Message | None] | None = None,
        on_event: Listener = unheard,
    ) -> dict[str, Any]:
        self.runs += 1
        self.grid = LocalGrid(client_app.build(no_config), self.nodes, run_id=self.runs)
        if tamper is not None:
            self.grid.tamper = tamper
        # A resumed run has its own configuration.
        resumed = any(override.startswith("resume=") for override in overrides)
        scaled = "scaling=federated" in overrides
        units = [] if resumed or scaled else ["scaling=none", "ranges=null"]
        config = compose("config", ["optimizer.lr=0.5", *overrides, *units])
        folder = Path(config.resume or self.folder / f"run-{self.runs}")
        return server_app.train(self.grid, config, folder, on_event)

    def released(self, number: int = 0) -> list[str]:
        return (self.folder / f"privacy-{number}.jsonl").read_text().splitlines()

    def totals(self) -> list[list[float]]:
        return [
            DecryptReply.from_content(reply.content).total.tolist()
            for reply in self.grid.received
            if reply.metadata.message_type == DECRYPT
        ]


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)


def test_deployed_hospitals_spend_their_budget_once(deployment: Deployment) -> None:
    metrics = deployment.train(*SMALL)
    assert metrics["privacy"]["without_noise"] is None
    assert metrics["federated"]["accuracy"] is None
    assert [len(deployment.released(number)) for number in range(3)] == [2, 2, 2]
    for path in deployment.folder.glob("model-*.json"):
        path.unlink()
    # The same run again is another session, whose totals would be held against the first one's.
    with pytest.raises(ProtocolError, match="the budget is spent"):
        deployment.train(*SMALL)
    assert deployment.totals() == []
    assert [len(deployment.released(number)) for number in range(3)] == [2, 2, 2]


def test_more_rounds_than_were_budgeted_are_refused(deployment: Deployment) -> None:
    with pytest.raises(ProtocolError, match="must be this node's own"):
        deployment.train(*SMALL, "rounds=3")
    for node in deployment.nodes[:-1]:
        node["privacy-rounds"] = 3
    with pytest.raises(ProtocolError, match="must be this node's own"):
        deployment.train(*SMALL)
    assert deployment.totals() == []


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_resumed_run_is_told_the_same_again(deployment: Deployment, scheme: str) -> None:
    """Company X is away when the second sum is opened; the hospitals have released theirs."""
    opened = 0

    def lose_the_second(reply: Message) -> Message | None:
        nonlocal opened
        opened += reply.metadata.message_type == DECRYPT
        return None if opened > 1 and reply.metadata.message_type == DECRYPT else reply

    with pytest.raises(ProtocolError, match="company X"):
        deployment.train(
            *(*SMALL, "key_holder_timeout=1", f"crypto.scheme={scheme}"), tamper=lose_the_second
        )
    folder = deployment.folder / "run-1"
    checkpoint = folder / "checkpoint.json"
    # Without the sum that was not opened, the hospitals are asked for the round again.
    text = checkpoint.read_text()
    assert '"unopened": {' in text
    before = deployment.released()
    metrics = deployment.train(f"resume={folder}", "key_holder_timeout=10")
    assert deployment.released() == before
    assert len(metrics["rounds"]) == 2


@pytest.mark.slow
def test_two_sessions_over_one_model_share_no_noise(deployment: Deployment) -> None:
    """Otherwise two totals would differ by a few hospitals' sums, with only their noise."""

    def cut_off(_: object) -> None:
        raise KeyboardInterrupt

    totals = []
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            deployment.train(*SMALL, on_event=on_round(cut_off))
        totals += deployment.totals()
    first, second = totals
    assert first[:2] == second[:2]  # the same hospitals and patients
    assert all(one != other for one, other in zip(first[2:], second[2:], strict=True))


def test_a_deployed_hospital_pays_for_one_scaling_if_its_own_terms_say_so(
    deployment: Deployment,
) -> None:
    ranges = deployment.folder / "ranges.csv"
    ranges.write_text("feature,low,high\nage,-4,4\nsize,-4,4\n")
    scaled = (*SMALL[:4], "privacy.scaling=0.3", "scaling=federated", f"ranges={ranges}")
    with pytest.raises(ProtocolError, match=r"must be this node's own, .* 0 of the budget"):
        deployment.train(*scaled)
    for node in deployment.nodes[:-1]:
        node["privacy-scaling"] = 0.3
    with pytest.raises(ProtocolError, match=r"must be this node's own, .* 0\.3 of the budget"):
        deployment.train(*SMALL)
    metrics = deployment.train(*scaled)
    assert metrics["privacy"]["scaling"] == 0.3
    assert 0.999 < metrics["privacy"]["epsilon"] <= 1.0
    for number in range(3):
        kinds = [json.loads(line)["kind"] for line in deployment.released(number)]
        assert kinds == ["scaling", "gradient", "gradient"]
    assert [len(total) for total in deployment.totals()] == [2 + 4, 2 + 3, 2 + 3]


def test_an_incomplete_promise_is_refused_at_the_start(deployment: Deployment) -> None:
    del deployment.nodes[0]["privacy-ledger"]
    with pytest.raises(
        ProtocolError, match="clinic-1: a hospital with privacy needs privacy-epsilon"
    ):
        deployment.train(*SMALL)


def test_a_hospital_that_owes_privacy_evaluates_nothing(deployment: Deployment) -> None:
    deployment.train(*SMALL)
    train = next(m for m in deployment.grid.sent if m.metadata.message_type == MessageType.TRAIN)
    for action in (MessageType.EVALUATE, SEPARATION):
        # As an app asks that hospitals do not compute the model of.
        content = OpenNews.remove_from(train.content)
        message = Message(content, train.metadata.dst_node_id, action)
        reply = next(iter(deployment.grid.send_and_receive([message])))
        reason = str(reply.error.reason)
        assert "a node with privacy answers train messages only" in reason
