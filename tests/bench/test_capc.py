from __future__ import annotations

from typing import Any

import pytest

from fl_he.bench.capc import argmax_seconds, relu_seconds
from fl_he.bench.fresh import BenchError
from fl_he.crypto.comparison.argmax import winners
from fl_he.crypto.comparison.relu import products

pytestmark = pytest.mark.filterwarnings("ignore::fl_he.crypto.errors.ShortKeyWarning")


@pytest.mark.parametrize("queries", [1, 30])
def test_the_argmax_is_right_and_takes_time(queries: int) -> None:
    assert argmax_seconds(queries, classes=3, value_bits=12, key_bits=1024, parties=2) > 0


def test_a_wrong_argmax_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    def second(classes: int, queries: int, results: list[int]) -> list[int]:
        return [(won + 1) % classes for won in winners(classes, queries, results)]

    monkeypatch.setattr("fl_he.bench.capc.winners", second)
    with pytest.raises(BenchError, match="did not find the largest number"):
        argmax_seconds(1, classes=3, value_bits=12, key_bits=1024, parties=2)


def test_relus_are_right_and_take_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert relu_seconds(2, 9, value_bits=20, key_bits=1024) > 0

    def all_positive(*given: Any) -> list[int]:
        key, layout, opened, found, queries = given
        return products(key, layout, opened, [1] * len(found), queries)

    monkeypatch.setattr("fl_he.bench.capc.products", all_positive)
    with pytest.raises(BenchError, match="neither 0 nor its unit"):
        relu_seconds(2, 9, value_bits=20, key_bits=1024)
