"""Hospitals that differ in their level of outcomes, and statsmodels with a column for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm
from patients import patients

COLUMNS = ("age", "male")
#: Outcome of each family in the tables, and the settings that name it.
SITE_FAMILIES = {
    "logistic": ("died", ("data.positive=yes",)),
    "poisson": ("visits", ("data.family=poisson",)),
    "gaussian": ("stay", ("data.family=gaussian",)),
    "gamma": ("stay", ("data.family=gamma",)),
}
_FAMILIES = {
    "logistic": sm.families.Binomial(),
    "poisson": sm.families.Poisson(),
    "gaussian": sm.families.Gaussian(),
    "gamma": sm.families.Gamma(sm.families.links.Log()),
}
#: Rows of each hospital: the third has few, the fourth only patients without an event.
_SIZES = (400, 150, 20, 12)


def site_tables(seed: int, sizes: tuple[int, ...] = _SIZES) -> list[pd.DataFrame]:
    """Return a table for each hospital.

    At the fourth no patient dies, and none has a visit.
    """
    rng = np.random.default_rng(seed)
    tables = []
    for number, rows in enumerate(sizes):
        level = (-1.0, 0.5, 0.0, 0.3)[number % 4]
        age, male = rng.normal(62 + 4 * (number % 4), 12, rows).round(), rng.integers(0, 2, rows)
        effect = 0.02 * (age - 62) - 0.3 * male
        died = rng.random(rows) < 1 / (1 + np.exp(-(effect + level)))
        visits = rng.poisson(np.exp(effect + level))
        stay = np.exp(rng.normal(1.5 + level, 0.6, rows) + effect / 2).round(2) + 0.01
        if number == 2:
            died[:2] = (True, False)
        if number == 3:
            died[:], visits[:] = False, 0
        labels = np.where(died, "yes", "no")
        columns = {"age": age, "male": male, "died": labels, "visits": visits, "stay": stay}
        tables.append(pd.DataFrame(columns))
    return tables


def case_tables() -> list[pd.DataFrame]:
    """Return the tables of three hospitals for which figures of statsmodels are known."""
    sizes = enumerate(((3000, 0.15), (400, 0.3), (60, 0.1)), 11)
    return [pd.DataFrame(patients(*size, seed)) for seed, size in sizes]


def write_sites(
    folder: Path,
    tables: list[pd.DataFrame],
    family: str,
    columns: tuple[str, ...] = COLUMNS,
) -> tuple[str, ...]:
    """Write a file for each hospital; return the settings that name files and outcome."""
    outcome, settings = SITE_FAMILIES[family]
    names = [folder / f"site{number}.csv" for number, _ in enumerate(tables, 1)]
    for name, table in zip(names, tables, strict=True):
        table[[*columns, outcome]].to_csv(name, index=False)
    return (f"data.path=[{','.join(map(str, names))}]", f"data.target={outcome}", *settings)


def fixed_effects(
    tables: list[pd.DataFrame],
    family: str,
    columns: tuple[str, ...] = COLUMNS,
    *,
    dummies: bool = True,
    **fit: Any,
) -> Any:
    """Return statsmodels' fit with a column for each hospital that has a finite intercept.

    Without ``dummies`` it has one intercept, and the rows of all hospitals.
    """
    outcome, _ = SITE_FAMILIES[family]
    parts = [table.assign(site=f"site {number}") for number, table in enumerate(tables, 1)]
    if family == "logistic":
        parts = [part.assign(died=(part["died"] == "yes") * 1.0) for part in parts]
        parts = [part for part in parts if not dummies or 0.0 < part["died"].mean() < 1.0]
    if family == "poisson" and dummies:
        parts = [part for part in parts if part[outcome].any()]
    pooled = pd.concat(parts)
    levels = pd.DataFrame({"const": 1.0}, index=pooled.index)
    if dummies:
        levels = pd.get_dummies(pooled["site"]).astype(float)
    design = pd.concat([pooled[[*columns]].astype(float), levels], axis=1)
    model = sm.GLM(pooled[outcome], design, family=_FAMILIES[family])
    use_t = family in ("gaussian", "gamma")
    return model.fit(**{"tol": 1e-14, "maxiter": 200, "use_t": use_t} | fit)
