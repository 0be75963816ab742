"""Whole runs of CaPC from a configuration: in one process, in Ray, and without encryption."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message
from local_grid import LocalGrid, simulated_nodes
from numpy.typing import NDArray

from fl_he import client_app, server_app, simulation
from fl_he.capc import plain as capc_plain
from fl_he.capc.data import capc_data, fitted_model
from fl_he.capc.node import guardian as capc_guardian
from fl_he.capc.simulation import SimulatedParty
from fl_he.config.composition import compose
from fl_he.config.run import Config
from fl_he.learning.errors import DataError, PrivacyError
from fl_he.learning.voting import noisy_vote
from fl_he.learning.voting.gnmax import ConfidentGNMax, epsilon_by_votes
from fl_he.report.tables.capc import answers_table, steps_table
from fl_he.run_files.metrics import read_metrics
from fl_he.run_files.metrics_contract import MetricsError, check_metrics
from fl_he.wire.events import BatchEnded, Event, Finishing, Starting, StepEnded

pytestmark = pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")

SMALL = ("crypto.key_bits=1024", "capc.queries=12", "capc.value_bits=28")


def configured(*overrides: str) -> Config:
    return compose("config", ["experiment=capc_breast_cancer", *SMALL, *overrides])


def run(config: Config, folder: Path) -> tuple[dict[str, Any], LocalGrid]:
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))
    return server_app.train(grid, config, folder), grid


def test_a_run_answers_with_the_plain_majority_and_writes_its_files(tmp_path: Path) -> None:
    config = configured("capc.querying=[1,3]", "min_contributors=3")
    metrics, _ = run(config, tmp_path)
    assert read_metrics(tmp_path) == metrics
    assert "Accuracy by class of hospital-3" in (tmp_path / "report.html").read_text()
    assert [result["party"] for result in metrics["querying"]] == ["hospital-1", "hospital-3"]
    for result in metrics["querying"]:
        assert result["answered"] == result["equal_to_plain_majority"] == 12
        assert result["examples"] == 20
        assert result["label_accuracy"] > 0.8
    assert metrics["privacy"]["epsilon"] is None
    assert metrics["encrypted"] is True
    assert sum(step["hops"] for step in metrics["steps"]) == 2 * 12 + 1 + 2
    assert sum(step["node_seconds"] for step in metrics["steps"]) > 0
    assert answers_table(metrics).row_count == 2
    assert steps_table(metrics).row_count == len(metrics["steps"]) == 14


def test_both_backends_give_the_same_without_noise(tmp_path: Path) -> None:
    config = configured("hospitals=6", "capc.threshold=4", "capc.selection=entropy")
    encrypted, _ = run(config, tmp_path / "a")
    plain = capc_plain.run_plain(config, tmp_path / "b")
    # five parties of two classes do not tie
    assert encrypted["querying"] == plain["querying"]
    assert 0 < plain["querying"][0]["refused"] < 12


@pytest.mark.slow
def test_both_backends_give_the_same_labels_for_the_same_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise is never seeded, so the one function that draws it is given the same numbers here."""
    config = configured(
        *("hospitals=6", "capc.queries=40", "capc.sigma_gnmax=2", "capc.threshold=5"),
        "capc.sigma_threshold=1",
    )
    rng = np.random.default_rng(1)
    noise, test_noise = rng.integers(-4, 5, size=(40, 2)), rng.integers(-2, 3, size=40)

    def drawn(by_class: bool) -> Callable[[Fraction, int], NDArray[np.int64]]:
        def vote_noise(variance: Fraction, size: int) -> NDArray[np.int64]:
            if size == len(test_noise):
                return test_noise
            return (noise.T if by_class else noise).reshape(-1)

        return vote_noise

    labels: list[list[int]] = []
    real = SimulatedParty.learn

    def learn(party: SimulatedParty, answers: Any, *votes: Any) -> dict[str, Any]:
        labels.append(answers.tolist())
        return real(party, answers, *votes)

    monkeypatch.setattr(capc_guardian, "vote_noise", drawn(by_class=True))
    monkeypatch.setattr(noisy_vote, "vote_noise", drawn(by_class=False))
    monkeypatch.setattr(SimulatedParty, "learn", learn)
    capc_plain.run_plain(config, tmp_path / "a")
    run(config, tmp_path / "b")
    votes = SimulatedParty(config, 0).plain_votes(40)
    noisy = votes + noise
    tied = noisy[:, 0] == noisy[:, 1]
    plain, encrypted = (np.array(row) for row in labels)
    assert (plain == encrypted)[~tied].all()
    # where two noisy counts tie, chance decides between them, but not whether there is an answer
    assert ((plain == -1) == (encrypted == -1)).all()
    assert {-1, 0, 1} == set(plain.tolist())
    assert 0 < tied.sum() < 20
    changed = noisy.argmax(axis=1) != votes.argmax(axis=1)
    assert changed.sum() >= 3, "the noise must make a difference"


@pytest.mark.slow
def test_parties_on_different_feature_maps_answer_the_same_query(tmp_path: Path) -> None:
    kinds = "capc.models=[logistic,gaussian_nb,polynomial,fourier]"
    config = configured(kinds, "capc.value_bits=40", "capc.fourier_components=20")
    assert SimulatedParty(config, 0).terms.features == 30 + 465 + 20
    encrypted, _ = run(config, tmp_path / "a")
    plain = capc_plain.run_plain(config, tmp_path / "b")
    # three parties of two classes do not tie
    assert encrypted["querying"] == plain["querying"]
    assert plain["querying"][0]["label_accuracy"] > 0.8


@pytest.mark.slow
def test_a_chain_gives_the_same_labels_as_a_fold(tmp_path: Path) -> None:
    topologies = ("topology=fold", "topology=chain", "topology=chain segments=auto")
    runs = [
        run(configured("hospitals=6", "capc.threshold=4", *topology.split()), tmp_path / str(at))[0]
        for at, topology in enumerate(topologies)
    ]
    assert runs[0]["querying"] == runs[1]["querying"] == runs[2]["querying"]
    hops = [
        next(step["hops"] for step in each["steps"] if step["step"] == "query.capc_collect")
        for each in runs
    ]
    assert hops == [1, 5, 3]


@pytest.mark.release
def test_a_chain_in_ray(tmp_path: Path) -> None:
    metrics = simulation.run(configured("topology=chain", "capc.queries=3"), tmp_path)
    (result,) = metrics["querying"]
    assert result["answered"] == result["equal_to_plain_majority"] == 3
    collect = next(s for s in metrics["steps"] if s["step"] == "query.capc_collect")
    assert collect["hops"] == 3


@pytest.mark.filterwarnings("error")
def test_a_study_of_many_parties_does_not_warn_of_their_few_examples() -> None:
    config = compose("config", ["experiment=capc_digits", "hospitals=50", "capc.backend=plain"])
    data = capc_data(config)
    smallest = [np.bincount(part.labels, minlength=10) for part in data.parties]
    assert min(count for counts in smallest for count in counts if count) == 1
    for party in range(6):
        fitted_model(data, config, party)


def test_the_plain_backend_says_so(tmp_path: Path) -> None:
    config = configured("capc.backend=plain")
    metrics = simulation.run(config, tmp_path)
    assert metrics["encrypted"] is False
    assert metrics["steps"] == []
    assert "WITHOUT ENCRYPTION" in str(answers_table(metrics).title)
    assert metrics["querying"][0]["equal_to_plain_majority"] == 12


def test_the_budget_cuts_the_batches_and_is_never_exceeded(tmp_path: Path) -> None:
    noisy = ("capc.sigma_gnmax=5", "capc.sigma_threshold=10", "capc.threshold=2")
    config = configured(*noisy, "capc.epsilon=6", "capc.querying=[1,2]", "capc.backend=plain")
    metrics = capc_plain.run_plain(config, tmp_path)
    asked = [result["queries"] for result in metrics["querying"]]
    assert asked[0] == 12
    assert 0 < asked[1] < 12, "the second one's queries count for the same patients"
    privacy = metrics["privacy"]
    assert privacy["queries"] == sum(asked)
    assert privacy["epsilon"] <= 6
    with pytest.raises(PrivacyError, match=r"capc\.epsilon must allow one query"):
        capc_plain.run_plain(configured(*noisy, "capc.epsilon=0.1"), tmp_path)


def test_the_bound_by_the_votes_is_for_analysis_only(tmp_path: Path) -> None:
    noisy = ("capc.sigma_gnmax=2", "capc.sigma_threshold=4", "capc.threshold=2")
    config = configured(*noisy, "capc.backend=plain", "hospitals=9", "capc.querying=[1,2]")
    metrics = capc_plain.run_plain(config, tmp_path)
    votes = [
        row.astype(float)
        for party in (0, 1)
        for row in SimulatedParty(config, party).plain_votes(12)
    ]
    bound = epsilon_by_votes(votes, ConfidentGNMax(2.0, 4.0, 2.0), 1e-5)
    assert metrics["analysis"] == {"epsilon_by_votes": bound, "releasable": False}
    assert 0.0 < bound < metrics["privacy"]["epsilon"]
    for shown in (str(answers_table(metrics).caption), (tmp_path / "report.html").read_text()):
        assert "NOT TO BE RELEASED" in shown
        assert f"{bound:.3f}" in shown
    wrongs: list[Any] = [{"epsilon_by_votes": 1.0, "releasable": True}, {"releasable": False}, []]
    for wrong in wrongs:
        with pytest.raises(MetricsError):
            check_metrics({**metrics, "analysis": wrong})


def test_nobody_knows_the_votes_of_an_encrypted_run(tmp_path: Path) -> None:
    noisy = ("capc.sigma_gnmax=2", "capc.queries=2")
    assert run(configured(*noisy), tmp_path)[0]["analysis"] is None


@pytest.mark.slow
def test_a_vote_of_very_many_parties_is_a_study_without_encryption(tmp_path: Path) -> None:
    config = compose("config", ["experiment=capc_many", "capc.queries=30", "hospitals=120"])
    told: list[Event] = []
    metrics = simulation.run(config, tmp_path, told.append)
    assert compose("config", ["experiment=capc_many"]).hospitals == 250
    assert metrics["encrypted"] is False
    assert told == [
        Starting("local"),
        StepEnded("votes on the queries of hospital-1, not encrypted"),
        BatchEnded("hospital-1", 30),
        Finishing(),
    ]
    (result,) = metrics["querying"]
    rise = result["after"]["balanced_accuracy"] - result["before"]["balanced_accuracy"]
    assert rise > 0.05
    assert 0 < metrics["privacy"]["epsilon"] < 3
    assert "WITHOUT ENCRYPTION" in str(answers_table(metrics).title)
    assert "NONE" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_the_querying_party_gains_in_the_mean_of_five_seeds(tmp_path: Path) -> None:
    rises, epsilons = [], set()
    for seed in range(5):
        config = compose("config", ["experiment=capc_digits", "capc.backend=plain", f"seed={seed}"])
        metrics = capc_plain.run_plain(config, tmp_path / str(seed))
        (result,) = metrics["querying"]
        rises.append(result["after"]["balanced_accuracy"] - result["before"]["balanced_accuracy"])
        epsilons.add(metrics["privacy"]["epsilon"])
    assert np.mean(rises) >= 0.05
    assert [epsilon < 10 for epsilon in epsilons] == [True], "the same for all, and stated"


def test_too_few_examples_for_a_model_are_refused_by_the_party_and_the_kind(
    tmp_path: Path,
) -> None:
    config = compose("config", ["experiment=capc_many", "capc.models=[lda]", "capc.queries=2"])
    with pytest.raises(DataError, match=r"hospital-\d+ must have examples enough .*'lda'"):
        capc_plain.run_plain(config, tmp_path)


def test_nobody_shares_data_and_a_weak_party_is_weak() -> None:
    config = configured("capc.weak_classes=[1]", "capc.weak_ratio=0.1", "capc.examples=null")
    data = capc_data(config)
    rows = [
        row.tobytes()
        for part in (*data.parties, *data.pools.values(), data.test)
        for row in part.features
    ]
    assert len(set(rows)) == len(rows)
    shares = [part.labels.mean() for part in data.parties]
    assert shares[0] < 0.3 < min(shares[1:])


def test_no_label_query_or_count_stands_in_a_message(tmp_path: Path) -> None:
    config = configured()
    metrics, grid = run(config, tmp_path)
    messages: list[Message] = [*grid.sent, *grid.received]
    for message in messages:
        for name, record in message.content.config_records.items():
            for key, value in record.items():
                assert (name, key) in {
                    *(("fl-he", k) for k in ("session", "queries", "querying", "answering")),
                    *(("fl-he", k) for k in ("seconds", "name", "role", "report")),
                    # of deployed nodes alone
                    *(("fl-he", k) for k in ("agreement", "answers", "affordable", "open-cases")),
                    *(
                        ("fl-he.capc-keys", f"{owner}{kind}")
                        for owner in ("", "querying-", "guardian-")
                        for kind in ("paillier", "dgk")
                    ),
                }, (key, value)
    # only the winners, positions in an order that the querying party alone knows, are no ciphertext
    plain = {
        name
        for message in messages
        for record in message.content.array_records.values()
        for name, array in record.items()
        if len(array.data) < 128
    }
    assert plain == {"winners"}
    reports = [m.content["fl-he"]["report"] for m in grid.received]
    assert [json.loads(str(r)) for r in reports if r] == metrics["querying"]


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("capc.queries=400", "capc.queries must be at most"),
        ("capc.models=[tree]", "a model must be one of"),
        ("capc.selection=best", "selection must be one of"),
        ("capc.value_bits=20", "raise value_bits"),
        (
            "test_size=0.7",
            "must leave a row for each of 4 hospitals to train on, got 0.7 and 0.3 of 569 rows",
        ),
    ],
)
def test_what_the_data_do_not_allow_is_refused_before_ray_starts(
    override: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=reason):
        simulation.run(configured(override), tmp_path)


def test_metrics_that_break_the_contract_are_refused(tmp_path: Path) -> None:
    metrics = capc_plain.run_plain(configured(), tmp_path)
    for key, wrong in (("encrypted", 1), ("querying", {}), ("privacy", []), ("steps", None)):
        with pytest.raises(MetricsError):
            check_metrics({**metrics, key: wrong})


@pytest.mark.release
def test_three_kinds_answer_fifty_queries_in_ray_at_2048_bits(tmp_path: Path) -> None:
    config = compose("config", ["experiment=capc_breast_cancer"])
    metrics = simulation.run(config, tmp_path)
    (result,) = metrics["querying"]
    assert config.crypto.key_bits == 2048
    assert len(set(config.capc.models[1:])) == config.hospitals - 1 == 3
    assert result["answered"] == result["equal_to_plain_majority"] >= 50
