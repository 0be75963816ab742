"""Targets of networks in files: all of a file, and the description of the layers alone."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz import documents
from fuzz.documents import text_of
from fuzz.target import Target
from safetensors.numpy import save

from fl_he.capc.networks import load_network
from fl_he.capc.terms import Terms
from fl_he.learning.errors import DataError

_CLASSES = ("well", "sick")
_TENSORS: dict[str, Any] = {
    "0.weight": np.ones((1, 1, 2, 2), np.float32),
    "0.bias": np.zeros(1),
    "1.weight": np.ones((2, 9)),
    "1.bias": np.zeros(2),
}
#: Larger ones are not rounded here: that takes seconds.
_FEW = 10_000


@cache
def _descriptions() -> list[Any]:
    convolution = {"kind": "convolution", "padding": [1, 1], "stride": [2, 2]}
    network = {
        "format": "fl-he network 1",
        "shape": [1, 4, 4],
        "classes": [*_CLASSES],
        "layers": [convolution, {"kind": "linear"}],
    }
    return [network, {**network, "features": [f"pixel {number}" for number in range(16)]}]


def _saved(text: str) -> bytes:
    return save(_TENSORS, metadata={"fl-he": text})


def _network(data: bytes) -> object:
    path = Path("network.safetensors")
    path.write_bytes(data)
    network = load_network(path)
    inputs = network.model.layers[0].weights.shape[1]
    features = {f"pixel {number}": (0.0, 16.0) for number in range(inputs)}
    model = network.answering(_CLASSES, features)
    if sum(layer.weights.size for layer in model.layers) > _FEW:
        return model
    return Terms(len(_CLASSES), inputs).in_integers(model, 5)


def _layers(data: bytes) -> object:
    return _network(_saved(text_of(data, _descriptions()).encode("utf-8", "replace").decode()))


TARGETS = (
    Target(
        "network",
        _network,
        (DataError,),
        lambda: [_saved(json.dumps(one)) for one in _descriptions()],
        0.5,
    ),
    Target("network-layers", _layers, (DataError,), lambda: documents.seeds(_descriptions()), 0.5),
)
