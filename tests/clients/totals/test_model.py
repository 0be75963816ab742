"""Terms that all contributors to a session's sums have in common."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord

from fl_he.clients.totals.model import canonical, numbered, terms_of
from fl_he.wire.encrypted_sum import SERVER_ROUND

MODEL = ArrayRecord({"w": Array(np.array([1.0, 2.0]))})


def test_terms_differ_by_train_config_model_and_plan() -> None:
    digests = [
        terms_of("{}", MODEL, ""),
        terms_of('{"a": 1}', MODEL, ""),
        terms_of("{}", ArrayRecord({"w": Array(np.array([1.0, 3.0]))}), ""),
        terms_of("{}", ArrayRecord({"v": Array(np.array([1.0, 2.0]))}), ""),
        terms_of("{}", MODEL, "ab" * 32),
        terms_of("ab" * 32, MODEL, "{}"),
    ]
    assert len(set(digests)) == len(digests)
    assert {len(one) for one in digests} == {32}


def test_the_text_of_a_train_config_has_all_but_the_number_of_the_round() -> None:
    config = ConfigRecord({"lr": 0.5, "a": b"\x01", SERVER_ROUND: 3})
    assert canonical(config) == canonical(numbered(config, 8))
    assert canonical(config) == '{"a": {"bytes": "01"}, "lr": 0.5}'
    assert numbered(config, 8)[SERVER_ROUND] == 8
    assert SERVER_ROUND not in numbered(config, None)
    assert SERVER_ROUND not in numbered(ConfigRecord({"lr": 0.5}), 8)
