"""MNIST's digits in CaPC: the study of 50 parties, and the network in examples/capc-mnist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from capc_parties import KEY_BITS, Parties

from fl_he.capc import plain as capc_plain
from fl_he.capc.data import capc_data, fitted_model
from fl_he.capc.terms import Terms
from fl_he.config.composition import compose
from fl_he.config.run import Config

pytestmark = pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")
NETWORK = Path(__file__).parents[2] / "examples" / "capc-mnist" / "network.safetensors"


def study(*overrides: str) -> Config:
    return compose("config", ["experiment=capc_mnist", *overrides])


def test_each_party_has_eighty_digits_and_nobody_those_of_pool_and_test_set() -> None:
    data = capc_data(study("seed=3"))
    assert {len(party) for party in data.parties} == {80}
    assert (len(data.parties), len(data.pools[0]), len(data.test)) == (50, 500, 500)
    parts = [part.features for part in (*data.parties, data.pools[0], data.test)]
    assert len({row.tobytes() for part in parts for row in part}) == 5000
    assert {part.min() for part in parts} == {0.0}
    assert {part.max() for part in parts} == {1.0}


def test_the_examples_network_is_right_about_digits_that_it_has_not_seen() -> None:
    config = study("seed=0", f"capc.models=[network:{NETWORK}]")
    data = capc_data(config)
    network = fitted_model(data, config, 0)
    assert [len(layer.offsets) for layer in network.layers] == [845, 100, 10]
    unseen = np.concatenate([data.test.features, data.pools[0].features])
    labels = np.concatenate([data.test.labels, data.pools[0].labels])
    assert (network.predict(unseen) == labels).mean() > 0.96
    assert NETWORK.stat().st_size < 350_000


@pytest.mark.slow
def test_the_examples_network_answers_under_encryption_as_in_floats() -> None:
    config = study("seed=0", f"capc.models=[network:{NETWORK}]")
    data = capc_data(config)
    network, asked = fitted_model(data, config, 0), data.test.features[:1]
    terms = Terms(
        classes=10, features=784, fraction_bits=8, integer_bits=1, value_bits=60, key_bits=KEY_BITS
    )
    assert Parties(terms, asked, [network]).ask() == network.predict(asked).tolist()


@pytest.mark.release
def test_the_querying_party_gains_three_points_with_every_seed(tmp_path: Path) -> None:
    for seed in range(5):
        metrics = capc_plain.run_plain(study(f"seed={seed}"), tmp_path / str(seed))
        (result,) = metrics["querying"]
        assert result["after"]["accuracy"] - result["before"]["accuracy"] >= 0.03
        assert result["examples"] == 80
        privacy = metrics["privacy"]
        assert (privacy["delta"], privacy["queries"]) == (1e-5, 250)
        assert 10 < privacy["epsilon"] <= 20
