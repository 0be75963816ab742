from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from fresh_processes import run_forked
from omegaconf import OmegaConf
from quick import slow_but

from fl_he.config.composition import compose
from fl_he.config.run import schema_keys

ROOT = Path(__file__).parents[2]

# Hydra's command line changes logging, sys.argv and its singletons: each run has its own process.
JOB = """
import json, logging, os, sys, threading
from dataclasses import asdict
from fl_he.config.composition import compose
from fl_he.config.constraints import ConfigError
from fl_he.experiment.jobs import run_jobs

def task(config, folder):
    logging.getLogger("a.library").info("noise")
    logging.getLogger("a.library").warning("beware")
    found = []
    thread = threading.Thread(target=lambda: found.append(compose("config", "hospitals=9")))
    thread.start()
    thread.join()
    facts = {"exists": folder.is_dir(), "cwd": os.getcwd(), "inner": found[0].hospitals}
    print(json.dumps({"config": asdict(config), "folder": str(folder), **facts}))
    if config.hospitals == 4:
        raise ValueError("a bug")
    if config.hospitals == 6:
        raise ConfigError("refused")
    if config.hospitals == 7:
        (folder / "model.json").touch()
        raise ConfigError("refused late")
    if config.hospitals == 8:
        os.kill(os.getpid(), 9)

def is_explained(error):
    print(json.dumps({"error": str(error)}))
    return isinstance(error, ConfigError)

try:
    jobs = run_jobs(task, sys.argv[1:], is_explained)
except ConfigError as error:
    print(json.dumps({"refused": str(error)}))
else:
    told = [[list(job.overrides), job.folder.name, job.succeeded] for job in jobs]
    print(json.dumps({"jobs": told, "full": os.environ.get("HYDRA_FULL_ERROR")}))
"""


def run_jobs(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("HYDRA_FULL_ERROR", None)
    return run_forked(["-c", JOB, *arguments], folder, environment)


def lines(result: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def test_one_job(tmp_path: Path) -> None:
    result = run_jobs(tmp_path, "hospitals=5", "topology=chain")
    job, end = lines(result)
    assert result.stdout.count("\n") == 2
    assert result.stderr == "beware\n"
    (told,) = end["jobs"]
    assert told[0] == ["hospitals=5", "topology=chain"]
    assert told[2] is True
    assert end["full"] is None
    assert job["config"] == asdict(compose("config", "hospitals=5 topology=chain"))
    assert job["inner"] == 9
    assert job["exists"]
    assert job["cwd"] == str(tmp_path)
    folder = Path(job["folder"])
    assert folder.parts[len(tmp_path.parts)] == "outputs"
    assert len(folder.relative_to(tmp_path).parts) == 3
    assert [path.name for path in folder.iterdir()] == [".hydra"]
    saved = OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "config.yaml"))
    assert saved == job["config"]
    overrides = OmegaConf.load(folder / ".hydra" / "overrides.yaml")
    assert overrides == ["hospitals=5", "topology=chain"]


def test_the_output_folder_can_be_chosen(tmp_path: Path) -> None:
    job, _ = lines(run_jobs(tmp_path, "output_dir=here"))
    assert job["folder"] == str(tmp_path / "here")
    assert (tmp_path / "here" / ".hydra" / "config.yaml").is_file()


def test_a_sweep_runs_every_job(tmp_path: Path) -> None:
    result = run_jobs(tmp_path, "hospitals=3,5", "-m", "topology=fold,chain", "output_dir=sweep")
    *jobs, end = lines(result)
    assert end["jobs"] == [
        [[f"hospitals={n}", f"topology={topology}", "output_dir=sweep"], str(number), True]
        for number, (n, topology) in enumerate(
            [(3, "fold"), (3, "chain"), (5, "fold"), (5, "chain")]
        )
    ]
    assert [(job["config"]["hospitals"], job["config"]["topology"]) for job in jobs] == [
        (3, "fold"),
        (3, "chain"),
        (5, "fold"),
        (5, "chain"),
    ]
    assert [job["folder"] for job in jobs] == [str(tmp_path / "sweep" / str(n)) for n in range(4)]
    assert "#3 : hospitals=5 topology=chain" in result.stdout
    assert result.stderr == "beware\n" * 4


def test_a_sweep_says_truth_values_as_users_write_them(tmp_path: Path) -> None:
    table = ("data=csv", "data.path=t.csv", "data.target=y", "data.positive=true,no")
    *jobs, end = lines(run_jobs(tmp_path, *table, "-m", "stratify=false", "output_dir=sweep"))
    assert [job["config"]["data"]["positive"] for job in jobs] == ["true", "no"]
    told = [overrides[3:5] for overrides, _, _ in end["jobs"]]
    assert told == [[f"data.positive={label}", "stratify=false"] for label in ("true", "no")]


def test_a_sweep_goes_on_after_an_explained_error(tmp_path: Path) -> None:
    first, second, end = lines(run_jobs(tmp_path, "-m", "hospitals=0,3"))
    assert first == {"error": "hospitals must be from 1 to 10000, got 0"}
    assert second["config"]["hospitals"] == 3
    assert [job[2] for job in end["jobs"]] == [False, True]


def test_other_errors_of_a_job_keep_their_traceback(tmp_path: Path) -> None:
    result = run_jobs(tmp_path, "hospitals=4")
    assert lines(result)[1] == {"error": "a bug"}
    assert result.returncode == 1
    assert result.stderr.rstrip().endswith("ValueError: a bug")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hospitalz=5"], "hospitalz is not a key .*did you mean hospitals"),
        (["-m", "hospitals=3,x"], "hospitals must be an integer, got 'x'"),
        (["-m", "--cfg", "job"], "Only one of"),
        (["--hospitals", "3"], "without dashes, got --hospitals: hospitals=3"),
    ],
)
def test_a_bad_command_line_is_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    result = run_jobs(tmp_path, *arguments)
    (refused,) = lines(result)
    assert re.search(message, refused["refused"])
    assert result.stderr == ""
    assert "\n" not in refused["refused"]


def test_cfg_prints_the_configuration(tmp_path: Path) -> None:
    result = run_jobs(tmp_path, "--cfg", "job", "rounds=2")
    *text, _ = result.stdout.splitlines()
    printed = OmegaConf.to_container(OmegaConf.create("\n".join(text)))
    assert printed == asdict(compose("config", "rounds=2"))
    assert list(tmp_path.iterdir()) == []


def test_help_lists_groups_and_every_key(tmp_path: Path) -> None:
    result = run_jobs(tmp_path, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith("Usage: fl-he run ")
    assert "data: breast_cancer, csv, digits, grad_school, mnist, wine" in result.stdout
    keys, _, example = result.stdout.partition("Configuration of this command line")
    words = keys.replace(",", " ").split()
    assert [key for key in schema_keys() if key not in words] == []
    assert "hospitals: 3" in example


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


COPIES = {".hydra", ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml"}


@pytest.mark.parametrize("refused", ["hospitals=6", "hospitals=0", "hospitals=4"])
@pytest.mark.parametrize(
    "where", slow_but(["", "output_dir=a/b", "hydra.run.dir=c"], "output_dir=a/b")
)
def test_a_failed_job_leaves_nothing(tmp_path: Path, refused: str, where: str) -> None:
    run_jobs(tmp_path, refused, *([where] if where else []))
    assert tree(tmp_path) == set()


@pytest.mark.slow
def test_what_was_there_before_a_failed_job_stays(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data.csv").touch()
    begun = tmp_path / "begun" / ".hydra"
    begun.mkdir(parents=True)
    before = tree(tmp_path)
    for folder in ("empty", "mine", "mine/new", "x/../empty", "begun"):
        run_jobs(tmp_path, "hospitals=6", f"output_dir={folder}")
    assert tree(tmp_path) - before <= {"x", *(f"begun/{name}" for name in COPIES)}


def test_a_failed_job_keeps_what_it_wrote(tmp_path: Path) -> None:
    run_jobs(tmp_path, "hospitals=7", "output_dir=run")
    assert tree(tmp_path / "run") == {*COPIES, "model.json"}


def test_failed_jobs_of_a_sweep_leave_nothing(tmp_path: Path) -> None:
    *_, end = lines(run_jobs(tmp_path, "-m", "hospitals=6,3,0,5", "output_dir=sweep"))
    assert [job[2] for job in end["jobs"]] == [False, True, False, True]
    assert {path.name for path in (tmp_path / "sweep").iterdir()} == {"1", "3", "multirun.yaml"}
    assert tree(tmp_path / "sweep" / "3") == COPIES


@pytest.mark.slow
@pytest.mark.parametrize("jobs", slow_but(["hospitals=6,0", "hospitals=3,x"], "hospitals=6,0"))
def test_a_sweep_of_failures_leaves_nothing(tmp_path: Path, jobs: str) -> None:
    run_jobs(tmp_path, "-m", jobs)
    run_jobs(tmp_path, "-m", jobs, "output_dir=a/sweep")
    assert tree(tmp_path) == set()


@pytest.mark.parametrize(
    "name", slow_but(["metrics.json", "model.json", "hospitals", "checkpoint.json"], "hospitals")
)
def test_another_runs_results_are_not_overwritten(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / name).touch()
    (refusal,) = lines(run_jobs(tmp_path, "output_dir=run"))
    assert refusal["refused"] == (
        f"output_dir must not hold another run's results, got {str(folder)!r}, which does: "
        "choose another output_dir, or move or delete that folder (a run that was cut off "
        "continues with resume=)"
    )
    assert tree(folder) == {name}
    (refusal,) = lines(run_jobs(tmp_path, "-m", "rounds=1,2", "output_dir=."))
    assert f"got {str(folder)!r}" in refusal["refused"]
    assert tree(tmp_path) == {"run", f"run/{name}"}
    assert len(lines(run_jobs(tmp_path, "output_dir=."))) == 2, "nothing there is overwritten"


@pytest.mark.parametrize(
    "arguments", [["output_dir=run"], ["-m", "rounds=1,2", "output_dir=run"], ["resume=run"]]
)
def test_a_second_run_into_a_folder_is_refused_at_once(
    tmp_path: Path, arguments: list[str]
) -> None:
    folder = tmp_path / "run"
    (folder / "0").mkdir(parents=True)
    before = tree(tmp_path)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        (refusal,) = lines(run_jobs(tmp_path, *arguments))
    finally:
        os.close(descriptor)
    assert refusal["refused"].startswith(f"another run is at work in {str(folder)!r}: wait until")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_without_a_checkpoint_stays_as_it_is(tmp_path: Path, *, there: bool) -> None:
    if there:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "own.txt").touch()
    before = tree(tmp_path)
    (refusal,) = lines(run_jobs(tmp_path, "resume=run"))
    assert refusal["refused"].startswith("resume must be the folder of a run with a checkpoint")
    assert tree(tmp_path) == before


def test_a_run_of_a_sweep_keeps_others_out(tmp_path: Path) -> None:
    (tmp_path / "sweep" / "0").mkdir(parents=True)
    descriptor = os.open(tmp_path / "sweep" / "0", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        first, second, end = lines(run_jobs(tmp_path, "-m", "rounds=1,2", "output_dir=sweep"))
    finally:
        os.close(descriptor)
    assert first["error"].startswith("another run is at work in")
    assert second["config"]["rounds"] == 2
    assert [job[2] for job in end["jobs"]] == [False, True]


def test_a_run_that_was_killed_may_be_begun_again(tmp_path: Path) -> None:
    assert run_jobs(tmp_path, "hospitals=8", "output_dir=run").returncode == -9
    assert tree(tmp_path / "run") == COPIES
    job, _ = lines(run_jobs(tmp_path, "hospitals=5", "output_dir=run"))
    assert job["config"]["hospitals"] == 5


@pytest.mark.parametrize("mode", [[], ["-m"]])
@pytest.mark.parametrize(
    "name", slow_but(["file", "file/below", "/dev/null/x", "/proc/x"], "file/below", "/proc/x")
)
def test_a_folder_that_cannot_be_made_is_refused(
    tmp_path: Path, name: str, mode: list[str]
) -> None:
    (tmp_path / "file").touch()
    (refusal,) = lines(run_jobs(tmp_path, *mode, f"output_dir={name}"))
    assert refusal["refused"] == (
        f"output_dir must be a folder that can be written to, got {str(tmp_path / name)!r}"
    )
    assert tree(tmp_path) == {"file"}


def test_a_tilde_is_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    job, _ = lines(run_jobs(tmp_path, 'output_dir="~/run"'))
    assert job["folder"] == job["config"]["output_dir"] == str(tmp_path / "home" / "run")
    job, _ = lines(run_jobs(tmp_path, 'output_dir="~nobody-at-all/run"'))
    assert job["folder"] == str(tmp_path / "~nobody-at-all" / "run")
