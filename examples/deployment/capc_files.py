"""The files of a deployed CaPC, out of scikit-learn's breast cancer data, and the check of labels.

``capc_files.py make FOLDER QUERYING ANSWERING...`` writes terms.json, models and cases;
``capc_files.py check FOLDER QUERYING ANSWERING...`` compares labels with a plain majority.
"""

from __future__ import annotations

import csv
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skops import io

from fl_he.capc import save_network
from fl_he.capc.networks import load_network
from fl_he.learning.voting.case_files import LABEL

CASES = 20
#: Three votes allow no useful noise: this one is next to none, which the budget says, too.
NOISE = {"sigma_gnmax": 0.1, "threshold": 2, "sigma_threshold": 0.1, "epsilon": 1e5, "delta": 1e-5}
KINDS = (
    LogisticRegression(max_iter=1000),
    LinearDiscriminantAnalysis(),
    MLPClassifier((8,), max_iter=2000, random_state=0),  # or PyTorch's, in a file without pickle
)
NETWORK, OTHER = "model.safetensors", "model.skops"


def make(folder: Path, querying: str, answering: list[str]) -> None:
    """Write the terms, each answering party's model, and the querying party's cases."""
    data = load_breast_cancer()
    names = [name.replace(" ", "_") for name in data.feature_names]
    order = np.random.default_rng(5).permutation(len(data.target))
    cases, *shares = np.split(order, np.linspace(CASES, len(order), len(answering) + 1).astype(int))
    high = np.ceil(data.data.max(axis=0) * 10) / 10  # in place of public knowledge
    terms: dict[str, Any] = {
        "classes": [str(name) for name in data.target_names],
        "features": {name: [0.0, float(top)] for name, top in zip(names, high, strict=True)},
        **{"fraction_bits": 12, "integer_bits": 2, "value_bits": 40, "key_bits": 2048},
        "min_contributors": len(answering),
        **NOISE,
    }
    (folder / "terms.json").write_text(json.dumps(terms, indent=1))
    for name, kind, share in zip(answering, KINDS, shares, strict=False):
        labels = data.target_names[data.target[share]]
        model = make_pipeline(StandardScaler(), kind).fit(data.data[share], labels)
        if isinstance(kind, MLPClassifier):
            form: dict[str, Any] = {"classes": terms["classes"], "features": names}
            if find_spec("torch"):
                model, form["shape"] = _network_of_pytorch(data.data[share], data.target[share])
            save_network(folder / name / NETWORK, model, **form)
        else:
            io.dump(model, folder / name / OTHER)
    with (folder / querying / "cases.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(data.data[cases].tolist())


def _network_of_pytorch(
    features: NDArray[np.float64], labels: NDArray[np.int64]
) -> tuple[Any, list[int]]:
    """Return a trained ``torch.nn.Sequential`` on the table's own units, and its input's size."""
    import torch  # noqa: PLC0415 - lazy: not needed, and seconds to import
    from torch import nn  # noqa: PLC0415 - lazy: as above

    torch.manual_seed(0)
    size = features.shape[1]
    network = nn.Sequential(
        nn.BatchNorm1d(size), nn.Linear(size, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 2)
    )
    rows, targets = torch.tensor(features, dtype=torch.float32), torch.tensor(labels)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        loss: Any = nn.functional.cross_entropy(network(rows), targets)
        loss.backward()
        optimizer.step()
    print("the network in a file is PyTorch's")
    return network.eval(), [size]


def check(folder: Path, querying: str, answering: list[str]) -> None:
    """Compare the resulting labels with the models' unencrypted predictions."""
    with (folder / querying / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    cases = np.array([[float(row[name]) for name in row if name != LABEL] for row in rows])
    votes = [_votes(folder / name, cases) for name in answering]
    right = sum(
        row[LABEL] == max(set(given), key=given.count)
        for row, given in zip(rows, zip(*votes, strict=True), strict=True)
    )
    differ = sum(len(set(given)) > 1 for given in zip(*votes, strict=True))
    print(f"{right} of {len(rows)} labels are the plain majority; on {differ} the models differ")
    if right != len(rows) or len(rows) != CASES:
        raise SystemExit("not ok: every case must have the majority's label")
    print("ok")


def _votes(folder: Path, cases: NDArray[np.float64]) -> list[str]:
    """Return a party's unencrypted predictions for cases."""
    if (folder / OTHER).exists():
        return list(map(str, io.load(folder / OTHER).predict(cases)))
    network = load_network(folder / NETWORK)
    return [network.classes[label] for label in network.model.predict(cases)]


if __name__ == "__main__":
    what, where, first, *rest = sys.argv[1:]
    {"make": make, "check": check}[what](Path(where), first, rest)
