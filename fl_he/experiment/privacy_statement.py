"""What a run with differential privacy promises, in metrics.json and to its reader."""

from __future__ import annotations

import math
from typing import Any

from fl_he.config import PRIVACY, Config, Scaling
from fl_he.learning.privacy.gradients import (
    GaussianPrivacy,
    Lattice,
    epsilon_of_releases,
    noise_variance,
)
from fl_he.learning.privacy.scaling import rho_of_scaling, scaling_variance
from fl_he.learning.regression.registry import family_for

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
    "what was learned from the data before: the choice of clip, learning rate, rounds and ranges",
)
_DEPLOYED = (
    "how each hospital prepared its table",
    "a hospital whose privacy ledger was deleted or rolled back",
)


def privacy_of(config: Config) -> GaussianPrivacy | None:
    """Return the terms that a configuration asks for, ``None`` where it asks for none."""
    chosen = config.privacy
    if chosen.name != PRIVACY:
        return None
    if (
        chosen.epsilon is None
        or chosen.delta is None
        or chosen.clip is None
        or chosen.scaling is None
    ):
        raise ValueError("privacy must be given all of its settings")  # checked
    return GaussianPrivacy(
        epsilon=chosen.epsilon,
        delta=chosen.delta,
        clip=chosen.clip,
        rounds=config.rounds,
        contributors=config.min_contributors,
        scaling=chosen.scaling if config.scaling is Scaling.federated else 0.0,
    )


def privacy_figures(
    config: Config, features: int, classes: int = 2, *, simulated: bool
) -> dict[str, Any] | None:
    """Return the member ``privacy`` of metrics.json, ``None`` for a run without privacy.

    Parameters
    ----------
    config : Config
    features, classes : int
        How many the model has.
    simulated : bool
        Whether the run is a simulation, which does more with the data than a deployment.

    Raises
    ------
    PrivacyError
        If dp-accounting is not installed, or the terms are such that there is no noise for them.
    """
    terms = privacy_of(config)
    if terms is None:
        return None
    bits = config.crypto.fraction_bits
    lattice = Lattice(bits, family_for(classes).count(features, classes))
    variance = noise_variance(terms, lattice)
    others = terms.contributors - 1
    share = math.ldexp(math.sqrt(variance), -bits)
    sums = Lattice(bits, 2 * features)
    noise = scaling_variance(terms, sums) if terms.scaling else None

    def epsilon(counted: int) -> float:
        rho = 0.0 if noise is None else rho_of_scaling(noise, counted, sums)
        return epsilon_of_releases(terms, variance, lattice, counted, scaling_rho=rho)

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
        "not_covered": [*(_SIMULATED if simulated else _DEPLOYED), *_ALWAYS],
    }
