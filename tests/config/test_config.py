from __future__ import annotations

import json
import shlex
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
from quick import slow, slow_but

from fl_he.config.composition import compose
from fl_he.config.constraints import ConfigError
from fl_he.config.explanation import refuse_flags
from fl_he.config.groups import DataConfig, PartitionScheme
from fl_he.config.help import CONF
from fl_he.config.rules import check
from fl_he.config.run import Config, Topology, schema_keys

DOCUMENTED_DEFAULTS: dict[str, Any] = {
    "data.name": "breast_cancer",
    "data.path": None,
    "data.target": None,
    "data.positive": None,
    "data.threshold": None,
    "data.classes": [],
    "data.drop": [],
    "data.schema": None,
    "data.reading": [],
    "data.family": None,
    "data.event": None,
    "data.exposure": None,
    "data.ties": None,
    "data.reference": None,
    "inference.groups": [],
    "inference.profile": [],
    "inference.sites": False,
    "describe.enabled": False,
    "describe.columns": [],
    "describe.by": None,
    "describe.bins": 20,
    "describe.grid": [],
    "partition.scheme": "even",
    "partition.alpha": 1.0,
    "partition.column": None,
    "partition.sites": [],
    "simulation.engine": "local",
    "simulation.ray_address": None,
    "optimizer.name": "auto",
    "optimizer.lr": 0.05,
    "privacy.name": "none",
    "privacy.epsilon": None,
    "privacy.delta": None,
    "privacy.clip": None,
    "privacy.scaling": None,
    "privacy.chosen": [],
    "crypto.scheme": "paillier",
    "crypto.collusion": "none",
    "crypto.key_bits": 2048,
    "crypto.key_kind": "short",
    "crypto.fraction_bits": 24,
    "crypto.integer_bits": 24,
    "crypto.max_contributors": None,
    "capc.enabled": False,
    "capc.backend": "encrypted",
    "capc.voting": "single",
    "capc.labels": [],
    "capc.tau": None,
    "capc.models": ["logistic", "lda", "linear_svc"],
    "capc.querying": [1],
    "capc.queries": 50,
    "capc.selection": "random",
    "capc.pool_size": 0.3,
    "capc.examples": None,
    "capc.weak_classes": [],
    "capc.weak_ratio": 1.0,
    "capc.sigma_gnmax": None,
    "capc.sigma_threshold": None,
    "capc.threshold": None,
    "capc.epsilon": None,
    "capc.delta": 1e-5,
    "capc.value_bits": 32,
    "capc.feature_fraction_bits": 12,
    "capc.feature_integer_bits": 5,
    "capc.fourier_components": 100,
    "capc.fourier_gamma": None,
    "hospitals": 3,
    "rounds": 50,
    "topology": "fold",
    "scaling": "federated",
    "ranges": None,
    "outcome_bounds": [],
    "tolerance": 1e-7,
    "class_weight": "equal",
    "penalty": "l2",
    "C": 1.0,
    "site_intercepts": False,
    "evaluate": False,
    "test_size": 0.25,
    "stratify": True,
    "seed": 10,
    "segments": 1,
    "sealed": False,
    "risks": [0.1, 0.2, 0.3, 0.5],
    "plan": None,
    "min_contributors": 3,
    "hop_timeout": 600.0,
    "key_holder_timeout": 600.0,
    "on_dropout": "auto",
    "dropout_timeout": 3600.0,
    "tracking": "none",
    "verbose": False,
    "output_dir": None,
    "resume": None,
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


@pytest.mark.parametrize(
    "name",
    slow_but(
        sorted(path.stem for path in (CONF / "experiment").glob("*.yaml")),
        *("capc_breast_cancer", "digits", "firth", "private"),
    ),
)
def test_experiments_compose(name: str) -> None:
    config = compose("config", f"experiment={name} rounds=7")
    assert config.rounds == 7, "the command line goes first"
    assert config.capc.enabled is name.startswith("capc_")
    assert config.describe.enabled is (name == "table1")
    if not config.capc.enabled:
        assert (None if name in ("private", "original", "inference", "firth") else 1.0) == config.C
        names = {
            "optimizers": "auto",
            "table1": "auto",
            "digits": "lbfgs",
            "private": "auto",
            "original": "gd",
        }
        assert config.optimizer.name == names.get(name, "newton")


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


@pytest.mark.parametrize(
    ("override", "positive"),
    [
        ("data.positive=true", "true"),
        ("data.positive=True", "True"),
        ("+data.positive=1.50", "1.50"),
        ("data.positive=1_000", "1_000"),
        ("data.positive='1.50'", "1.50"),
        ("data.positive=yes", "yes"),
        ("data.positive=null", None),
    ],
)
def test_a_text_stays_as_it_was_written(override: str, positive: str | None) -> None:
    config = compose("config", ["data=csv", "data.path=t.csv", "data.target=y", override])
    assert config.data.positive == positive
    assert compose("config", ["topology=chain", "segments=2"]).segments == 2


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
        (["hospitalz=3"], r"hospitalz is not a key .*; did you mean hospitals\?$"),
        (["optimizer.learning_rate=1"], r"did you mean optimizer.lr\?$"),
        (["zzz=x"], "fl-he run --help lists all"),
        (["+hospitalz=3"], "hospitalz is not a key .*did you mean hospitals"),
        (["hospitals=three"], "hospitals must be an integer, got 'three'"),
        (["C=weak"], "C must be a number or null, got 'weak'"),
        (["verbose=maybe"], "verbose must be true or false, got 'maybe'"),
        (["data.drop=id"], "data.drop must be a list such as .*, got 'id'"),
        (
            ["data.path=[a]"],
            "data.path must be a file, a list of two or more files such as .*, or null, got",
        ),
        (["topology=ring"], "topology must be one of fold, chain, got 'ring'"),
        (
            ["optimizer.name=adam"],
            "optimizer.name must be one of auto, gd, lbfgs, nesterov, newton, got 'adam'",
        ),
        (["hospitals"], "an override must be KEY=VALUE, got 'hospitals'"),
        (["hospitals=[3"], r"an override must be KEY=VALUE, got 'hospitals=\[3'; "),
        (["hospitals=3,5"], "hospitals=3,5.*sweep"),
        (["data.path=${nowhere}"], "data.path: .*nowhere"),
        (
            ["inference.groups=[[a],b]"],
            r"must be a list of lists such as .*, got \[\[a\],b\]",
        ),
        (["outcome_bounds=[a]"], r"outcome_bounds\[0\] must be a number, got 'a'$"),
        (["data=[wine,digits]"], r"data must be one choice, got data=\[wine,digits\]; .* add -m$"),
        (["topology=chain", "segments=1.5"], "segments must be an integer or text, got 1.5"),
        *slow(
            (["lr=0.5"], r"lr is not a key .*; did you mean optimizer.lr\?$"),
            (["fraction_bit=9"], r"did you mean crypto.fraction_bits\?$"),
            (["n_clients=3"], r"did you mean hospitals\?$"),
            (["key_length=1024"], r"did you mean crypto.key_bits\?$"),
            (["dataset=csv"], r"did you mean data\?$"),
            (["+x.y=3"], "x is not a key of the configuration"),
            (["optimizr=newton"], r"did you mean optimizer\?$"),
            (["data.targt=y"], "data.targt is not a key .*did you mean data.target"),
            (["optimizer.momentum=0.9"], "optimizer.momentum is not a key"),
            (["hospitals=3.5"], "hospitals must be an integer, got 3.5"),
            (["hospitals=true"], "hospitals must be an integer, got true"),
            (["hospitals=null"], "hospitals must be an integer, got null"),
            (["crypto=3"], "crypto must be a group of keys, got 3"),
            (
                ["data=iris"],
                "data must be one of breast_cancer, csv, digits, grad_school, mnist, wine, got "
                "'iris'",
            ),
            (["privacy=laplace"], "privacy must be one of gaussian, none, got 'laplace'"),
            (
                ["partition=random"],
                "partition must be one of by_label, column, even, uneven, got 'random'",
            ),
            (
                ["optimizer=adam"],
                "optimizer must be one of auto, gd, lbfgs, nesterov, newton, got 'adam'",
            ),
            (["data.drop=[größe]"], r'; quote the texts of a list: \'data.drop=\["größe"\]\'$'),
            (
                ["output_dir=a(1)"],
                r"got 'output_dir=a\(1\)'; .* quote it: 'output_dir=\"a\(1\)\"'$",
            ),
            (["data=3"], "must be a string"),
            (["optimizer=[]"], r"optimizer must be one choice, got optimizer=\[\]"),
        ),
    ],
)
def test_what_does_not_compose_is_refused_by_name(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        compose("config", overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--hospitals", "3"],
            "key must be written without dashes, got --hospitals: hospitals=3",
        ),
        (["rounds=2", "--hospitals=5"], "got --hospitals: hospitals=5"),
        (["--hospitals", "--multirun"], r"got --hospitals: hospitals=\.\.\.$"),
        (["--lr"], r"got --lr: optimizer.lr=\.\.\.$"),
        (["--n_clients=3"], "got --n_clients: hospitals=3"),
        (["--key-length", "1024"], "got --key-length: crypto.key_bits=1024"),
        (["--data.path=x=y.csv"], "got --data.path: data.path=x=y.csv"),
        (["--dataset", "csv"], "got --dataset: data=csv"),
    ],
)
def test_a_key_written_as_a_flag_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        refuse_flags(arguments)


def test_flags_of_hydra_are_none_of_our_keys() -> None:
    refuse_flags(["-m", "--cfg", "job", "--config-name", "config", "--help", "--info", "rounds=2"])


@pytest.mark.parametrize("path", ["~/t.csv", "a(1).csv", 'a "b" {c}.csv', "C:\\(1).csv"])
def test_a_value_can_be_quoted_as_the_refusal_says(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose("config", ["data=csv", f"data.path={path}"])
    (quoted,) = shlex.split(str(caught.value).partition("quote it: ")[2])
    assert compose("config", [*CSV, quoted, "data.positive=1"]).data.path == path


@pytest.mark.parametrize(
    "override",
    [
        'data.target="CRP (mg/l)',
        "data.drop=[id,'CRP (mg/l)]",
        "data.drop=[id,CRP (mg/l)]'",
        'inference.groups=[[id,CRP (mg/l)],["x]]',
        "'data.drop=[id,CRP (mg/l)]",
    ],
)
def test_what_is_cut_off_is_told_so(override: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose("config", ["data=csv", override])
    words = f"an override must be KEY=VALUE, got {override!r}"
    cut_off = "; a bracket or a quote of the value is not closed"
    assert str(caught.value) == words + cut_off * override[0].isalpha()


def test_unbalanced_quotes_are_refused() -> None:
    with pytest.raises(ConfigError, match="quotation"):
        compose("config", "data.target='Chance of Admit")


def test_unknown_config_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"config-name must be .*, got 'nope'"):
        compose("nope", [])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hospitals=0"], "hospitals must be from 1 to 10000, got 0"),
        (["crypto.key_bits=1023"], "crypto.key_bits must be .* from 1024 to 8192, got 1023"),
        (["sealed=true", "topology=chain", "evaluate=true"], "evaluate must be false with sealed"),
        (
            ["simulation.ray_address=here:6379"],
            r"simulation\.ray_address must come with simulation\.engine=ray, got "
            r"simulation\.engine=local and here:6379",
        ),
        (
            ["simulation.ray_address='ray://here:6379'"],
            r"simulation\.ray_address must be HOST:PORT of a Ray cluster, or null, got 'ray://here",
        ),
    ],
)
def test_what_is_composed_is_checked(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose("config", overrides)


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


@pytest.mark.slow
def test_compose_from_many_threads() -> None:
    counts = range(3, 11)
    with ThreadPoolExecutor(4) as pool:
        configs = pool.map(lambda count: compose("config", f"hospitals={count}"), counts)
        assert [config.hospitals for config in configs] == list(counts)
    assert not GlobalHydra.instance().is_initialized()


def test_a_list_of_lists_is_asked_for_where_a_list_was_given() -> None:
    with pytest.raises(ConfigError, match=r"inference\.groups must be a list of lists .*, got \[a"):
        compose("config", ["inference.groups=[age,b]"])


def test_what_fl_he_fills_in_is_no_setting() -> None:
    with pytest.raises(ConfigError, match=r"privacy.chosen must be left out: fl-he fills it in"):
        compose("config", ["privacy=gaussian", "privacy.chosen=[rounds]"])
