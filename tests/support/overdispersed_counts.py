"""Three hospitals' counts that vary more than Poisson's, and statsmodels' results for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.api as sm

FEATURES = ("age", "male")
SIZES = (400, 150, 20)
SCHEMA = (
    "columns:\n  age: {type: number}\n  male: {type: boolean}\n"
    "outcome: {column: visits, family: negative_binomial}\n"
)


def count_tables(
    seed: int,
    *,
    alpha: float = 0.8,
    intercept: float = 0.4,
    effect: float = 1.0,
    sizes: tuple[int, ...] = SIZES,
) -> list[pd.DataFrame]:
    """Return a table for each hospital, of patients and their visits."""
    rng = np.random.default_rng(seed)
    tables = []
    for rows in sizes:
        age, male = rng.normal(62, 12, rows).round(), rng.integers(0, 2, rows)
        means = np.exp(intercept + effect * (0.02 * (age - 62) - 0.3 * male))
        rates = means if alpha == 0.0 else rng.gamma(1.0 / alpha, alpha * means)
        tables.append(pd.DataFrame({"age": age, "male": male, "visits": rng.poisson(rates)}))
    return tables


def write_counts(folder: Path, tables: list[pd.DataFrame]) -> str:
    """Write a file for each hospital and the schema; return the setting that names the files."""
    names = [folder / f"site{number}.csv" for number, _ in enumerate(tables, 1)]
    for name, table in zip(names, tables, strict=True):
        table.to_csv(name, index=False)
    (folder / "schema.yaml").write_text(SCHEMA)
    return f"data.path=[{','.join(map(str, names))}]"


def pooled_nb2(tables: list[pd.DataFrame], features: tuple[str, ...] = FEATURES) -> Any:
    """Return statsmodels' fit of the pooled rows, at its optimum; the last parameter is alpha."""
    pooled = pd.concat(tables, ignore_index=True)
    design = sm.add_constant(pooled[[*features]].astype(float), has_constant="add")
    model = sm.NegativeBinomial(pooled["visits"], design, loglike_method="nb2")
    start = None
    for method, options in (("bfgs", {"gtol": 1e-9}), ("newton", {"tol": 1e-14})):
        fitted = model.fit(start, method=method, maxiter=500, disp=0, **options)
        start = fitted.params
    return fitted
