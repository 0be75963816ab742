"""Rules of the schema, checked on its dataclasses: nothing is composed."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fl_he.config.constraints import ConfigError
from fl_he.config.groups import KEY_BITS_LIMIT, Collusion
from fl_he.config.rules import check
from fl_he.config.run import ClassWeight, Config, Penalty, Scaling, Topology, schema_keys
from fl_he.crypto.errors import CryptoError
from fl_he.crypto.paillier.key_checks import MAXIMUM_KEY_BITS
from fl_he.crypto.paillier.packing import Packing

#: The settings that a user's table needs at least, without the meaning of its target.
TABLE = {"data.name": "csv", "data.path": "t.csv", "data.target": "y"}
CHAIN: dict[str, Any] = {"topology": Topology.chain}
SEALED: dict[str, Any] = {**CHAIN, "sealed": True}
UNSCALED = {**SEALED, "scaling": Scaling.none}
MASKED: dict[str, Any] = {"crypto.collusion": Collusion.resistant}
CAPC: dict[str, Any] = {"capc.enabled": True, "hospitals": 4}
PRIVATE: dict[str, Any] = {
    **{"privacy.name": "gaussian", "privacy.epsilon": 1.0, "privacy.delta": 1e-5},
    **{"privacy.clip": 0.5, "privacy.scaling": 0.25, "ranges": "breast_cancer"},
}
FIRTH: dict[str, Any] = {"penalty": Penalty.firth, "C": None}
GROUPS: dict[str, Any] = {"inference.groups": [["age", "bmi"]], "C": None}
PROFILE: dict[str, Any] = {"inference.profile": ["age"], "C": None}


def changed(settings: dict[str, Any]) -> Config:
    """Return the schema's defaults with other values; nothing is composed."""
    config = Config()
    for key, value in settings.items():
        *groups, name = key.split(".")
        assert key in schema_keys()
        setattr(getattr(config, groups[0]) if groups else config, name, value)
    return config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hospitals": 0}, "hospitals must be from 1 to 10000, got 0"),
        ({"hospitals": 10_001}, "hospitals must be from 1 to 10000, got 10001"),
        ({"rounds": 0}, "rounds must be from 1 to 100000, got 0"),
        ({"rounds": 100_001}, "rounds must be from 1 to 100000, got 100001"),
        ({"hop_timeout": 0.5}, "hop_timeout must be from 1 to 86400, got 0.5"),
        ({"hop_timeout": 1e5}, "hop_timeout must be from 1 to 86400, got 100000.0"),
        ({"key_holder_timeout": math.nan}, "key_holder_timeout must be from 1 to 86400, got nan"),
        ({"crypto.max_contributors": 10**7}, "crypto.max_contributors must be from 1 to 1000000"),
        ({"C": 1e-320}, r"C must be from 1e-12 to 1e\+12, or null, got 1e-320"),
        ({"partition.alpha": 1e300}, r"partition.alpha must be from 1e-12 to 1e\+12, got 1e\+300"),
        ({"segments": 2}, "segments must be 1 unless topology=chain, got 2"),
        (
            {"scaling": Scaling.ranges},
            "must come with scaling=ranges, .* scaling=ranges ranges=null",
        ),
        ({"ranges": "ranges.csv"}, "got privacy=none scaling=federated ranges=ranges.csv"),
        (
            {**TABLE, "data.classes": ["a", "b"]},
            "data.classes must be at least 3 different labels, got 2: of two, name the one that "
            "counts as 1, such as data.positive=b",
        ),
        (
            {**TABLE, "data.classes": ["a", "b", "c"], "data.positive": "a"},
            "must be set, got 2",
        ),
        ({"tolerance": -1.0}, r"tolerance must be from 1e-12 to 1e\+12, got -1"),
        # A distance of 0 is never reached, so that nothing would have standard errors.
        ({"tolerance": 0.0}, r"tolerance must be from 1e-12 to 1e\+12, got 0"),
        (
            {"penalty": Penalty.firth, "C": 1.0, "data.name": "wine"},
            r"^penalty=firth must be left out for more than two classes, got 3$",
        ),
        (FIRTH | {"C": 2.0}, "C must be null with penalty=firth, got 2: Firth's penalty has no"),
        (PROFILE | {"C": 1.0}, "C must be null with inference.profile, got 1: an L2 penalty"),
        (
            GROUPS | {"C": 1.0},
            "C must be null with inference.groups, got 1: no standard error",
        ),
        (
            GROUPS | {"class_weight": ClassWeight.balanced},
            "class_weight must be equal with inference.groups, got balanced",
        ),
        (
            GROUPS | {"optimizer.name": "lbfgs"},
            "optimizer must be auto or newton with inference.groups, got lbfgs",
        ),
        (PRIVATE | GROUPS, "privacy must be none with inference.groups, got gaussian"),
        (
            GROUPS | {"scaling": Scaling.local},
            "scaling must be federated, ranges or none with inference.groups, got local",
        ),
        (
            FIRTH | {"optimizer.name": "lbfgs"},
            "optimizer must be auto or newton with penalty=firth, got lbfgs",
        ),
        (
            PROFILE | {"class_weight": ClassWeight.balanced},
            "class_weight must be equal with inference.profile, got balanced",
        ),
        (FIRTH | CAPC, "penalty=firth must be left out in CaPC"),
        (PRIVATE | FIRTH, "privacy must be none with penalty=firth, got gaussian"),
        (
            PROFILE | UNSCALED,
            "sealed must be false with inference.profile, got true",
        ),
        (
            FIRTH | GROUPS | UNSCALED,
            "sealed must be false with inference.groups, got true",
        ),
        (
            PROFILE | {"scaling": Scaling.local},
            "scaling must be federated, ranges or none with inference.profile, got local",
        ),
        (
            PROFILE | {"inference.profile": ["a", "b", "a"]},
            "inference.profile must name no column twice, got a, b, a",
        ),
        (
            PRIVATE | SEALED,
            "scaling must be ranges or none with sealed=true and privacy=gaussian, got federated",
        ),
        ({**UNSCALED, "evaluate": True}, "evaluate must be false with sealed=true"),
        ({"sealed": True}, "sealed=true must come with topology=chain and segments=1, got"),
        ({**SEALED, "segments": 2}, "topology=chain segments=2"),
        ({**CHAIN, "segments": 0}, r"auto or from 1 to hospitals \(3\), got 0"),
        ({**CHAIN, "segments": 4}, r"auto or from 1 to hospitals \(3\), got 4"),
        ({**CHAIN, "segments": "x"}, r"auto or from 1 to hospitals \(3\), got 'x'"),
        (
            {"crypto.key_bits": 2047},
            "crypto.key_bits must be an even number from 1024 to 8192, got 2047",
        ),
        ({"crypto.key_bits": 8194}, "number from 1024 to 8192, got 8194"),
        ({"crypto.key_bits": 1022}, "number from 1024 to 8192, got 1022"),
        ({"min_contributors": 0}, "min_contributors must be from 1 to 10000, got 0"),
        ({"seed": -1}, "seed must be from 0 to 4294967295, got -1"),
        ({"seed": 2**32}, "seed must be from 0 to 4294967295, got 4294967296"),
        ({"output_dir": ""}, "output_dir must be a folder, or null, got ''"),
        ({"output_dir": " "}, "output_dir must be a folder, or null, got ' '"),
        ({"crypto.fraction_bits": -1}, "crypto.fraction_bits must be from 0 to 62, got -1"),
        ({"crypto.integer_bits": 0}, "crypto.integer_bits must be from 1 to 62, got 0"),
        (
            {"crypto.max_contributors": 0},
            "max_contributors must be from 1 to 1000000, or null, got 0",
        ),
        ({"crypto.max_contributors": 2}, r"max_contributors must be at least hospitals \(3\)"),
        ({"crypto.integer_bits": 38}, "at most 61 with room for 3 contributors .*, got 62"),
        (
            {"crypto.integer_bits": 31, "crypto.max_contributors": 512},
            "at most 54 with room for 512 contributors .*max_contributors, or hospitals., got 55",
        ),
        ({"optimizer.lr": 0.0}, r"optimizer.lr must be from 1e-12 to 1e\+12, got 0.0"),
        ({"optimizer.lr": math.inf}, r"optimizer.lr must be from 1e-12 to 1e\+12, got inf"),
        (
            {"optimizer.name": "adam"},
            "optimizer.name must be one of auto, gd, lbfgs, nesterov, newton, got 'adam'",
        ),
        (
            {**TABLE, "data.name": "nosuch"},
            "data.name must be one of breast_cancer, csv, digits, grad_school, mnist, wine, got "
            "'nosuch'",
        ),
        ({"capc.queries": 7}, "capc.queries must come with capc.enabled=true, got 7 without"),
        ({"capc.selection": "no"}, "capc.selection must come with capc.enabled=true, got 'no'"),
        ({"capc.models": ["no"]}, "capc.models must come with capc.enabled=true, got"),
        ({"partition.alpha": -1.0}, "partition.alpha must be from 1e-12"),
        ({"hop_timeout": 0.0}, "hop_timeout must be from 1 to"),
        ({"key_holder_timeout": math.nan}, "key_holder_timeout must be from 1 to"),
        ({"C": 0.0}, "C must be from 1e-12"),
        ({"C": math.nan}, r"C must be from 1e-12 to 1e\+12, or null, got nan"),
        ({"risks": [0.1, 0.11]}, "risks must be among 0.01, 0.02, 0.05, 0.1"),
        ({"test_size": -0.1}, "test_size must be at least 0 and below 1, got -0.1"),
        ({"test_size": 1.0}, "test_size must be at least 0 and below 1, got 1.0"),
        ({"test_size": math.nan}, "test_size must be at least 0 and below 1, got nan"),
        ({"test_size": 0.0, "evaluate": True}, "test_size must be above 0 with evaluate=true"),
        ({"hospitals": 2}, r"at least min_contributors \(3\), got 2: .*set min_contributors=2"),
        (
            {"hospitals": 2},
            "got 2: with two contributors each could compute the other's update; set",
        ),
        (
            {"min_contributors": 4},
            "got 3: no total may consist of fewer updates; set min_contributors=3",
        ),
        ({"hospitals": 1}, "got 1: the total of one contributor is its update; set"),
        ({"data.name": "csv"}, "data.path must be set for data=csv"),
        ({"data.name": "csv", "data.path": "t.csv"}, "data.target must be set for data=csv"),
        (
            {**TABLE, "data.positive": "1", "data.threshold": 2.0},
            "at most one of data.positive .* and data.threshold .* must be set, got 2",
        ),
        ({**TABLE, "data.threshold": math.inf}, "data.threshold must be finite, or null, got inf"),
        ({"data.path": "t.csv"}, "data.path must be left out for data=breast_cancer"),
        ({"data.target": "y"}, "data.target must be left out"),
        ({"data.threshold": 0.0}, "data.threshold must be left out"),
        ({"data.drop": ["a"]}, "data.drop must be left out"),
        ({"data.positive": "true"}, "data.positive must be left out .*, got 'true': a table"),
    ],
)
def test_values_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(changed(settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"privacy.epsilon": 1.0}, "privacy.epsilon must come with privacy=gaussian, got 1.0"),
        ({"privacy.clip": 1.0}, "privacy.clip must come with privacy=gaussian"),
        ({"privacy.scaling": 0.5}, "privacy.scaling must come with privacy=gaussian"),
        (
            {"outcome_bounds": [0.0, 9.0]},
            r"outcome_bounds must come with privacy=gaussian, got \[0.0, 9.0\] without it",
        ),
        ({**PRIVATE, "privacy.epsilon": 0.0}, r"privacy.epsilon must be from 1e-06 to 1e\+06"),
        ({**PRIVATE, "privacy.epsilon": None}, "privacy.epsilon must be set with privacy=gaussian"),
        ({**PRIVATE, "privacy.clip": math.inf}, r"privacy.clip must be from 1e-12 to 1e\+12"),
        (
            {**PRIVATE, "privacy.delta": 1.0},
            "privacy.delta must be between 0 and 1, or null, got 1.0",
        ),
        ({**PRIVATE, "privacy.scaling": 1.0}, "privacy.scaling must be between 0 and 1.*, got 1.0"),
        ({**PRIVATE, "privacy.scaling": 0.0}, "privacy.scaling must be between 0 and 1.*, got 0.0"),
        (
            {**PRIVATE, "ranges": None},
            "with scaling=federated and privacy=gaussian, .* ranges=null",
        ),
        ({**PRIVATE, "scaling": Scaling.local}, "got local: .* declare what is publicly known"),
        (
            {**PRIVATE, "class_weight": ClassWeight.balanced},
            "class_weight must be equal with privacy=",
        ),
        ({**PRIVATE, "evaluate": True}, "evaluate must be false with privacy=gaussian, got true"),
        (
            {**PRIVATE, "optimizer.name": "newton"},
            "optimizer.name must be auto or gd or nesterov with privacy=",
        ),
        ({**PRIVATE, "optimizer.name": "lbfgs"}, "got lbfgs: .* not accounted for"),
        (
            {
                **{"privacy.name": "gaussian", "optimizer.name": "newton", "data.name": "csv"},
                **{"data.path": "a.csv", "data.target": "stay", "data.family": "gamma"},
            },
            "data.family must be gaussian or poisson with privacy=gaussian, got gamma",
        ),
        ({"privacy.name": "laplace"}, "privacy.name must be one of none, gaussian, got 'laplace'"),
    ],
)
def test_a_configuration_that_promises_nothing_clear_is_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check(changed(settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({**CAPC, "capc.querying": [5]}, "capc.querying must hold numbers from 1 to hospitals"),
        ({**CAPC, "capc.querying": [1, 1]}, "no number twice"),
        ({**CAPC, "capc.querying": []}, "capc.querying must hold"),
        ({**CAPC, "capc.queries": 0}, "capc.queries must be from 1 to 100000, got 0"),
        (
            {**CAPC, "capc.examples": 0},
            "capc.examples must be from 1 to .*, or null, got 0",
        ),
        ({**CAPC, "capc.value_bits": 81}, "capc.value_bits must be from 16 to 80"),
        ({**CAPC, "capc.pool_size": 1.0}, "capc.pool_size must be between 0 and 1"),
        (
            {**CAPC, "capc.feature_fraction_bits": 33},
            "capc.feature_fraction_bits must be from 0 to 32",
        ),
        (
            {**CAPC, "capc.feature_integer_bits": 0},
            "capc.feature_integer_bits must be from 1 to 32",
        ),
        ({**CAPC, "capc.fourier_components": 0}, "capc.fourier_components must be from 1 to 10000"),
        ({**CAPC, "capc.fourier_gamma": math.nan}, "capc.fourier_gamma must be from 1e-12"),
        ({**CAPC, "capc.sigma_gnmax": 0.0}, "capc.sigma_gnmax must be from 1e-12"),
        ({**CAPC, "capc.sigma_threshold": 0.0}, "capc.sigma_threshold must be from 1e-12"),
        ({**CAPC, "capc.sigma_threshold": 1.0}, "capc.threshold must be set"),
        ({**CAPC, "capc.threshold": math.inf}, "capc.threshold must be finite, or null, got inf"),
        ({**CAPC, "capc.epsilon": -1.0}, "capc.epsilon must be from 1e-06"),
        ({**CAPC, "capc.epsilon": 1.0}, "capc.epsilon must be null unless"),
        (
            {**CAPC, "capc.epsilon": 1.0, "capc.sigma_gnmax": 1.0, "capc.threshold": 2.0},
            "must be null",
        ),
        ({**CAPC, "capc.delta": 1.0}, "capc.delta must be between 0 and 1"),
        ({**CAPC, "capc.weak_ratio": 2.0}, "capc.weak_ratio must be from 0 to 1"),
        ({**CAPC, "capc.models": []}, "capc.models must be a list of at least one kind, got"),
        ({**CAPC, "hospitals": 3}, "hospitals must be above min_contributors"),
        ({**CAPC, "test_size": 0.0}, "test_size must be above 0 in CaPC, got 0"),
        ({**CAPC, **CHAIN, "sealed": True}, "capc.enabled must be false"),
        (
            {**CAPC, **MASKED, "hospitals": 3, "min_contributors": 2},
            "hospitals must be 4 to 300 with crypto.collusion=resistant in CaPC, got 3",
        ),
        ({**MASKED, "on_dropout": "continue"}, "on_dropout must be wait or stop with crypto"),
        ({**MASKED, "hospitals": 2, "min_contributors": 2}, "hospitals must be 3 to 300 with"),
        ({**MASKED, "hospitals": 301}, "hospitals must be 3 to 300 with"),
        ({**CAPC, "resume": "outputs/first"}, "capc.enabled must be false"),
        ({**CAPC, **PRIVATE}, "privacy must be none in CaPC"),
    ],
)
def test_settings_that_no_run_of_capc_could_use_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check(changed(settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"hospitals": 1, "min_contributors": 1, "rounds": 1},
        {"hospitals": 2, "min_contributors": 2},
        {"hospitals": 3, "crypto.max_contributors": 3},
        {"crypto.key_bits": 1024},
        {"crypto.integer_bits": 37},
        {"crypto.integer_bits": 30, "crypto.max_contributors": 512},
        {"crypto.fraction_bits": 0},
        {"seed": 0},
        {"seed": 2**32 - 1},
        {"C": 1e-3},
        {"test_size": 0.0},
        {"tolerance": 1e-12},
        {**CHAIN, "segments": 3},
        {**CHAIN, "segments": "auto"},
        UNSCALED,
        UNSCALED | FIRTH,
        CAPC,
        {**CAPC, "capc.weak_ratio": 0.0, "capc.value_bits": 80},
        PRIVATE,
        {**TABLE, "data.positive": "M"},
        {**TABLE, "data.threshold": 0.0},
    ],
)
def test_values_at_the_edge_are_accepted(settings: dict[str, Any]) -> None:
    check(changed(settings))


def test_the_largest_key_is_the_crypto_layers() -> None:
    assert KEY_BITS_LIMIT == MAXIMUM_KEY_BITS
    check(changed({"crypto.key_bits": MAXIMUM_KEY_BITS}))


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
