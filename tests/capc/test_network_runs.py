"""Runs of CaPC in which parties answer with networks from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch_modules as tm
from capc_parties import KEY_BITS, Parties
from local_grid import LocalGrid, simulated_nodes
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch_modules import FLATTEN, RELU

from fl_he import client_app, server_app, simulation
from fl_he.capc import Layer, save_network
from fl_he.capc import plain as capc_plain
from fl_he.capc.networks import load_network
from fl_he.capc.simulation import SimulatedParty
from fl_he.capc.terms import Terms
from fl_he.config.composition import compose
from fl_he.config.run import Config
from fl_he.learning.errors import DataError

pytestmark = [
    pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
NAMES = ("malignant", "benign")


def configured(*overrides: str) -> Config:
    small = ("crypto.key_bits=1024", "capc.queries=4", "capc.value_bits=40")
    return compose("config", ["experiment=capc_breast_cancer", *small, *overrides])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the file of a network that knows benign and malignant, in this order."""
    X, y = load_breast_cancer(return_X_y=True)
    classifier = MLPClassifier((6,), max_iter=40, random_state=1)
    model = make_pipeline(StandardScaler(), classifier).fit(X, 1 - y)
    save_network(tmp_path / "mlp.safetensors", model, classes=NAMES[::-1])
    return tmp_path / "mlp.safetensors"


def test_parties_with_networks_answer_as_in_plain_and_as_on_the_tables_units(
    path: Path, tmp_path: Path
) -> None:
    config = configured(f"capc.models=[logistic,network:{path}]", "capc.selection=entropy")
    network = SimulatedParty(config, 1)._fitted()
    table = load_breast_cancer(return_X_y=True)[0]
    scaled = StandardScaler().fit_transform(table)
    wanted = load_network(path).model.predict(table)
    assert network.predict(scaled).tolist() == (1 - wanted).tolist()
    nodes = simulated_nodes(config.hospitals)
    encrypted = server_app.train(
        LocalGrid(client_app.build(lambda _: config), nodes), config, tmp_path / "a"
    )
    plain = capc_plain.run_plain(config, tmp_path / "b")
    (result,) = encrypted["querying"]
    assert result == plain["querying"][0]
    assert result["answered"] == result["equal_to_plain_majority"] == 4


def test_a_querying_party_with_a_network_keeps_it(path: Path, tmp_path: Path) -> None:
    config = configured(f"capc.models=[network:{path}]", "capc.selection=margin")
    (result,) = capc_plain.run_plain(config, tmp_path / "run")["querying"]
    assert result["before"] == result["after"]
    assert result["before"]["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("file", "classes", "inputs", "reason"),
    [
        (
            "none",
            NAMES,
            30,
            "hospital-1 must have a network .* got .*none.safetensors: No such file",
        ),
        ("some", NAMES, 29, "must have 30 inputs here, got 29"),
        ("some", ("a", "b"), 30, "classes must be the table's 2, one of them 'benign'"),
        ("some", (*NAMES, "c"), 30, "classes must be the table's 2, one of them 'benign'"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_before_ray_starts(
    file: str, classes: tuple[str, ...], inputs: int, reason: str, tmp_path: Path
) -> None:
    layers = [Layer(np.ones((len(classes), inputs)), np.zeros(len(classes)))]
    save_network(tmp_path / "some.safetensors", layers, shape=[inputs], classes=classes)
    config = configured(f"capc.models=[network:{tmp_path}/{file}.safetensors]")
    with pytest.raises(DataError, match=reason):
        simulation.run(config, tmp_path / "run")


def large_digits() -> tuple[tm.Numbers, tm.Numbers]:
    """Return scikit-learn's digits as images of 28 x 28 pixels from 0 to 1, and their labels."""
    X, y = load_digits(return_X_y=True)
    images = np.kron(X.reshape(-1, 8, 8) / 16.0, np.ones((3, 3)))
    return np.pad(images, ((0, 0), (2, 2), (2, 2))), y


@pytest.mark.slow
def test_cryptonets_relu_answers_under_encryption_as_in_floats(tmp_path: Path) -> None:
    """5 maps of 5 x 5 with stride 2, 100 units, 10 classes: 945 ReLUs on pixels from 0 to 1."""
    images, labels = large_digits()
    convolution = tm.conv2d(5, 1, 5, stride=2, padding=1)
    convolution.weight.values *= 0.2
    units = np.array([tm.forward([convolution, RELU, FLATTEN], one[None]) for one in images])
    assert units.shape[1] == 845
    rest = MLPClassifier((100,), max_iter=40, random_state=0).fit(units[200:], labels[200:])
    dense = [
        tm.module("Linear", weight=tm.Tensor(weights.T), bias=tm.Tensor(offsets))
        for weights, offsets in zip(rest.coefs_, rest.intercepts_, strict=True)
    ]
    modules = [convolution, RELU, FLATTEN, dense[0], RELU, dense[1]]
    path, names = tmp_path / "cryptonets.safetensors", [str(digit) for digit in range(10)]
    save_network(path, modules, shape=(1, 28, 28), classes=names)
    network = load_network(path).model
    flat = images.reshape(len(images), -1)
    assert (network.predict(flat[:200]) == labels[:200]).mean() > 0.9
    assert [len(layer.offsets) for layer in network.layers] == [845, 100, 10]
    terms = Terms(
        classes=10, features=784, fraction_bits=8, integer_bits=1, value_bits=60, key_bits=KEY_BITS
    )
    parties = Parties(terms, flat[:2], [network])
    wanted = [int(tm.forward(modules, image[None]).argmax()) for image in images[:2]]
    assert parties.ask() == wanted
