"""Settings of a private simulation that nobody gave: rounds, learning rate and clip."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

from fl_he.config.constraints import ConfigError
from fl_he.config.groups import PRIVACY
from fl_he.config.run import Config, Scaling
from fl_he.errors import FlHeWarning
from fl_he.experiment.data import simulated_data
from fl_he.experiment.terms import privacy_of
from fl_he.learning.privacy.accounting import gaussian_budget
from fl_he.learning.privacy.descent import (
    OF_COUNTS,
    DescentSettings,
    descent_settings,
    number_settings,
)
from fl_he.learning.regression.glm import GlmFamily
from fl_he.learning.regression.registry import family_of
from fl_he.run_files.convergence import DECLARE_RANGES

Value = TypeVar("Value")


class UnitsWarning(FlHeWarning):
    """Features in other units than private settings are chosen for."""


def with_private_settings(config: Config) -> Config:
    """Return the configuration of a simulation with the settings that privacy leaves to choose.

    Given settings are kept. The coordinator and each simulated node choose the same.

    Raises
    ------
    DataError
        If the simulation's table cannot be used.
    PrivacyError
        If dp-accounting is not installed.
    """
    terms = privacy_of(config)
    if terms is not None and config.describe.enabled:  # one release spends the budget
        own = replace(config.privacy, clip=1.0, chosen=[])
        return replace(config, rounds=1, scaling=Scaling.none, privacy=own)
    if not config.privacy.chosen or terms is None:
        return config
    train = simulated_data(config).train
    squared_mu = gaussian_budget(terms.epsilon, terms.delta).squared_mu * (1.0 - terms.scaling)
    # All hospitals add noise, and only that of `min_contributors` is counted.
    mu = math.sqrt(squared_mu * terms.contributors / config.hospitals)

    def given(key: str, value: Value) -> Value | None:
        return None if key in config.privacy.chosen else value

    family = family_of(train)
    choose: Callable[..., DescentSettings] = descent_settings
    if isinstance(family, GlmFamily):
        choose = partial(number_settings, curvature=OF_COUNTS if family.ratio else 1.0)
    found = choose(
        train.examples,
        len(train.feature_names),
        mu,
        clip=given("privacy.clip", terms.clip),
        lr=given("optimizer.lr", config.optimizer.lr),
        rounds=given("rounds", config.rounds),
    )
    return replace(
        config,
        rounds=found.rounds,
        optimizer=replace(config.optimizer, lr=found.lr),
        privacy=replace(config.privacy, clip=found.clip),
    )


def warn_of_units(config: Config) -> None:
    """Warn of private settings that are chosen for scaled features where features are not."""
    chosen = [key for key in config.privacy.chosen if key != "rounds"]
    if chosen and config.scaling is Scaling.none:
        verb = "are" if len(chosen) > 1 else "is"
        warnings.warn(
            f"features are not scaled with scaling=none, but {' and '.join(chosen)} {verb} chosen "
            f"for standardised features, so the model may be useless: {DECLARE_RANGES}",
            UnitsWarning,
            stacklevel=2,
        )


def private_settings_note(config: Config, examples: int, features: int) -> str:
    """Return the settings that a private simulation chose, and the numbers that it chose them by.

    Parameters
    ----------
    config : Config
        See `with_private_settings`.
    examples, features : int
        Of the training data.
    """
    values = {
        "rounds": config.rounds,
        "optimizer.lr": config.optimizer.lr,
        "privacy.clip": config.privacy.clip,
    }
    words = " ".join(f"{key}={values[key]:g}" for key in config.privacy.chosen)
    return (
        f"{words} chosen for {examples:,} patients, {features} features and epsilon "
        f"{config.privacy.epsilon:g}"
    )


def require_private_settings(config: Config) -> None:
    """Refuse to choose private settings of deployed hospitals.

    Raises
    ------
    ConfigError
        If a setting is left to choose.
    """
    if config.privacy.chosen:
        raise ConfigError(
            f"{', '.join(config.privacy.chosen)} must be given for deployed hospitals with "
            f"privacy={PRIVACY}: rounds and clip stand in each hospital's own terms, and only a "
            "simulation knows the number of patients from which it chooses"
        )
