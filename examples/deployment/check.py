"""Check finished deployments: ``python check.py WORK "CONFIGURATION" HOSPITAL...``.

WORK is the folder of ``run.sh``; CONFIGURATION that of the simulation on the same split. The sealed
run learns in the tables' units and the open one in standardised ones, so that its models and totals
are not the open run's.
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
from plain_training import Training, train
from plaintext_search import (
    DOUBLES,
    Model,
    found_in,
    private_sums,
    private_values,
    telling,
)

from fl_he.config.composition import compose
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.learning.tables.data import load_table

_TOLERANCE = 1e-6
_PRIVATE_KEY = Path("company-x", "private-key.json")
_ENCRYPTED = b"fl-he.encrypted-vector"
_ENVELOPE = b"fl-he.envelope"


def model_of(metrics: dict[str, Any]) -> NDArray[np.float64]:
    """Return coefficients and intercept of metrics.json in one array."""
    federated = metrics["federated"]
    return np.array([*federated["coefficients"], federated["intercept"]])


def saved(file: Path) -> NDArray[np.float64]:
    """Return coefficients and intercept of a model file in one array."""
    model = LogisticModel.load(file)
    return np.array([*model.coefficients, model.intercept])


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


def sealed_values(training: Training) -> dict[str, float]:
    """Return the numbers of a sealed run that the coordinator must not see: models and totals."""
    totals = {
        f"total {number}[{index}]": float(value)
        for number, total in enumerate(training.totals, start=1)
        for index, value in enumerate(total)
    }
    return model_values(training.models[1:]) | totals


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
    deployed, sealed, simulated = (
        json.loads((work / run / "metrics.json").read_text())
        for run in ("run", "sealed", "simulation")
    )
    difference = float(np.abs(model_of(deployed) - model_of(simulated)).max())
    what = f"the model is the simulation's: they differ by {difference:.1e} at most"
    results = [passed(difference <= _TOLERANCE, what)]

    for name in names:
        file = work / name / "open-model.json"
        has_it = file.exists() and np.array_equal(saved(file), model_of(deployed))
        results.append(passed(has_it, f"{name} has the model"))

    tables = [load_table(work / name / "patients.csv", "label", positive="1") for name in names]
    model = LogisticModel.load(work / "run" / "model.json")
    scaled = [replace(t, features=(t.features - model.mean) / model.scale) for t in tables]
    training = train(scaled, config.rounds, config.optimizer.lr)
    # The sealed run leaves the tables' units as they are.
    hidden = train(tables, config.rounds, float(sealed["config"]["optimizer"]["lr"]))
    coefficients, intercept = hidden.models[-1]
    for name in names:
        same = np.array_equal(saved(work / name / "model.json"), [*coefficients, intercept])
        results.append(passed(same, f"{name} has the model of the sealed chain"))

    seen = b"".join(path.read_bytes() for path in sorted(work.glob("superlink.db*")))
    of_runs = {
        "open": private_values(scaled, training.models[:-1]),
        "sealed": private_values(tables, hidden.models[:-1]),
    }
    updates_of_runs = {
        f"{run} run, {name}": value
        for run, values in of_runs.items()
        for name, value in values.items()
    }
    values = telling(private_sums(tables, model.mean) | updates_of_runs)
    # Flower deletes what is delivered, so a few are gone between two looks.
    updates = config.rounds * (config.hospitals + 1)
    envelopes = config.rounds * config.hospitals
    results += [
        passed(
            seen.count(_ENCRYPTED) >= updates and seen.count(_ENVELOPE) >= envelopes,
            f"the SuperLink's database was recorded: {len(seen):,} bytes, "
            f"{seen.count(_ENCRYPTED)} encrypted vectors, {seen.count(_ENVELOPE)} envelopes",
        ),
        passed(not (found := found_in(seen, values, DOUBLES)), describe(values, found)),
        passed(
            not (found := found_in(seen, secret := telling(sealed_values(hidden)), DOUBLES)),
            f"nor of {len(secret)} numbers of the sealed chain's models and totals"
            + (f", but {sorted(found)[:5]}" if found else ""),
        ),
        passed(
            not any(form in seen for form in private_key_forms(work / _PRIVATE_KEY).values()),
            "and nothing of the private key",
        ),
        passed(
            len(found_in(seen, sent := model_values(training.models[1:]), DOUBLES)) == len(sent),
            f"while the search finds all {len(sent)} numbers of the open run's models, "
            "which it may see",
        ),
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
