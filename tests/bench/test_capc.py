from __future__ import annotations

import pytest

from fl_he.bench.capc import argmax_seconds
from fl_he.bench.fresh import BenchError
from fl_he.crypto.comparison.argmax import winner

pytestmark = pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")


@pytest.mark.parametrize("queries", [1, 30])
def test_the_argmax_is_right_and_takes_time(queries: int) -> None:
    assert argmax_seconds(queries, classes=3, value_bits=12, key_bits=1024, parties=2) > 0


def test_a_wrong_argmax_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    def second(classes: int, results: list[int]) -> int:
        return (winner(classes, results) + 1) % classes

    monkeypatch.setattr("fl_he.bench.capc.winner", second)
    with pytest.raises(BenchError, match="must find the largest number"):
        argmax_seconds(1, classes=3, value_bits=12, key_bits=1024, parties=2)
