"""Terms that a configuration sets: packing, optimizer, scaling by declared ranges, and privacy.

Declared ranges are public knowledge of the features, so scaling by them tells nothing of any
patient. Under privacy they also bound what one patient does to the sums by which the features are
scaled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord

from fl_he.config.constraints import ConfigError
from fl_he.config.groups import AUTO, PRIVACY, CryptoConfig
from fl_he.config.run import ClassWeight, Config, Penalty, Scaling
from fl_he.crypto.paillier.packing import Packing
from fl_he.learning.errors import DataError
from fl_he.learning.optimizers import WITH_RATE
from fl_he.learning.privacy.gradients import (
    GaussianPrivacy,
    Lattice,
    epsilon_of_releases,
    noise_variance,
)
from fl_he.learning.privacy.scaling import scaling_sum, scaling_variance
from fl_he.learning.regression.calibration import fine_bins
from fl_he.learning.regression.family import Family
from fl_he.learning.regression.glm import GlmFamily
from fl_he.learning.regression.outcome_bounds import require_bounds
from fl_he.learning.regression.registry import COMPARED, WITH_SITES, family_for
from fl_he.learning.tables.feature_ranges import Ranges, read_ranges
from fl_he.run_files.convergence import listed
from fl_he.wire.learning_terms import TrainingTerms, privacy_members
from fl_he.wire.study_plan import StudyPlan

_SHIPPED = Path(str(files("fl_he.learning.tables"))) / "ranges"
#: Values of the largest Hessian that ``optimizer=auto`` has encrypted: that of 199 parameters.
_MOST_HESSIAN = 20_000
_NEIGHBOURS = (
    "one row of one hospital's table is replaced by any other; the numbers of rows are public"
)
_ALWAYS = (
    "a patient with several rows, or rows in several hospitals",
    "other releases of the same data: runs under another budget, answers in CaPC, a model of a "
    "hospital's own",
    "a total with the noise of fewer honest hospitals than are counted: hospitals that leave "
    "theirs out, a coordinator that cheats about who is in it",
)
_SIMULATED = (
    "the held-out rows, the hospitals' own models and the pooled model, with which it compares",
)
_SITES = ("the figures of the model at each site, which are of its rows and have no noise",)
#: Settings that tell something of the data if they were chosen by them, and their words.
_GIVEN = {"privacy.clip": "clip", "optimizer.lr": "learning rate", "rounds": "rounds"}
_DEPLOYED = (
    "how each hospital prepared its table",
    "a hospital whose privacy ledger was deleted or rolled back",
)


def packing_of(crypto: CryptoConfig, known: int) -> Packing:
    """Return the packing that a configuration asks for.

    Parameters
    ----------
    crypto : CryptoConfig
    known : int
        Number of contributors if the configuration has none: of a simulation's nodes the hospitals,
        of the coordinator company X's. Hospitals refuse another packing than their own.
    """
    return Packing(crypto.fraction_bits, crypto.integer_bits, crypto.contributors(known))


def declared_ranges(config: Config, feature_names: Sequence[str]) -> Ranges | None:
    """Return the ranges that the configuration names, ``None`` if it names none.

    Raises
    ------
    DataError
        If they cannot be read, or are not of these features.
    """
    if config.ranges is None:
        return None
    shipped = _SHIPPED / f"{config.ranges}.json"
    path = shipped if shipped.is_file() else Path(config.ranges).expanduser()
    return read_ranges(path, feature_names)


def train_config(
    config: Config,
    features: Sequence[str],
    classes: int,
    optimizer: str,
    plan: StudyPlan | None,
    *,
    family: Family,
    imputed: Sequence[str] = (),
) -> ConfigRecord:
    """Return what nodes that compute the model themselves are told of a run: task and privacy.

    Parameters
    ----------
    config : Config
    features : sequence of str
        Names of the features, in the order of the hospitals'.
    classes : int
    optimizer : str
        The chosen one.
    plan : StudyPlan or None
        That bounds the steps.
    family : Family
    imputed : sequence of str
        Columns of the hospitals' tables whose missing cells get the mean of all their cells.

    Raises
    ------
    DataError
        If the declared ranges cannot be used.
    """
    ranges, declared = declared_ranges(config, features), config.scaling is Scaling.ranges
    units = ranges.scaling if ranges is not None and declared else None
    clipped = ranges if units is None else None
    terms = TrainingTerms(
        features=len(features),
        classes=classes,
        family=family.name if isinstance(family, GlmFamily) else "",
        optimizer=optimizer,
        lr=config.optimizer.lr,
        C=config.C,
        scaling=Scaling.federated.value if declared else config.scaling.value,
        mean=() if units is None else tuple(units.mean.tolist()),
        scale=() if units is None else tuple(units.scale.tolist()),
        balanced=config.class_weight is ClassWeight.balanced,
        tolerance=config.tolerance,
        max_step=None if plan is None else plan.max_step,
        max_coefficient=None if plan is None else plan.max_coefficient,
        low=() if clipped is None else tuple(clipped.low.tolist()),
        high=() if clipped is None else tuple(clipped.high.tolist()),
        firth=config.penalty is Penalty.firth,
        profile=tuple(list(features).index(name) for name in config.inference.profile),
        imputed=tuple(imputed),
        site_intercepts=config.site_intercepts,
        sites=config.inference.sites,
        outcome_bounds=tuple(config.outcome_bounds),
    ).to_config()
    terms.update(privacy_members(privacy_of(config)))
    return terms


def chosen_optimizer(
    config: Config, features: int, classes: int = 2, family: Family | None = None
) -> dict[str, str]:
    """Return the member ``optimizer`` of metrics.json: its ``name``, and the ``reason`` for it.

    Parameters
    ----------
    config : Config
    features, classes : int
        How many the model has.
    family : Family or None
        ``None``: that of this many classes.

    Raises
    ------
    ConfigError
        If the settings do not go with the family.
    """
    family = family or family_for(classes)
    for name, asked, families in (
        ("site_intercepts", config.site_intercepts, WITH_SITES),
        ("inference.sites", config.inference.sites, COMPARED),
    ):
        if asked and family.name not in families:
            raise ConfigError(
                f"{name} must be false with family {family.name}: the family must be "
                f"{' or '.join(families)}"
            )
    if config.privacy.name == PRIVACY:
        try:
            require_bounds(family, config.outcome_bounds)
        except DataError as error:
            raise ConfigError(str(error)) from None
    if isinstance(family, GlmFamily):
        return _of_number(config, features, family)
    needing = {
        "site_intercepts=true": config.site_intercepts,
        "penalty=firth": config.penalty is Penalty.firth,
        "inference.profile": bool(config.inference.profile),
        "inference.sites=true": config.inference.sites,
    }
    if setting := next((name for name, given in needing.items() if given), None):
        return {"name": "newton", "reason": f"{setting} needs the information of all patients"}
    if config.privacy.name == PRIVACY:
        return _private(config)
    if config.optimizer.name != AUTO:
        return {"name": config.optimizer.name, "reason": f"optimizer={config.optimizer.name}"}
    parameters = family.count(features, classes)
    values = parameters * (parameters + 1) // 2
    if values <= _MOST_HESSIAN:
        return {"name": "newton", "reason": f"the Hessian has {values:,} values"}
    return {
        "name": "lbfgs",
        "reason": f"the Hessian would have {values:,} values, more than {_MOST_HESSIAN:,}",
    }


def _private(config: Config) -> dict[str, str]:
    """Return the optimizer of a run with privacy."""
    if config.optimizer.name != AUTO:
        return {"name": config.optimizer.name, "reason": f"optimizer={config.optimizer.name}"}
    return {"name": "gd", "reason": f"it needs noisy gradients alone, as privacy={PRIVACY} has"}


def _of_number(config: Config, features: int, family: GlmFamily) -> dict[str, str]:
    """Return the optimizer of a model of a number; refuse settings that it does not go with."""
    private = config.privacy.name == PRIVACY
    optimizers = (AUTO, *WITH_RATE) if private else (AUTO, "newton")
    refused = (
        ("penalty", config.penalty is Penalty.firth, "l2"),
        ("inference.profile", bool(config.inference.profile), "left out"),
        ("class_weight", config.class_weight is not ClassWeight.equal, "equal"),
        ("capc.enabled", config.capc.enabled, "false"),
        ("optimizer", config.optimizer.name not in optimizers, " or ".join(optimizers)),
    )
    for setting, wrong, right in refused:
        if wrong:
            raise ConfigError(
                f"{setting} must be {right} with family {family.name}, whose outcome is a number"
            )
    if config.evaluate and not fine_bins(family):
        raise ConfigError(
            f"evaluate must be false with family {family.name}: times to an event have no "
            "calibration"
        )
    if private:
        return _private(config)
    values = (features + 1) * (features + 2) // 2
    if values > _MOST_HESSIAN:
        raise ConfigError(
            f"a model of family {family.name} must have at most {_MOST_HESSIAN:,} values in its "
            f"Hessian, got {values:,} of {features} features: leave columns out"
        )
    return {"name": "newton", "reason": f"family {family.name} needs the information"}


def privacy_of(config: Config) -> GaussianPrivacy | None:
    """Return the terms that a configuration asks for, ``None`` where it asks for none."""
    chosen = asdict(config.privacy)
    del chosen["chosen"]
    if chosen.pop("name") != PRIVACY:
        return None
    if config.scaling is not Scaling.federated:
        chosen["scaling"] = 0.0
    return GaussianPrivacy(**chosen, rounds=config.rounds, contributors=config.min_contributors)


def privacy_figures(
    config: Config,
    features: int,
    classes: int = 2,
    *,
    simulated: bool,
    family: Family | None = None,
) -> dict[str, Any] | None:
    """Return the member ``privacy`` of metrics.json, ``None`` for a run without privacy.

    Parameters
    ----------
    config : Config
    features, classes : int
        How many the model has.
    simulated : bool
        Whether the run is a simulation, which does more with the data than a deployment.
    family : Family or None
        ``None``: that of this many classes.

    Raises
    ------
    PrivacyError
        If dp-accounting is not installed, or the terms are such that there is no noise for them.
    """
    terms = privacy_of(config)
    if terms is None:
        return None
    bits = config.crypto.fraction_bits
    lattice = Lattice(bits, (family or family_for(classes)).count(features, classes))
    variance = noise_variance(terms, lattice)
    others = terms.contributors - 1
    share = math.ldexp(math.sqrt(variance), -bits)
    sums = Lattice(bits, 2 * features)
    noise = scaling_variance(terms, sums) if terms.scaling else None

    def epsilon(counted: int) -> float:
        cost = None if noise is None else scaling_sum(sums).cost(noise, counted)
        return epsilon_of_releases(terms, variance, lattice, counted, scaling=cost)

    return {
        "mechanism": "discrete Gaussian noise on the sum of clipped gradients",
        "epsilon": epsilon(terms.contributors),
        "epsilon_towards_a_hospital": epsilon(others) if others else None,
        "epsilon_of_one_update": epsilon(1),
        "delta": terms.delta,
        "neighbours": _NEIGHBOURS,
        "clip": terms.clip,
        "rounds": terms.rounds,
        "contributors_counted": terms.contributors,
        "noise_per_hospital": share,
        "noise_per_round": share * math.sqrt(terms.contributors),
        "scaling": terms.scaling,
        "noise_of_scaling": (
            None if noise is None else math.ldexp(math.sqrt(terms.contributors * noise), -bits)
        ),
        "not_covered": [
            *((*_SIMULATED, _choices(config)) if simulated else _DEPLOYED),
            *(_SITES if config.names_sites else ()),
            *_ALWAYS,
        ],
    }


def _choices(config: Config) -> str:
    """Name what somebody gave, and not fl-he by public numbers."""
    given = [words for key, words in _GIVEN.items() if key not in config.privacy.chosen]
    declared = ["ranges", *(["bounds of the outcome"] if config.outcome_bounds else [])]
    return f"what was learned from the data before: the choice of {listed([*given, *declared])}"
