"""A deployed CaPC on one disk: answering parties with models, querying parties with cases."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch_modules as tm
from flwr.app.user_config import UserConfig
from identities import make
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fl_he.capc import save_network
from fl_he.capc.agreement import Agreement, KeyPins
from fl_he.crypto.comparison.dgk_private_key import DgkPrivateKey
from fl_he.crypto.envelopes.manifest import Manifest
from fl_he.crypto.paillier.private_key import PrivateKey

HOLDER = "company-x"
QUERYING = "st-anne"
ANSWERING = ("st-john", "st-luke", "st-mary")
FEATURES = ("age", "size")
CLASSES = ("well", "sick")
#: So little noise that there is none: 1 has a chance of exp(-200).
TERMS: dict[str, Any] = {
    "classes": list(CLASSES),
    "features": {"age": [0, 100], "size": [0, 5]},
    "fraction_bits": 8,
    "integer_bits": 2,
    "value_bits": 24,
    "key_bits": 1024,
    "min_contributors": 3,
    "sigma_gnmax": 0.05,
    "threshold": 2,
    "sigma_threshold": 0.05,
    "epsilon": 1e6,
    "delta": 1e-5,
}

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    KEYS = {
        name: (PrivateKey.generate(1024), DgkPrivateKey.generate(1024))
        for name in (HOLDER, QUERYING, ANSWERING[0])
    }


def patients(name: str) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """Return a hospital's patients, whose labels are partly wrong, and names of classes."""
    rng = np.random.default_rng(len(name) + ord(name[-1]))
    X = np.column_stack([rng.uniform(0, 100, 60), rng.uniform(0, 5, 60)]).round(2)
    sick = X[:, 0] / 50 + X[:, 1] + rng.normal(scale=1.5, size=60) > 3.5
    return X, np.where(sick, CLASSES[1], CLASSES[0])


def fitted(name: str) -> Any:
    """Return a hospital's model: names for labels, one with a scaler, one of another kind."""
    if name == ANSWERING[0]:
        model = make_pipeline(StandardScaler(), LogisticRegression())
    else:
        model = LogisticRegression() if name == ANSWERING[1] else NearestCentroid()
    return model.fit(*patients(name))


def saved(model: Any, folder: Path, *, network: bool) -> Path:
    """Save a fitted model by skops, or as the network of PyTorch's modules that does the same."""
    from skops import io  # noqa: PLC0415 - lazy: seconds to import

    path = folder / ("model.safetensors" if network else "model.skops")
    if network:
        # of two classes scikit-learn has the second one's score alone
        weights, bias = (np.concatenate([-one, one]) for one in (model.coef_, model.intercept_))
        halves = tm.module("Linear", weight=tm.Tensor(weights / 2), bias=tm.Tensor(bias / 2))
        modules = [tm.FLATTEN, tm.DROPOUT, halves]
        names = [str(name) for name in model.classes_]
        save_network(path, modules, shape=(1, 1, 2), classes=names, features=FEATURES)
    else:
        io.dump(model, path)
    return path


def majority(cases: NDArray[np.float64]) -> list[str]:
    """Return the label that most models give each case."""
    votes = np.array([fitted(name).predict(cases) for name in ANSWERING])
    return [_most(column) for column in votes.T]


def _most(votes: NDArray[np.str_]) -> str:
    return max(CLASSES, key=lambda label: int((votes == label).sum()))


def agreement(**changes: Any) -> Agreement:
    """Return the agreement, with changes."""
    pins = {
        name: KeyPins(key.public_key.fingerprint, dgk.public_key.fingerprint)
        for name, (key, dgk) in KEYS.items()
    }
    schema = changes.pop("schema", None)
    return Agreement.from_terms_json(json.dumps({**TERMS, **changes}), pins, schema)


def capc_nodes(folder: Path, cases: NDArray[np.float64], **changes: Any) -> list[UserConfig]:
    """Write all nodes' files and return their configurations, company X last."""
    identities = [*map(make, (QUERYING, *ANSWERING)), make(HOLDER, "key-holder")]
    manifest = Manifest(tuple(one.public for one in identities))
    (folder / "federation.json").write_text(manifest.to_json())
    (folder / "capc.json").write_text(agreement(**changes).to_json())
    nodes: list[UserConfig] = []
    for identity in identities:
        name = identity.public.name
        own = folder / name
        own.mkdir()
        identity.save(own / "identity.json")
        node: UserConfig = {
            "role": identity.public.role,
            "name": name,
            "federation": str(folder / "federation.json"),
            "identity": str(own / "identity.json"),
            "capc": str(folder / "capc.json"),
        }
        if node["role"] == "hospital":
            node["reply-seconds"] = 0
        if name in KEYS:
            key, dgk = KEYS[name]
            key.save(own / "private-key.json")
            dgk.save(own / "dgk-private-key.json")
            node |= {
                "capc-private-key": str(own / "private-key.json"),
                "capc-dgk-key": str(own / "dgk-private-key.json"),
            }
        if name in ANSWERING:
            node |= {
                "capc-model": str(saved(fitted(name), own, network=name == ANSWERING[1])),
                "capc-ledger": str(own / "voting.jsonl"),
            }
        # the other one could query as well, but has nothing to ask
        if name == QUERYING:
            rows = "".join(f"{a},{b},{number}\n" for number, (a, b) in enumerate(cases.tolist()))
            (own / "cases.csv").write_text("age,size,remark\n" + rows)
            node |= {
                "capc-cases": str(own / "cases.csv"),
                "capc-labels": str(own / "labels.csv"),
            }
        nodes.append(node)
    return nodes
