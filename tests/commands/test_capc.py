"""``fl-he capc votes``: labels by noisy votes in files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import fl_he
from typer.testing import CliRunner

from fl_he.cli import app
from fl_he.learning.voting.gnmax import ConfidentGNMax, epsilon_by_votes

VOTES = np.array([[0, 1, 2, 0], [0, 1, 1, 2], [0, 1, 2, 1]])
#: Of the querying party; the second and the third query are the least certain ones.
OWN = [[9.0, 0.0, 0.0], [1.0, 0.9, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 7.0]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for party, votes in enumerate(VOTES):
        np.save(tmp_path / f"{party}.npy", votes)
    np.save(tmp_path / "own.npy", OWN)
    np.save(tmp_path / "truth.npy", [0, 1, 1, 0])
    return tmp_path


def ask(folder: Path, *options: str) -> Any:
    """Run the command in this process, which imports its modules once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return CliRunner().invoke(app, ["capc", "votes", "0.npy", "1.npy", "2.npy", *options])


def votes(folder: Path, *options: str) -> str:
    result = ask(folder, *options)
    assert (result.exit_code, result.stderr) == (0, "")
    out: str = result.stdout
    return out


def test_a_process_of_the_command_says_the_same(folder: Path) -> None:
    options = ("--classes", "3", "--threshold", "2", "--truth", "truth.npy")  # no ties
    out = votes(folder, *options)
    assert fl_he(folder, "capc", "votes", "0.npy", "1.npy", "2.npy", *options) == (0, out, "")


def test_without_noise_the_majority_is_the_label_or_there_is_none(folder: Path) -> None:
    out = votes(
        folder, *("--classes", "3", "--threshold", "2", "--truth", "truth.npy"), "--output=l.csv"
    )
    assert out.splitlines() == [
        "3 parties, 3 classes, WITHOUT ENCRYPTION",
        "answered: 3 of 4 queries (4 in the files)",
        "labels right: 0.667",
        "no differential privacy: what is released is not noisy",
    ]
    assert (folder / "l.csv").read_text() == "query,label\n0,0\n1,1\n2,2\n3,\n"
    assert (folder / "l.csv").stat().st_mode & 0o777 == 0o600


def test_own_logits_select_what_is_asked(folder: Path) -> None:
    for options, queries in (
        (("--own", "own.npy"), ["1", "2"]),
        (("--own", "own.npy", "--selection", "margin"), ["1", "2"]),
        ((), ["0", "1"]),
    ):
        (folder / "l.csv").unlink(missing_ok=True)
        out = votes(folder, "--classes=3", "--queries=2", "--output=l.csv", *options)
        assert "answered: 2 of 2 queries (4 in the files)" in out
        rows = list(csv.DictReader((folder / "l.csv").open()))
        assert [row["query"] for row in rows] == queries


def test_the_noise_costs_what_a_runs_noise_costs_and_the_budget_cuts(folder: Path) -> None:
    noise = ConfidentGNMax(2.0, 4.0, 2.0)
    options = ("--classes=3", "--sigma=2", "--threshold=2", "--sigma-threshold=4")
    counts = [(VOTES.T[query][:, None] == np.arange(3)).sum(axis=0) for query in range(4)]
    out = votes(folder, *options, "--delta=1e-6")
    bound = epsilon_by_votes([row.astype(float) for row in counts], noise, 1e-6)
    assert out.splitlines()[-2:] == [
        f"epsilon {noise.epsilon(4, 1e-6):.3f} at delta 1e-06 for each answering party's patients, "
        "over 4 queries, all counted as answered",
        f"for analysis only, NOT TO BE RELEASED: epsilon {bound:.3f} by the votes themselves "
        "(PATE's data-dependent bound), which tells something about them",
    ]
    out = votes(folder, *options, f"--epsilon={1.001 * noise.epsilon(3, 1e-5)}")
    assert "of 3 queries (4 in the files)" in out
    assert f"epsilon {noise.epsilon(3, 1e-5):.3f} at delta 1e-05" in out


def test_noise_changes_labels_and_is_never_the_same(folder: Path) -> None:
    for party in range(3):
        np.save(folder / f"{party}.npy", np.zeros(60, dtype=int))
    for name in ("a.csv", "b.csv"):
        votes(folder, "--classes=3", "--sigma=3", f"--output={name}")
    first, second = ((folder / name).read_text() for name in ("a.csv", "b.csv"))
    labels = [row["label"] for row in csv.DictReader(first.splitlines())]
    assert 15 < labels.count("0") < 55
    assert {"1", "2"} <= set(labels)
    assert first != second


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--sigma-threshold=2",), "--sigma-threshold must come with --threshold"),
        (("--epsilon=2",), "--epsilon must come with noise on all that is released"),
        (("--sigma=1", "--threshold=2", "--epsilon=2"), "--epsilon must come with noise"),
        (("--sigma=1", "--epsilon=0.01"), "--epsilon must allow one query at least, got 0.01"),
        (("--sigma=0",), "--sigma must be from 1e-12 to 1e+12, got 0"),
        (("--sigma=1e-300",), "--sigma must be from 1e-12 to 1e+12, got 1e-300"),
        (("--sigma=1", "--threshold=nan"), "--threshold must be finite, got nan"),
        (("--threshold=1", "--sigma-threshold=1e300"), "--sigma-threshold must be from 1e-12"),
        (("--delta=2",), "--delta must be between 0 and 1, got 2"),
        (("--own=own.npy", "--selection=best"), "--selection must be one of entropy, margin"),
        (("--own=truth.npy",), "truth.npy: must have scores of shape (4, 3)"),
        (("--truth=own.npy",), "own.npy: must hold labels, got scores"),
        (("--output=own.npy",), "own.npy already exists; not overwriting it"),
        (("--classes=2",), "0.npy: votes must be whole numbers from 0 to 1"),
        (("2.npy",), "2.npy: each party must have one file; this one is given twice"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_one_line(
    options: tuple[str, ...], reason: str, folder: Path
) -> None:
    result = ask(folder, "--classes=3", "--output=l.csv", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"fl-he: {reason}")
    assert result.stderr.count("\n") == 1
    assert not (folder / "l.csv").exists()
