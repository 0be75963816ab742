"""Twenty tables made from seeds, on which estimates are hard to compute or do not exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]

CONSTANT = "it does not vary in the training data"
SEPARATED = "separated"
INTERCEPT = "(intercept)"


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Patients of several hospitals, and facts that are not in their data.

    Attributes
    ----------
    columns
        Features.
    sick
        The outcome, 0 or 1.
    settings
        Of ``fl-he run``: the number of hospitals, and the division of the rows.
    sizes
        Least and most rows of the smallest hospital.
    one_class
        How many hospitals have patients of one class only.
    left_out
        Reasons, by the names of columns without an estimate.
    separation
        Kind, and the columns that separate.
    within
        Rows that decide the other columns' estimates where a column's estimate is infinite; all
        others are predicted without error in the limit.
    """

    columns: Columns
    sick: NDArray[np.int64]
    settings: tuple[str, ...] = ("hospitals=3",)
    sizes: tuple[int, int] = (20, 2000)
    one_class: int = 0
    left_out: Mapping[str, str] = field(default_factory=dict)
    separation: tuple[str, tuple[str, ...]] | None = None
    within: NDArray[np.bool_] | None = None


def outcome(rng: np.random.Generator, margins: Numbers) -> NDArray[np.int64]:
    """Draw the outcome of a logistic model."""
    return (rng.random(len(margins)) < 1.0 / (1.0 + np.exp(-margins))).astype(np.int64)


def _normal(rng: np.random.Generator, rows: int, *names: str) -> Columns:
    return {name: rng.standard_normal(rows) for name in names}


def _scales(rng: np.random.Generator) -> Table:
    units = [1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e9]
    X = rng.standard_normal((600, len(units))) + rng.uniform(-3, 3, len(units))
    sick = outcome(rng, X @ rng.normal(0, 0.5, len(units)))
    return Table({f"unit{np.log10(u):+.0f}": x * u for u, x in zip(units, X.T, strict=True)}, sick)


def _rare_events(rng: np.random.Generator) -> Table:
    columns = _normal(rng, 2000, "a", "b", "c")
    sick = outcome(rng, 0.6 * columns["a"] - 0.4 * columns["b"] - 4.9)
    return Table(columns, sick, ("hospitals=4",))


def _one_class(rng: np.random.Generator) -> Table:
    columns = _normal(rng, 500, "a", "b", "c")
    sick = outcome(rng, 0.8 * columns["a"] - 0.5)
    division = ("hospitals=4", "partition=by_label", "partition.alpha=0.02", "seed=2")
    return Table(columns, sick, division, (1, 200), 3)


def _twenty_rows(rng: np.random.Generator) -> Table:
    columns = _normal(rng, 100, "a", "b")
    return Table(columns, outcome(rng, 0.7 * columns["a"]), ("hospitals=5",), (20, 20))


def _collinear(rng: np.random.Generator) -> Table:
    columns = _normal(rng, 500, "a", "b", "d")
    sick = outcome(rng, columns["a"] - 0.5 * columns["b"] + 0.3 * columns["d"])
    columns = {
        **{"a": columns["a"], "b": columns["b"], "total": columns["a"] + columns["b"]},
        **{"d": columns["d"], "doubled": 3.7 * columns["d"] - 11.0},
    }
    reasons = {"total": "linear combination of a and b", "doubled": "linear combination of d"}
    return Table(columns, sick, left_out=reasons)


def _all_levels(rng: np.random.Generator) -> Table:
    level, age = rng.integers(0, 4, 600), rng.normal(60, 12, 600).round()
    columns = {"age": age, **{f"level{k}": (level == k).astype(int) for k in range(4)}}
    sick = outcome(rng, 0.03 * (age - 60) + 0.4 * level - 1.0)
    words = "linear combination of level0, level1 and level2"
    return Table(columns, sick, left_out={"level3": words})


def _nearly_collinear(rng: np.random.Generator, noise: float) -> Table:
    columns = _normal(rng, 600, "a", "b")
    columns["near"] = columns["a"] + columns["b"] + noise * rng.standard_normal(600)
    # By the rule of R's glm, a rest below 1e-9 of a column's variance counts as aliased.
    left_out = {"near": "linear combination of a and b"} if noise**2 < 1e-9 else {}
    sick = outcome(rng, 0.8 * columns["a"] - 0.4)
    return Table(columns, sick, ("hospitals=4",), left_out=left_out)


def _constant(rng: np.random.Generator) -> Table:
    columns = _normal(rng, 400, "a", "b")
    sick = outcome(rng, columns["a"] - 0.3)
    columns = {
        "zero": np.zeros(400),
        **columns,
        "tenth": np.full(400, 0.1),
        "big": np.full(400, 7e8),
    }
    return Table(columns, sick, left_out=dict.fromkeys(("zero", "tenth", "big"), CONSTANT))


def _outlier(rng: np.random.Generator) -> Table:
    # With 311 rows the last step but one is within the tolerance, and its standard errors are not.
    columns = _normal(rng, 311, "a", "b")
    sick = outcome(rng, 0.5 * columns["a"] + 0.5 * columns["b"] - 0.3)
    columns["a"][7], sick[7] = 1e6, 0
    return Table(columns, sick)


def _complete(rng: np.random.Generator) -> Table:
    columns = _normal(rng, 300, "a", "b", "c")
    line = columns["a"] + columns["b"]
    columns["a"] = columns["a"] + np.sign(line) * 0.1
    columns["b"] = 40.0 + 9.0 * columns["b"]
    sick = (line > 0).astype(np.int64)
    reasons = dict.fromkeys((*columns, INTERCEPT), SEPARATED)
    return Table(columns, sick, left_out=reasons, separation=("complete", ("a", "b")))


def _quasi_complete(rng: np.random.Generator) -> Table:
    columns = _normal(rng, 500, "a")
    sick = outcome(rng, 0.7 * columns["a"] - 0.5)
    coma = (rng.random(500) < 0.05).astype(np.int64)
    sick[coma == 1] = 1
    columns |= {"coma": coma, "age": rng.normal(60, 10, 500).round()}
    return Table(
        *(columns, sick, ("hospitals=4",)),
        left_out={"coma": SEPARATED},
        separation=("quasi-complete", ("coma",)),
        within=coma == 0,
    )


def _strong_effects(rng: np.random.Generator) -> Table:
    columns = _normal(rng, 800, "a", "b", "c")
    return Table(columns, outcome(rng, 8.0 * columns["a"] - 6.0 * columns["b"] + 3.0))


def _many_columns(rng: np.random.Generator) -> Table:
    X = rng.standard_normal((500, 40)) * np.exp(rng.normal(0, 3, 40))
    sick = outcome(rng, (X / X.std(axis=0)) @ rng.normal(0, 0.2, 40))
    return Table({f"x{j}": x for j, x in enumerate(X.T)}, sick)


def _unbalanced(rng: np.random.Generator) -> Table:
    shares = {"rare": 0.02, "seldom": 0.05, "half": 0.5, "mostly": 0.97}
    columns = {name: (rng.random(1500) < share).astype(int) for name, share in shares.items()}
    margins = columns["rare"] - 0.8 * columns["seldom"] + 0.4 * columns["half"] + columns["mostly"]
    return Table(columns, outcome(rng, margins - 1.5), ("hospitals=5",))


def _integers(rng: np.random.Generator) -> Table:
    columns = {
        "age": rng.integers(18, 95, 700),
        "visits": rng.poisson(3.0, 700),
        "platelets": rng.integers(20_000, 900_000, 700),
        "stage": rng.integers(1, 5, 700),
    }
    margins = 0.03 * (columns["age"] - 56) + 0.3 * columns["stage"] - 2e-6 * columns["platelets"]
    return Table(columns, outcome(rng, margins))


def _correlated(rng: np.random.Generator) -> Table:
    steps = rng.standard_normal((600, 8))
    for j in range(1, 8):
        steps[:, j] = 0.99 * steps[:, j - 1] + np.sqrt(1 - 0.99**2) * steps[:, j]
    sick = outcome(rng, 0.5 * steps[:, 0] - 0.5 * steps[:, 7])
    return Table({f"day{j}": x for j, x in enumerate(steps.T)}, sick, ("hospitals=4",))


def _far_means(rng: np.random.Generator) -> Table:
    columns = _normal(rng, 600, "a", "b", "c")
    sick = outcome(rng, 0.7 * columns["a"] - 0.4 * columns["b"])
    return Table({"a": 1e6 + columns["a"], "b": columns["b"] - 1e6, "c": columns["c"]}, sick)


def _uneven_sites(rng: np.random.Generator) -> Table:
    columns = _normal(rng, 1500, "a", "b", "c")
    sick = outcome(rng, 0.5 * columns["a"] - 0.2)
    division = ("hospitals=5", "partition=uneven", "partition.alpha=0.2", "seed=11")
    return Table(columns, sick, division, (1, 20), 3)


def _all_at_once(rng: np.random.Generator) -> Table:
    rows = 900
    columns = _normal(rng, rows, "a", "b", "c")
    sick = outcome(rng, 0.8 * columns["a"] - 0.4 * columns["b"] - 2.5)
    columns["near"] = columns["a"] + 1e-3 * rng.standard_normal(rows)
    columns = {
        **{"a": columns["a"] * 1e-9, "constant": np.full(rows, 3.3), "b": 1e6 + columns["b"]},
        **{"near": columns["near"] * 1e9, "c": columns["c"]},
        "alias": 5.0 * columns["c"] + 2.0,
        "rare": (rng.random(rows) < 0.03).astype(int),
    }
    columns["c"][11], columns["alias"][11] = 1e6, 5e6 + 2.0
    return Table(
        *(columns, sick, ("hospitals=4", "partition=by_label", "partition.alpha=0.05", "seed=3")),
        *((1, 100), 3),
        left_out={"constant": CONSTANT, "alias": "linear combination of c"},
    )


_MAKERS: dict[str, Callable[[np.random.Generator], Table]] = {
    "scales from 1e-9 to 1e9": _scales,
    "1% events": _rare_events,
    "sites of one class": _one_class,
    "sites of 20 rows": _twenty_rows,
    "collinear": _collinear,
    "all levels of a factor": _all_levels,
    "collinear but for 1e-3": lambda rng: _nearly_collinear(rng, 1e-3),
    "collinear but for 1e-5": lambda rng: _nearly_collinear(rng, 1e-5),
    "constant": _constant,
    "outlier": _outlier,
    "complete separation": _complete,
    "quasi-complete separation": _quasi_complete,
    "strong effects": _strong_effects,
    "40 columns": _many_columns,
    "unbalanced binary columns": _unbalanced,
    "integers": _integers,
    "correlated": _correlated,
    "means far from zero": _far_means,
    "uneven sites": _uneven_sites,
    "all at once": _all_at_once,
}
TABLES = tuple(_MAKERS)


def table(name: str) -> Table:
    """Return one of the tables; its place among all is its seed."""
    return _MAKERS[name](np.random.default_rng(TABLES.index(name)))
