"""Check finished deployments: ``python check.py WORK "CONFIGURATION" HOSPITAL...``.

WORK is the folder of ``run.sh``; CONFIGURATION that of the simulation on the same split. The sealed
run came first, and trained the same model: ``seen-sealed`` is all that the SuperLink's database had
held by then.
"""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plain_training import Training, train
from plaintext_search import (
    DOUBLES,
    found_in,
    private_sums,
    private_values,
    telling,
)

from fl_he.config.composition import compose
from fl_he.learning.regression.logistic import LogisticModel
from fl_he.learning.tables.data import load_table

_TOLERANCE = 1e-6
_ENCRYPTED = b"fl-he.encrypted-vector"
_ENVELOPE = b"fl-he.envelope"


def model_of(metrics: dict[str, Any]) -> NDArray[np.float64]:
    """Return coefficients and intercept of metrics.json in one array."""
    federated = metrics["federated"]
    return np.array([*federated["coefficients"], federated["intercept"]])


def private_forms(path: Path) -> dict[str, bytes]:
    """Return the private keys of an identity in the forms that files may have."""
    forms: dict[str, bytes] = {}
    members = json.loads(path.read_text())
    for name in ("signing", "sealing"):
        text = str(members[name])
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        forms |= {f"{name} as text": text.encode(), f"{name} in binary": data}
        forms[f"{name} in binary, reversed"] = data[::-1]
    return forms


def _ledger(work: Path) -> str:
    """Return company X's ledger of sessions and openings."""
    return (work / "company-x" / "identity.json.opened.jsonl").read_text()


def passed(ok: bool, what: str) -> bool:
    """Print the checks and their results."""
    print(("ok     " if ok else "FAILED ") + what)
    return ok


def describe(values: dict[str, float], found: set[str]) -> str:
    """Print the result of the search for single updates."""
    return f"it holds none of {len(values)} numbers of single updates" + (
        f", but {sorted(found)[:5]}" if found else ""
    )


def of_all_patients(training: Training, model: LogisticModel) -> dict[str, float]:
    """Return numbers of all patients together: units of the model, its steps, and totals."""
    steps = [np.append(*step) for step in training.models[1:]]
    return {
        f"{name} {number}[{index}]": float(value)
        for name, several in (
            ("units", (model.mean, model.scale)),
            ("model", steps),
            ("total", training.totals),
        )
        for number, values in enumerate(several, start=1)
        for index, value in enumerate(values)
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

    trained = (work / names[0] / "model.json").read_bytes()
    for name in names:
        files = (work / name / file for file in ("model.json", "sealed-model.json"))
        same = all(file.exists() and file.read_bytes() == trained for file in files)
        what = f"{name} has the model, the same from the open run and the sealed chain"
        results.append(passed(same, what))

    tables = [load_table(work / name / "patients.csv", "label", positive="1") for name in names]
    model = LogisticModel.load(work / names[0] / "model.json")
    scaled = [replace(t, features=(t.features - model.mean) / model.scale) for t in tables]
    training = train(scaled, config.rounds, config.optimizer.lr)
    exact = np.array_equal(np.append(*training.models[-1]), model_of(deployed))
    exact &= np.array_equal(np.append(model.coefficients, model.intercept), model_of(deployed))
    results.append(passed(exact, "which is gradient descent's on all tables, to the last bit"))

    seen = b"".join(path.read_bytes() for path in sorted(work.glob("superlink.db*")))
    updates = private_values(scaled, training.models[:-1])
    values = telling(private_sums(tables, model.mean) | updates)
    of_all = telling(of_all_patients(training, model))
    # Flower deletes delivered messages, so a few are gone between two looks.
    vectors = config.rounds * (config.hospitals + 1)
    envelopes = config.rounds * config.hospitals
    results += [
        passed(
            seen.count(_ENCRYPTED) >= vectors and seen.count(_ENVELOPE) >= envelopes,
            f"the SuperLink's database was recorded: {len(seen):,} bytes, "
            f"{seen.count(_ENCRYPTED)} encrypted vectors, {seen.count(_ENVELOPE)} envelopes",
        ),
        passed(not (found := found_in(seen, values, DOUBLES)), describe(values, found)),
        passed(
            not (found := found_in((work / "seen-sealed").read_bytes(), of_all, DOUBLES)),
            f"nor, until the sealed chain had ended, of {len(of_all)} numbers of totals, models "
            "and units" + (f", but {sorted(found)[:5]}" if found else ""),
        ),
        passed(
            not any(
                form in seen
                for path in work.glob("*/identity.json")
                for form in private_forms(path).values()
            ),
            "and nothing of a private identity",
        ),
        passed(
            _ledger(work).count('"reason":"end"') == 2
            and len(list(work.glob("company-x/*.key.*.json"))) == 1,
            "company X has deleted the keys of both runs, and has that of the refused run, under "
            "which nothing was encrypted",
        ),
        passed(
            len(found := found_in(seen, of_all, DOUBLES)) == len(of_all),
            f"while the search finds {len(found)} of these {len(of_all)} after the open run, "
            "which shows them",
        ),
    ]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
