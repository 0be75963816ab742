"""Three hospitals' patients with times to death, and what statsmodels makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.duration.hazard_regression import PHReg

FEATURES = ("age", "male")
_SIZES = (300, 150, 20)


def survival_tables(
    seed: int, sizes: tuple[int, ...] = _SIZES, months: float = 3.0
) -> list[pd.DataFrame]:
    """Return a table for each hospital, of patients and their time to death or the end.

    Times are whole months, of which there are more with a larger mean ``months``: a smaller one
    makes more ties.
    """
    rng = np.random.default_rng(seed)
    tables = []
    for number, rows in enumerate(sizes, 1):
        age, male = rng.normal(62, 12, rows).round(), rng.integers(0, 2, rows)
        hazard = np.exp(0.03 * (age - 62) + 0.5 * male) * number
        death = np.ceil(rng.exponential(4 * months / hazard))
        end = np.ceil(rng.exponential(8 * months, rows))
        columns = {"age": age, "male": male, "months": np.minimum(death, end)}
        tables.append(pd.DataFrame({**columns, "event": (death <= end).astype(int)}))
    return tables


def schema_text(ties: str = "efron") -> str:
    """Return the schema of a model of the time by age and sex."""
    outcome = f"{{column: months, event: event, family: cox, ties: {ties}}}"
    return f"columns:\n  age: {{type: number}}\n  male: {{type: boolean}}\noutcome: {outcome}\n"


def write_tables(folder: Path, tables: list[pd.DataFrame], schema: str = "") -> str:
    """Write a file for each hospital and the schema; return the setting that names the files."""
    names = [folder / f"site{number}.csv" for number, _ in enumerate(tables, 1)]
    for name, table in zip(names, tables, strict=True):
        table.to_csv(name, index=False)
    (folder / "schema.yaml").write_text(schema or schema_text())
    return f"data.path=[{','.join(map(str, names))}]"


def stratified(
    tables: list[pd.DataFrame], ties: str = "efron", features: tuple[str, ...] = FEATURES
) -> Any:
    """Return statsmodels' model of all rows, stratified by hospital."""
    pooled = pd.concat([table.assign(site=site) for site, table in enumerate(tables)])
    design = pooled[[*features]].astype(float)
    times = pooled["months"].astype(float)
    return PHReg(times, design, status=pooled["event"], strata=pooled["site"], ties=ties)
