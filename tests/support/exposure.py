"""Three hospitals' patients seen for unequal times, and statsmodels' results for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm

FEATURES = ("age", "male")
#: Column of the outcome of each family of generalised linear models, and of all.
TARGETS = {"poisson": "visits", "gamma": "cost"}
_ALL = {**TARGETS, "negative_binomial": "falls"}
FAMILIES = {
    "poisson": sm.families.Poisson(),
    "gamma": sm.families.Gamma(sm.families.links.Log()),
}
_SIZES = (400, 150, 20)


def exposed_tables(
    seed: int, sizes: tuple[int, ...] = _SIZES, *, low: float = 0.05, high: float = 8.0
) -> list[pd.DataFrame]:
    """Return a table for each hospital, of patients, their visits, costs and falls in the years.

    The years are from ``low`` to ``high``, and each order of magnitude is as frequent.
    """
    rng = np.random.default_rng(seed)
    tables = []
    for number, rows in enumerate(sizes):
        age, male = rng.normal(62, 12, rows).round(), rng.integers(0, 2, rows)
        years = np.exp(rng.uniform(np.log(low), np.log(high), rows))
        means = years * np.exp(-0.5 + 0.02 * (age - 62) - 0.3 * male + 0.2 * number)
        columns = {"age": age, "male": male, "years": years, "visits": rng.poisson(means)}
        columns["cost"] = rng.gamma(6.0, means / 6.0)
        columns["falls"] = rng.poisson(rng.gamma(1.5, means / 1.5))
        tables.append(pd.DataFrame(columns))
    return tables


def schema_text(family: str, more: str = "") -> str:
    """Return the schema of a model of the outcome by age and sex; ``more``: of the outcome."""
    columns = "columns:\n  age: {type: number}\n  male: {type: boolean}\n"
    settings = f"column: {_ALL[family]}, family: {family}, exposure: years{more}"
    return f"{columns}outcome: {{{settings}}}\n"


def without_schema(family: str) -> tuple[str, ...]:
    """Return the settings that describe the outcome in the place of a schema."""
    others = [name for name in _ALL.values() if name != _ALL[family]]
    outcome = (f"data.target={_ALL[family]}", f"data.family={family}", "data.exposure=years")
    return (*outcome, f"data.drop=[{','.join(others)}]")


def write_tables(folder: Path, tables: list[pd.DataFrame]) -> str:
    """Write a file for each hospital; return the setting that names the files."""
    names = [folder / f"site{number}.csv" for number, _ in enumerate(tables, 1)]
    for name, table in zip(names, tables, strict=True):
        table.to_csv(name, index=False)
    return f"data.path=[{','.join(map(str, names))}]"


def pooled_fit(
    tables: list[pd.DataFrame],
    family: str,
    features: tuple[str, ...] = FEATURES,
    *,
    dummies: bool = False,
) -> Any:
    """Return statsmodels' fit of all rows; ``dummies``: with an intercept for each hospital."""
    pooled = pd.concat([table.assign(site=site) for site, table in enumerate(tables)])
    design = _design(pooled, features, dummies=dummies)
    labels, offset = pooled[TARGETS[family]].astype(float), np.log(pooled["years"])
    model = sm.GLM(labels, design, family=FAMILIES[family], offset=offset)
    return model.fit(tol=1e-14, maxiter=200, use_t=family == "gamma")


def _design(pooled: pd.DataFrame, features: tuple[str, ...], *, dummies: bool) -> pd.DataFrame:
    design = pooled.assign(const=1.0)[["const", *features]].astype(float)
    sites = pd.get_dummies(pooled["site"], drop_first=True, dtype=float).add_prefix("site")
    return pd.concat([design, sites], axis=1) if dummies else design


def pooled_counts(
    tables: list[pd.DataFrame],
    features: tuple[str, ...] = FEATURES,
    *,
    dummies: bool = False,
) -> Any:
    """Return statsmodels' fit of the falls of all rows, whose last parameter is alpha."""
    named = [table.assign(site=site) for site, table in enumerate(tables)]
    pooled = pd.concat(named, ignore_index=True)
    design = _design(pooled, features, dummies=dummies)
    model = sm.NegativeBinomial(
        pooled["falls"], design, loglike_method="nb2", offset=np.log(pooled["years"])
    )
    first = model.fit(method="bfgs", maxiter=500, disp=0, gtol=1e-9)
    return model.fit(first.params, method="newton", maxiter=500, disp=0, tol=1e-14)
