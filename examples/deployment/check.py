"""Check a finished deployment: ``python check.py WORK "CONFIGURATION" HOSPITAL...``.

WORK is the folder of ``run.sh``; CONFIGURATION that of the simulation on the same split.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plaintext_search import (
    DOUBLES,
    Model,
    found_in,
    private_sums,
    private_values,
    telling,
)

from fl_he.config import compose
from fl_he.config_schema import Config
from fl_he.crypto.packing import Packing
from fl_he.learning import logistic
from fl_he.learning.data import Dataset, load_table
from fl_he.learning.model import LogisticModel

_TOLERANCE = 1e-6
#: Rounds before the first one, for mean and variance.
PREPARATION = 2
_PRIVATE_KEY = Path("company-x", "private-key.json")
_ENCRYPTED = b"fl-he.encrypted-vector"


def model_of(metrics: dict[str, Any]) -> NDArray[np.float64]:
    """Return coefficients and intercept of metrics.json in one array."""
    federated = metrics["federated"]
    return np.array([*federated["coefficients"], federated["intercept"]])


def saved(file: Path) -> NDArray[np.float64]:
    """Return coefficients and intercept of a model file in one array."""
    model = LogisticModel.load(file)
    return np.array([*model.coefficients, model.intercept])


def models(hospitals: Sequence[Dataset], config: Config) -> list[Model]:
    """Return all models from the first one to the trained one, rounded as the protocol does."""
    packing, lr = Packing(), config.optimizer.lr
    examples = sum(data.examples for data in hospitals)
    w, b = np.zeros(len(hospitals[0].feature_names)), 0.0
    trained: list[Model] = [(w, b)]
    for _ in range(config.rounds):
        total = np.zeros(len(w) + 1, np.int64)
        for data in hospitals:
            gradient, intercept = logistic.gradient(data.features, data.labels, w, b)
            total += packing.encode(np.array([*gradient, intercept]) * data.examples)
        mean = packing.decode(total) / examples
        w, b = w - lr * mean[:-1], b - lr * float(mean[-1])
        trained.append((w, b))
    return trained


def private_key_forms(path: Path) -> dict[str, bytes]:
    """Return the prime factors of a Paillier key as they could stand in a file."""
    forms: dict[str, bytes] = {}
    members = json.loads(path.read_text())
    for name in ("p", "q"):
        text = str(members[name])
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        forms |= {f"{name} as text": text.encode(), f"{name} in binary": data}
        forms[f"{name} in binary, reversed"] = data[::-1]
    return forms


def passed(ok: bool, what: str) -> bool:
    """Print what was checked and how it went."""
    print(("ok     " if ok else "FAILED ") + what)
    return ok


def describe(values: dict[str, float], found: set[str]) -> str:
    """Say what the search for single updates came to."""
    return f"it holds none of {len(values)} numbers of single updates" + (
        f", but {sorted(found)[:5]}" if found else ""
    )


def model_values(steps: Sequence[Model]) -> dict[str, float]:
    """Return the numbers of the models that the coordinator sent to the hospitals."""
    return {
        f"model {step}[{index}]": float(value)
        for step, (coefficients, intercept) in enumerate(steps)
        for index, value in enumerate([*coefficients, intercept])
    }


def main() -> int:
    """Check all and return the exit code."""
    work, config, names = Path(sys.argv[1]), compose("config", sys.argv[2].split()), sys.argv[3:]
    deployed, simulated = (
        json.loads((work / run / "metrics.json").read_text()) for run in ("run", "simulation")
    )
    difference = float(np.abs(model_of(deployed) - model_of(simulated)).max())
    what = f"the model is the simulation's: they differ by {difference:.1e} at most"
    results = [passed(difference <= _TOLERANCE, what)]

    for name in names:
        file = work / name / "model.json"
        has_it = file.exists() and np.array_equal(saved(file), model_of(deployed))
        results.append(passed(has_it, f"{name} has the model"))

    tables = [load_table(work / name / "patients.csv", "label", positive="1") for name in names]
    model = LogisticModel.load(work / "run" / "model.json")
    sums = private_sums(tables, model.mean)
    tables = [replace(t, features=(t.features - model.mean) / model.scale) for t in tables]
    steps = models(tables, config)
    seen = b"".join(path.read_bytes() for path in sorted(work.glob("superlink.db*")))
    values = telling(sums | private_values(tables, steps[:-1]))
    updates = (config.rounds + PREPARATION) * (config.hospitals + 1)
    results += [
        passed(
            seen.count(_ENCRYPTED) >= updates,
            f"the SuperLink's database was recorded: {len(seen):,} bytes, "
            f"{seen.count(_ENCRYPTED)} encrypted vectors",
        ),
        passed(not (found := found_in(seen, values, DOUBLES)), describe(values, found)),
        passed(
            not any(form in seen for form in private_key_forms(work / _PRIVATE_KEY).values()),
            "and nothing of the private key",
        ),
        passed(
            len(found_in(seen, sent := model_values(steps[1:]), DOUBLES)) == len(sent),
            f"while the search finds all {len(sent)} numbers of the models, which it may see",
        ),
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
