"""Measure the settings that privacy=gaussian chooses, on tables of many kinds.

    python docs/studies/private_defaults.py [--splits 4]

Each setting is compared with the best of a grid of clips, paths and rounds for the same table and
epsilon. breast_cancer and statsmodels' fair are not among the tables. Gradient descent with clipped
gradients and continuous noise, on seeded divisions of seeded tables. Columns of more than 20 values
are scaled by simulated experts, who know a column's middle with an error of 0.7 standard deviations
and its width to within a factor of two; the others by their least and largest value.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import sklearn.datasets
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.special import expit
from statsmodels.datasets import anes96, randhie

from fl_he.learning.privacy.accounting import gaussian_budget
from fl_he.learning.privacy.descent import DescentSettings, descent_settings

Array = NDArray[np.float64]

DELTA, EPSILONS = 1e-5, (0.3, 1.0, 3.0)
#: Clip in sizes, path and rounds: see fl_he.learning.privacy.descent.
GRID = list(itertools.product((0.05, 0.1, 0.2, 0.4), (20, 80, 160, 320, 640), (10, 20, 40)))
#: Repetitions of the noise on one division.
DRAWS = 4


@dataclass
class Problem:
    """One division of one table, with an intercept, for one epsilon."""

    train: Array
    labels: Array
    test: Array
    test_labels: Array
    mu: float
    noise: Array

    @property
    def size(self) -> float:
        """Largest norm of a gradient."""
        return float(np.sqrt(self.train.shape[1]))

    def accuracy(self, settings: DescentSettings) -> float:
        """Return the mean test accuracy over the draws of the noise."""
        rows, columns = self.train.shape
        norms = np.linalg.norm(self.train, axis=1)[:, None]
        deviation = 2 * settings.clip * np.sqrt(settings.rounds) / self.mu
        theta = np.zeros((columns, DRAWS))
        for drawn in self.noise[: settings.rounds]:
            residuals = expit(self.train @ theta) - self.labels[:, None]
            lengths = np.maximum(np.abs(residuals) * norms, 1e-30)
            total = self.train.T @ (residuals * np.minimum(1, settings.clip / lengths))
            theta = theta - settings.lr * (total + deviation * drawn) / rows
        return float(np.mean((self.test @ theta > 0) == self.test_labels[:, None]))


def tables() -> Iterator[tuple[str, Array, Array]]:
    """Yield name, features and labels of each table."""
    wine, digits = sklearn.datasets.load_wine(), sklearn.datasets.load_digits()
    for label in (0, 1):
        yield f"wine, class {label}", wine.data, wine.target == label
    yield "digits, 5 and more", digits.data, digits.target >= 5
    yield "digits, even", digits.data, digits.target % 2 == 0
    yield "digits, 3", digits.data, digits.target == 3
    diabetes = sklearn.datasets.load_diabetes(scaled=False)
    yield "diabetes, above 140", diabetes.data, diabetes.target > 140
    vote, visits = anes96.load_pandas().data, randhie.load_pandas().data
    yield "anes96, vote", vote.drop(columns=["vote", "popul"]).to_numpy(float), vote["vote"] == 1
    yield "randhie, visits", visits.drop(columns="mdvis").to_numpy(float), visits["mdvis"] > 1
    for rows, columns in itertools.product((400, 1500, 6000), (5, 15, 40)):
        yield f"synthetic, {rows} x {columns}", *synthetic(rows, columns)


def synthetic(rows: int, columns: int) -> tuple[Array, Array]:
    """Return correlated features, of which six in ten matter, and labels of a logistic model."""
    rng = np.random.default_rng([rows, columns, 7])
    factors = max(2, columns // 3)
    features = rng.normal(size=(rows, factors)) @ rng.normal(size=(factors, columns))
    features = features / np.sqrt(factors) + 0.7 * rng.normal(size=(rows, columns))
    weights = rng.normal(size=columns) * (rng.random(columns) < 0.6)
    scores = features @ weights
    return features, 2 * scores / scores.std() + rng.logistic(size=rows) + 0.7 * rng.normal() > 0


def mapped(features: Array, rng: np.random.Generator) -> Array:
    """Return features scaled by ranges, with an intercept."""
    low, high = features.min(axis=0), features.max(axis=0)
    mean, deviation, columns = features.mean(axis=0), features.std(axis=0), features.shape[1]
    many = np.array([len(np.unique(column)) > 20 for column in features.T])
    middle = np.where(many, mean + deviation * rng.normal(0, 0.7, columns), (low + high) / 2)
    stretch = np.exp(rng.uniform(-np.log(2), np.log(2), columns))
    half = np.where(many, 2 * deviation * stretch, (high - low) / 2)
    scaled: Array = (features - middle) / np.where(half > 0, half, 1)
    return np.column_stack([scaled, np.ones(len(features))])


def problems(features: Array, labels: Array, splits: int) -> Iterator[tuple[float, Problem]]:
    """Yield divisions of a table, each with every epsilon."""
    for split in range(splits):
        rng = np.random.default_rng([split, 11])
        rows = mapped(np.asarray(features, float), rng)
        order, held_out = rng.permutation(len(rows)), len(rows) // 4
        train, test = order[held_out:], order[:held_out]
        truth = np.asarray(labels, float)
        noise = rng.normal(size=(80, rows.shape[1], DRAWS))
        for epsilon in EPSILONS:
            mu = float(np.sqrt(gaussian_budget(epsilon, DELTA).squared_mu))
            yield epsilon, Problem(rows[train], truth[train], rows[test], truth[test], mu, noise)


def of_grid(clip: float, path: float, rounds: int) -> Callable[[Problem], DescentSettings]:
    """Return settings of the grid, which depend on the number of features alone."""
    return lambda one: DescentSettings(
        clip * one.size, path / (rounds * clip * one.size**2), rounds
    )


def chosen(one: Problem) -> DescentSettings:
    """Return the settings that fl-he chooses."""
    rows, columns = one.train.shape
    return descent_settings(rows, columns - 1, one.mu)


def before(_: Problem) -> DescentSettings:
    """Return the constants of privacy=gaussian before it chose."""
    return DescentSettings(1.0, 0.05, 50)


def experiments(one: Problem) -> DescentSettings:
    """Return the settings of experiment=private, which were chosen on breast_cancer."""
    return DescentSettings(0.2, 6.0, 30)


def main() -> None:
    """Print accuracies for each table and epsilon, and their distance from the best of the grid."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--splits", type=int, default=4, help="divisions of each table")
    splits = parser.parse_args().splits
    fixed = {
        "chosen": chosen,
        "lr 0.05, clip 1, 50 rounds": before,
        "experiment=private": experiments,
    }
    found: dict[tuple[str, float], dict[object, list[float]]] = {}
    strengths: dict[tuple[str, float], float] = {}
    for name, features, labels in track(list(tables()), console=Console(stderr=True)):
        for epsilon, one in problems(features, labels, splits):
            cell = found.setdefault((name, epsilon), {})
            strengths[name, epsilon] = len(one.train) * one.mu / one.size
            for key, settings in [*fixed.items(), *((key, of_grid(*key)) for key in GRID)]:
                cell.setdefault(key, []).append(one.accuracy(settings(one)))
    means = {of: {key: float(np.mean(all_)) for key, all_ in c.items()} for of, c in found.items()}
    best = {of: max(cell[key] for key in GRID) for of, cell in means.items()}
    table = Table("table", "epsilon", "strength", "best of the grid", *fixed)
    for of in sorted(means, key=strengths.__getitem__):
        values = (best[of], *(means[of][key] for key in fixed))
        table.add_row(of[0], f"{of[1]:g}", f"{strengths[of]:.0f}", *(f"{v:.3f}" for v in values))
    Console().print(table)
    short = Table("settings", "mean distance from the best", "largest")
    keys = [*fixed, min(GRID, key=lambda key: sum(cell[key] for cell in means.values()) * -1)]
    for key in keys:
        apart = [best[of] - means[of][key] for of in means]
        words = key if isinstance(key, str) else f"the grid's best for all: {key}"
        short.add_row(words, f"{np.mean(apart):.4f}", f"{max(apart):.4f}")
    Console().print(short)


if __name__ == "__main__":
    main()
