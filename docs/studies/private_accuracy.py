"""Measure what docs/privacy.md says of accuracy under differential privacy.

    python docs/studies/private_accuracy.py [TABLE ...] [--runs 60]

Gradient descent in one process and without encryption, on the sums that company X would open:
clipping, noise, accounting and scaling are those of ``fl_he.learning``. The noise is that of the
counted hospitals in one draw. It is drawn from ``secrets``, which has no seed, so the last digit
differs from call to call.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from fl_he.config import compose
from fl_he.declared_ranges import declared_ranges
from fl_he.learning import baselines
from fl_he.learning.data import Dataset, load_breast_cancer
from fl_he.learning.discrete_gaussian import discrete_gaussian
from fl_he.learning.feature_ranges import Ranges
from fl_he.learning.likelihood import example_gradients, examples_of, mean_gradient
from fl_he.learning.privacy import GaussianPrivacy, Lattice, clipped_sum, noise_variance
from fl_he.learning.private_scaling import range_sums, scaling_of_sums, scaling_variance
from fl_he.learning.scaling import Scaling
from fl_he.privacy_statement import privacy_of
from fl_he.simulated_data import SimulatedData, simulated_data

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

T = TypeVar("T")


def needed(value: T | None) -> T:
    """Return what the experiment must say; ends the program if it does not."""
    if value is None:
        raise SystemExit("experiment=private must declare privacy and ranges, got none")
    return value


CONFIG = compose("config", ["experiment=private"])
BITS = CONFIG.crypto.fraction_bits
LR = CONFIG.optimizer.lr
DATA = load_breast_cancer()
#: One share is the noise of all who are counted.
TERMS = replace(needed(privacy_of(CONFIG)), contributors=1)
RANGES = needed(declared_ranges(CONFIG, DATA.feature_names))
#: Divisions of the data that a table of results is about, and others to choose settings on.
SEEDS, OTHER_SEEDS = range(5), range(100, 150)

#: A noise's variance takes an accountant a second to find.
gradient_variance, sums_variance = cache(noise_variance), cache(scaling_variance)


def noise_of(terms: GaussianPrivacy, features: int) -> Integers:
    """Return the noise of all rounds, in steps of the lattice, shape (rounds, features + 1)."""
    variance = gradient_variance(terms, Lattice(BITS, features + 1))
    return discrete_gaussian(variance, terms.rounds * (features + 1)).reshape(terms.rounds, -1)


def descend(data: Dataset, clip: float, lr: float, noise: Integers) -> Array:
    """Return the parameters after a step for each row of noise."""
    theta = np.zeros(noise.shape[1])
    for drawn in noise:
        total = drawn + clipped_sum(example_gradients(examples_of(data, theta)), clip, BITS)
        theta = theta - lr * np.ldexp(total.astype(np.float64), -BITS) / data.examples
    return theta


def accuracy(theta: Array, test: Dataset) -> float:
    """Return the share of labels that a model predicts."""
    return float(np.mean(examples_of(test, theta).hits))


def private_accuracy(
    train: Dataset, test: Dataset, terms: GaussianPrivacy = TERMS, lr: float = LR
) -> float:
    """Return the accuracy of one private run, of data in the units of the model."""
    noise = noise_of(terms, train.features.shape[1])
    return accuracy(descend(train, terms.clip, lr, noise), test)


def scaled(data: Dataset, scaling: Scaling) -> Dataset:
    """Return data in the units of the model."""
    return replace(data, features=scaling.apply(data.features))


@cache
def divided(seed: int) -> SimulatedData:
    """Return the hospitals' data and the test data of a seed, in the units of their table."""
    return simulated_data(replace(CONFIG, seed=seed))


def by_ranges(ranges: Ranges, seed: int) -> tuple[Dataset, Dataset]:
    """Return the training and the test data of a seed, scaled by ranges."""
    scaling = Scaling(ranges.centre, ranges.half)
    return scaled(divided(seed).train, scaling), scaled(divided(seed).test, scaling)


def experiment(runs: int) -> Table:
    """Tabulate the experiment, without privacy, and with less of it."""
    found: dict[str, list[float]] = {}
    for _, seed in jobs("experiment", range(runs), SEEDS):
        train, test = by_ranges(RANGES, seed)
        noise = noise_of(TERMS, train.features.shape[1])
        for name, drawn in (("private", noise), ("half of the noise", noise // 2)):
            theta = descend(train, TERMS.clip, LR, drawn)
            found.setdefault(name, []).append(accuracy(theta, test))
    table = new_table("The experiment", "steps", "accuracy", "deviation of the seeds' mean")
    for name, values in found.items():
        means = np.reshape(values, (runs, len(SEEDS))).mean(axis=1)
        table.add_row(name, f"{means.mean():.4f}", f"{means.std():.4f}")
    others: dict[str, list[float]] = {}
    scaling = Scaling(RANGES.centre, RANGES.half)
    for seed in SEEDS:
        train, test = by_ranges(RANGES, seed)
        theta = np.zeros(train.features.shape[1] + 1)
        for _ in range(TERMS.rounds):
            theta = theta - LR * mean_gradient(examples_of(train, theta))
        alone = [baselines.fit(scaled(one, scaling), CONFIG.C) for one in divided(seed).hospitals]
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
    off, half = np.abs(RANGES.centre - mean) / deviation, RANGES.half / deviation
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
    """Tabulate what a share of the budget for the scaling is worth where ranges are wide."""
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


def simulated(features: int, patients: int, number: int) -> tuple[Dataset, Dataset]:
    """Return tables whose values are a small part, anywhere, of the range from -1 to 1."""
    rng = np.random.default_rng([features, patients, number])
    mean, deviation = rng.uniform(-0.6, 0.6, features), rng.uniform(0.05, 0.25, features)
    weights = 2.0 * rng.normal(size=features) / np.sqrt(features)
    normal = rng.normal(size=(patients + 4000, features))
    labels = (normal @ weights + 0.5 * rng.logistic(size=len(normal)) > 0.0).astype(np.float64)
    values = np.clip(mean + deviation * normal, -1.0, 1.0)
    names = tuple(str(column) for column in range(features))
    return (
        Dataset(values[:patients], labels[:patients], names),
        Dataset(values[patients:], labels[patients:], names),
    )


def share_accuracy(train: Dataset, test: Dataset, share: float) -> float:
    """Return the accuracy of one run that spends a share of the budget on the scaling."""
    features = train.features.shape[1]
    terms = replace(TERMS, scaling=share)
    if share == 0.0:
        return private_accuracy(train, test, terms)
    ranges = Ranges(np.full(features, -1.0), np.full(features, 1.0))
    drawn = discrete_gaussian(sums_variance(terms, Lattice(BITS, 2 * features)), 2 * features)
    sums = range_sums(train.features, ranges, BITS) + drawn
    scaling = scaling_of_sums(sums, train.examples, ranges, BITS)
    return private_accuracy(scaled(train, scaling), scaled(test, scaling), terms)


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
