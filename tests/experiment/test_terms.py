from __future__ import annotations

from dataclasses import asdict

from fl_he.config.groups import CryptoConfig
from fl_he.crypto.paillier.packing import Packing
from fl_he.experiment.terms import packing_of
from fl_he.strategies.encrypted_sum import Cost


def test_each_figure_is_its_own() -> None:
    assert asdict(Cost(5.0, 6, 7.0, 8.0, 9.0)) == {
        "seconds": 5.0,
        "bytes_sent": 6,
        "encrypt_seconds": 7.0,
        "add_seconds": 8.0,
        "decrypt_seconds": 9.0,
    }


def test_the_packing_is_the_configurations() -> None:
    assert packing_of(CryptoConfig(fraction_bits=20, integer_bits=21, max_contributors=22)) == (
        Packing(20, 21, 22)
    )
    assert packing_of(CryptoConfig()) == Packing()
