"""Measure the settings that privacy=gaussian chooses for outcomes that are numbers.

    python docs/studies/private_numbers.py

Each setting is compared with the best of a grid of clips, paths and rounds for the same table and
epsilon, by D2 on held-out rows, and with the maximum of the likelihood without privacy. Gradient
descent with clipped gradients in the units of the outcome's bounds, and continuous noise, on seeded
divisions of seeded tables, whose features are scaled by simulated experts as in
``private_defaults.py``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import sklearn.datasets
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LinearRegression, PoissonRegressor
from statsmodels.datasets import randhie

from fl_he.learning.privacy.accounting import gaussian_budget
from fl_he.learning.privacy.descent import OF_COUNTS, DescentSettings, number_settings

Array = NDArray[np.float64]

DELTA, EPSILONS, DRAWS = 1e-5, (0.3, 1.0, 3.0), 3
#: Clip in sizes, path and rounds: see fl_he.learning.privacy.descent.
GRID = list(itertools.product((0.03, 0.06, 0.12, 0.25), (5, 10, 20, 40, 80, 160, 320, 640), (60,)))


@dataclass
class Problem:
    """One division of one table, with an intercept, for one epsilon."""

    counts: bool
    bounds: tuple[float, float]
    train: Array
    labels: Array
    test: Array
    test_labels: Array
    mu: float
    noise: Array

    @property
    def size(self) -> float:
        """Largest norm of a row within its ranges."""
        return float(np.sqrt(self.train.shape[1]))

    def d2(self, margins: Array) -> float:
        """Return 1 less the deviance by that of the mean, at least -1, in the mean of columns."""
        y, m = self.test_labels[:, None], margins

        def deviance(m: Array) -> Array:
            each = (y - m) ** 2
            if self.counts:
                m = np.minimum(m, 50.0)
                each = y * np.log(np.maximum(y, 1.0)) - y + np.exp(m) - y * m
            mean: Array = each.mean(axis=0)
            return mean

        mean = self.labels.mean()
        null = deviance(np.full((len(y), 1), np.log(mean) if self.counts else mean))
        return float(np.mean(np.maximum(1 - deviance(m) / null, -1.0)))

    def private(self, settings: DescentSettings) -> float:
        """Return D2 of private descent on held-out rows."""
        (low, high), (rows, columns) = self.bounds, self.train.shape
        half, middle = (high - low) / 2, (low + high) / 2
        norms = np.linalg.norm(self.train, axis=1)[:, None]
        deviation = 2 * settings.clip * np.sqrt(settings.rounds) / self.mu
        labels, theta = np.clip(self.labels, low, high)[:, None], np.zeros((columns, DRAWS))
        theta[-1] = middle / half
        if self.counts:
            theta[-1] = np.log(np.sqrt((1 + low) * (1 + high)) - 1)
        for drawn in self.noise[: settings.rounds]:
            margins = self.train @ theta
            if self.counts:
                residuals = (np.minimum(np.exp(np.minimum(margins, 300)), high) - labels) / high
            else:
                residuals = margins - labels / half
            lengths = np.maximum(np.abs(residuals) * norms, 1e-30)
            total = self.train.T @ (residuals * np.minimum(1, settings.clip / lengths))
            theta = theta - settings.lr * (total + deviation * drawn) / rows
        return self.d2(self.test @ theta * (1.0 if self.counts else half))

    def pooled(self) -> float:
        """Return D2 of the maximum of the likelihood, without privacy."""
        model = PoissonRegressor(alpha=0, max_iter=1000) if self.counts else LinearRegression()
        model.fit(self.train[:, :-1], self.labels)
        return self.d2((self.test[:, :-1] @ model.coef_ + model.intercept_)[:, None])


def tables() -> Iterator[tuple[str, bool, tuple[float, float], Array, Array]]:
    """Yield name, whether counts, bounds, features and outcome of each table."""
    diabetes = sklearn.datasets.load_diabetes(scaled=False)
    yield "diabetes", False, (0.0, 400.0), diabetes.data, diabetes.target
    visits = randhie.load_pandas().data.iloc[::4]
    yield (
        "randhie",
        True,
        (0.0, 50.0),
        visits.drop(columns="mdvis").to_numpy(),
        visits["mdvis"].to_numpy(),
    )
    for seed, (rows, columns) in enumerate([(500, 5), (2000, 5), (2000, 20), (5000, 10)]):
        rng = np.random.default_rng(seed)
        common = rng.normal(size=(rows, 1))
        X = 0.5 * common + rng.normal(size=(rows, columns))
        margins = X @ rng.normal(size=columns) / np.sqrt(columns)
        wide = (-8.0, 8.0) if seed % 2 else (-4.0, 4.0)
        yield f"numbers {rows}x{columns}", False, wide, X, margins + rng.normal(size=rows)
        counts = rng.poisson(np.exp(0.5 + 0.5 * margins)).astype(float)
        yield f"counts {rows}x{columns}", True, (0.0, 40.0 if seed % 2 else 15.0), X, counts
        counts = rng.poisson(np.exp(2.0 + 0.3 * margins)).astype(float)
        yield f"high {rows}x{columns}", True, (0.0, 40.0 if seed % 2 else 20.0), X, counts


def problems() -> Iterator[tuple[str, float, Problem]]:
    """Yield a name, an epsilon and a problem."""
    rng = np.random.default_rng(1)
    for name, counts, bounds, X, y in tables():
        deviation = X.std(axis=0)
        middle = X.mean(axis=0) + 0.7 * deviation * rng.normal(size=X.shape[1])
        half = 2 * deviation * np.exp2(rng.uniform(-1, 1, X.shape[1]))
        rows = np.c_[(X - middle) / half, np.ones(len(X))]
        order = rng.permutation(len(X))
        test, train = np.split(order, [len(X) // 4])
        for epsilon in EPSILONS:
            mu = float(np.sqrt(gaussian_budget(epsilon, DELTA).squared_mu))
            noise = rng.normal(size=(400, rows.shape[1], DRAWS))
            parts = rows[train], y[train], rows[test], y[test]
            yield name, epsilon, Problem(counts, bounds, *parts, mu, noise)


def main() -> None:
    """Print a table."""
    columns = ("table", "epsilon", "strength", "best", "clip", "path", "rounds", "chosen", "pooled")
    table = Table(*columns)
    lost = []
    for name, epsilon, problem in problems():
        rows, width = problem.train.shape
        curvature = OF_COUNTS if problem.counts else 1.0
        scores = {
            one: problem.private(DescentSettings(one[0] * problem.size, one[1] / one[2], one[2]))
            for one in GRID
        }
        best = max(scores, key=scores.__getitem__)
        chosen = problem.private(number_settings(rows, width - 1, problem.mu, curvature))
        lost.append(scores[best] - chosen)
        figures = (rows * problem.mu / problem.size, scores[best], *best, chosen, problem.pooled())
        table.add_row(name, f"{epsilon:g}", *(f"{one:.3g}" for one in figures))
    Console().print(table)
    print(f"mean distance {np.mean(lost):.3f}, largest {np.max(lost):.3f}")


if __name__ == "__main__":
    main()
