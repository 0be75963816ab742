"""Patients of hospitals, made from seeds: the tables whose right figures other programs gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def patients(rows: int, prevalence: float, seed: int) -> dict[str, np.ndarray]:
    """Return numeric columns and the outcome ``died``, ``yes`` or ``no``."""
    rng = np.random.default_rng(seed)
    age, male = rng.normal(62, 12, rows).round(), rng.integers(0, 2, rows)
    crp, bmi = np.exp(rng.normal(2, 0.8, rows)).round(1), rng.normal(27, 4, rows).round(1)
    risk = 0.04 * (age - 62) + 0.5 * male + 0.5 * (np.log(crp) - 2) + 0.03 * (bmi - 27)
    died = rng.random(rows) < 1 / (1 + np.exp(-(risk + np.log(prevalence / (1 - prevalence)))))
    return {
        **{"age": age, "male": male, "bmi": bmi, "crp": crp},
        "died": np.where(died, "yes", "no"),
    }


def write_csv(path: Path, columns: dict[str, np.ndarray]) -> None:
    """Write columns as a CSV file with a header."""
    rows = zip(*(map(str, column.tolist()) for column in columns.values()), strict=True)
    path.write_text("\n".join(map(",".join, [tuple(columns), *rows])))
