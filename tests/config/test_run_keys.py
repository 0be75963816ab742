"""Flower's run configuration: common settings as separate keys, in addition to ``overrides``."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from fl_he import client_app
from fl_he.config.composition import RUN_KEYS, compose, compose_run
from fl_he.config.constraints import ConfigError

APP = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["tool"]["flwr"]
DEFAULTS: dict[str, Any] = APP["app"]["config"]


def test_the_app_declares_the_keys_and_sets_nothing_by_them() -> None:
    assert DEFAULTS.keys() == {"config-name", "overrides", *RUN_KEYS}
    assert compose_run(DEFAULTS) == compose("config", [])
    only = {name: DEFAULTS[name] for name in ("config-name", "overrides")}
    assert compose_run(only) == compose_run(DEFAULTS)


@pytest.mark.parametrize("overrides", ["", "hospitals=5", "rounds=7 topology=chain C=null"])
def test_keys_and_overrides_give_one_configuration(overrides: str) -> None:
    keys: dict[str, Any] = {"num-server-rounds": 7, "hospitals": 5, "topology": "chain"}
    words = ["rounds=7", "hospitals=5", "topology=chain", *(["C=null"] * ("C=" in overrides))]
    assert compose_run({**DEFAULTS, **keys, "overrides": overrides}) == compose("config", words)


@pytest.mark.parametrize(
    ("key", "value", "override"),
    [
        ("num-server-rounds", 7, "rounds=8"),
        ("hospitals", 5, "hospitals=4"),
        ("topology", "fold", "topology=chain"),
    ],
)
def test_a_key_that_contradicts_overrides_is_refused(key: str, value: Any, override: str) -> None:
    run_config = {**DEFAULTS, key: value, "overrides": f"C=null {override}"}
    with pytest.raises(ConfigError, match=f"{key}={value} and {override} in overrides disagree"):
        compose_run(run_config)


@pytest.mark.parametrize(
    ("run_config", "words"),
    [
        ({"num-server-rounds": 0}, "rounds must be from 1 to 100000, got 0"),
        ({"hospitals": "many"}, "hospitals must be .*many"),
        ({"topology": "ring"}, "topology must be one of .*ring"),
        ({"topology": "chain sealed=true"}, "topology"),
        ({"overrides": "rounds='3"}, "quotation"),
        ({"overrides": "[", "hospitals": 3}, r"\["),
    ],
)
def test_what_is_wrong_with_a_value_is_said(run_config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        compose_run({**DEFAULTS, **run_config})


def test_nodes_read_the_same_keys() -> None:
    found = client_app._composed(tuple(sorted({**DEFAULTS, "hospitals": 5}.items())))
    assert found == compose("config", ["hospitals=5"])
