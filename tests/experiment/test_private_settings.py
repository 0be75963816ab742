"""Settings of a private simulation: chosen where nobody gives them, and told."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from experiments import experiment
from noisy_descent import private_descent
from quick import slow

from fl_he.config.composition import compose
from fl_he.config.constraints import ConfigError
from fl_he.config.run import Config, Scaling
from fl_he.experiment.data import simulated_data
from fl_he.experiment.private_settings import (
    private_settings_note,
    require_private_settings,
    warn_of_units,
    with_private_settings,
)
from fl_he.experiment.terms import declared_ranges, privacy_of
from fl_he.learning.errors import PrivacyError

BREAST_CANCER = ("privacy=gaussian", "ranges=breast_cancer")
#: The scales of the questionnaire: Fair 1978, as described in statsmodels.
SCALES = {
    "rate_marriage": (1, 5),
    "age": (17.5, 42),
    "yrs_married": (0.5, 23),
    "children": (0, 5.5),
    "religious": (1, 4),
    "educ": (9, 20),
    "occupation": (1, 6),
    "occupation_husb": (1, 6),
}


def values(config: Config) -> tuple[int, float, float | None]:
    return config.rounds, config.optimizer.lr, config.privacy.clip


def test_a_simulation_chooses_what_nobody_gives() -> None:
    config = compose("config", BREAST_CANCER)
    assert config.privacy.chosen == ["rounds", "optimizer.lr", "privacy.clip"]
    assert config.scaling is Scaling.ranges
    chosen = with_private_settings(config)
    assert values(chosen) == (21, 2.5, 0.56)
    assert with_private_settings(chosen) == chosen
    assert private_settings_note(chosen, 426, 30) == (
        "rounds=21 optimizer.lr=2.5 privacy.clip=0.56 chosen for 426 patients, 30 features and "
        "epsilon 1"
    )


@pytest.mark.parametrize(
    ("override", "kept"),
    [
        ("rounds=50", (50, None, None)),
        *slow(
            ("optimizer.lr=0.05", (None, 0.05, None)),
            ("privacy.clip=1.0", (None, None, 1.0)),
        ),
    ],
)
def test_what_somebody_gives_is_kept_even_where_it_is_the_old_default(
    override: str, kept: tuple[float | None, ...]
) -> None:
    config = with_private_settings(compose("config", [*BREAST_CANCER, override]))
    assert override.partition("=")[0] not in config.privacy.chosen
    assert len(config.privacy.chosen) == 2
    free = values(with_private_settings(compose("config", BREAST_CANCER)))
    for value, given, otherwise in zip(values(config), kept, free, strict=True):
        assert value == given if given is not None else value is not None
        if given is not None:
            assert value != otherwise


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (["scaling=none"], "optimizer.lr and privacy.clip are chosen"),
        (["scaling=none", "privacy.clip=1.0"], "but optimizer.lr is chosen"),
        (["privacy.clip=1.0", "optimizer.lr=1", "scaling=none"], None),
        (["scaling=ranges", "ranges=breast_cancer"], None),
    ],
    ids=str,
)
def test_chosen_settings_of_features_that_are_not_scaled_are_warned_of(
    settings: list[str], named: str | None
) -> None:
    config = compose("config", ["privacy=gaussian", *settings])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_units(config)
    said = [str(one.message) for one in caught]
    assert len(said) == (named is not None)
    if named is not None:
        assert named in said[0]
        assert said[0].endswith("declare their ranges with ranges=FILE in place of scaling=none")


def test_an_experiment_gives_all_of_them() -> None:
    config = compose("config", ["experiment=private"])
    assert config.privacy.chosen == []
    assert with_private_settings(config) is config
    assert values(config) == (30, 6.0, 0.2)


def test_without_privacy_nothing_is_chosen() -> None:
    config = compose("config", ["rounds=7"])
    assert config.privacy.chosen == []
    assert config.scaling is Scaling.federated
    assert with_private_settings(config) is config


def test_a_larger_budget_less_noise_and_fewer_hospitals_choose_more_rounds() -> None:
    rounds = [
        with_private_settings(compose("config", [*BREAST_CANCER, *more])).rounds
        for more in (["hospitals=12"], [], ["privacy.epsilon=2"])
    ]
    assert rounds == sorted(set(rounds))


def test_deployed_hospitals_are_not_chosen_for() -> None:
    require_private_settings(compose("config", ["experiment=private"]))
    with pytest.raises(ConfigError, match=r"rounds, privacy\.clip must be given for deployed"):
        require_private_settings(compose("config", [*BREAST_CANCER, "optimizer.lr=1"]))


def mean_accuracy(tmp_path: Path, runs: int, *overrides: str) -> float:
    scores = []
    for seed in range(5):
        config = experiment("privacy=gaussian", *overrides, f"seed={seed}", folder=tmp_path)
        config = with_private_settings(config)
        scores += [private_descent(config) for _ in range(runs)]
    return float(np.mean(scores))


@pytest.mark.slow
def test_breast_cancer_reaches_0_925_at_epsilon_one(tmp_path: Path) -> None:
    """No setting was chosen on this table; the mean of five seeds is 0.938."""
    assert mean_accuracy(tmp_path, 8, "ranges=breast_cancer") >= 0.925


@pytest.mark.slow
def test_fair_reaches_0_705_at_epsilon_one(tmp_path: Path) -> None:
    """Any affair or none; the mean of five seeds is 0.725."""
    table, ranges = tmp_path / "fair.csv", tmp_path / "ranges.csv"
    sm.datasets.fair.load_pandas().data.to_csv(table, index=False)
    rows = [f"{name},{low},{high}" for name, (low, high) in SCALES.items()]
    ranges.write_text("\n".join(["feature,low,high", *rows]))
    scores = mean_accuracy(
        tmp_path, 2,
        *("data=csv", f"data.path={table}", "data.target=affairs", "data.threshold=0.001"),
        f"ranges={ranges}",
    )  # fmt: skip
    assert scores >= 0.705


def test_without_dp_accounting_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(PrivacyError, match=r"pip install 'fl-he\[privacy\]'"):
        with_private_settings(compose("config", [*BREAST_CANCER, "privacy.epsilon=1.2345"]))


def test_the_terms_are_those_of_the_chosen_settings() -> None:
    config = with_private_settings(compose("config", BREAST_CANCER))
    terms = privacy_of(config)
    assert terms is not None
    assert (terms.clip, terms.rounds) == (config.privacy.clip, config.rounds)
    assert declared_ranges(config, simulated_data(config).train.feature_names) is not None
