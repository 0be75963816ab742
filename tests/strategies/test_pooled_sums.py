"""What a checkpoint says of the pooled data, damaged."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fl_he.strategies.pooled_sums import Preparation
from fl_he.wire.learning_terms import LearningTerms
from fl_he.wire.records import ProtocolError

KNOWN = Preparation(2, LearningTerms("federated", (0.5,), (2.0,), (1.0, 3.0), True))


def test_it_survives_json() -> None:
    assert Preparation.from_members(json.loads(json.dumps(KNOWN.to_members()))) == KNOWN


@pytest.mark.parametrize("rounds", ["two", "9" * 5000, 1e400, None, [], {}])
def test_rounds_that_are_no_number_are_refused(rounds: Any) -> None:
    with pytest.raises(ProtocolError, match="rounds must be an integer, got"):
        Preparation.from_members({**KNOWN.to_members(), "rounds": rounds})


def test_terms_that_are_none_are_refused() -> None:
    members = KNOWN.to_members()
    hostile: tuple[Any, ...] = (None, 5, {**members["terms"], "mean": ["x"]}, {"mean": {}})
    for terms in hostile:
        with pytest.raises(ProtocolError):
            Preparation.from_members({**members, "terms": terms})
