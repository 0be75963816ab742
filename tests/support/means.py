"""Three hospitals with missing cells that get the federated mean, and the pooled fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.api as sm
from patients import raw_patients

SCHEMA = """
columns:
  age: {type: integer, missing: mean}
  male: {type: boolean, missing: mean}
  bmi: {type: number, missing: mean}
  crp: {type: number, missing: mean}
  sex: {type: category, levels: [F, M]}
  admitted: {type: date, since: 2023-01-01, missing: mean}
outcome: {column: died, positive: yes}
terms: male*bmi + log(crp) + spline(age, knots=[45, 55, 65, 75]) + admitted
"""
FEATURES = (
    *("male", "bmi", "log(crp)", "spline(age)[1]", "spline(age)[2]", "spline(age)[3]"),
    *("admitted", "male:bmi"),
)
IMPUTED = ("age", "male", "bmi", "crp", "admitted")


def tables() -> list[pd.DataFrame]:
    """Return the hospitals' tables; the third has no cell of crp."""
    found = []
    for number, rows in enumerate((300, 200, 120)):
        frame = pd.DataFrame(raw_patients(rows, 0.3, rows))
        for place, name in enumerate(IMPUTED):
            holes = np.arange(rows) % (11 + place) == (3 * place + number) % 11
            frame[name] = frame[name].astype(object).mask(holes, None)
        found.append(frame)
    found[2]["crp"] = None
    return found


def write_tables(folder: Path, frames: list[pd.DataFrame]) -> list[Path]:
    """Write the tables as 1.csv, 2.csv and so on."""
    paths = [folder / f"{number}.csv" for number, _ in enumerate(frames, start=1)]
    for path, frame in zip(paths, frames, strict=True):
        frame.to_csv(path, index=False)
    return paths


def filled(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the pooled rows with missing cells filled in, dates as days since 2023-01-01."""
    pooled = pd.concat(frames, ignore_index=True)
    days = pd.to_datetime(pooled["admitted"]) - pd.Timestamp("2023-01-01")
    pooled["admitted"] = days.dt.total_seconds() / 86_400
    for name in IMPUTED:
        column = pooled[name].astype(float)
        pooled[name] = column.fillna(column.mean())
    return pooled


def pooled_fit(frames: list[pd.DataFrame]) -> tuple[np.ndarray, np.ndarray]:
    """Return estimates and standard errors of the pooled rows, the intercept first."""
    pooled = filled(frames)
    age = pooled["age"].to_numpy()

    def bend(knot: float) -> np.ndarray:
        def cube(at: float) -> np.ndarray:
            return np.asarray(np.clip(age - at, 0, None) ** 3)

        rest = cube(65) * (75 - knot) / 10 - cube(75) * (65 - knot) / 10
        return np.asarray((cube(knot) - rest) / 30**2)

    columns = [
        *(pooled["male"], pooled["bmi"], np.log(pooled["crp"]), age, bend(45), bend(55)),
        *(pooled["admitted"], pooled["male"] * pooled["bmi"]),
    ]
    design = sm.add_constant(np.column_stack(columns))
    fit = sm.Logit((pooled["died"] == "yes").to_numpy(), design).fit(disp=False, tol=1e-13)
    return np.asarray(fit.params), np.asarray(fit.bse)
