"""Whole runs of CaPC that give each case several labels."""

from __future__ import annotations

import csv
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dp_accounting.pld.privacy_loss_distribution import from_discrete_gaussian_mechanism
from labelled_table import write_labelled_table
from local_grid import LocalGrid, simulated_nodes
from numpy.typing import NDArray

from fl_he import client_app, server_app
from fl_he.capc.all_labels import write_labels
from fl_he.capc.data import capc_data, fitted_model
from fl_he.capc.node import guardian as capc_guardian
from fl_he.capc.plain import check, run_plain
from fl_he.capc.run import budget_of
from fl_he.capc.simulation import SimulatedParty
from fl_he.config.capc import Backend, Voting
from fl_he.config.composition import compose
from fl_he.config.constraints import ConfigError
from fl_he.config.many_labels import many_labels
from fl_he.config.rules import check as check_settings
from fl_he.config.run import Config
from fl_he.learning.errors import DataError, PrivacyError
from fl_he.learning.voting import noisy_vote
from fl_he.learning.voting.many_labels import ClippedVotes, having_label
from fl_he.report.tables.capc import labels_table
from fl_he.run_files.metrics import read_metrics
from fl_he.wire.records import ProtocolError

pytestmark = pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")

LABELS = "abcde"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "labels.csv"
    write_labelled_table(path, LABELS)
    return path


def configured(table: Path, voting: str, *overrides: str, labels: Sequence[str] = LABELS) -> Config:
    dropped = [name for name in LABELS if name not in labels]
    words = (
        *("experiment=capc_breast_cancer", "data=csv", f"data.path={table}"),
        *(f"data.drop=[{','.join(dropped)}]", f"capc.labels=[{','.join(labels)}]"),
        *(f"capc.voting={voting}", "crypto.key_bits=1024", "capc.examples=40"),
        *("capc.models=[ridge,linear_svc]", "capc.queries=4", "capc.value_bits=32"),
    )
    return compose("config", [*words, *overrides])


@pytest.fixture(scope="module")
def several(table: Path) -> Config:
    return configured(table, "binary")


def run(config: Config, folder: Path) -> tuple[dict[str, Any], LocalGrid]:
    grid = LocalGrid(client_app.build(lambda _: config), simulated_nodes(config.hospitals))
    return server_app.train(grid, config, folder), grid


def labels_of(config: Config) -> Sequence[int]:
    return range(1, len(config.capc.labels) + 1) if config.capc.voting == "binary" else (0,)


def noise_without_ties(votes: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return noise with which each query has one largest count."""
    while True:
        noise = rng.integers(-3, 4, size=votes.shape)
        top = np.sort(votes + noise, axis=1)
        if (top[:, -1] > top[:, -2]).all():
            return noise


def both_with_the_same_noise(
    config: Config, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """Run both backends, which must learn the same; return the encrypted run's metrics.

    Noise is never seeded, so the one function that draws it is given the same numbers.
    """
    rng = np.random.default_rng(3)
    asked = [SimulatedParty(config, 0, label) for label in labels_of(config)]
    votes = [party.plain_votes(config.capc.queries) for party in asked]
    noise = [noise_without_ties(each, rng) for each in votes]
    changed = [
        (v + n).argmax(axis=1) != v.argmax(axis=1) for v, n in zip(votes, noise, strict=True)
    ]
    assert np.concatenate(changed).any(), "the noise must make a difference"
    learned: dict[str, list[Any]] = {"plain": [], "encrypted": []}
    real = SimulatedParty.learn

    for backend, room in (("plain", noisy_vote), ("encrypted", capc_guardian)):
        drawn = iter([each if backend == "plain" else each.T for each in noise])

        def vote_noise(
            variance: Fraction | None, size: int, drawn: Iterator[NDArray[np.int64]] = drawn
        ) -> NDArray[np.int64]:
            assert variance == 4
            (found := next(drawn).reshape(-1)).reshape(size)
            return found

        def learn(
            party: SimulatedParty, answers: Any, *rest: Any, kept: list[Any] = learned[backend]
        ) -> dict[str, Any]:
            kept.append(answers.tolist())
            return real(party, answers, *rest)

        monkeypatch.setattr(room, "vote_noise", vote_noise)
        monkeypatch.setattr(SimulatedParty, "learn", learn)
        own = replace(config, output_dir=str(folder / backend))
        if backend == "plain":
            plain = run_plain(own, folder / backend)
        else:
            metrics, _ = run(own, folder / backend)
    assert learned["plain"] == learned["encrypted"]
    assert len(np.unique(np.concatenate(learned["plain"]))) > 1
    assert plain["querying"] == metrics["querying"]
    files = [folder / backend / "hospitals" / "hospital-1" / "labels.csv" for backend in learned]
    assert files[0].read_text() == files[1].read_text()
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    return metrics


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def independent_epsilon(counts: int, sigma: float, delta: float) -> float:
    """Return the epsilon of counts that move by one, by Google's loss distributions."""
    one = from_discrete_gaussian_mechanism(sigma, 1, value_discretization_interval=1e-3)
    return float(one.self_compose(counts).get_epsilon_for_delta(delta))


def test_five_encrypted_labels_are_those_of_the_plain_mechanism_with_the_same_noise(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(table, "binary", "capc.sigma_gnmax=2")
    metrics = both_with_the_same_noise(config, tmp_path, monkeypatch)
    assert read_metrics(tmp_path / "encrypted") == metrics
    (result,) = metrics["querying"]
    assert result["queries"] == result["answered"] == 5 * 4
    answers = read_csv(tmp_path / "plain" / "hospitals" / "hospital-1" / "labels.csv")
    assert list(answers[0]) == ["row", *LABELS]
    truth = read_csv(table)  # the header is row 1
    right = [row[one] == truth[int(row["row"]) - 2][one] for row in answers for one in LABELS]
    assert np.mean(right) == pytest.approx(result["label_accuracy"])
    for when in ("before", "after"):
        assert [one["label"] for one in result[when]["labels"]] == list(LABELS)
        assert all(0.0 < one["roc_auc"] <= 1.0 for one in result[when]["labels"])
        mean = np.mean([one["balanced_accuracy"] for one in result[when]["labels"]])
        assert result[when]["balanced_accuracy"] == pytest.approx(mean)
    assert (shown := labels_table(metrics)) is not None
    assert shown.row_count == 5
    exact = independent_epsilon(2 * 5 * 4, 2.0, 1e-5)
    assert metrics["privacy"] == {
        "epsilon": pytest.approx(exact, rel=0.01),
        "delta": 1e-5,
        "queries": 20,
    }


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param("ab", marks=pytest.mark.slow),
        pytest.param(LABELS, marks=pytest.mark.release),
    ],
)
def test_encrypted_subsets_are_those_of_the_plain_mechanism_with_the_same_noise(
    labels: str, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(table, "powerset", "capc.sigma_gnmax=2", labels=labels)
    metrics = both_with_the_same_noise(config, tmp_path, monkeypatch)
    (result,) = metrics["querying"]
    assert result["queries"] == result["answered"] == 4
    assert len(result["after"]["labels"]) == len(labels)
    exact = independent_epsilon(2 * 4, 2.0, 1e-5)
    assert metrics["privacy"]["epsilon"] == pytest.approx(exact, rel=0.01)


def test_clipped_votes_are_a_study_without_encryption(table: Path, tmp_path: Path) -> None:
    words = ("capc.tau=1.5", "capc.backend=plain", "capc.queries=40")
    exact = run_plain(configured(table, "tau", *words), tmp_path / "exact")
    (result,) = exact["querying"]
    assert exact["privacy"]["epsilon"] is None
    assert result["queries"] == result["answered"] == result["equal_to_plain_majority"] == 40
    config = configured(table, "tau", *words, "capc.sigma_gnmax=4")
    noisy = run_plain(config, tmp_path / "noisy")
    (result,) = noisy["querying"]
    assert result["equal_to_plain_majority"] < 40
    assert noisy["privacy"]["epsilon"] == ClippedVotes(5, 1.5, 4.0).epsilon(40, 1e-5)
    assert noisy["analysis"] is None


def test_a_query_without_an_answer_has_an_empty_cell(tmp_path: Path) -> None:
    words = ("experiment=capc_breast_cancer", "capc.backend=plain", "capc.models=[ridge]")
    config = compose("config", [*words, "capc.threshold=3", f"output_dir={tmp_path}"])
    (result,) = run_plain(config, tmp_path)["querying"]
    answers = read_csv(tmp_path / "hospitals" / "hospital-1" / "labels.csv")
    found = [row["label"] for row in answers]
    assert len({row["row"] for row in answers}) == result["queries"] == 60
    assert found.count("") == result["refused"] > 0
    assert set(found) == {"", "0", "1"}


def test_labels_of_any_characters_are_added_to_a_file_of_answers(tmp_path: Path) -> None:
    path, names = tmp_path / "labels.csv", ["œdème\r, left", "b"]
    for name in names:
        write_labels(path, [3, 8], name, ["1", ""], more=name == "b")
    with path.open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [["row", *names], ["3", "1", "1"], ["8", "", ""]]


def test_a_budget_must_pay_for_all_labels_of_a_case(table: Path) -> None:
    words = ("capc.sigma_gnmax=2", "capc.epsilon=6")  # pays for three queries
    with pytest.raises(PrivacyError, match="one query at least for each of the 5 labels, got 6"):
        budget_of(configured(table, "binary", *words))
    _, budget = budget_of(configured(table, "binary", *words, labels=LABELS[:3]))
    assert budget is not None
    assert budget.affordable() == 3


@pytest.mark.slow
def test_a_budget_is_of_all_labels(table: Path, tmp_path: Path) -> None:
    words = ("capc.backend=plain", "capc.sigma_gnmax=10", "capc.epsilon=2", "capc.queries=40")
    binary, powerset, tau = (
        run_plain(configured(table, *more, *words), tmp_path / more[0])
        for more in (["binary", "capc.querying=[1,2]"], ["powerset"], ["tau", "capc.tau=1"])
    )
    assert binary["privacy"]["queries"] % 5 == 0
    for metrics in (binary, powerset, tau):
        asked = sum(result["queries"] for result in metrics["querying"])
        assert asked == metrics["privacy"]["queries"]
        assert 1.0 < metrics["privacy"]["epsilon"] <= 2.0
    # a case costs five queries, or one
    cases = [metrics["querying"][0]["queries"] for metrics in (binary, powerset, tau)]
    assert cases[0] <= cases[1] == cases[2] < 40


@pytest.mark.slow
def test_both_votes_without_noise_answer_with_what_most_parties_say(
    table: Path, tmp_path: Path
) -> None:
    config = configured(table, "binary", "capc.backend=plain", "capc.queries=30")
    (result,) = run_plain(config, tmp_path)["querying"]
    assert result["equal_to_plain_majority"] == 5 * 30
    party = SimulatedParty(configured(table, "tau", "capc.tau=9", "capc.backend=plain"), 0)
    subsets = ClippedVotes(5, 9.0, None).answers(party.plain_classes(30))
    for label in range(5):
        votes = SimulatedParty(config, 0, label + 1).plain_votes(30)
        assert (votes.argmax(axis=1) == having_label(subsets, label)).all()


def test_labels_are_no_features_and_each_row_has_all(
    table: Path, several: Config, tmp_path: Path
) -> None:
    data = capc_data(several)
    assert data.classes == 32
    assert data.test.features.shape[1] == 12
    assert len(np.unique(data.test.labels)) > 10
    lines = table.read_text().splitlines()
    without = lines[1].rsplit(",", 1)[0]
    holed = tmp_path / "holed.csv"
    holed.write_text("\n".join([lines[0], f"{without},", *lines[2:]]))
    with pytest.raises(DataError, match="'e'"):
        capc_data(configured(holed, "binary"))


def test_a_vote_for_each_of_many_labels_has_two_classes(tmp_path: Path) -> None:
    labels = "abcdefgh"
    write_labelled_table(tmp_path / "labels.csv", labels, rows=200)
    config = configured(tmp_path / "labels.csv", "binary", labels=labels)
    # their subsets are more classes than a vote may have
    assert capc_data(config).classes == 256
    assert SimulatedParty(config, 0).terms.classes == 2


def test_a_party_that_has_never_seen_a_label_votes_against_it(table: Path) -> None:
    config = configured(table, "binary", "capc.examples=3")
    data = capc_data(config)
    never = [label for label in range(5) if not (data.parties[0].labels >> label & 1).any()]
    assert never, "a party with three cases must miss a label"
    of_label = data.of_label(never[0], LABELS[never[0]])
    found = fitted_model(of_label, config, 0).predict(data.test.features)
    assert set(found.tolist()) == {0}
    check(config)
    check(configured(table, "powerset", "capc.examples=3"))


@pytest.mark.parametrize(
    ("voting", "capc", "data", "refused"),
    [
        ("single", {}, {}, "capc.labels must name columns with capc.voting"),
        ("binary", {"labels": []}, {}, "capc.labels must name columns with capc.voting"),
        ("binary", {"labels": ["a"]}, {}, "capc.labels must be 2 to 16 different columns"),
        ("binary", {"labels": ["a", "a"]}, {}, "got 2 of which 1 differ"),
        ("powerset", {"labels": list("abcdef")}, {}, "capc.labels must be 2 to 5 different"),
        ("tau", {"backend": Backend.plain}, {}, "capc.tau must be set with capc.voting=tau"),
        ("binary", {"tau": 1.0}, {}, "capc.tau must be set with capc.voting=tau"),
        ("tau", {"tau": 1.0}, {}, "capc.voting=tau must come with capc.backend=plain"),
        ("tau", {"tau": 1.0, "threshold": 2.0}, {}, "capc.threshold must be null"),
        ("binary", {"weak_classes": [1]}, {}, "capc.weak_classes must be left out"),
        ("binary", {"selection": "entropy"}, {}, "capc.selection must be random or k_center"),
        ("binary", {"models": ["network:n"]}, {}, "capc.models must be kinds that are trained"),
        ("binary", {}, {"target": "a"}, "data.target must be null with capc.labels"),
        ("binary", {}, {"family": "poisson"}, "data.family must be null with capc.labels"),
        ("binary", {}, {"classes": list("abc")}, "data.classes must be left out with capc.labels"),
        ("binary", {}, {"name": "wine"}, "data must be csv with capc.labels"),
    ],
)
def test_what_no_label_can_have_is_refused(
    voting: str, capc: dict[str, Any], data: dict[str, Any], refused: str, several: Config
) -> None:
    changed = replace(
        several,
        capc=replace(several.capc, voting=Voting(voting), **capc),
        data=replace(several.data, **data),
    )
    assert refused in "\n".join(many_labels(changed))
    with pytest.raises(ConfigError):
        check_settings(changed)
    assert not list(many_labels(several))


def test_there_is_no_other_label(several: Config) -> None:
    with pytest.raises(ProtocolError, match="label must be at most 5, got 6"):
        SimulatedParty(several, 0, 6)
