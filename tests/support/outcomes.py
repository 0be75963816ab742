"""Three hospitals' patients with outcomes that are numbers, and statsmodels' results for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm

FEATURES = ("age", "male")
#: Outcome of each family in the schemas of these tables, as the outcome's settings in YAML.
OUTCOMES = {
    "poisson": "{column: visits, family: poisson}",
    "gaussian": "{column: stay, family: gaussian, transform: log}",
    "gamma": "{column: stay, family: gamma}",
}
_SIZES = (400, 150, 20)
_FAMILIES = {
    "poisson": sm.families.Poisson(),
    "gaussian": sm.families.Gaussian(),
    "gamma": sm.families.Gamma(sm.families.links.Log()),
}


def outcome_tables(seed: int, sizes: tuple[int, ...] = _SIZES) -> list[pd.DataFrame]:
    """Return a table for each hospital, of patients, their visits and the length of their stay."""
    rng = np.random.default_rng(seed)
    tables = []
    for rows in sizes:
        age, male = rng.normal(62, 12, rows).round(), rng.integers(0, 2, rows)
        visits = rng.poisson(np.exp(0.3 + 0.02 * (age - 62) - 0.3 * male))
        stay = np.exp(rng.normal(1.5, 0.6, rows) + 0.01 * (age - 62)).round(2)
        tables.append(pd.DataFrame({"age": age, "male": male, "visits": visits, "stay": stay}))
    return tables


def schema_text(family: str) -> str:
    """Return the schema of a model of the outcome by age and sex."""
    columns = "columns:\n  age: {type: number}\n  male: {type: boolean}\n"
    return f"{columns}outcome: {OUTCOMES[family]}\n"


def write_outcomes(folder: Path, tables: list[pd.DataFrame], family: str) -> str:
    """Write a file for each hospital and the schema; return the setting that names the files."""
    names = [folder / f"site{number}.csv" for number, _ in enumerate(tables, 1)]
    for name, table in zip(names, tables, strict=True):
        table.to_csv(name, index=False)
    (folder / "schema.yaml").write_text(schema_text(family))
    return f"data.path=[{','.join(map(str, names))}]"


def pooled_glm(tables: list[pd.DataFrame], family: str) -> Any:
    """Return statsmodels' fit of the pooled rows, by Student's distribution where R takes it."""
    pooled = pd.concat(tables)
    outcome = pooled["visits"] if family == "poisson" else pooled["stay"]
    design = sm.add_constant(pooled[[*FEATURES]].astype(float))
    labels = np.log(outcome) if family == "gaussian" else outcome
    model = sm.GLM(labels, design, family=_FAMILIES[family])
    return model.fit(tol=1e-14, maxiter=200, use_t=family != "poisson")
