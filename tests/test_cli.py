from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import fl_he, run_python
from quick import slow, slow_but

from fl_he import __version__

QUICK = ("crypto.key_bits=1024", "rounds=2")


def test_version(tmp_path: Path) -> None:
    assert fl_he(tmp_path, "--version") == (0, f"fl-he {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run", "hospitals=0"], 1),
        *slow((["--help"], 0), (["run", "--cfg", "job"], 0), (["run", "--nope"], 2), (["rnu"], 2)),
    ],
    ids=str,
)
def test_a_started_process_ends_as_the_forked_ones_below(
    tmp_path: Path, arguments: list[str], code: int
) -> None:
    started = fl_he(tmp_path, *arguments, started=True)
    assert started == fl_he(tmp_path, *arguments)
    assert started[0] == code


def test_help_lists_the_commands(tmp_path: Path) -> None:
    code, out, _ = fl_he(tmp_path, "--help")
    assert code == 0
    assert re.search(r"\brun\b.*Train", out)
    assert re.search(r"\breport\b.*Print", out)
    assert "--version" in out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("predict", "MODEL is a run's folder"),
        ("export", "RUN is a run's folder"),
        ("report", "FOLDER... are what"),
        ("report", "else comparison.html"),
        ("federation", "ENTRY.json... are"),
        ("show", "FILE... are manifests"),
        ("agree", "TERMS.json has"),
        ("ledger", "FILE is company X's identity"),
        ("status", "Files are read, never"),
        ("bench", "All five parts"),
        ("capc votes", "FILE... are one .npy or .csv file"),
    ],
)
def test_help_says_what_the_arguments_are(tmp_path: Path, command: str, words: str) -> None:
    code, out, _ = fl_he(tmp_path, *command.split(), "--help")
    assert code == 0
    assert words in " ".join(out.split())


def test_the_command_starts_without_what_is_slow(tmp_path: Path) -> None:
    modules = "import sys, fl_he.cli; print(*sys.modules)"
    code, out, _ = run_python(tmp_path, "-c", modules, started=True)
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
        (["hospitals=0"], "hospitals must be from 1 to 10000, got 0"),
        (["hospitalz=3"], "hospitalz is not a key of the configuration"),
        (["-cn", "nope"], "config-name must be"),
        (["hospitals"], "an override must be KEY=VALUE"),
        (["--hospitals", "3"], "a key must be written without dashes, got --hospitals: hospitals"),
        (["output_dir=/dev/null"], "output_dir must be a folder that can be written to, got"),
        *slow(
            (["hospitals=x"], "hospitals must be an integer, got 'x'"),
            (["data=csv"], "data.path must be set"),
            (["lr=0.5"], "lr is not a key of the configuration; did you mean"),
            (
                ["data=csv", "data.path=no.csv", "data.target=y", "data.positive=1"],
                "data file must exist, got",
            ),
            (
                ["scaling=ranges", "ranges=no.csv"],
                "ranges must be a file that can be read, got no.csv",
            ),
        ),
    ],
)
def test_a_bad_command_line_is_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    code, out, err = fl_he(tmp_path, "run", *arguments)
    assert code == 1
    assert out == ""
    assert err.startswith(f"fl-he: {message}")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_every_bad_job_of_a_sweep_is_told(tmp_path: Path) -> None:
    code, _, err = fl_he(tmp_path, "run", "-m", "hospitals=0,2")
    assert code == 1
    first, second = err.splitlines()
    assert first == "fl-he: hospitals must be from 1 to 10000, got 0"
    assert second.startswith("fl-he: hospitals must be at least min_contributors (3), got 2")


def test_an_unknown_flag_is_a_usage_error(tmp_path: Path) -> None:
    code, _, err = fl_he(tmp_path, "run", "--nope")
    assert code == 2
    assert err.endswith("fl-he run: error: unrecognized arguments: --nope\n")


def test_a_mistyped_command_gets_one_suggestion(tmp_path: Path) -> None:
    code, _, err = fl_he(tmp_path, "rnu")
    assert code == 2
    assert "No such command 'rnu'" in err
    assert err.count("Did you mean") <= 1


def test_cfg_job_prints_the_configuration(tmp_path: Path) -> None:
    code, out, _ = fl_he(tmp_path, "run", "--cfg", "job", "-p", "optimizer", "optimizer.lr=0.5")
    assert (code, out) == (0, "# @package optimizer\nname: auto\nlr: 0.5\n")


# A run that ends badly after its second line, in place of the simulation.
ENDING = """
import signal, sys, types, warnings
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
from fl_he import cli
from fl_he.crypto.errors import CryptoError, ShortKeyWarning
from fl_he.learning.errors import DataError
from fl_he.wire.events import RoundEnded, Starting
from fl_he.wire.records import ProtocolError

def run(config, folder, tell):
    tell(Starting("ray"))
    tell(RoundEnded({{"round": 1, "loss": 0.5, "accuracy": 0.5}}))
    {end}

sys.modules["fl_he.simulation"] = types.ModuleType("fl_he.simulation")
sys.modules["fl_he.simulation"].run = run
cli.main()
"""


def end_with(
    folder: Path, end: str, *arguments: str, started: bool = False
) -> tuple[int, str, str]:
    return run_python(folder, "-c", ENDING.format(end=end), "run", *arguments, started=started)


@pytest.mark.parametrize(
    ("end", "code", "last"),
    [
        ("raise DataError('no')", 1, "fl-he: no"),
        *slow(
            ("raise RuntimeError('a bug')", 1, "RuntimeError: a bug"),
            ("__import__('signal').raise_signal(2)", 130, "fl-he: interrupted"),
            ("__import__('signal').raise_signal(9)", -9, ""),
        ),
    ],
)
def test_a_started_run_ends_as_the_forked_ones_below(
    tmp_path: Path, end: str, code: int, last: str
) -> None:
    for started in (True, False):
        ended, _, err = end_with(tmp_path, end, started=started)
        assert (ended, err.splitlines()[-1:]) == (code, [last] if last else [])


@pytest.mark.parametrize("said", [None, "2"])
def test_matrices_are_computed_in_one_thread_unless_the_user_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str | None
) -> None:
    program = """
import sys, types
from fl_he import cli

def run(config, folder, tell):
    import numpy, threadpoolctl
    print([library["num_threads"] for library in threadpoolctl.threadpool_info()])

sys.modules["fl_he.simulation"] = types.ModuleType("fl_he.simulation")
sys.modules["fl_he.simulation"].run = run
cli.main()
"""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    _, out, _ = run_python(tmp_path, "-c", program, "run", started=True)
    assert out == f"[{said or 1}]\n"


@pytest.mark.parametrize(
    "error", slow_but(["CryptoError", "DataError", "ProtocolError"], "DataError")
)
def test_a_refusal_is_one_line(tmp_path: Path, error: str) -> None:
    code, out, err = end_with(tmp_path, f"raise {error}('it must be so')")
    assert list(tmp_path.iterdir()) == []
    assert (code, err) == (1, "fl-he: it must be so\n")
    assert out.splitlines()[1] == "round 1/50: loss 0.5000, accuracy 0.500"


def test_a_sweep_goes_on_after_a_refusal(tmp_path: Path) -> None:
    code, out, err = end_with(
        tmp_path, "raise DataError(config.topology)", "-m", "topology=fold,chain"
    )
    assert (code, err) == (1, "fl-he: fold\nfl-he: chain\n")
    assert out.count("starting Ray") == 2
    _, _, table = out.partition("All runs")
    assert re.search(r"topology=fold +│ +failed │ +│", table), "its folder is gone"
    assert re.search(r"topology=chain +│ +failed │ +│", table)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", slow_but(["ValueError", "RuntimeError", "OSError"], "ValueError"))
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
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, *slow((signal.SIGINT,), (signal.SIGHUP,))])
def test_a_signal_ends_the_run_and_says_how_to_go_on(
    tmp_path: Path, number: signal.Signals
) -> None:
    end = f"(folder / 'checkpoint.json').touch(); __import__('signal').raise_signal({number:d})"
    code, _, err = end_with(tmp_path, end, "output_dir=cut")
    assert code == 128 + number
    assert err == f"fl-he: interrupted; `fl-he run resume={tmp_path}/cut` continues it\n"


def test_a_run_under_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    hang_up = "__import__('signal').raise_signal(1); raise DataError('continued')"
    program = ENDING.format(end=hang_up).replace("SIG_DFL", "SIG_IGN")
    assert run_python(tmp_path, "-c", program, "run")[::2] == (1, "fl-he: continued\n")


@pytest.mark.parametrize(
    "error", ["OSError(28, 'No space left on device', '/x/y')", "DataError(7)"]
)
def test_an_error_is_one_line_with_its_notes(tmp_path: Path, error: str) -> None:
    code, _, err = end_with(tmp_path, f"error = {error}; error.add_note('a note'); raise error")
    words = "/x/y: No space left on device" if "28" in error else "7"
    assert (code, err) == (1, f"fl-he: {words}; a note\n")


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    """A started process each: `fl-he run | head`, and a command whose output ends it."""
    end = "[tell(RoundEnded({'round': n, 'loss': 1., 'accuracy': 1.})) for n in range(10**6)]"
    for arguments in (["-c", ENDING.format(end=end), "run"], ["-m", "fl_he.cli", "--help"]):
        read, write = os.pipe()
        os.close(read)
        process = subprocess.run(
            [sys.executable, *arguments],
            stdout=write,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            check=False,
            timeout=60,
        )
        os.close(write)
        assert (process.returncode in (1, 141), process.stderr) == (True, b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_an_output_that_is_full_is_one_line(tmp_path: Path) -> None:
    for arguments in (["-c", ENDING.format(end="pass"), "run"], ["-m", "fl_he.cli", "--help"]):
        with Path("/dev/full").open("wb") as full:
            process = subprocess.run(
                [sys.executable, *arguments],
                stdout=full,
                stderr=subprocess.PIPE,
                cwd=tmp_path,
                check=False,
                timeout=60,
            )
        assert process.returncode == 1
        assert process.stderr == b"fl-he: standard output: No space left on device\n"


def test_a_warning_of_ours_is_one_line(tmp_path: Path) -> None:
    end = "warnings.warn('a short key', ShortKeyWarning); raise DataError('the end')"
    _, _, err = end_with(tmp_path, end)
    assert err == "fl-he: warning: a short key\nfl-he: the end\n"


def test_a_warning_of_others_is_left_alone(tmp_path: Path) -> None:
    _, _, err = end_with(tmp_path, "warnings.warn('beware'); raise DataError('the end')")
    assert re.fullmatch(r".+:\d+: UserWarning: beware\n(.*\n)?fl-he: the end\n", err)
