from __future__ import annotations

from dataclasses import asdict

import pytest

from fl_he.config.groups import CryptoConfig, OptimizerConfig, PrivacyConfig
from fl_he.config.help import choices
from fl_he.config.run import Config
from fl_he.crypto.paillier.packing import Packing
from fl_he.experiment.terms import chosen_optimizer, packing_of
from fl_he.strategies.opened_sum import Cost


def test_each_figure_is_its_own() -> None:
    assert asdict(Cost(5.0, 6, 7.0, 8.0, 9.0)) == {
        "seconds": 5.0,
        "bytes_sent": 6,
        "encrypt_seconds": 7.0,
        "add_seconds": 8.0,
        "decrypt_seconds": 9.0,
    }


def test_the_packing_is_the_configurations() -> None:
    crypto = CryptoConfig(fraction_bits=20, integer_bits=21, max_contributors=22)
    assert packing_of(crypto, 3) == Packing(20, 21, 22)
    assert packing_of(CryptoConfig(), 3) == Packing(max_contributors=3)


@pytest.mark.parametrize(
    ("features", "classes", "name"),
    [(1, 2, "newton"), (198, 2, "newton"), (199, 2, "lbfgs"), (65, 3, "newton"), (66, 3, "lbfgs")],
)
def test_the_optimizer_follows_from_the_size_of_the_hessian(
    features: int, classes: int, name: str
) -> None:
    chosen = chosen_optimizer(Config(), features, classes)
    parameters = (1 if classes == 2 else classes) * (features + 1)
    assert chosen["name"] == name
    assert f"{parameters * (parameters + 1) // 2:,}" in chosen["reason"]


def test_the_optimizer_is_gradient_descent_where_only_that_works() -> None:
    private = Config(privacy=PrivacyConfig("gaussian", 1.0, 1e-5, 1.0, 0.2))
    assert chosen_optimizer(private, 3)["name"] == "gd"
    assert chosen_optimizer(Config(sealed=True), 3)["name"] == "newton"
    assert choices("optimizer")["auto"].endswith("else lbfgs; gd for privacy=gaussian.")


def test_an_optimizer_that_was_asked_for_is_taken() -> None:
    asked = Config(optimizer=OptimizerConfig("nesterov"))
    assert chosen_optimizer(asked, 3)["name"] == "nesterov"
