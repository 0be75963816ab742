from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fl_he import __version__
from fl_he.report import load_metrics

ROOT = Path(__file__).parents[1]
QUICK = ("crypto.key_bits=1024", "rounds=2")


def fl_he(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run ``fl-he`` in a folder; return its exit code, output and errors."""
    return run_python(folder, "-m", "fl_he.cli", *arguments)


def run_python(folder: Path, *arguments: str) -> tuple[int, str, str]:
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout, result.stderr


def test_version(tmp_path: Path) -> None:
    assert fl_he(tmp_path, "--version") == (0, f"fl-he {__version__}\n", "")


def test_help_lists_the_commands(tmp_path: Path) -> None:
    code, out, _ = fl_he(tmp_path, "--help")
    assert code == 0
    assert re.search(r"\brun\b.*Train", out)
    assert re.search(r"\breport\b.*Print", out)
    assert "--version" in out


def test_the_command_starts_without_what_is_slow(tmp_path: Path) -> None:
    code, out, _ = run_python(tmp_path, "-c", "import sys, fl_he.cli; print(*sys.modules)")
    assert code == 0
    assert not {"hydra", "flwr", "ray", "matplotlib", "numpy"} & set(out.split())


def test_run_help_is_the_experiments(tmp_path: Path) -> None:
    code, out, _ = fl_he(tmp_path, "run", "--help")
    assert code == 0
    assert out.startswith("Usage: fl-he run [KEY=VALUE ...]")
    assert "topology" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hospitals=0"], "hospitals must be at least 1, got 0"),
        (["hospitals=x"], "hospitals must be an integer, got 'x'"),
        (["hospitalz=3"], "hospitalz must be a key of the configuration"),
        (["-cn", "nope"], "config-name must be"),
        (["data=csv"], "data.path must be set"),
        (["hospitals"], "an override must be KEY=VALUE"),
    ],
)
def test_a_bad_command_line_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    code, out, err = fl_he(tmp_path, "run", *arguments)
    assert code == 1
    assert out == ""
    assert err.startswith(f"fl-he: {message}")
    assert err.count("\n") == 1


def test_every_bad_job_of_a_sweep_is_told(tmp_path: Path) -> None:
    code, _, err = fl_he(tmp_path, "run", "-m", "hospitals=0,2")
    assert code == 1
    first, second = err.splitlines()
    assert first == "fl-he: hospitals must be at least 1, got 0"
    assert second.startswith("fl-he: hospitals must be at least min_contributors (3), got 2")


def test_an_unknown_flag_is_a_usage_error(tmp_path: Path) -> None:
    code, _, err = fl_he(tmp_path, "run", "--nope")
    assert code == 2
    assert err.endswith("fl-he run: error: unrecognized arguments: --nope\n")


def test_cfg_job_prints_the_configuration(tmp_path: Path) -> None:
    code, out, _ = fl_he(tmp_path, "run", "--cfg", "job", "-p", "optimizer", "optimizer.lr=0.5")
    assert (code, out) == (0, "# @package optimizer\nname: gd\nlr: 0.5\n")


# A run that ends badly after its second line, in place of the simulation.
ENDING = """
import sys, types, warnings
from fl_he import cli
from fl_he.crypto.errors import CryptoError, ShortKeyWarning
from fl_he.learning.errors import DataError
from fl_he.messages import ProtocolError

def run(config, folder, on_round):
    on_round({{"round": 1, "loss": 0.5, "accuracy": 0.5}})
    {end}

sys.modules["fl_he.simulation"] = types.ModuleType("fl_he.simulation")
sys.modules["fl_he.simulation"].run = run
cli.main()
"""


def end_with(folder: Path, end: str, *arguments: str) -> tuple[int, str, str]:
    return run_python(folder, "-c", ENDING.format(end=end), "run", *arguments)


@pytest.mark.parametrize("error", ["CryptoError", "DataError", "ProtocolError"])
def test_a_refusal_is_one_line(tmp_path: Path, error: str) -> None:
    code, out, err = end_with(tmp_path, f"raise {error}('it must be so')")
    assert (code, err) == (1, "fl-he: it must be so\n")
    assert out.splitlines()[1] == "round 1/15: loss 0.5000, accuracy 0.500"


def test_a_sweep_goes_on_after_a_refusal(tmp_path: Path) -> None:
    code, out, err = end_with(
        tmp_path, "raise DataError(config.topology)", "-m", "topology=fold,chain"
    )
    assert (code, err) == (1, "fl-he: fold\nfl-he: chain\n")
    assert out.count("starting Ray") == 2


@pytest.mark.parametrize("error", ["ValueError", "RuntimeError", "OSError"])
def test_any_other_error_keeps_its_traceback(tmp_path: Path, error: str) -> None:
    code, _, err = end_with(tmp_path, f"raise {error}('a bug')")
    assert code == 1
    assert "Traceback (most recent call last)" in err
    assert f"\n{error}: a bug\n" in err
    assert "fl-he:" not in err


def test_ctrl_c_ends_a_sweep_with_one_line(tmp_path: Path) -> None:
    code, out, err = end_with(
        tmp_path, "__import__('signal').raise_signal(2)", "-m", "rounds=1,2,3"
    )
    assert (code, err) == (130, "fl-he: interrupted\n")
    assert out.count("starting Ray") == 1


def test_a_warning_of_ours_is_one_line(tmp_path: Path) -> None:
    end = "warnings.warn('a short key', ShortKeyWarning); raise DataError('the end')"
    _, _, err = end_with(tmp_path, end)
    assert err == "fl-he: a short key\nfl-he: the end\n"


def test_a_warning_of_others_is_left_alone(tmp_path: Path) -> None:
    _, _, err = end_with(tmp_path, "warnings.warn('beware'); raise DataError('the end')")
    assert re.fullmatch(r".+:\d+: UserWarning: beware\n(.*\n)?fl-he: the end\n", err)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the folder of a sweep over both topologies, and what it printed."""
    folder = tmp_path_factory.mktemp("sweep")
    arguments = ("-m", *QUICK, "topology=fold,chain", "output_dir=both")
    code, out, err = fl_he(folder, "run", *arguments)
    assert code == 0, err
    return folder, out


def test_a_sweep_leaves_complete_run_folders(sweep: tuple[Path, str]) -> None:
    folder, _ = sweep
    for number, topology in enumerate(["fold", "chain"]):
        run = folder / "both" / str(number)
        names = {path.name for path in run.iterdir()}
        assert {"metrics.json", "model.json", "comparison.png", ".hydra"} <= names
        metrics = load_metrics(run)
        assert metrics["config"]["topology"] == topology
        assert metrics["crypto"]["key_bits"] == 1024
        assert [entry["round"] for entry in metrics["rounds"]] == [1, 2]
        assert len(json.loads((run / "model.json").read_text())["coefficients"]) == 30


def test_both_topologies_learn_the_same_model(sweep: tuple[Path, str]) -> None:
    folder, _ = sweep
    fold, chain = (
        load_metrics(folder / "both" / number)["federated"]["coefficients"] for number in "01"
    )
    np.testing.assert_allclose(fold, chain, atol=1e-6)


def test_a_run_prints_rounds_tables_and_folder(sweep: tuple[Path, str]) -> None:
    folder, out = sweep
    assert out.count("starting Ray and 3 hospitals\n") == 2
    for number, topology in enumerate(["fold", "chain"]):
        run = load_metrics(folder / "both" / str(number))
        _, _, job = out.partition(f"topology={topology}")
        for entry in run["rounds"]:
            line = f"loss {entry['loss']:.4f}, accuracy {entry['accuracy']:.3f}"
            assert f"round {entry['round']}/2: {line}\n" in job
        assert f"{run['federated']['log_loss']:.3f}" in job
        assert f"run folder: both/{number}\n" in job


def test_report_shows_a_run_again(sweep: tuple[Path, str]) -> None:
    folder, out = sweep
    runs = [folder / "both" / number for number in "01"]
    plots = [run / "comparison.png" for run in runs]
    before = [plot.read_bytes() for plot in plots]
    for plot in plots:
        plot.unlink()
    code, shown, err = fl_he(folder, "report", "both/0", "nowhere", "both/1")
    assert code == 1
    assert err == "fl-he: a run folder must hold metrics.json, got nowhere without one\n"
    assert [plot.read_bytes() for plot in plots] == before
    assert shown.splitlines()
    assert set(shown.splitlines()) <= set(out.splitlines())
    assert "run folder: both/1" in shown
    assert fl_he(folder, "report", "both/0")[0] == 0
