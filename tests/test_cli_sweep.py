"""``fl-he run -m`` and ``fl-he report``, on the runs of one sweep."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import fl_he

from fl_he.run_files.metrics import read_metrics

#: Two rounds are too few.
UNFINISHED = (
    "fl-he: warning: training ended before it converged, so the model is not the optimum: before "
    "the last of 2 steps 7.95 standard errors were left; raise rounds\n"
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("sweep")]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the folder of a sweep over both topologies, and its output."""
    folder = tmp_path_factory.mktemp("sweep")
    arguments = (
        "-m",
        "crypto.key_bits=1024",
        "simulation.engine=local",
        "rounds=2",
        "topology=fold,chain",
        "hospitals=3,2",
        "output_dir=both",
    )
    code, out, err = fl_he(folder, "run", *arguments)
    assert code == 1, "two hospitals are too few"
    assert err.count("hospitals must be at least min_contributors (3), got 2") == 2
    return folder, out


def test_a_sweep_leaves_complete_run_folders(sweep: tuple[Path, str]) -> None:
    folder, _ = sweep
    files = {"multirun.yaml", "comparison.html"}
    assert {path.name for path in (folder / "both").iterdir()} == {"0", "2", *files}
    for number, topology in ((0, "fold"), (2, "chain")):
        run = folder / "both" / str(number)
        names = {path.name for path in run.iterdir()}
        assert {"metrics.json", "model.json", "comparison.png", "report.html", ".hydra"} <= names
        metrics = read_metrics(run)
        assert metrics["config"]["topology"] == topology
        assert metrics["crypto"]["key_bits"] == 1024
        assert [entry["round"] for entry in metrics["rounds"]] == [1, 2]
        assert len(json.loads((run / "model.json").read_text())["coefficients"]) == 30


def test_both_topologies_learn_the_same_model(sweep: tuple[Path, str]) -> None:
    folder, _ = sweep
    fold, chain = (
        read_metrics(folder / "both" / number)["federated"]["coefficients"] for number in "02"
    )
    np.testing.assert_allclose(fold, chain, atol=1e-6)


def test_a_run_prints_rounds_tables_and_folder(sweep: tuple[Path, str]) -> None:
    folder, out = sweep
    assert out.count("starting 3 hospitals\n") == 2
    for number, topology in ((0, "fold"), (2, "chain")):
        run = read_metrics(folder / "both" / str(number))
        _, _, job = out.partition(f"topology={topology}")
        for entry in run["rounds"]:
            line = f"loss {entry['loss']:.4f}, accuracy {entry['accuracy']:.3f}"
            assert f"round {entry['round']}/2: {line}, 3 in the total, longest hop " in job
        assert f"{run['federated']['log_loss']:.3f}" in job
        assert f"run folder: both/{number}\n" in job
        assert f"report: both/{number}/report.html\n" in job


def all_runs(out: str) -> list[list[str]]:
    """Return the cells of the table over all runs, the last in the output."""
    lines = out.rpartition("All runs")[2].splitlines()
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]


def test_a_sweep_ends_with_one_table_over_all_jobs(sweep: tuple[Path, str]) -> None:
    folder, out = sweep
    fold, chain = (read_metrics(folder / "both" / number) for number in "02")

    def cells(metrics: dict[str, Any], number: str) -> list[str]:
        federated = metrics["federated"]
        figures = [f"{federated['accuracy']:.3f}", f"{federated['log_loss']:.3f}"]
        return [*figures, f"{metrics['seconds']:.1f}", number]

    assert all_runs(out) == [
        ["topology=fold hospitals=3", *cells(fold, "0")],
        ["topology=fold hospitals=2", "failed", "", "", ""],
        ["topology=chain hospitals=3", *cells(chain, "2")],
        ["topology=chain hospitals=2", "failed", "", "", ""],
    ]
    assert out.endswith("comparison: both/comparison.html\nfolder of the runs: both\n")
    code, shown, err = fl_he(folder, "report", "both")
    assert (code, err) == (0, 2 * UNFINISHED)
    assert "run folder: both/0\n" in shown
    assert "run folder: both/2\n" in shown
    assert all_runs(shown) == [
        ["topology=fold", *cells(fold, "0")],
        ["topology=chain", *cells(chain, "2")],
    ]
    assert "report: both/0/report.html\n" in shown
    assert shown.endswith("comparison: both/comparison.html\nfolder of the runs: both\n")


def test_report_shows_a_run_again(sweep: tuple[Path, str]) -> None:
    folder, out = sweep
    runs = [folder / "both" / number for number in "02"]
    made = [run / name for run in runs for name in ("comparison.png", "report.html")]
    before = [path.read_bytes() for path in made]
    for path in made:
        path.unlink()
    code, shown, err = fl_he(folder, "report", "both/0", "nowhere", "both/2")
    assert code == 1
    refusal = "fl-he: a run folder must be a folder, got nowhere, which does not exist\n"
    assert err == refusal + 2 * UNFINISHED
    assert [path.read_bytes() for path in made] == before
    _, _, tables = out.partition("topology=fold")[2].partition("comparing and saving\n")
    assert tables.partition("What the encryption cost")[0] in shown
    assert "run folder: both/2" in shown
    assert fl_he(folder, "report", "both/0")[0] == 0


def test_the_page_goes_where_one_says(sweep: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = sweep
    one, other = (str(folder / "both" / number) for number in "02")
    code, shown, _ = fl_he(tmp_path, "report", one, "--output", "one.html")
    assert (code, "report: one.html\n" in shown) == (0, True)
    assert "breast_cancer, 3 hospitals" in (tmp_path / "one.html").read_text()
    code, shown, _ = fl_he(tmp_path, "report", one, other, "--output", "both.html")
    assert (code, "comparison: both.html\n" in shown) == (0, True)
    page = (tmp_path / "both.html").read_text()
    assert "topology=chain" in page
    assert "0/report.html" in page
    shutil.copytree(one, tmp_path / "a" / "run")
    shutil.copytree(other, tmp_path / "b" / "run")
    code, shown, _ = fl_he(tmp_path, "report", "a/run", "b/run")
    assert (code, "comparison: comparison.html\n" in shown) == (0, True)
    assert [row[-1] for row in all_runs(shown)] == ["a/run", "b/run"]
    code, _, err = fl_he(tmp_path, "report", "a/run", "b/run", "--output", "no/such/page.html")
    assert code == 1
    assert err == 2 * UNFINISHED + "fl-he: --output must be a file that can be written\n"


def test_report_draws_where_it_may(sweep: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = sweep
    shutil.copy(folder / "both" / "0" / "metrics.json", tmp_path)
    (tmp_path / "comparison.png" / "in the way").mkdir(parents=True)
    code, shown, err = fl_he(tmp_path, "report", ".")
    assert code == 1
    assert "federated (encrypted)" in shown
    assert err == UNFINISHED + (
        "fl-he: comparison.png: already exists and is not a file of this kind that fl-he made; not "
        "overwriting it: name another file, or move that one\n"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.json", "comparison.png"}


def test_a_loss_that_grew_is_a_warning(sweep: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = sweep
    metrics = json.loads((folder / "both" / "0" / "metrics.json").read_text())
    metrics["optimizer"]["name"] = "gd"
    metrics["rounds"].append(metrics["rounds"][-1] | {"loss": 9.5})
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    _, _, err = fl_he(tmp_path, "report", ".")
    assert err == (
        "fl-he: warning: the training loss went from 0.693 to 9.5, so training diverges: "
        "lower optimizer.lr\n"
    )
