"""Patients of hospitals, made from seeds: the tables whose right figures other programs gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def patients(rows: int, prevalence: float, seed: int) -> dict[str, np.ndarray]:
    """Return numeric columns and the outcome ``died``, ``yes`` or ``no``."""
    return _drawn(rows, prevalence, np.random.default_rng(seed))[0]


def raw_patients(rows: int, prevalence: float, seed: int) -> dict[str, np.ndarray]:
    """Return the same patients, with additional columns of text and of dates."""
    rng = np.random.default_rng(seed)
    columns, risk = _drawn(rows, prevalence, rng)
    rng.exponential(24 / np.exp(risk))  # months of survival, which no table here has
    icd10 = rng.choice(["C50.1", "I21.0", "E11.9", "J44.1"], rows)
    smoker = rng.choice(["yes", "no", "unknown"], rows, p=[0.3, 0.6, 0.1])
    months, days = rng.integers(0, 12, rows), rng.integers(0, 28, rows)
    dates = [f"2023-{month + 1:02d}-{day + 1:02d}" for month, day in zip(months, days, strict=True)]
    return {
        "patient_id": np.array([f"P{row:05d}" for row in range(rows)]),
        **columns,
        **{"sex": np.where(columns["male"] == 1, "M", "F"), "icd10": icd10, "smoker": smoker},
        "admitted": np.array(dates),
    }


def _drawn(
    rows: int, prevalence: float, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    age, male = rng.normal(62, 12, rows).round(), rng.integers(0, 2, rows)
    crp, bmi = np.exp(rng.normal(2, 0.8, rows)).round(1), rng.normal(27, 4, rows).round(1)
    risk = 0.04 * (age - 62) + 0.5 * male + 0.5 * (np.log(crp) - 2) + 0.03 * (bmi - 27)
    died = rng.random(rows) < 1 / (1 + np.exp(-(risk + np.log(prevalence / (1 - prevalence)))))
    columns = {"age": age, "male": male, "bmi": bmi, "crp": crp}
    return {**columns, "died": np.where(died, "yes", "no")}, risk


def write_csv(path: Path, columns: dict[str, np.ndarray]) -> None:
    """Write columns as a CSV file with a header."""
    rows = zip(*(map(str, column.tolist()) for column in columns.values()), strict=True)
    path.write_text("\n".join(map(",".join, [tuple(columns), *rows])))
