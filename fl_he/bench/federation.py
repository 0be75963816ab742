"""Section `federation`: what encryption adds to a round of the default experiment.

All variants run in one Ray session, on the same nodes, in short blocks that take turns. A round's
time is the wall time between two calls of ``evaluate_fn`` in Flower's own ``Strategy.start``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from statistics import median
from typing import Any

from flwr.serverapp import Grid

from fl_he.bench.follow import Follow
from fl_he.bench.session import CountingSum
from fl_he.bench.timing import Spread
from fl_he.bench.variants import EMPTY, ENCRYPTED, all_apps, all_variants, descent
from fl_he.config import compose
from fl_he.config_schema import Config
from fl_he.simulation import run_in_ray
from fl_he.strategies.encrypted_sum import EncryptedSum


@dataclass(frozen=True, slots=True)
class FederationPlan:
    """What the section measures.

    Attributes
    ----------
    warm_up : int
        Rounds of each variant before anything counts.
    blocks, rounds : int
        Each variant runs so many blocks of so many rounds, of which the first is discarded.
    key_bits : int
    """

    warm_up: int
    blocks: int
    rounds: int
    key_bits: int


FULL_FEDERATION = FederationPlan(warm_up=4, blocks=8, rounds=6, key_bits=2048)
QUICK_FEDERATION = FederationPlan(warm_up=2, blocks=2, rounds=4, key_bits=2048)


def measure_federation(plan: FederationPlan, follow: Follow) -> dict[str, Any]:
    """Measure encrypted, plain and empty rounds.

    Parameters
    ----------
    plan : FederationPlan
    follow : Follow
        Is told what is at work.

    Returns
    -------
    dict
        ``variants``: seconds of a round of each (median, quartiles, mean) and how much that is
        beyond the empty messages; ``ratios`` of the encrypted round to the others;
        ``steps``: seconds to encrypt and add, summed over all who do, and to decrypt.
    """
    config = compose("config", [f"crypto.key_bits={plan.key_bits}"])
    follow(f"starting Ray and {config.hospitals} hospitals")
    return run_in_ray(
        lambda grid: measure_variants(grid, config, plan, follow),
        all_apps(config),
        config.hospitals + 1,
    )


def measure_variants(
    grid: Grid, config: Config, plan: FederationPlan, follow: Follow
) -> dict[str, Any]:
    """Measure on a grid whose nodes run `all_apps`; see `measure_federation`."""
    encrypted = CountingSum(descent(config), itertools.count(1))
    variants = all_variants(grid, config, encrypted)
    for name, run in variants.items():
        follow(f"{name}: warming up")
        run(plan.warm_up)
    warm = len(encrypted.sums)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for block in range(plan.blocks):
        for name, run in variants.items():
            follow(f"{name}: block {block + 1} of {plan.blocks}", block, plan.blocks)
            seconds[name] += run(plan.rounds)[1:]
    return {
        "hospitals": config.hospitals,
        "topology": str(config.topology),
        "key_bits": plan.key_bits,
        **_summary(seconds, encrypted.sums[warm:]),
    }


def _summary(seconds: dict[str, list[float]], sums: list[EncryptedSum]) -> dict[str, Any]:
    spreads = {name: Spread.of(values) for name, values in seconds.items()}
    empty, encrypted = spreads[EMPTY], spreads[ENCRYPTED]
    return {
        "variants": [
            {
                "variant": name,
                "median_seconds": spread.median,
                "lower_quartile": spread.lower,
                "upper_quartile": spread.upper,
                "mean_seconds": spread.mean,
                "beyond_empty_seconds": spread.median - empty.median,
                "rounds": spread.runs,
            }
            for name, spread in spreads.items()
        ],
        "ratios": [
            {
                "encrypted_to": name,
                "of_medians": encrypted.median / spread.median,
                "of_means": encrypted.mean / spread.mean,
            }
            for name, spread in spreads.items()
            if name != ENCRYPTED
        ],
        "steps": {
            "encrypt_seconds": median(total.encrypt_seconds for total in sums),
            "add_seconds": median(total.add_seconds for total in sums),
            "decrypt_seconds": median(total.decrypt_seconds for total in sums),
        },
    }
