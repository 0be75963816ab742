"""Measure the accuracies of docs/privacy.md under differential privacy.

    python docs/studies/private_accuracy.py [TABLE ...] [--runs 60]

See ``private_descent`` for the computation. The noise is drawn from ``secrets``, which has no
seed, so the last digit differs from call to call.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from private_descent import (
    CONFIG,
    DATA,
    LR,
    RANGES,
    TERMS,
    accuracy,
    by_ranges,
    descend,
    divided,
    noise_of,
    private_accuracy,
    scaled,
    share_accuracy,
    simulated,
)
from rich.console import Console
from rich.progress import track
from rich.table import Table

from fl_he.learning.privacy.accounting import gaussian_budget, largest_rho
from fl_he.learning.regression import baselines
from fl_he.learning.regression.likelihood import examples_of, mean_gradient
from fl_he.learning.tables.feature_ranges import Ranges

#: Divisions of the data that a table of results is about, and others to choose settings on.
SEEDS, OTHER_SEEDS = range(5), range(100, 150)


def experiment(runs: int) -> Table:
    """Tabulate the experiment, without privacy, and with less of it."""
    found: dict[str, list[float]] = {}
    for _, seed in jobs("experiment", range(runs), SEEDS):
        train, test = by_ranges(RANGES, seed)
        whole = noise_of(TERMS, train.features.shape[1])
        for name, drawn in (("private", whole), ("half of the noise", whole // 2)):
            theta = descend(train, TERMS.clip, LR, drawn)
            found.setdefault(name, []).append(accuracy(theta, test))
    table = new_table("The experiment", "steps", "accuracy", "deviation of the seeds' mean")
    for name, values in found.items():
        means = np.reshape(values, (runs, len(SEEDS))).mean(axis=1)
        table.add_row(name, f"{means.mean():.4f}", f"{means.std():.4f}")
    others: dict[str, list[float]] = {}
    for seed in SEEDS:
        train, test = by_ranges(RANGES, seed)
        theta = np.zeros(train.features.shape[1] + 1)
        for _ in range(TERMS.rounds):
            theta = theta - LR * mean_gradient(examples_of(train, theta))
        alone = [
            baselines.fit(scaled(one, RANGES.scaling), CONFIG.C) for one in divided(seed).hospitals
        ]
        for name, models in (
            ("the same steps without clipping and noise", [theta]),
            ("scikit-learn on one hospital's data", alone),
            ("scikit-learn on the pooled data", [baselines.fit(train, CONFIG.C)]),
        ):
            others.setdefault(name, []).extend(accuracy(model, test) for model in models)
    for name, values in others.items():
        table.add_row(name, f"{np.mean(values):.4f}", "")
    return table


def settings(runs: int) -> Table:
    """Tabulate other rounds, clipping norms and learning rates."""
    ordinary = [(20, 0.2, 10.0), (30, 0.2, 6.0), (40, 0.2, 5.0), (80, 0.2, 2.5)]
    few = itertools.product((1, 2, 3, 5), (0.2,), (10.0, 20.0, 40.0, 80.0))
    choices = [*ordinary, (40, 0.05, 20.0), (40, 0.5, 2.0), *few]
    data, found = [by_ranges(RANGES, seed) for seed in SEEDS], []
    for (rounds, clip, lr), _, (train, test) in jobs("settings", choices, range(runs), data):
        terms = replace(TERMS, rounds=rounds, clip=clip)
        found.append(private_accuracy(train, test, terms, lr))
    return accuracies("Other settings", ["rounds", "clip", "learning rate"], choices, found)


def multipliers(runs: int) -> Table:
    """Tabulate by how much the ranges of errors and of worst values exceed those of means."""
    low, high, found = RANGES.low[:10], RANGES.high[:10], []
    choices = list(itertools.product((0.05, 0.1), (1.5, 2.0)))
    for (error, worst), seed, _ in jobs("multipliers", choices, OTHER_SEEDS, range(-(-runs // 10))):
        lows, highs = [low, np.zeros(10), low], [high, error * high, worst * high]
        ranges = Ranges(np.concatenate(lows), np.concatenate(highs))
        found.append(private_accuracy(*by_ranges(ranges, seed)))
    columns = ["standard error", "worst value"]
    return accuracies("Ranges, on the seeds 100 to 149", columns, choices, found)


def distances(_: int) -> Table:
    """Tabulate how far the declared ranges are from the data."""
    mean, deviation = DATA.features.mean(axis=0), DATA.features.std(axis=0)
    scaling = RANGES.scaling
    off, half = np.abs(scaling.mean - mean) / deviation, scaling.scale / deviation
    outside = np.mean((DATA.features < RANGES.low) | (DATA.features > RANGES.high))
    table = new_table("The declared ranges, in standard deviations of the data", "", "")
    table.add_row("error of the middle, root mean square", f"{np.sqrt(np.mean(off**2)):.2f}")
    table.add_row("error of the middle, largest", f"{off.max():.2f}")
    table.add_row("half width", f"{half.min():.2f} to {half.max():.2f}")
    table.add_row("values outside", f"{outside:.0%}")
    return table


def experts(runs: int) -> Table:
    """Tabulate simulated experts, who know the middle and the width of a range more or less."""
    mean, deviation = DATA.features.mean(axis=0), DATA.features.std(axis=0)
    choices, found = [(1.0, 2.0), (1.0, 3.0), (1.5, 3.0), (2.0, 3.0)], []
    for (error, factor), expert, seed in jobs("experts", choices, range(runs), SEEDS):
        rng = np.random.default_rng(expert)
        middle = mean + deviation * rng.normal(0.0, error, len(mean))
        stretch = np.exp(rng.uniform(-np.log(factor), np.log(factor), len(mean)))
        half = 2.0 * deviation * stretch
        found.append(private_accuracy(*by_ranges(Ranges(middle - half, middle + half), seed)))
    columns = ["error of the middle", "error of the width"]
    return accuracies("Simulated experts", columns, choices, found)


def shares(runs: int) -> Table:
    """Tabulate the benefit of a share of the budget for the scaling, with wide ranges."""
    sizes, choices = itertools.product((10, 30), (400, 3000, 30000)), (0.0, 0.1, 0.2, 0.3, 0.5)
    table = new_table("Share of the budget for the scaling", "features", "patients")
    for share in choices:
        table.add_column(f"{share:g}" if share else "scaling=ranges", justify="right")
    found: dict[tuple[int, int], list[list[float]]] = {}
    for (features, patients), number in jobs("shares", sizes, range(-(-runs // 3))):
        train, test = simulated(features, patients, number)
        row = [share_accuracy(train, test, share) for share in choices]
        found.setdefault((features, patients), []).append(row)
    for size, rows in found.items():
        table.add_row(*map(str, size), *(f"{value:.2f}" for value in np.mean(rows, axis=0)))
    return table


def noise(_: int) -> Table:
    """Tabulate how much less noise exact Gaussian composition needs than concentrated privacy."""
    table = new_table("Standard deviation of the noise at delta 1e-5", "epsilon", "factor")
    for epsilon in (0.1, 1.0, 3.0, 8.0):
        rho, exact = largest_rho(epsilon, 1e-5), gaussian_budget(epsilon, 1e-5).squared_mu
        table.add_row(f"{epsilon:g}", f"{np.sqrt(2.0 * rho / exact):.3f}")
    return table


def jobs(name: str, *choices: Iterable[Any]) -> Iterable[tuple[Any, ...]]:
    """Return all combinations, the last choice fastest, and show how far they are."""
    combinations = list(itertools.product(*choices))
    return track(combinations, description=name, console=Console(stderr=True))


def accuracies(
    title: str, columns: list[str], choices: Sequence[tuple[float, ...]], found: list[float]
) -> Table:
    """Return a table of the mean of each choice, of which as many were found one after another."""
    table = new_table(title, *columns, "accuracy")
    means = np.reshape(found, (len(choices), -1)).mean(axis=1)
    for choice, mean in zip(choices, means, strict=True):
        table.add_row(*(f"{value:g}" for value in choice), f"{mean:.4f}")
    return table


def new_table(title: str, *columns: str) -> Table:
    """Return a table whose columns are to the right."""
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="right")
    return table


TABLES: dict[str, Callable[[int], Table]] = {
    "experiment": experiment,
    "settings": settings,
    "multipliers": multipliers,
    "distances": distances,
    "experts": experts,
    "shares": shares,
    "noise": noise,
}


def main() -> None:
    """Print the tables that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"of {', '.join(TABLES)}; all")
    parser.add_argument(
        "--runs", type=int, default=60, help="for each seed; fewer in the longest tables"
    )
    arguments = parser.parse_args()
    for name in arguments.tables or TABLES:
        if name not in TABLES:
            parser.error(f"TABLE must be one of {', '.join(TABLES)}, got {name}")
        Console().print(TABLES[name](arguments.runs))


if __name__ == "__main__":
    main()
