"""Three hospitals' patients with times to death, and statsmodels' results for them."""

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


def trend_tests(
    tables: list[pd.DataFrame], estimates: np.ndarray, ties: str = "efron"
) -> tuple[list[float], float]:
    """Return score tests of a trend of each coefficient in log(1 + months), and of all.

    Each is of the partial likelihood with the features times that function as further columns, by
    numerical derivatives at the estimates.
    """
    d, at = len(FEATURES), np.concatenate([estimates, np.zeros(len(FEATURES))])
    steps = np.tile(2e-3 / pd.concat(tables)[[*FEATURES]].std().to_numpy(), 2)
    moves = np.diag(steps)

    def loss(theta: np.ndarray) -> float:
        return sum(_partial_loss(table, theta, ties) for table in tables)

    near, far = (
        [loss(at - size * one) - loss(at + size * one) for one in moves[d:]] for size in (1, 2)
    )
    score = (8 * np.array(near) - np.array(far)) / (12 * steps[d:])
    corners = [
        [loss(at + a + b) - loss(at + a - b) - loss(at - a + b) + loss(at - a - b) for a in moves]
        for b in moves
    ]
    information = np.array(corners) / (4 * np.outer(steps, steps))
    v, crossed, left = information[:d, :d], information[:d, d:], information[d:, d:]
    left = left - crossed.T @ np.linalg.solve(v, crossed)
    return list(score**2 / np.diag(left)), float(score @ np.linalg.solve(left, score))


def _partial_loss(table: pd.DataFrame, theta: np.ndarray, ties: str) -> float:
    columns, times = table[[*FEATURES]].to_numpy(dtype=float), table["months"].to_numpy()
    columns, events, total = columns - columns.mean(axis=0), table["event"].to_numpy() == 1, 0.0
    for time in np.unique(times[events]):
        margins = columns @ (theta[:2] + theta[2:] * np.log1p(time))
        risks, tied = np.exp(margins), events & (times == time)
        shares = np.arange(tied.sum()) / tied.sum() * (ties == "efron")
        sums = risks[times >= time].sum() - shares * risks[tied].sum()
        total += np.log(sums).sum() - margins[tied].sum()
    return float(total)
