from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra import version
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import JobRuntime
from omegaconf import OmegaConf

from fl_he.config import (
    Config,
    ConfigError,
    DataConfig,
    PartitionScheme,
    Topology,
    check,
    compose,
    schema_keys,
)
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.packing import Packing

ROOT = Path(__file__).parents[1]

DOCUMENTED_DEFAULTS: dict[str, Any] = {
    "data.name": "breast_cancer",
    "data.path": None,
    "data.target": None,
    "data.positive": None,
    "data.threshold": None,
    "data.drop": [],
    "partition.scheme": "even",
    "partition.alpha": 1.0,
    "optimizer.name": "gd",
    "optimizer.lr": 0.05,
    "crypto.key_bits": 2048,
    "crypto.fraction_bits": 24,
    "crypto.integer_bits": 24,
    "crypto.max_contributors": 512,
    "hospitals": 3,
    "rounds": 15,
    "topology": "fold",
    "C": None,
    "test_size": 0.25,
    "seed": 10,
    "segments": 1,
    "min_contributors": 3,
    "hop_timeout": 600.0,
    "verbose": False,
    "output_dir": None,
}

CSV = ["data=csv", "data.path=t.csv", "data.target=y"]


def value(config: Config, key: str) -> Any:
    found: Any = asdict(config)
    for part in key.split("."):
        found = found[part]
    return found


def test_defaults_are_the_documented_ones() -> None:
    config = compose("config", [])
    assert {key: value(config, key) for key in DOCUMENTED_DEFAULTS} == DOCUMENTED_DEFAULTS
    assert schema_keys().keys() - DOCUMENTED_DEFAULTS.keys() == {"data.source"}


def test_the_schema_alone_has_the_same_defaults() -> None:
    composed = compose("config", [])
    assert replace(composed, data=replace(composed.data, source=None)) == Config()
    check(Config())


def test_values_are_plain_python() -> None:
    config = compose("config", ["topology=chain", "partition=uneven", "optimizer.lr=1", "C=2"])
    assert type(config) is Config
    assert type(config.data) is DataConfig
    assert type(config.data.drop) is list
    assert config.topology is Topology.chain
    assert config.topology == "chain"
    assert config.partition.scheme is PartitionScheme.uneven
    assert type(config.optimizer.lr) is float
    assert json.loads(json.dumps(asdict(config)))["topology"] == "chain"


@pytest.mark.parametrize("scheme", ["even", "uneven", "by_label"])
def test_partition_group(scheme: str) -> None:
    config = compose("config", f"partition={scheme} partition.alpha=0.25")
    assert (config.partition.scheme, config.partition.alpha) == (scheme, 0.25)


def test_grad_school_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FL_HE_DATA_DIR", raising=False)
    data = compose("config", "data=grad_school").data
    assert (data.path, data.target) == ("data/grad_school.csv", "Chance of Admit")
    assert (data.threshold, data.positive, data.drop) == (0.7, None, ["Serial No."])
    assert data.source is not None
    assert {"Kaggle", "Acharya"} <= set(data.source.split())
    assert "data.path=" in data.source
    monkeypatch.setenv("FL_HE_DATA_DIR", "/some/where")
    assert compose("config", "data=grad_school").data.path == "/some/where/grad_school.csv"


def test_overrides_in_one_string_are_split_as_a_shell_does() -> None:
    text = "data=csv data.path='my table.csv' data.target=\"Chance of Admit\" data.positive=1"
    config = compose("config", f"{text} 'data.drop=[Serial No.,id]' hospitals=5")
    assert config.data.path == "my table.csv"
    assert config.data.target == "Chance of Admit"
    assert config.data.positive == "1"
    assert config.data.drop == ["Serial No.", "id"]
    assert config.hospitals == 5


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hospitalz=3"], "hospitalz must be a key .*did you mean hospitals"),
        (["+hospitalz=3"], "hospitalz must be a key .*did you mean hospitals"),
        (["+x.y=3"], "x must be a key of the configuration"),
        (["data.targt=y"], "data.targt must be a key .*did you mean data.target"),
        (["optimizer.momentum=0.9"], "optimizer.momentum must be a key"),
        (["hospitals=three"], "hospitals must be an integer, got 'three'"),
        (["hospitals=3.5"], "hospitals must be an integer, got 3.5"),
        (["hospitals=true"], "hospitals must be an integer, got True"),
        (["hospitals=null"], "hospitals must be an integer, got None"),
        (["C=weak"], "C must be a number or null, got 'weak'"),
        (["verbose=maybe"], "verbose must be true or false, got 'maybe'"),
        (["data.drop=id"], "data.drop must be a list such as .*, got 'id'"),
        (["data.path=[a]"], "data.path must be text or null"),
        (["crypto=3"], "crypto must be a group of keys, got 3"),
        (["topology=ring"], "topology must be one of fold, chain, got 'ring'"),
        (["data=mnist"], "data must be one of breast_cancer, csv, grad_school, got 'mnist'"),
        (["partition=random"], "partition must be one of by_label, even, uneven, got 'random'"),
        (["optimizer=adam"], "optimizer must be one of gd, got 'adam'"),
        (["optimizer.name=adam"], "optimizer.name must be one of gd, got 'adam'"),
        (["hospitals"], "an override must be KEY=VALUE, got 'hospitals'"),
        (["hospitals=[3"], r"an override must be KEY=VALUE, got 'hospitals=\[3'"),
        (["hospitals=3,5"], "hospitals=3,5.*sweep"),
        (["data.path=${nowhere}"], "data.path: .*nowhere"),
        (["data=3"], "must be a string"),
    ],
)
def test_what_does_not_compose_is_refused_by_name(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        compose("config", overrides)
    assert "\n" not in str(caught.value)


def test_unbalanced_quotes_are_refused() -> None:
    with pytest.raises(ConfigError, match="quotation"):
        compose("config", "data.target='Chance of Admit")


def test_unknown_config_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"config-name must be .*, got 'nope'"):
        compose("nope", [])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hospitals=0"], "hospitals must be at least 1, got 0"),
        (["rounds=0"], "rounds must be at least 1, got 0"),
        (["segments=2"], "segments must be 1 unless topology=chain, got 2"),
        (["topology=chain", "segments=0"], r"auto or from 1 to hospitals \(3\), got 0"),
        (["topology=chain", "segments=4"], r"auto or from 1 to hospitals \(3\), got 4"),
        (["topology=chain", "segments=x"], r"auto or from 1 to hospitals \(3\), got 'x'"),
        (["topology=chain", "segments=1.5"], "segments must be an integer or text, got 1.5"),
        (["crypto.key_bits=2047"], "crypto.key_bits must be even, got 2047"),
        (["min_contributors=0"], "min_contributors must be at least 1, got 0"),
        (["seed=-1"], "seed must be at least 0, got -1"),
        (["seed=4294967296"], r"seed must be below 2\*\*32, got 4294967296"),
        (["crypto.key_bits=1023"], "crypto.key_bits must be at least 1024, got 1023"),
        (["crypto.fraction_bits=-1"], "crypto.fraction_bits must be at least 0, got -1"),
        (["crypto.integer_bits=0"], "crypto.integer_bits must be at least 1, got 0"),
        (["crypto.max_contributors=2"], r"max_contributors must be at least hospitals \(3\)"),
        (["crypto.integer_bits=31"], "must be at most 54 with .*=512, got 55"),
        (["optimizer.lr=0"], "optimizer.lr must be above 0 and finite, got 0.0"),
        (["optimizer.lr=inf"], "optimizer.lr must be above 0 and finite, got inf"),
        (["partition.alpha=-1"], "partition.alpha must be above 0"),
        (["hop_timeout=0"], "hop_timeout must be above 0"),
        (["C=0"], "C must be above 0"),
        (["C=nan"], "C must be above 0 and finite, got nan"),
        (["test_size=0"], "test_size must be between 0 and 1, got 0.0"),
        (["test_size=1"], "test_size must be between 0 and 1, got 1.0"),
        (["test_size=nan"], "test_size must be between 0 and 1, got nan"),
        (["hospitals=2"], r"at least min_contributors \(3\), got 2: .*set min_contributors=2"),
        (["data=csv"], "data.path must be set for data=csv"),
        (["data=csv", "data.path=t.csv"], "data.target must be set for data=csv"),
        (CSV, "one of data.positive .* and data.threshold .* must be set, got neither"),
        ([*CSV, "data.positive=1", "data.threshold=2"], "must be set, got both"),
        ([*CSV, "data.threshold=inf"], "data.threshold must be finite, got inf"),
        (["data.path=t.csv"], "data.path must be left out for data=breast_cancer"),
        (["data.target=y"], "data.target must be left out"),
        (["data.threshold=0"], "data.threshold must be left out"),
        (["data.drop=[a]"], "data.drop must be left out"),
    ],
)
def test_values_out_of_range_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose("config", overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["hospitals=1", "min_contributors=1", "rounds=1"],
        ["hospitals=2", "min_contributors=2"],
        ["hospitals=3", "crypto.max_contributors=3"],
        ["crypto.key_bits=1024"],
        ["crypto.integer_bits=30"],
        ["crypto.fraction_bits=0"],
        ["seed=0"],
        ["seed=4294967295"],
        ["C=1e-3"],
        [*CSV, "data.positive=M"],
        [*CSV, "data.threshold=0"],
    ],
)
def test_values_at_the_edge_are_accepted(overrides: list[str]) -> None:
    compose("config", overrides)


@pytest.mark.parametrize("fraction_bits", [40, 50, 53, 54])
@pytest.mark.parametrize("contributors", [3, 4, 5, 512, 513])
def test_the_packing_agrees_with_the_check(fraction_bits: int, contributors: int) -> None:
    config = Config()
    config.crypto.fraction_bits, config.crypto.integer_bits = fraction_bits, 8
    config.crypto.max_contributors = contributors
    try:
        Packing(fraction_bits, 8, contributors)
    except CryptoError:
        with pytest.raises(ConfigError, match="must be at most"):
            check(config)
    else:
        check(config)


@pytest.fixture
def other_hydra(tmp_path: Path) -> Iterator[None]:
    """Somebody else's Hydra application, running."""
    (tmp_path / "theirs.yaml").write_text("colour: red\n")
    with hydra.initialize_config_dir(str(tmp_path), job_name="theirs", version_base="1.2"):
        yield


@pytest.mark.usefixtures("other_hydra")
@pytest.mark.parametrize("overrides", [["hospitals=7"], ["hospitals=0"], ["nonsense=1"]])
def test_compose_leaves_a_running_hydra_as_it_was(overrides: list[str]) -> None:
    running, base = GlobalHydra.instance().hydra, version.getbase()
    try:
        assert compose("config", overrides).hospitals == 7
    except ConfigError:
        assert overrides != ["hospitals=7"]
    assert GlobalHydra.instance().hydra is running
    assert version.getbase() == base
    assert JobRuntime.instance().get("name") == "theirs"
    assert hydra.compose("theirs").colour == "red"


def test_compose_leaves_hydra_uninitialised() -> None:
    compose("config", [])
    assert not GlobalHydra.instance().is_initialized()


def test_compose_from_many_threads() -> None:
    counts = range(3, 11)
    with ThreadPoolExecutor(4) as pool:
        configs = pool.map(lambda count: compose("config", f"hospitals={count}"), counts)
        assert [config.hospitals for config in configs] == list(counts)
    assert not GlobalHydra.instance().is_initialized()


# Hydra's command line changes logging, sys.argv and its singletons: each run has its own process.
JOB = """
import json, logging, os, sys, threading
from dataclasses import asdict
from fl_he.config import ConfigError, compose, run_jobs

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

def is_explained(error):
    print(json.dumps({"error": str(error)}))
    return isinstance(error, ConfigError)

try:
    succeeded = run_jobs(task, sys.argv[1:], is_explained)
except ConfigError as error:
    print(json.dumps({"refused": str(error)}))
else:
    print(json.dumps({"succeeded": succeeded, "full": os.environ.get("HYDRA_FULL_ERROR")}))
"""


def run_jobs(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("HYDRA_FULL_ERROR", None)
    return subprocess.run(
        [sys.executable, "-c", JOB, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def lines(result: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def test_one_job(tmp_path: Path) -> None:
    result = run_jobs(tmp_path, "hospitals=5", "topology=chain")
    job, end = lines(result)
    assert result.stdout.count("\n") == 2
    assert result.stderr == "beware\n"
    assert end == {"succeeded": True, "full": None}
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
    result = run_jobs(tmp_path, "-m", "hospitals=3,5", "topology=fold,chain", "output_dir=sweep")
    *jobs, end = lines(result)
    assert end["succeeded"]
    assert [(job["config"]["hospitals"], job["config"]["topology"]) for job in jobs] == [
        (3, "fold"),
        (3, "chain"),
        (5, "fold"),
        (5, "chain"),
    ]
    assert [job["folder"] for job in jobs] == [str(tmp_path / "sweep" / str(n)) for n in range(4)]
    assert "#3 : hospitals=5 topology=chain" in result.stdout
    assert result.stderr == "beware\n" * 4


def test_a_sweep_goes_on_after_an_explained_error(tmp_path: Path) -> None:
    first, second, end = lines(run_jobs(tmp_path, "-m", "hospitals=0,3"))
    assert first == {"error": "hospitals must be at least 1, got 0"}
    assert second["config"]["hospitals"] == 3
    assert end["succeeded"] is False


def test_other_errors_of_a_job_keep_their_traceback(tmp_path: Path) -> None:
    result = run_jobs(tmp_path, "hospitals=4")
    assert lines(result)[1] == {"error": "a bug"}
    assert result.returncode == 1
    assert result.stderr.rstrip().endswith("ValueError: a bug")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hospitalz=5"], "hospitalz must be a key .*did you mean hospitals"),
        (["-m", "hospitals=3,x"], "hospitals must be an integer, got 'x'"),
        (["-m", "--cfg", "job"], "Only one of"),
        (["output_dir=/dev/null/x"], "/dev/null/x"),
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
    assert "data: breast_cancer, csv, grad_school" in result.stdout
    keys, _, example = result.stdout.partition("Configuration of this command line")
    words = keys.replace(",", " ").split()
    assert [key for key in schema_keys() if key not in words] == []
    assert "hospitals: 3" in example
