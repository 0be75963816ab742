"""Three hospitals' patients with numbers, categories and missing cells, and their schema."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

SIZES = (300, 120, 60)
#: Levels of tumour stage as the schema declares them; the last one is nobody's.
STAGES = ("I", "II", "III", "IV")
_SCHEMA = """
columns:
  age: {type: integer, bounds: ["0", "120"], unit: years}
  crp: {type: number, missing: mean}
  offset: {type: number}
  nyha: {type: integer, bounds: ["1", "4"]}
  sex: {type: category, levels: [F, M]}
  stage: {type: category, levels: [I, II, III, IV], missing: level}
  smoker: {type: boolean}
"""
OUTCOMES = {
    "class": "outcome: {column: died, positive: yes}\n",
    "cox": "outcome: {column: months, family: cox, event: event, unit: 30 days}\n",
}


def patients(seed: int, rows: int) -> pl.DataFrame:
    """Return rows of patients."""
    rng = np.random.default_rng(seed)
    age = rng.normal(62, 12, rows).round().clip(18, 99).astype(int)
    crp = [
        None if lost else value
        for lost, value in zip(
            rng.random(rows) < 0.1, np.exp(rng.normal(2, 0.8, rows)).round(1).tolist(), strict=True
        )
    ]
    risk = 0.04 * (age - 62)
    months = np.ceil(rng.exponential(24 / np.exp(risk))).astype(int)
    return pl.DataFrame(
        {
            "age": age,
            "crp": crp,
            "offset": 1e6 + rng.normal(0, 1, rows),
            "nyha": rng.integers(1, 5, rows),
            "sex": rng.choice(["F", "M"], rows),
            "stage": rng.choice(["I", "II", "III", ""], rows, p=[0.4, 0.3, 0.2, 0.1]),
            "smoker": rng.choice(["yes", "no"], rows),
            "died": np.where(rng.random(rows) < 1 / (1 + np.exp(1 - risk)), "yes", "no"),
            "months": np.minimum(months, 60),
            "event": (months <= 60).astype(int),
        }
    )


def write_patients(
    folder: Path, outcome: str = "class", seed: int = 1, sizes: tuple[int, ...] = SIZES
) -> list[pl.DataFrame]:
    """Write a file for each of three hospitals and the schema; return the tables."""
    tables = [patients(seed + number, rows) for number, rows in enumerate(sizes)]
    for number, table in enumerate(tables, 1):
        table.write_csv(folder / f"site{number}.csv")
    (folder / "schema.yaml").write_text(_SCHEMA + OUTCOMES[outcome])
    return tables


def settings(folder: Path) -> tuple[str, ...]:
    """Return the settings that name the files."""
    names = ",".join(str(folder / f"site{number}.csv") for number in range(1, len(SIZES) + 1))
    return "data=csv", f"data.path=[{names}]", f"data.schema={folder}/schema.yaml"
